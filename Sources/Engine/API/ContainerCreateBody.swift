import Agent
import Coding
import PluginAPI

/// Reads the body of `POST /containers/create` (Engine API `ContainerConfig`, `HostConfig`, `NetworkingConfig`). Whether the values make sense is
/// checked where the container is made (`ContainerRequest.check`), as a task's are.
enum ContainerCreateBody {
    /// - Throws: `invalidArgument` for what is of a wrong type or unknown, `unimplemented` for what Apus does not have.
    static func request(from json: JSONValue, name: String?) throws(ApusError) -> ContainerRequest {
        var reader = try JSONReader(json, path: "")
        var request = ContainerRequest(image: try reader.string("Image"), name: name.flatMap { $0.isEmpty ? nil : $0 })
        guard !request.configuration.imageReference.isEmpty else {
            throw ApusError(.invalidArgument, "Image is missing: the image that the container runs")
        }
        request.configuration.hostname = try reader.string("Hostname")
        request.configuration.domainname = try reader.string("Domainname")
        request.configuration.user = try reader.string("User")
        request.configuration.terminal = try reader.bool("Tty")
        request.configuration.environment = try reader.strings("Env")
        request.command = try reader.commandLine("Cmd")
        request.entrypoint = try reader.commandLine("Entrypoint")
        request.configuration.workingDirectory = try reader.string("WorkingDir")
        request.configuration.labels = try reader.map("Labels")
        request.configuration.stopSignal = try reader.string("StopSignal")
        if let seconds = try reader.optionalInteger("StopTimeout") {
            guard Int32(exactly: seconds) != nil else { throw ApusError(.invalidArgument, "StopTimeout: \(seconds) is beyond 2147483647 seconds") }
            request.configuration.stopGracePeriod = .seconds(seconds)
        }
        request.configuration.healthcheck = try reader.object("Healthcheck", Healthcheck.self)
        request.exposedPorts = try reader.set("ExposedPorts")
        let volumes = try reader.set("Volumes")
        // Attaching comes later; the flags of `docker run -d` are all false, and those of `docker run` are of no effect on the container.
        for name in ["AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce", "ArgsEscaped", "OnBuild"] { reader.ignored(name) }
        try reader.unsupported("Shell")
        let hasNetwork = try !reader.bool("NetworkDisabled")
        request.configuration.openStandardInput = try reader.bool("OpenStdin")
        try reader.unsupported("MacAddress")
        if let host = reader.value("HostConfig") {
            request.configuration.hostConfiguration = host.text()
            try readHost(host, into: &request)
        }
        for path in volumes where !request.configuration.mounts.contains(where: { $0.target == path }) {
            var mount = Mount()
            mount.kind = .volume
            mount.target = path
            request.configuration.mounts.append(mount)
        }
        try readNetworks(reader.value("NetworkingConfig"), into: &request)
        if !hasNetwork { request.networks = [ContainerNetwork(target: "none")] }
        try reader.finish()
        return request
    }

