import ArgumentParser
import Coding
import PluginAPI

/// All flags of `run` and `create` that say what the container is, as the body of `POST /containers/create`.
struct ContainerOptions: ParsableArguments {
    @Option(help: "Name of the container; one is made up without it.") var name: String?
    @Option(name: [.customShort("p"), .long], help: ArgumentHelp("Publish a port.", valueName: "[[address:]port:]port[/protocol]")) var publish: [String] = []
    @Flag(name: [.customShort("P"), .long], help: "Publish all ports that the image exposes.") var publishAll = false
    @Option(help: ArgumentHelp("Port that is served inside.", valueName: "port[/protocol]")) var expose: [String] = []
    @Option(name: [.customShort("e"), .long], help: ArgumentHelp("Environment variable.", valueName: "NAME=value")) var env: [String] = []
    @Option(help: "File with environment variables, one a line.") var envFile: [String] = []
    @Option(name: [.customShort("l"), .long], help: ArgumentHelp("Label.", valueName: "key=value")) var label: [String] = []
    @Option(name: [.customShort("v"), .long], help: ArgumentHelp("Bind or volume to mount.", valueName: "source:target[:options]")) var volume: [String] = []
    @Option(help: ArgumentHelp("Mount something: type=bind|volume|tmpfs,source=…,target=….", valueName: "mount")) var mount: [String] = []
    @Option(help: ArgumentHelp("Mount a tmpfs.", valueName: "target[:options]")) var tmpfs: [String] = []
    @Option(name: .customLong("network"), help: "Network to join; also host or none.") var network: String?
    @Option(help: ArgumentHelp("Another name in the network.", valueName: "name")) var networkAlias: [String] = []
    @Option(help: ArgumentHelp("Line of /etc/hosts.", valueName: "name:address")) var addHost: [String] = []
    @Option(help: ArgumentHelp("DNS server.", valueName: "address")) var dns: [String] = []
    @Option(help: ArgumentHelp("DNS search domain.", valueName: "domain")) var dnsSearch: [String] = []
    @Option(help: ArgumentHelp("DNS option.", valueName: "option")) var dnsOption: [String] = []
    @Option(parsing: .unconditional, help: "Replaces the image's entrypoint.") var entrypoint: String?
    @Option(name: [.customShort("h"), .long], help: "Host name.") var hostname: String?
    @Option(name: [.customShort("u"), .long], help: ArgumentHelp("User.", valueName: "name|uid[:group|gid]")) var user: String?
    @Option(name: [.customShort("w"), .long], help: "Working directory.") var workdir: String?
    @Option(help: ArgumentHelp("Supplementary group.", valueName: "name|gid")) var groupAdd: [String] = []
    @Flag(name: [.customShort("t"), .long], inversion: .prefixedNo, help: "Give the process a terminal.") var tty = false
    @Flag(name: .customLong("init"), inversion: .prefixedNo, help: "Run a small init as process 1.") var useInit: Bool?
    @Flag(inversion: .prefixedNo, help: "Make the root file system read-only.") var readOnly = false
    @Flag(help: "Give the container all that root on this machine may do.") var privileged = false
    @Option(help: "no, always, unless-stopped or on-failure[:number] (default: no).") var restart = "no"
    @Option(
        name: [.customShort("m"), .long], parsing: .unconditional, help: ArgumentHelp("Most memory, such as 512m.", valueName: "bytes"),
        transform: ByteSize.parse)
    var memory: Int64?
    @Option(parsing: .unconditional, help: ArgumentHelp("Memory that is left to it when there is little.", valueName: "bytes"), transform: ByteSize.parse)
    var memoryReservation: Int64?
    @Option(parsing: .unconditional, help: ArgumentHelp("Most memory and swap together; -1 is without limit.", valueName: "bytes")) var memorySwap: String?
    @Option(parsing: .unconditional, help: ArgumentHelp("Most CPU time, in CPUs.", valueName: "decimal"), transform: ByteSize.parseCPUs) var cpus: Int64?
    @Option(name: [.customShort("c"), .long], parsing: .unconditional, help: "Share of the CPUs beside others.", transform: ServiceOptions.count)
    var cpuShares: UInt64?
    @Option(parsing: .unconditional, help: "Most processes; -1 is without limit.") var pidsLimit: Int64?
    @Option(parsing: .unconditional, help: ArgumentHelp("Size of /dev/shm.", valueName: "bytes"), transform: ByteSize.parse) var shmSize: Int64?
    @Option(help: ArgumentHelp("Limit of setrlimit.", valueName: "name=soft[:hard]")) var ulimit: [String] = []
    @Option(help: ArgumentHelp("Kernel parameter.", valueName: "key=value")) var sysctl: [String] = []
    @Option(help: ArgumentHelp("Give a capability.", valueName: "capability")) var capAdd: [String] = []
    @Option(help: ArgumentHelp("Take a capability away.", valueName: "capability")) var capDrop: [String] = []
    @Option(help: ArgumentHelp("Such as no-new-privileges or seccomp=unconfined.", valueName: "option")) var securityOpt: [String] = []
    @Option(help: ArgumentHelp("Device of this machine.", valueName: "path[:path[:rwm]]")) var device: [String] = []
    @Option(parsing: .unconditional, help: "How readily the kernel kills the process when memory ends (-1000 to 1000).", transform: WordFlag.oomScore)
    var oomScoreAdj: Int64?
    @Option(help: "Signal that stops it, such as SIGQUIT.") var stopSignal: String?
    @Option(parsing: .unconditional, help: ArgumentHelp("How long it may take to stop.", valueName: "seconds"), transform: ServiceOptions.count)
    var stopTimeout: UInt64?
    @Option(help: "Where output goes, such as json-file or none.") var logDriver: String?
    @Option(help: ArgumentHelp("Option of the log driver.", valueName: "key=value")) var logOpt: [String] = []
    @OptionGroup(title: "Health checks") var health: HealthOptions
    @Option(help: "Runtime plugin that runs it (default: the engine's usual one).", transform: ServiceOptions.runtimeName) var runtime: String?
    @Option(help: ArgumentHelp("Platform, such as linux/arm64.", valueName: "os/architecture")) var platform: String?
    @Option(help: "When to get the image: missing, always or never.") var pull = "missing"

