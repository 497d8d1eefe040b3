import Agent
import Coding
import Files
import Glibc
import PluginAPI
import PluginHost
import Raft
import Store
import Swarm

/// `/_ping`, `/version`, `/info`, `/system/df`, `/auth`.
struct SystemRoutes: Sendable {
    let configuration: EngineConfiguration
    let engineID: String
    let swarm: SwarmNode
    let plugins: PluginController
    let containers: ContainerEngine
    let runtime: any Runtime

    func add(to router: inout Router) {
        router.add("GET", "/_ping") { _ throws(ApusError) in
            var response = APIResponse.text("OK")
            response.headers = [
                ("Cache-Control", "no-cache, no-store, must-revalidate"), ("Pragma", "no-cache"), ("Builder-Version", "1"),
                ("Swarm", Self.word(swarm.status)),
            ]
            return response
        }
        router.add("GET", "/version") { _ throws(ApusError) in .json(try await version()) }
        router.add("GET", "/info") { _ throws(ApusError) in .json(try await information()) }
        router.add("GET", "/system/df") { _ throws(ApusError) in .json(try await diskUsage()) }
        router.add("POST", "/auth") { request throws(ApusError) in
            try await runtime.authenticate(Self.login(request.json()))
            return .json(["Status": "Login Succeeded", "IdentityToken": ""])
        }
        router.missing("POST", "/session", "build sessions")
        router.missing("POST", "/grpc", "build sessions")
    }

    /// Reads `AuthConfig`.
    static func login(_ body: JSONValue) throws(ApusError) -> RegistryLoginRequest {
        var reader = try JSONReader(body, path: "")
        var credentials = RegistryCredentials(username: try reader.string("username"), password: try reader.string("password"))
        credentials.identityToken = try reader.string("identitytoken")
        let server = try reader.string("serveraddress")
        // Part of the older forms of this body, and of no use.
        reader.ignored("email")
        reader.ignored("auth")
        try reader.unsupported("registrytoken")
        try reader.finish()
        return RegistryLoginRequest(server: server, credentials: credentials)
    }

    private func version() async throws(ApusError) -> JSONValue {
        let runtime = try await runtime.information()
        let system = SystemName.current
        let engine: JSONValue = [
            "Name": "Engine", "Version": .string(EngineConfiguration.version),
            "Details": [
                "ApiVersion": .string(EngineAPIVersion.newest.description), "MinAPIVersion": .string(EngineAPIVersion.oldest.description),
                "Arch": .string(system.dockerArchitecture), "Os": "linux", "KernelVersion": .string(system.release),
                "GoVersion": .string("swift\(EngineConfiguration.compiler)"), "GitCommit": "", "BuildTime": "", "Experimental": "false",
            ],
        ]
        let components = [engine, component(runtime.ociRuntime), component(runtime.monitor)]
        return [
            "Platform": ["Name": "Apus"], "Version": .string(EngineConfiguration.version), "ApiVersion": .string(EngineAPIVersion.newest.description),
            "MinAPIVersion": .string(EngineAPIVersion.oldest.description), "GitCommit": "", "GoVersion": .string("swift\(EngineConfiguration.compiler)"),
            "Os": "linux",
            "Arch": .string(system.dockerArchitecture), "KernelVersion": .string(system.release), "BuildTime": "", "Components": .array(components),
        ]
    }
    private func component(_ text: String) -> JSONValue {
        let halves = text.split(separator: " ", maxSplits: 1).map(String.init)
        return ["Name": .string(halves.first ?? text), "Version": .string(halves.count == 2 ? halves[1] : ""), "Details": [:]]
    }

