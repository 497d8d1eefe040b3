/// A container and how it is.
public struct Container: FieldCoded {
    public var configuration: ContainerConfiguration = ContainerConfiguration()
    public var state: ContainerState = ContainerState()

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Config", &configuration, .always)
        try coder.field(2, "State", &state, .always)
    }
}

/// How a container is.
public struct ContainerState: FieldCoded {
    public var phase: ContainerPhase = .created
    /// Of its first process, in the engine's view; 0 when it does not run.
    public var processID: Int64 = 0
    /// 128 and the signal after a signal.
    public var exitCode: Int64 = 0
    /// The kernel killed it, or a process of it, for want of memory.
    public var outOfMemory: Bool = false
    /// Why it did not start.
    public var error: String = ""
    public var startedAt: Timestamp = .never
    public var finishedAt: Timestamp = .never

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Status", &phase, .always)
        try coder.field(2, "Pid", &processID, .always)
        try coder.field(3, "ExitCode", &exitCode, .always)
        try coder.field(4, "OOMKilled", &outOfMemory, .always)
        try coder.field(5, "Error", &error, .always)
        try coder.field(6, "StartedAt", &startedAt, .always)
        try coder.field(7, "FinishedAt", &finishedAt, .always)
    }
}

/// The Engine API's words.
public enum ContainerPhase: String, Sendable, Hashable, CaseIterable {
    case created
    case running
    case paused
    case exited
    case dead
}

/// Everything a runtime needs to make a container. Nothing is left to be looked up: the host has merged the image's configuration, the service and the defaults.
public struct ContainerConfiguration: FieldCoded {
    /// 64 hexadecimal digits.
    public var id: ID = ""
    /// Without a slash.
    public var name: String = ""
    public var createdAt: Timestamp = .never
    /// As the user wrote it.
    public var imageReference: String = ""
    public var imageID: ID = ""
    public var labels: [String: String] = [:]
    /// The whole command line: entrypoint, then command.
    public var arguments: [String] = []
    public var environment: [String] = []
    /// `/` when empty.
    public var workingDirectory: String = ""
    /// Resolved in the container's own `/etc/passwd` and `/etc/group`.
    public var user: String = ""
    /// More groups of the process, by name or number.
    public var groups: [String] = []
    public var terminal: Bool = false
    public var openStandardInput: Bool = false
    public var hostname: String = ""
    /// Of NIS; empty: none.
    public var domainname: String = ""
    public var mounts: [Mount] = []
    public var readOnlyRoot: Bool = false
    public var resources: ContainerResources = ContainerResources()
    public var capabilityAdd: [String] = []
    public var capabilityDrop: [String] = []
    /// All capabilities and devices, no seccomp, nothing masked.
    public var privileged: Bool = false
    public var noNewPrivileges: Bool = false
    /// Empty: the default profile. `unconfined`: none. Else a profile in Docker's JSON format.
    public var seccompProfile: String = ""
    /// With `readOnlyPaths`: the defaults when both are empty and it is not privileged.
    public var maskedPaths: [String] = []
    /// Of the container, made read-only.
    public var readOnlyPaths: [String] = []
    public var devices: [DeviceMapping] = []
    public var sysctls: [String: String] = [:]
    public var ulimits: [Ulimit] = []
    /// -1000 to 1000.
    public var oomScoreAdjustment: Int64 = 0
    /// A pinned namespace; empty: the host's.
    public var networkNamespacePath: String = ""
    /// The text of `/etc/hosts`; empty: the image's own.
    public var hostsFile: String = ""
    /// The text of `/etc/resolv.conf`; empty: the image's own.
    public var resolverFile: String = ""
    /// Empty or `host`.
    public var pidMode: String = ""
    /// Empty, `private` or `host`.
    public var ipcMode: String = ""
    /// Empty: the runtime's.
    public var cgroupParent: String = ""
    /// 64 MiB when zero.
    public var shmSize: Int64 = 0
    /// A process of its own reaps what the container's leave behind.
    public var initProcess: Bool = false
    /// SIGTERM when empty.
    public var stopSignal: String = ""
    /// Ten seconds when absent.
    public var stopGracePeriod: Duration?
    public var healthcheck: Healthcheck?
    /// `max-size` and `max-file` are honoured.
    public var log: LogDriver = LogDriver()
    /// The engine removes it when it has ended.
    public var removeWhenEnded: Bool = false
    /// The host's own notes: kept, handed back, of no meaning to the runtime.
    public var annotations: [String: String] = [:]
    /// The request's own JSON, so that `inspect` gives back what `create` was given.
    public var hostConfiguration: String = ""
    /// Where it is in its networks.
    public var endpoints: [ContainerEndpoint] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Id", &id, .always)
        try coder.field(2, "Name", &name, .always)
        try coder.field(3, "Created", &createdAt, .always)
        try coder.field(4, "Image", &imageReference, .always)
        try coder.field(5, "ImageID", &imageID, .always)
        try coder.field(6, "Labels", &labels)
        try coder.field(7, "Args", &arguments)
        try coder.field(8, "Env", &environment)
        try coder.field(9, "WorkingDir", &workingDirectory)
        try coder.field(10, "User", &user)
        try coder.field(11, "Groups", &groups)
        try coder.field(12, "Tty", &terminal)
        try coder.field(13, "OpenStdin", &openStandardInput)
        try coder.field(14, "Hostname", &hostname)
        try coder.field(15, "Domainname", &domainname)
        try coder.field(16, "Mounts", &mounts)
        try coder.field(17, "ReadonlyRootfs", &readOnlyRoot)
        try coder.field(18, "Resources", &resources)
        try coder.field(19, "CapAdd", &capabilityAdd)
        try coder.field(20, "CapDrop", &capabilityDrop)
        try coder.field(21, "Privileged", &privileged)
        try coder.field(22, "NoNewPrivileges", &noNewPrivileges)
        try coder.field(23, "SeccompProfile", &seccompProfile)
        try coder.field(24, "MaskedPaths", &maskedPaths)
        try coder.field(25, "ReadonlyPaths", &readOnlyPaths)
        try coder.field(26, "Devices", &devices)
        try coder.field(27, "Sysctls", &sysctls)
        try coder.field(28, "Ulimits", &ulimits)
        try coder.field(29, "OomScoreAdj", &oomScoreAdjustment)
        try coder.field(30, "NetworkNamespace", &networkNamespacePath)
        try coder.field(31, "HostsFile", &hostsFile)
        try coder.field(32, "ResolverFile", &resolverFile)
        try coder.field(33, "PidMode", &pidMode)
        try coder.field(34, "IpcMode", &ipcMode)
        try coder.field(35, "CgroupParent", &cgroupParent)
        try coder.field(36, "ShmSize", &shmSize)
        try coder.field(37, "Init", &initProcess)
        try coder.field(38, "StopSignal", &stopSignal)
        try coder.field(39, "StopGracePeriod", &stopGracePeriod)
        try coder.field(40, "Healthcheck", &healthcheck)
        try coder.field(41, "LogConfig", &log)
        try coder.field(42, "AutoRemove", &removeWhenEnded)
        try coder.field(43, "Annotations", &annotations, .internalOnly)
        try coder.field(44, "HostConfig", &hostConfiguration, .internalOnly)
        try coder.field(45, "Endpoints", &endpoints, .internalOnly)
    }
}