    private static func readHost(_ json: JSONValue, into request: inout ContainerRequest) throws(ApusError) {
        var host = try JSONReader(json, path: "HostConfig")
        var configuration = request.configuration
        configuration.resources = try resources(&host)
        configuration.capabilityAdd = try host.strings("CapAdd")
        configuration.capabilityDrop = try host.strings("CapDrop")
        configuration.privileged = try host.bool("Privileged")
        configuration.readOnlyRoot = try host.bool("ReadonlyRootfs")
        configuration.groups = try host.strings("GroupAdd")
        configuration.oomScoreAdjustment = try host.integer("OomScoreAdj")
        configuration.shmSize = try host.integer("ShmSize")
        configuration.sysctls = try host.map("Sysctls")
        configuration.ulimits = try host.objects("Ulimits", Ulimit.self)
        configuration.devices = try host.objects("Devices", DeviceMapping.self)
        try readSystemPaths(&host, into: &configuration)
        configuration.initProcess = try host.bool("Init")
        configuration.cgroupParent = try host.string("CgroupParent")
        configuration.removeWhenEnded = try host.bool("AutoRemove")
        configuration.pidMode = try word("PidMode", &host, ["", "private", "host"], dropping: "private")
        configuration.ipcMode = try word("IpcMode", &host, ["", "private", "shareable", "host"], dropping: "shareable")
        // What there is depends on the machine, so it is checked there.
        _ = try word("CgroupnsMode", &host, ["", "private", "host"], dropping: "")
        _ = try word("UTSMode", &host, [""], dropping: "")
        _ = try word("UsernsMode", &host, ["", "host"], dropping: "")
        _ = try word("Isolation", &host, ["", "default"], dropping: "")
        if let log = host.value("LogConfig") {
            var reader = try JSONReader(log, path: "HostConfig.LogConfig")
            configuration.log.name = try reader.string("Type")
            configuration.log.options = try reader.map("Config")
            try reader.finish()
        }
        try readSecurity(host.strings("SecurityOpt"), into: &configuration)
        if let mounts = host.value("Mounts") { try MissingFields.check(mounts: mounts, path: "HostConfig.Mounts") }
        configuration.mounts = try host.objects("Mounts", Mount.self)
        for bind in try host.strings("Binds") { configuration.mounts.append(try BindText.parse(bind)) }
        for (path, options) in try host.map("Tmpfs").sorted(by: { $0.key < $1.key }) { configuration.mounts.append(try BindText.tmpfs(path, options)) }
        request.configuration = configuration

        var dns = DNSConfiguration()
        dns.nameservers = try host.strings("Dns")
        dns.options = try host.strings("DnsOptions")
        dns.search = try host.strings("DnsSearch")
        if dns != DNSConfiguration() { request.dns = dns }
        request.extraHosts = try host.strings("ExtraHosts")
        request.publishesAllPorts = try host.bool("PublishAllPorts")
        request.publishedPorts = try ports(host.value("PortBindings"))
        if let policy = host.value("RestartPolicy") {
            var reader = try JSONReader(policy, path: "HostConfig.RestartPolicy")
            let name = try reader.string("Name")
            guard let known = name.isEmpty ? .no : ContainerRestartPolicy.Name(rawValue: name) else {
                throw ApusError(.invalidArgument, "invalid restart policy '\(name)'; use no, always, unless-stopped or on-failure")
            }
            request.restartPolicy = ContainerRestartPolicy(name: known, maximumRetryCount: Int(try reader.integer("MaximumRetryCount")))
            guard request.restartPolicy.maximumRetryCount >= 0 else {
                throw ApusError(.invalidArgument, "maximum retry count cannot be negative")
            }
            guard known == .onFailure || request.restartPolicy.maximumRetryCount == 0 else {
                throw ApusError(.invalidArgument, "maximum retry count cannot be used with restart policy '\(known.rawValue)'")
            }
            try reader.finish()
            if configuration.removeWhenEnded, known != .no { throw ApusError(.invalidArgument, "can't set 'AutoRemove' and 'RestartPolicy' both") }
        }
        let mode = try host.string("NetworkMode")
        if !mode.isEmpty, mode != "default" {
            guard !mode.hasPrefix("container:") else {
                throw ApusError(.unimplemented, "sharing the network of another container is not in this version of Apus")
            }
            request.networks = [ContainerNetwork(target: mode)]
        }
        for name in [
            "VolumesFrom", "Links", "VolumeDriver", "StorageOpt", "Cgroup", "DeviceCgroupRules", "DeviceRequests", "BlkioWeightDevice",
            "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "CpuRealtimePeriod", "CpuRealtimeRuntime",
            "CpusetMems", "OomKillDisable", "CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth", "KernelMemory", "KernelMemoryTCP",
            "Capabilities", "Annotations",
        ] { try host.unsupported(name) }
        try host.unsupported("MemorySwappiness", except: [-1])
        let runtime = try host.string("Runtime")
        // These are what the usual runtime uses, whichever the kernel allows.
        request.runtime = ["runc", "crun", "oci"].contains(runtime) ? "" : runtime
        // The client writes the file; the engine has nothing to do with it.
        host.ignored("ContainerIDFile")
        host.ignored("ConsoleSize")
        try host.finish()
    }

