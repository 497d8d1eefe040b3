/// What runs in each task of a service (Engine API `ContainerSpec`).
public struct ContainerSpec: FieldCoded {
    /// The reference as the user wrote it, perhaps with a digest.
    public var image: String = ""
    /// Labels of the containers, not of the service.
    public var labels: [String: String] = [:]
    /// Replaces the image's entrypoint.
    public var command: [String] = []
    /// Replaces the image's command.
    public var arguments: [String] = []
    /// May hold templates such as `{{.Node.Hostname}}`; empty: the container's id.
    public var hostname: String = ""
    /// `NAME=value` each.
    public var environment: [String] = []
    /// Absolute; empty: the image's.
    public var workingDirectory: String = ""
    /// `name`, `uid`, `name:group` or `uid:gid`.
    public var user: String = ""
    /// Additional groups.
    public var groups: [String] = []
    public var privileges: Privileges?
    /// Its output is one stream, with control characters.
    public var terminal: Bool = false
    /// Somebody may attach to write to it.
    public var openStandardInput: Bool = false
    /// The root file system.
    public var readOnly: Bool = false
    public var mounts: [Mount] = []
    /// A name with or without `SIG`, or a number; empty means the image's, else SIGTERM.
    public var stopSignal: String = ""
    /// Ten seconds when absent.
    public var stopGracePeriod: Duration?
    public var healthcheck: Healthcheck?
    /// Lines of `/etc/hosts`: an address, then names.
    public var hosts: [String] = []
    public var dns: DNSConfiguration?
    public var secrets: [SecretReference] = []
    public var configs: [ConfigReference] = []
    /// Of Windows; `default` or empty here.
    public var isolation: String = ""
    /// A small init as process 1.
    public var initProcess: Bool?
    /// Kernel parameters of the container's namespaces, by name.
    public var sysctls: [String: String] = [:]
    /// Names with or without `CAP_`, or `ALL`; added to the default set.
    public var capabilityAdd: [String] = []
    /// Names with or without `CAP_`, or `ALL`; taken from the default set.
    public var capabilityDrop: [String] = []
    public var ulimits: [Ulimit] = []
    /// -1000 to 1000.
    public var oomScoreAdjustment: Int64 = 0
    /// What the image's registry asks of the nodes; never shown.
    public var registryCredentials: RegistryCredentials?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Image", &image)
        try coder.field(2, "Labels", &labels)
        try coder.field(3, "Command", &command)
        try coder.field(4, "Args", &arguments)
        try coder.field(5, "Hostname", &hostname)
        try coder.field(6, "Env", &environment)
        try coder.field(7, "Dir", &workingDirectory)
        try coder.field(8, "User", &user)
        try coder.field(9, "Groups", &groups)
        try coder.field(10, "Privileges", &privileges)
        try coder.field(11, "TTY", &terminal)
        try coder.field(12, "OpenStdin", &openStandardInput)
        try coder.field(13, "ReadOnly", &readOnly)
        try coder.field(14, "Mounts", &mounts)
        try coder.field(15, "StopSignal", &stopSignal)
        try coder.field(16, "StopGracePeriod", &stopGracePeriod)
        try coder.field(17, "Healthcheck", &healthcheck)
        try coder.field(18, "Hosts", &hosts)
        try coder.field(19, "DNSConfig", &dns)
        try coder.field(20, "Secrets", &secrets)
        try coder.field(21, "Configs", &configs)
        try coder.field(22, "Isolation", &isolation)
        try coder.field(23, "Init", &initProcess)
        try coder.field(24, "Sysctls", &sysctls)
        try coder.field(25, "CapabilityAdd", &capabilityAdd)
        try coder.field(26, "CapabilityDrop", &capabilityDrop)
        try coder.field(27, "Ulimits", &ulimits)
        try coder.field(28, "OomScoreAdj", &oomScoreAdjustment)
        try coder.field(40, "RegistryCredentials", &registryCredentials, .internalOnly)
    }
}