    /// - Parameters:
    ///   - environment: of the caller.
    ///   - files: the text of every `--env-file`.
    ///   - folder: the caller's, for `--volume ./data:/data`.
    func body(
        image: String, arguments: [String], opensInput: Bool, removes: Bool, environment: [String: String], files: [String] = []
    ) throws(ApusError) -> JSONValue {
        guard !image.isEmpty, !image.hasPrefix("-") else {
            throw ApusError(.invalidArgument, image.isEmpty ? "the image is empty" : "unknown flag: \(image); see `apus run --help`")
        }
        var body: JSONValue = ["Image": .string(image)]
        if !arguments.isEmpty { body["Cmd"] = JSONValue(arguments) }
        if let entrypoint { body["Entrypoint"] = entrypoint.isEmpty ? [""] : JSONValue([entrypoint]) }
        let variables = try KeyValue.environment(files.flatMap { KeyValue.lines(ofFile: $0) } + env, from: environment)
        if !variables.isEmpty { body["Env"] = JSONValue(variables) }
        if !label.isEmpty { body["Labels"] = JSONValue(try KeyValue.map(label, flag: "--label")) }
        if let hostname { body["Hostname"] = .string(hostname) }
        if let user { body["User"] = .string(user) }
        if let workdir { body["WorkingDir"] = .string(workdir) }
        if tty { body["Tty"] = true }
        if opensInput { body["OpenStdin"] = true }
        if let stopSignal { body["StopSignal"] = .string(stopSignal) }
        if let stopTimeout { body["StopTimeout"] = .integer(Int64(stopTimeout)) }
        if let check = try health.apply(to: nil) { body["Healthcheck"] = JSONFields.encode(check) }
        let ports = try self.ports()
        if !ports.exposed.isEmpty { body["ExposedPorts"] = .object(ports.exposed) }
        let volumes = try self.volumes()
        if !volumes.anonymous.isEmpty { body["Volumes"] = .object(volumes.anonymous) }
        var host = try hostConfiguration()
        if !ports.bindings.isEmpty { host["PortBindings"] = .object(ports.bindings) }
        if !volumes.binds.isEmpty { host["Binds"] = JSONValue(volumes.binds) }
        if removes { host["AutoRemove"] = true }
        body["HostConfig"] = host
        if let network, !networkAlias.isEmpty {
            body["NetworkingConfig"] = ["EndpointsConfig": .object([network: ["Aliases": JSONValue(networkAlias)]])]
        }
        return body
    }