    private static func word(_ name: String, _ reader: inout JSONReader, _ known: [String], dropping standard: String) throws(ApusError) -> String {
        let word = try reader.string(name)
        guard known.contains(word) else {
            let words = known.filter { !$0.isEmpty }.joined(separator: ", ")
            throw ApusError(
                .unimplemented, "HostConfig.\(name)=\(word) is not in this version of Apus" + (words.isEmpty ? "" : "; \(words) can be used"))
        }
        return word == standard ? "" : word
    }

    private static func resources(_ host: inout JSONReader) throws(ApusError) -> ContainerResources {
        var resources = ContainerResources()
        resources.memoryBytes = try host.integer("Memory")
        resources.memoryReservationBytes = try host.integer("MemoryReservation")
        resources.memorySwapBytes = try host.integer("MemorySwap")
        resources.nanoCPUs = try host.integer("NanoCpus")
        resources.cpuShares = try host.integer("CpuShares")
        resources.cpuPeriod = try host.integer("CpuPeriod")
        resources.cpuQuota = try host.integer("CpuQuota")
        resources.cpuset = try host.string("CpusetCpus")
        // Negative is without a limit, as 0.
        resources.processes = max(0, try host.integer("PidsLimit"))
        resources.blockWeight = try host.integer("BlkioWeight")
        return resources
    }

    private static func readSecurity(_ options: [String], into configuration: inout ContainerConfiguration) throws(ApusError) {
        for option in options {
            let halves = option.split(maxSplits: 1, omittingEmptySubsequences: false) { $0 == "=" || $0 == ":" }.map(String.init)
            switch (halves[0], halves.count == 2 ? halves[1] : "") {
            case ("no-new-privileges", ""), ("no-new-privileges", "true"): configuration.noNewPrivileges = true
            case ("no-new-privileges", "false"): configuration.noNewPrivileges = false
            case ("seccomp", let profile) where !profile.isEmpty: configuration.seccompProfile = profile == "builtin" ? "" : profile
            case ("label", "disable"), ("apparmor", "unconfined"): break
            case ("systempaths", _), ("label", _), ("apparmor", _), ("credentialspec", _), ("writable-cgroups", _):
                throw ApusError(.unimplemented, "--security-opt \(option) is not in this version of Apus")
            default: throw ApusError(.invalidArgument, "invalid --security-opt: \"\(option)\"")
            }
        }
    }

    /// What of `/proc` and `/sys` is hidden, and what may only be read; absent: the usual.
    private static func readSystemPaths(_ host: inout JSONReader, into configuration: inout ContainerConfiguration) throws(ApusError) {
        let (masked, readOnly) = (try host.optionalStrings("MaskedPaths"), try host.optionalStrings("ReadonlyPaths"))
        configuration.maskedPaths = masked ?? []
        configuration.readOnlyPaths = readOnly ?? []
        guard try !host.bool("Privileged"), masked != nil || readOnly != nil else { return }
        guard configuration.maskedPaths != [] || configuration.readOnlyPaths != [] else {
            throw ApusError(
                .unimplemented,
                "HostConfig.MaskedPaths and HostConfig.ReadonlyPaths without any path (--security-opt systempaths=unconfined) are not in this version of Apus"
            )
        }
        // One alone would leave nothing of the other's usual paths.
        guard masked != nil, readOnly != nil else {
            throw ApusError(
                .unimplemented,
                "HostConfig.\(masked == nil ? "ReadonlyPaths without MaskedPaths" : "MaskedPaths without ReadonlyPaths") is not in this version of Apus")
        }
    }
}