/// How to find out whether a container is well (Engine API `HealthConfig`).
public struct Healthcheck: FieldCoded {
    /// Empty: as the image says. `NONE`: off. `CMD` and arguments, or `CMD-SHELL` and a line.
    public var test: [String] = []
    /// Thirty seconds when zero.
    public var interval: Duration = .zero
    /// Thirty seconds when zero.
    public var timeout: Duration = .zero
    /// Failures do not count so early.
    public var startPeriod: Duration = .zero
    /// Five seconds when zero; API 1.44.
    public var startInterval: Duration = .zero
    /// Three when zero.
    public var retries: Int64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Test", &test)
        try coder.field(2, "Interval", &interval)
        try coder.field(3, "Timeout", &timeout)
        try coder.field(4, "StartPeriod", &startPeriod)
        try coder.field(5, "StartInterval", &startInterval)
        try coder.field(6, "Retries", &retries)
    }
}

/// Something mounted into a container (Engine API `Mount`).
public struct Mount: FieldCoded {
    public var kind: MountKind = .bind
    /// A path for `bind`, a name for `volume`, nothing for `tmpfs`.
    public var source: String = ""
    /// Absolute path in the container.
    public var target: String = ""
    public var readOnly: Bool = false
    /// For other systems; without effect on Linux.
    public var consistency: String = ""
    public var bindOptions: BindOptions?
    public var volumeOptions: VolumeOptions?
    public var tmpfsOptions: TmpfsOptions?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Type", &kind)
        try coder.field(2, "Source", &source)
        try coder.field(3, "Target", &target)
        try coder.field(4, "ReadOnly", &readOnly)
        try coder.field(5, "Consistency", &consistency)
        try coder.field(6, "BindOptions", &bindOptions)
        try coder.field(7, "VolumeOptions", &volumeOptions)
        try coder.field(8, "TmpfsOptions", &tmpfsOptions)
    }
}

/// What is mounted.
public enum MountKind: String, Sendable, Hashable, CaseIterable {
    case bind
    case volume
    case tmpfs
}

/// Options of a bind mount.
public struct BindOptions: FieldCoded {
    /// `rprivate` when empty.
    public var propagation: String = ""
    /// Leaves out what is mounted below the source.
    public var nonRecursive: Bool = false
    /// Make the source when it is missing; API 1.43.
    public var createMountpoint: Bool = false
    /// Read-only for the source alone, not for what is mounted below it.
    public var readOnlyNonRecursive: Bool = false
    /// Refused where the kernel cannot make all of it read-only.
    public var readOnlyForceRecursive: Bool = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Propagation", &propagation)
        try coder.field(2, "NonRecursive", &nonRecursive)
        try coder.field(3, "CreateMountpoint", &createMountpoint)
        try coder.field(4, "ReadOnlyNonRecursive", &readOnlyNonRecursive)
        try coder.field(5, "ReadOnlyForceRecursive", &readOnlyForceRecursive)
    }
}

/// Options of a volume mount.
public struct VolumeOptions: FieldCoded {
    /// Do not fill a new volume with the image's files.
    public var noCopy: Bool = false
    /// Of the volume, when it is made for this mount.
    public var labels: [String: String] = [:]
    public var driver: VolumeDriver?
    /// A folder of the volume instead of the whole.
    public var subpath: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "NoCopy", &noCopy)
        try coder.field(2, "Labels", &labels)
        try coder.field(3, "DriverConfig", &driver)
        try coder.field(4, "Subpath", &subpath)
    }
}

/// A volume driver and its options.
public struct VolumeDriver: FieldCoded {
    public var name: String = ""
    public var options: [String: String] = [:]

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name)
        try coder.field(2, "Options", &options)
    }
}

/// Options of a tmpfs mount.
public struct TmpfsOptions: FieldCoded {
    /// 0: the kernel's limit, half of the machine's memory.
    public var sizeBytes: Int64 = 0
    /// Permission bits; 0 means 01777.
    public var mode: Int64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "SizeBytes", &sizeBytes)
        try coder.field(2, "Mode", &mode)
    }
}

