import Agent
import Coding
import PluginAPI

/// Containers as the Engine API writes them.
enum ContainerJSON {
    /// Where on this machine volumes are, by name.
    static func paths(of volumes: [Volume]) -> [String: String] { Dictionary(volumes.map { ($0.name, $0.mountpoint) }) { first, _ in first } }

    /// One row of `GET /containers/json`.
    /// - Parameter volumes: where on this machine volumes are, by name.
    static func summary(_ container: ContainerDetails, now: Timestamp, sizes: Int64?, volumes: [String: String] = [:]) -> JSONValue {
        let configuration = container.configuration
        var json: JSONValue = [
            "Id": .string(container.id.text), "Names": [.string("/\(container.name)")], "Image": .string(configuration.imageReference),
            "ImageID": .string(configuration.imageID.text), "Command": .string(configuration.arguments.joined(separator: " ")),
            "Created": .integer(configuration.createdAt.seconds), "Ports": .array(ports(container)), "Labels": JSONValue(configuration.labels),
            "State": .string(state(container)), "Status": .string(status(container, now: now)),
            "HostConfig": ["NetworkMode": .string(container.networkMode)],
            "NetworkSettings": ["Networks": .object(networks(container))], "Mounts": .array(mounts(configuration, volumes)),
        ]
        if let sizes { json["SizeRw"] = .integer(sizes) }
        return json
    }

    /// `GET /containers/{id}/json`.
    /// - Parameter volumes: where on this machine volumes are, by name.
    static func inspection(_ container: ContainerDetails, volumes: [String: String]) -> JSONValue {
        let configuration = container.configuration
        let state = container.state
        var stateJSON: JSONValue = [
            "Status": .string(Self.state(container)), "Running": .bool(state.phase == .running), "Paused": .bool(state.phase == .paused),
            "Restarting": .bool(container.isRestarting), "OOMKilled": .bool(state.outOfMemory), "Dead": .bool(state.phase == .dead),
            "Pid": .integer(state.processID), "ExitCode": .integer(state.exitCode), "Error": .string(state.error),
            "StartedAt": .string(state.startedAt.description), "FinishedAt": .string(state.finishedAt.description),
        ]
        if let health = container.health {
            stateJSON["Health"] = [
                "Status": .string(health.status.rawValue), "FailingStreak": .integer(Int64(health.failingStreak)),
                "Log": .array(
                    health.log.map {
                        [
                            "Start": .string($0.startedAt.description), "End": .string($0.finishedAt.description),
                            "ExitCode": .integer(Int64($0.exitCode)), "Output": .string($0.output),
                        ]
                    }),
            ]
        }
        let arguments = configuration.arguments
        return [
            "Id": .string(container.id.text), "Created": .string(configuration.createdAt.description), "Path": .string(arguments.first ?? ""),
            "Args": JSONValue(arguments.dropFirst()), "State": stateJSON, "Image": .string(configuration.imageID.text),
            "ResolvConfPath": "", "HostnamePath": "", "HostsPath": "", "LogPath": "", "Name": .string("/\(container.name)"),
            "RestartCount": .integer(Int64(container.restartCount)), "Driver": "overlay2", "Platform": "linux", "MountLabel": "", "ProcessLabel": "",
            "AppArmorProfile": "", "ExecIDs": .null, "HostConfig": hostConfiguration(container),
            "GraphDriver": ["Name": "overlay2", "Data": .null], "Mounts": .array(mounts(configuration, volumes)), "Config": self.configuration(container),
            "NetworkSettings": networkSettings(container),
        ]
    }

    /// Docker's word for how it is.
    static func state(_ container: ContainerDetails) -> String {
        if container.isBeingRemoved { return "removing" }
        if container.isRestarting { return "restarting" }
        return container.state.phase.rawValue
    }

    /// The sentence of `ps`: `Up 3 minutes (healthy)`, `Exited (0) 2 hours ago`.
    static func status(_ container: ContainerDetails, now: Timestamp) -> String {
        let state = container.state
        func span(_ from: Timestamp) -> String { HumanSpan.text(now - from) }
        switch state.phase {
        case .running, .paused:
            var text = "Up \(span(state.startedAt))"
            if state.phase == .paused { text += " (Paused)" }
            if let health = container.health { text += health.status == .starting ? " (health: starting)" : " (\(health.status.rawValue))" }
            return text
        case .created: return "Created"
        case .dead: return "Dead"
        case .exited:
            if container.isRestarting { return "Restarting (\(state.exitCode)) \(span(state.finishedAt)) ago" }
            return "Exited (\(state.exitCode)) \(span(state.finishedAt)) ago"
        @unknown default: return state.phase.rawValue
        }
    }