    private func information() async throws(ApusError) -> JSONValue {
        let details = containers.list()
        let runtimeInformation = try await runtime.information()
        let system = SystemName.current
        let description = configuration.describeNode(plugins: nil)
        let enabled = await plugins.list().filter(\.isEnabled).compactMap(\.identity)
        let networkPlugins = enabled.filter { $0.role == .network }.map(\.name)
        // `docker run --runtime` takes one of these.
        var runtimes = JSONObject()
        for name in enabled.filter({ $0.role == .runtime }).map(\.name).sorted() { runtimes[name] = ["path": .string(name)] }
        runtimes["oci"] = ["path": .string(runtimeInformation.ociRuntime)]
        let substitution = plugins.registry.substitution(for: .balancer)
        let warnings = runtimeInformation.warnings + plugins.agreed.warnings + (substitution.map { [$0.warning] } ?? [])
        func count(_ phase: ContainerPhase) -> JSONValue { .integer(Int64(details.count { $0.state.phase == phase })) }
        return [
            "ID": .string(engineID), "Containers": .integer(Int64(details.count)), "ContainersRunning": count(.running),
            "ContainersPaused": count(.paused), "ContainersStopped": .integer(Int64(details.count { ![.running, .paused].contains($0.state.phase) })),
            "Images": .integer(Int64(try await runtime.images().count)), "Driver": .string(runtimeInformation.storageDriver), "DriverStatus": [],
            "Plugins": [
                "Volume": ["local"], "Network": JSONValue(networkPlugins + ["host", "null"]), "Authorization": .null, "Log": ["json-file", "local", "none"],
            ],
            "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true, "CPUSet": true, "PidsLimit": true,
            "IPv4Forwarding": true, "BridgeNfIptables": false, "BridgeNfIp6tables": false, "Debug": .bool(configuration.debug), "NFd": 0,
            "OomKillDisable": false, "NGoroutines": 0, "SystemTime": .string(Timestamp.now.description), "LoggingDriver": "json-file",
            "CgroupDriver": "cgroupfs", "CgroupVersion": .string(String(runtimeInformation.cgroupVersion)), "NEventsListener": 0,
            "KernelVersion": .string(system.release), "OperatingSystem": .string(SystemName.distribution), "OSVersion": "", "OSType": "linux",
            "Architecture": .string(system.machine), "IndexServerAddress": "https://index.docker.io/v1/", "RegistryConfig": registryConfiguration,
            "NCPU": .integer(description.resources.nanoCPUs / 1_000_000_000), "MemTotal": .integer(description.resources.memoryBytes),
            "GenericResources": .null, "DockerRootDir": .string(configuration.dataRoot), "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
            "Name": .string(system.node), "Labels": JSONValue(configuration.labels), "ExperimentalBuild": false,
            "ServerVersion": .string(EngineConfiguration.version), "Runtimes": .object(runtimes),
            "DefaultRuntime": "oci", "Swarm": try swarmInformation(), "LiveRestoreEnabled": true, "Isolation": "", "InitBinary": "tini",
            "ContainerdCommit": ["ID": .string(runtimeInformation.monitor), "Expected": ""],
            "RuncCommit": ["ID": .string(runtimeInformation.ociRuntime), "Expected": ""],
            "InitCommit": ["ID": "", "Expected": ""], "SecurityOptions": runtimeInformation.seccomp ? ["name=seccomp,profile=builtin"] : [],
            "Balancer": balancer(substitution), "Warnings": warnings.isEmpty ? .null : JSONValue(warnings),
        ]
    }

    /// Which plugin balances on this node, and why not the one that is to.
    private func balancer(_ substitution: PluginSubstitution?) -> JSONValue {
        var json: JSONValue = ["Name": .string(plugins.registry.enabled.first { $0.role == .balancer }?.name ?? "")]
        if let substitution {
            json["Wanted"] = .string(substitution.wanted.name)
            json["Reason"] = .string(substitution.reason)
        }
        return json
    }

    private var registryConfiguration: JSONValue {
        [
            "AllowNondistributableArtifactsCIDRs": [], "AllowNondistributableArtifactsHostnames": [], "InsecureRegistryCIDRs": ["127.0.0.0/8"],
            "IndexConfigs": ["docker.io": ["Name": "docker.io", "Mirrors": JSONValue(configuration.registryMirrors), "Secure": true, "Official": true]],
            "Mirrors": JSONValue(configuration.registryMirrors),
        ]
    }

    /// The `Swarm` header of a ping.
    private static func word(_ status: SwarmStatus) -> String {
        status.state == .active ? (status.isManager ? "active/manager" : "active/worker") : status.state.rawValue
    }