    private func hostConfiguration() throws(ApusError) -> JSONValue {
        var host: JSONValue = ["RestartPolicy": try RestartFlag.parse(restart)]
        func set(_ name: String, _ value: Int64?) { if let value { host[name] = .integer(value) } }
        func set(_ name: String, _ values: [String]) { if !values.isEmpty { host[name] = JSONValue(values) } }
        if let network { host["NetworkMode"] = .string(network) }
        if let runtime { host["Runtime"] = .string(runtime) }
        if publishAll { host["PublishAllPorts"] = true }
        if readOnly { host["ReadonlyRootfs"] = true }
        if privileged { host["Privileged"] = true }
        if let useInit { host["Init"] = .bool(useInit) }
        set("Memory", memory)
        set("MemoryReservation", memoryReservation)
        if let memorySwap { set("MemorySwap", memorySwap == "-1" ? -1 : try ByteSize.parse(memorySwap)) }
        set("NanoCpus", cpus)
        set("CpuShares", cpuShares.map { Int64($0) })
        set("PidsLimit", pidsLimit)
        set("ShmSize", shmSize)
        set("OomScoreAdj", oomScoreAdj)
        set("CapAdd", capAdd.map { Capabilities.normalized($0) })
        set("CapDrop", capDrop.map { Capabilities.normalized($0) })
        set("SecurityOpt", securityOpt)
        set("Dns", dns)
        set("DnsSearch", dnsSearch)
        set("DnsOptions", dnsOption)
        set("GroupAdd", groupAdd)
        set("ExtraHosts", try ServiceCreateOptions.each(addHost, "--add-host", HostFlag.parse).map { "\($0.name):\($0.address)" })
        if !sysctl.isEmpty { host["Sysctls"] = JSONValue(try KeyValue.map(sysctl, flag: "--sysctl")) }
        let limits = try ServiceCreateOptions.each(ulimit, "--ulimit", UlimitFlag.parse)
        if !limits.isEmpty { host["Ulimits"] = .array(limits.map { JSONFields.encode($0) }) }
        let mounts = try ServiceCreateOptions.each(mount, "--mount", MountFlag.parse)
        if !mounts.isEmpty { host["Mounts"] = .array(mounts.map { JSONFields.encode($0) }) }
        if !tmpfs.isEmpty {
            var entries = JSONObject()
            for entry in tmpfs {
                let (target, options) = entry.cut(at: ":")
                guard target.hasPrefix("/") else { throw ApusError(.invalidArgument, "--tmpfs \(entry): the path must begin with /") }
                entries[target] = .string(options ?? "")
            }
            host["Tmpfs"] = .object(entries)
        }
        if logDriver != nil || !logOpt.isEmpty {
            host["LogConfig"] = ["Type": .string(logDriver ?? ""), "Config": JSONValue(try KeyValue.map(logOpt, flag: "--log-opt"))]
        }
        if !device.isEmpty { host["Devices"] = .array(try device.map { text throws(ApusError) in try DeviceFlag.parse(text) }) }
        return host
    }