/// The short form of mounts, `source:target:options`.
enum BindText {
    static func parse(_ text: String) throws(ApusError) -> Mount {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard (1...3).contains(parts.count), !parts.contains("") else {
            throw ApusError(.invalidArgument, "invalid volume specification: '\(text)'")
        }
        var mount = Mount()
        mount.target = parts.count == 1 ? parts[0] : parts[1]
        if parts.count > 1 { mount.source = parts[0] }
        mount.kind = mount.source.hasPrefix("/") ? .bind : .volume
        guard mount.target.hasPrefix("/"), mount.target != "/" else {
            throw ApusError(.invalidArgument, "invalid volume specification: '\(text)': the path in the container must be absolute and not '/'")
        }
        guard parts.count == 3 else {
            if mount.kind == .bind { mount.bindOptions = makingSource() }
            return mount
        }
        if mount.kind == .bind { mount.bindOptions = makingSource() }
        for option in parts[2].split(separator: ",") {
            switch option {
            case "ro": mount.readOnly = true
            case "rw", "z", "Z", "cached", "delegated", "consistent": break
            case "private", "rprivate", "shared", "rshared", "slave", "rslave":
                guard mount.kind == .bind else { throw ApusError(.invalidArgument, "invalid volume specification: '\(text)': \(option) is for bind mounts") }
                mount.bindOptions?.propagation = String(option)
            case "nocopy":
                guard mount.kind == .volume else { throw ApusError(.invalidArgument, "invalid volume specification: '\(text)': nocopy is for volumes") }
                var options = VolumeOptions()
                options.noCopy = true
                mount.volumeOptions = options
            default: throw ApusError(.invalidArgument, "invalid mode: \(parts[2])")
            }
        }
        return mount
    }

    /// The short form makes a source that is missing, as dockerd does.
    private static func makingSource() -> BindOptions {
        var options = BindOptions()
        options.createMountpoint = true
        return options
    }

    /// `--tmpfs /run:size=64m,mode=1777`.
    static func tmpfs(_ path: String, _ options: String) throws(ApusError) -> Mount {
        var mount = Mount()
        mount.kind = .tmpfs
        mount.target = path
        guard path.hasPrefix("/") else { throw ApusError(.invalidArgument, "invalid tmpfs path '\(path)': it must be absolute") }
        var tmpfs = TmpfsOptions()
        for option in options.split(separator: ",") {
            if option.hasPrefix("size=") {
                guard !option.hasSuffix("%") else {
                    throw ApusError(.unimplemented, "the tmpfs option \"\(option)\": a part of the memory is not in this version of Apus; write size=64m")
                }
                guard let size = size(option.dropFirst(5)) else { throw ApusError(.invalidArgument, "invalid tmpfs option \"\(option)\"") }
                tmpfs.sizeBytes = size
            } else if option.hasPrefix("mode=") {
                guard let mode = Int64(option.dropFirst(5), radix: 8) else { throw ApusError(.invalidArgument, "invalid tmpfs option \"\(option)\"") }
                tmpfs.mode = mode
            } else if option == "ro" {
                mount.readOnly = true
            } else if !["rw", "noexec", "nosuid", "nodev"].contains(option) {
                let name = option.prefix { $0 != "=" }
                guard known.contains(name) else { throw ApusError(.invalidArgument, "invalid tmpfs option \"\(option)\"") }
                throw ApusError(
                    .unimplemented,
                    "the tmpfs option \"\(option)\" is not in this version of Apus; size, mode, ro, rw, noexec, nosuid and nodev are, the last three always")
            }
        }
        mount.tmpfsOptions = tmpfs
        return mount
    }

    /// Other options of mount(8) and tmpfs(5) that dockerd passes on.
    private static let known: Set<Substring> = [
        "exec", "suid", "dev", "sync", "async", "dirsync", "remount", "mand", "nomand", "atime", "noatime", "diratime", "nodiratime", "bind", "rbind",
        "unbindable", "runbindable", "private", "rprivate", "shared", "rshared", "slave", "rslave", "relatime", "norelatime", "strictatime",
        "nostrictatime", "defaults", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge",
    ]

    private static func size(_ text: Substring) -> Int64? {
        let units: [Character: Int64] = ["k": 1 << 10, "m": 1 << 20, "g": 1 << 30]
        let unit = text.last.flatMap { units[Character($0.lowercased())] }
        guard let number = Int64(unit == nil ? text : text.dropLast()), number >= 0 else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: unit ?? 1)
        return overflow ? nil : product
    }
}