    private static func configuration(_ container: ContainerDetails) -> JSONValue {
        let configuration = container.configuration
        var json: JSONValue = [
            "Hostname": .string(configuration.hostname), "Domainname": .string(configuration.domainname), "User": .string(configuration.user),
            "AttachStdin": false, "AttachStdout": false, "AttachStderr": false, "Tty": .bool(configuration.terminal),
            "OpenStdin": .bool(configuration.openStandardInput), "StdinOnce": false, "Env": JSONValue(configuration.environment),
            "Cmd": container.command.isEmpty ? .null : JSONValue(container.command), "Image": .string(configuration.imageReference),
            "Volumes": .null, "WorkingDir": .string(configuration.workingDirectory),
            "Entrypoint": container.entrypoint.isEmpty ? .null : JSONValue(container.entrypoint), "OnBuild": .null,
            "Labels": JSONValue(configuration.labels),
        ]
        if !container.exposedPorts.isEmpty { json["ExposedPorts"] = .set(container.exposedPorts) }
        if !configuration.stopSignal.isEmpty { json["StopSignal"] = .string(configuration.stopSignal) }
        if let period = configuration.stopGracePeriod { json["StopTimeout"] = .integer(period.components.seconds) }
        if let healthcheck = configuration.healthcheck { json["Healthcheck"] = JSONFields.encode(healthcheck) }
        return json
    }

    /// What `create` was given, with what a client looks for whether it was given or not.
    private static func hostConfiguration(_ container: ContainerDetails) -> JSONValue {
        let configuration = container.configuration
        var json = (try? JSONValue.parse(configuration.hostConfiguration)) ?? .object(JSONObject())
        let resources = configuration.resources
        let standard: [(String, JSONValue)] = [
            ("NetworkMode", .string(container.networkMode)),
            (
                "RestartPolicy",
                ["Name": .string(container.restartPolicy.name.rawValue), "MaximumRetryCount": .integer(Int64(container.restartPolicy.maximumRetryCount))]
            ),
            ("AutoRemove", .bool(configuration.removeWhenEnded)), ("Privileged", .bool(configuration.privileged)),
            ("ReadonlyRootfs", .bool(configuration.readOnlyRoot)), ("Memory", .integer(resources.memoryBytes)), ("NanoCpus", .integer(resources.nanoCPUs)),
            (
                "LogConfig",
                ["Type": .string(configuration.log.name.isEmpty ? "json-file" : configuration.log.name), "Config": JSONValue(configuration.log.options)]
            ),
            ("PortBindings", portBindings(container, allocated: false)), ("Binds", .null), ("Runtime", "oci"),
        ]
        for (name, value) in standard where json[name] == nil || json[name] == .string("") || json[name] == .string("default") { json[name] = value }
        return json
    }

    // MARK: Networks, ports, mounts

    private static func ports(_ container: ContainerDetails) -> [JSONValue] {
        var published: [JSONValue] = []
        var covered: Set<String> = []
        for port in container.publishedPorts where container.state.phase == .running {
            covered.insert("\(port.containerPort)/\(port.transport.rawValue)")
            published.append([
                "IP": .string(port.hostAddress.isEmpty ? "0.0.0.0" : port.hostAddress), "PrivatePort": .integer(Int64(port.containerPort)),
                "PublicPort": .integer(Int64(port.hostPort)), "Type": .string(port.transport.rawValue),
            ])
        }
        for exposed in container.exposedPorts where !covered.contains(exposed) && container.state.phase == .running {
            let halves = exposed.split(separator: "/")
            guard let number = halves.first.flatMap({ Int64($0) }) else { continue }
            published.append(["PrivatePort": .integer(number), "Type": .string(halves.count == 2 ? String(halves[1]) : "tcp")])
        }
        return published
    }