    private func ports() throws(ApusError) -> (exposed: JSONObject, bindings: JSONObject) {
        var exposed = JSONObject()
        var bindings = JSONObject()
        for text in expose {
            let short = try ServiceCreateOptions.each([text], "--expose") { text throws(ApusError) in try ShortPort(text) }[0]
            for pair in short.pairs { exposed["\(pair.target)/\(short.transport.rawValue)"] = [:] }
        }
        for text in publish {
            let short = try ServiceCreateOptions.each([text], "--publish") { text throws(ApusError) in try ShortPort(text) }[0]
            for pair in short.pairs {
                let key = "\(pair.target)/\(short.transport.rawValue)"
                exposed[key] = [:]
                let binding: JSONValue = ["HostIp": .string(short.address ?? ""), "HostPort": .string(pair.published.map { String($0) } ?? "")]
                bindings[key] = .array((bindings[key]?.array ?? []) + [binding])
            }
        }
        return (exposed, bindings)
    }

    private func volumes() throws(ApusError) -> (binds: [String], anonymous: JSONObject) {
        var binds: [String] = []
        var anonymous = JSONObject()
        for text in volume {
            let parts = text.split(separator: ":", omittingEmptySubsequences: false).map { String($0) }
            let target = parts.count == 1 ? parts[0] : parts[1]
            guard parts.count <= 3, target.hasPrefix("/"), !parts[0].isEmpty else {
                throw ApusError(.invalidArgument, "--volume \(text): write source:target or source:target:ro; the target begins with /")
            }
            if parts.count == 1 {
                anonymous[target] = [:]
            } else {
                let source = parts[0].hasPrefix(".") || parts[0].hasPrefix("/") ? try LocalFile.absolute(parts[0]) : parts[0]
                binds.append(([source] + parts.dropFirst()).joined(separator: ":"))
            }
        }
        return (binds, anonymous)
    }
}

/// `--restart` of a container.
enum RestartFlag {
    static func parse(_ text: String) throws(ApusError) -> JSONValue {
        let (name, count) = text.cut(at: ":")
        guard ["no", "always", "unless-stopped", "on-failure", ""].contains(name) else {
            throw ApusError(.invalidArgument, "--restart \(text): the policies are no, always, unless-stopped and on-failure[:number]")
        }
        guard let count else { return ["Name": .string(name.isEmpty ? "no" : name), "MaximumRetryCount": 0] }
        guard name == "on-failure", let number = UInt32(count) else {
            throw ApusError(.invalidArgument, "--restart \(text): only on-failure has a number of attempts, such as on-failure:3")
        }
        return ["Name": .string(name), "MaximumRetryCount": .integer(Int64(number))]
    }
}

/// `--device /dev/fuse:/dev/fuse:rwm`.
enum DeviceFlag {
    static func parse(_ text: String) throws(ApusError) -> JSONValue {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map { String($0) }
        func isAccess(_ word: String) -> Bool { !word.isEmpty && word.allSatisfy { "rwm".contains($0) } }
        guard let source = parts.first, source.hasPrefix("/"), parts.count <= 3 else {
            throw ApusError(.invalidArgument, "--device \(text): write /dev/name, or /dev/name:/dev/other:rwm")
        }
        var target = source
        var access = "rwm"
        switch parts.count {
        case 2: if isAccess(parts[1]) { access = parts[1] } else { target = parts[1] }
        case 3: (target, access) = (parts[1], parts[2])
        default: break
        }
        guard target.hasPrefix("/"), isAccess(access) else { throw ApusError(.invalidArgument, "--device \(text): write /dev/name:/dev/other:rwm") }
        return ["PathOnHost": .string(source), "PathInContainer": .string(target), "CgroupPermissions": .string(access)]
    }
}