/// Limits of a container's cgroup.
public struct ContainerResources: FieldCoded {
    /// 0: unlimited, as below.
    public var memoryBytes: Int64 = 0
    /// What it keeps when memory is short; 0: nothing.
    public var memoryReservationBytes: Int64 = 0
    /// Memory and swap together; -1: unlimited.
    public var memorySwapBytes: Int64 = 0
    /// Billionths of a CPU; 0: no limit.
    public var nanoCPUs: Int64 = 0
    /// Weight among others, 1024 is the usual one; 0: the usual one.
    public var cpuShares: Int64 = 0
    /// Microseconds; 0: the kernel's.
    public var cpuPeriod: Int64 = 0
    /// Microseconds of a period; 0: no limit.
    public var cpuQuota: Int64 = 0
    /// `0-3,7`; empty: all.
    public var cpuset: String = ""
    /// Threads count too; 0: no limit.
    public var processes: Int64 = 0
    /// 10 to 1000; 0: the usual one.
    public var blockWeight: Int64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Memory", &memoryBytes)
        try coder.field(2, "MemoryReservation", &memoryReservationBytes)
        try coder.field(3, "MemorySwap", &memorySwapBytes)
        try coder.field(4, "NanoCpus", &nanoCPUs)
        try coder.field(5, "CpuShares", &cpuShares)
        try coder.field(6, "CpuPeriod", &cpuPeriod)
        try coder.field(7, "CpuQuota", &cpuQuota)
        try coder.field(8, "CpusetCpus", &cpuset)
        try coder.field(9, "PidsLimit", &processes)
        try coder.field(10, "BlkioWeight", &blockWeight)
    }
}

/// A device of the host in a container.
public struct DeviceMapping: FieldCoded {
    public var hostPath: String = ""
    public var containerPath: String = ""
    /// Of `rwm`.
    public var permissions: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "PathOnHost", &hostPath, .always)
        try coder.field(2, "PathInContainer", &containerPath, .always)
        try coder.field(3, "CgroupPermissions", &permissions, .always)
    }
}

/// A container's place in a network of its node.
public struct ContainerEndpoint: FieldCoded {
    public var networkID: ID = ""
    public var networkName: String = ""
    /// With the length of the network.
    public var address: String = ""
    public var gateway: String = ""
    public var macAddress: String = ""
    public var interfaceName: String = ""
    public var aliases: [String] = []
    public var ports: [ContainerPort] = []

    /// With its length; empty without IPv6.
    public var addressV6: String = ""
    public var gatewayV6: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "NetworkID", &networkID)
        try coder.field(2, "NetworkName", &networkName)
        try coder.field(3, "Address", &address)
        try coder.field(4, "Gateway", &gateway)
        try coder.field(5, "MacAddress", &macAddress)
        try coder.field(6, "Interface", &interfaceName)
        try coder.field(7, "Aliases", &aliases)
        try coder.field(8, "Ports", &ports)
        try coder.field(9, "AddressV6", &addressV6)
        try coder.field(10, "GatewayV6", &gatewayV6)
    }
}

/// A port of a container that its node publishes.
public struct ContainerPort: FieldCoded {
    public var transport: TransportProtocol = .tcp
    public var containerPort: UInt64 = 0
    /// 0: none yet.
    public var hostPort: UInt64 = 0
    /// Empty: all of the host's.
    public var hostAddress: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Type", &transport)
        try coder.field(2, "PrivatePort", &containerPort)
        try coder.field(3, "PublicPort", &hostPort)
        try coder.field(4, "IP", &hostAddress)
    }
}