    private static func portBindings(_ container: ContainerDetails, allocated: Bool) -> JSONValue {
        var bindings = JSONObject()
        if allocated { for exposed in container.exposedPorts { bindings[exposed] = .null } }
        for port in container.publishedPorts {
            let key = "\(port.containerPort)/\(port.transport.rawValue)"
            let address = port.hostAddress.isEmpty && allocated ? "0.0.0.0" : port.hostAddress
            let binding: JSONValue = ["HostIp": .string(address), "HostPort": .string(port.hostPort == 0 ? "" : String(port.hostPort))]
            bindings[key] = .array((bindings[key]?.array ?? []) + [binding])
        }
        return .object(bindings)
    }

    private static func networks(_ container: ContainerDetails) -> JSONObject {
        var networks = JSONObject()
        let isRunning = container.state.phase == .running
        for endpoint in container.configuration.endpoints {
            let prefix = isRunning ? IPPrefix(endpoint.address) : nil
            networks[endpoint.networkName] = [
                "IPAMConfig": .null, "Links": .null, "Aliases": endpoint.aliases.isEmpty ? .null : JSONValue(endpoint.aliases),
                "NetworkID": .string(endpoint.networkID.text), "EndpointID": .string(isRunning ? container.id.text : ""),
                "Gateway": .string(isRunning ? endpoint.gateway : ""), "IPAddress": .string(prefix?.address.description ?? ""),
                "IPPrefixLen": .integer(Int64(prefix?.length ?? 0)), "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
                "MacAddress": .string(isRunning ? endpoint.macAddress : ""), "DriverOpts": .null,
            ]
        }
        if networks.isEmpty {
            networks[container.networkMode] = [
                "IPAMConfig": .null, "Links": .null, "Aliases": .null, "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "",
                "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "MacAddress": "", "DriverOpts": .null,
            ]
        }
        return networks
    }

    private static func networkSettings(_ container: ContainerDetails) -> JSONValue {
        let networks = networks(container)
        let first = networks.first { _ in true }?.value
        return [
            "Bridge": "", "SandboxID": "", "HairpinMode": false, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
            "Ports": container.state.phase == .running ? portBindings(container, allocated: true) : [:],
            "SandboxKey": .string(container.configuration.networkNamespacePath), "SecondaryIPAddresses": .null, "SecondaryIPv6Addresses": .null,
            "EndpointID": first?["EndpointID"] ?? "", "Gateway": first?["Gateway"] ?? "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
            "IPAddress": first?["IPAddress"] ?? "", "IPPrefixLen": first?["IPPrefixLen"] ?? 0, "IPv6Gateway": "",
            "MacAddress": first?["MacAddress"] ?? "", "Networks": .object(networks),
        ]
    }

    private static func mounts(_ configuration: ContainerConfiguration, _ volumes: [String: String]) -> [JSONValue] {
        configuration.mounts.map { mount in
            var json: JSONValue = [
                "Type": .string(mount.kind.rawValue), "Source": .string(mount.source), "Destination": .string(mount.target), "Mode": "",
                "RW": .bool(!mount.readOnly), "Propagation": .string(mount.bindOptions?.propagation ?? ""),
            ]
            if mount.kind == .volume {
                json["Name"] = .string(mount.source)
                // The path that a host's administrator looks for; of a volume that is gone, what is left to say.
                json["Source"] = .string(volumes[mount.source] ?? mount.source)
                json["Driver"] = "local"
            }
            return json
        }
    }
}

/// Spans as Docker words them: `About a minute`, `3 hours`.
enum HumanSpan {
    static func text(_ span: Duration) -> String {
        let seconds = max(0, span.components.seconds)
        switch seconds {
        case 0: return "Less than a second"
        case 1: return "1 second"
        case 2..<60: return "\(seconds) seconds"
        case 60..<120: return "About a minute"
        case 120..<3600: return "\(seconds / 60) minutes"
        case 3600..<7200: return "About an hour"
        case 7200..<172_800: return "\(seconds / 3600) hours"
        case 172_800..<1_209_600: return "\(seconds / 86400) days"
        case 1_209_600..<5_184_000: return "\(seconds / 604_800) weeks"
        case 5_184_000..<63_072_000: return "\(seconds / 2_592_000) months"
        default: return "\(seconds / 31_536_000) years"
        }
    }
}