/// What a container may gain (Engine API `Privileges`).
public struct Privileges: FieldCoded {
    /// For Windows.
    public var credentialSpec: CredentialSpec?
    /// Labels of SELinux.
    public var selinux: SELinuxContext?
    public var seccomp: SeccompOptions?
    public var appArmor: AppArmorOptions?
    /// Set-user-id programs gain nothing.
    public var noNewPrivileges: Bool = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "CredentialSpec", &credentialSpec)
        try coder.field(2, "SELinuxContext", &selinux)
        try coder.field(3, "Seccomp", &seccomp)
        try coder.field(4, "AppArmor", &appArmor)
        try coder.field(5, "NoNewPrivileges", &noNewPrivileges)
    }
}

/// Of Windows; accepted only when empty.
public struct CredentialSpec: FieldCoded {
    public var config: String = ""
    public var file: String = ""
    public var registry: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Config", &config)
        try coder.field(2, "File", &file)
        try coder.field(3, "Registry", &registry)
    }
}

/// Labels of SELinux.
public struct SELinuxContext: FieldCoded {
    public var disable: Bool = false
    public var user: String = ""
    public var role: String = ""
    public var type: String = ""
    public var level: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Disable", &disable)
        try coder.field(2, "User", &user)
        try coder.field(3, "Role", &role)
        try coder.field(4, "Type", &type)
        try coder.field(5, "Level", &level)
    }
}

/// Which system calls are allowed.
public struct SeccompOptions: FieldCoded {
    /// `default`, `unconfined` or `custom`.
    public var mode: String = ""
    /// JSON in Docker's profile format.
    public var profile: [UInt8] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Mode", &mode)
        try coder.field(2, "Profile", &profile)
    }
}

/// `default` or `disabled`.
public struct AppArmorOptions: FieldCoded {
    /// `default` or `disabled`; empty: `default`.
    public var mode: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Mode", &mode)
    }
}

/// How names are resolved in a container.
public struct DNSConfiguration: FieldCoded {
    /// Addresses.
    public var nameservers: [String] = []
    /// Domains that are tried behind names without a dot.
    public var search: [String] = []
    /// As resolv.conf(5) has them, such as `ndots:2`.
    public var options: [String] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Nameservers", &nameservers)
        try coder.field(2, "Search", &search)
        try coder.field(3, "Options", &options)
    }
}

/// Where a secret or config appears.
public struct FileTarget: FieldCoded {
    /// Path of the file; a secret's is below `/run/secrets` when it has no slash at the beginning.
    public var name: String = ""
    /// A number.
    public var uid: String = ""
    /// A number.
    public var gid: String = ""
    /// Permission bits.
    public var mode: UInt64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name)
        try coder.field(2, "UID", &uid)
        try coder.field(3, "GID", &gid)
        try coder.field(4, "Mode", &mode)
    }
}

/// A secret that a container may read.
public struct SecretReference: FieldCoded {
    public var file: FileTarget?
    public var secretID: ID = ""
    public var secretName: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "File", &file)
        try coder.field(2, "SecretID", &secretID)
        try coder.field(3, "SecretName", &secretName)
    }
}

/// A config that a container may read.
public struct ConfigReference: FieldCoded {
    public var file: FileTarget?
    public var configID: ID = ""
    public var configName: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "File", &file)
        try coder.field(2, "ConfigID", &configID)
        try coder.field(3, "ConfigName", &configName)
    }
}

/// A resource limit of setrlimit(2).
public struct Ulimit: FieldCoded {
    /// Lower case without `RLIMIT_`, such as `nofile`.
    public var name: String = ""
    /// -1: none.
    public var hard: Int64 = 0
    /// -1: none; never above `hard`.
    public var soft: Int64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name)
        try coder.field(2, "Hard", &hard, .always)
        try coder.field(3, "Soft", &soft, .always)
    }
}