    private func swarmInformation() throws(ApusError) -> JSONValue {
        let status = swarm.status
        var json: JSONValue = [
            "NodeID": .string(status.nodeID.text), "NodeAddr": .string(status.address), "LocalNodeState": .string(status.state.rawValue),
            "ControlAvailable": .bool(status.isManager), "Error": .string(status.error),
            "RemoteManagers": status.managers.isEmpty
                ? .null : .array(status.managers.map { ["NodeID": .string($0.nodeID.text), "Addr": .string($0.address)] }),
        ]
        guard let manager = swarm.managerPart else { return json }
        // What this manager knows: `info` answers also when the others are away.
        let snapshot = manager.store.read()
        var cluster = snapshot.cluster.map { JSONFields.encode($0) } ?? .object(JSONObject())
        // Tokens are for `swarm join-token`, which asks for them; `info` is shown to anybody.
        cluster["JoinTokens"] = nil
        json["Nodes"] = .integer(Int64(snapshot.nodes.count))
        json["Managers"] = .integer(Int64(snapshot.nodes.values.count { $0.spec.role == .manager }))
        json["Cluster"] = cluster
        if let reason = manager.store.raft.status.suspension { json["Error"] = .string(reason) }
        return json
    }

    private func diskUsage() async throws(ApusError) -> JSONValue {
        let usage = try await runtime.diskUsage()
        let now = Timestamp.now
        var images: [JSONValue] = []
        let all = containers.list()
        for image in try await runtime.images() {
            let users = all.count { $0.configuration.imageID == image.id }
            images.append([
                "Id": .string(image.id.text), "ParentId": "", "RepoTags": JSONValue(image.references), "RepoDigests": JSONValue(image.digests),
                "Created": .integer(image.createdAt.seconds), "Size": .integer(image.size), "SharedSize": .integer(usage.shared[image.id] ?? 0),
                "VirtualSize": .integer(image.size),
                "Labels": JSONValue(image.configuration.labels), "Containers": .integer(Int64(users)),
            ])
        }
        let known = try await runtime.volumes()
        let paths = ContainerJSON.paths(of: known)
        let volumes: [JSONValue] = known.map { volume in
            var json = JSONFields.encode(volume)
            let users = all.count { $0.configuration.mounts.contains { $0.kind == .volume && $0.source == volume.name } }
            json["UsageData"] = ["Size": .integer(usage.volumes[volume.name] ?? 0), "RefCount": .integer(Int64(users))]
            return json
        }
        return [
            "LayersSize": .integer(usage.layers), "Images": .array(images),
            "Containers": .array(all.map { ContainerJSON.summary($0, now: now, sizes: usage.containers[$0.id] ?? 0, volumes: paths) }),
            "Volumes": .array(volumes),
            "BuildCache": [], "BuilderSize": 0,
        ]
    }
}

extension PluginSubstitution {
    /// For `info` and the log.
    var warning: String {
        let use = used.map { "\($0) has its place" } ?? "nothing has its place"
        return "plugin \(wanted) does not work on this node, and \(use)" + (reason.isEmpty ? "" : ": \(reason)")
    }
}

/// What uname(2) says, in the words that the API uses.
struct SystemName: Sendable {
    var node: String
    var release: String
    var machine: String

    static var current: SystemName {
        var name = utsname()
        uname(&name)
        func text<Tuple>(_ tuple: Tuple) -> String {
            withUnsafeBytes(of: tuple) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        }
        return SystemName(node: text(name.nodename), release: text(name.release), machine: text(name.machine))
    }

    /// `amd64`, `arm64`.
    var dockerArchitecture: String {
        switch machine {
        case "x86_64": "amd64"
        case "aarch64": "arm64"
        default: machine
        }
    }

    /// `PRETTY_NAME` of /etc/os-release.
    static var distribution: String {
        let lines = ((try? Files.readText("/etc/os-release")) ?? "").split(separator: "\n")
        for line in lines where line.hasPrefix("PRETTY_NAME=") { return line.dropFirst(12).filter { $0 != "\"" } }
        return "Linux"
    }
}
