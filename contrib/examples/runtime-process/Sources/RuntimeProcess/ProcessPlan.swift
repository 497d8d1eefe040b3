import PluginAPI

/// How a container becomes a command of this machine. Pure.
///
/// The command goes through programs that each do one thing and then become the next: nsenter(1) puts it into the container's network,
/// unshare(1) lets it have files and a host name of its own, setpriv(1) makes it another user, env(1) gives it its folder and its variables.
struct ProcessPlan: Sendable {
    static let defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    let configuration: ContainerConfiguration

    /// - Throws: `invalidArgument` naming what a plain process cannot have.
    init(_ configuration: ContainerConfiguration) throws(ApusError) {
        self.configuration = configuration
        guard let missing = Self.missing(configuration) else { return }
        throw ApusError(.invalidArgument, "the runtime process runs a command of this machine as it is, and \(missing)")
    }

    /// What is asked for and cannot be given; `nil`: nothing.
    private static func missing(_ configuration: ContainerConfiguration) -> String? {
        let resources = configuration.resources
        let log = configuration.log
        let reasons: [(Bool, String)] = [
            (!configuration.mounts.isEmpty, "has no mounts, volumes, secrets or configs (\(configuration.mounts.first?.target ?? ""))"),
            (configuration.terminal, "gives it no terminal"),
            (configuration.openStandardInput, "keeps no standard input open"),
            (configuration.readOnlyRoot, "cannot make the machine's files read-only"),
            (
                resources.memoryBytes != 0 || resources.memorySwapBytes != 0 || resources.nanoCPUs != 0 || resources.cpuShares != 0
                    || resources.cpuQuota != 0 || resources.cpuPeriod != 0 || !resources.cpuset.isEmpty || resources.processes != 0
                    || resources.blockWeight != 0, "limits no memory, CPUs or processes; reserve them instead, so that the scheduler leaves room"
            ),
            (!configuration.capabilityAdd.isEmpty || !configuration.capabilityDrop.isEmpty, "changes no capabilities"),
            (!["", "unconfined"].contains(configuration.seccompProfile), "has no seccomp"),
            (!configuration.devices.isEmpty, "gives it no devices: it has those of the machine"),
            (!configuration.sysctls.isEmpty, "sets no kernel parameters"),
            (!configuration.ulimits.isEmpty, "sets no ulimits"),
            (configuration.oomScoreAdjustment != 0, "leaves the OOM score alone"),
            (!configuration.groups.isEmpty, "gives it no further groups than its user's"),
            (configuration.initProcess, "needs no init: whatever the command leaves behind is killed"),
            (!configuration.cgroupParent.isEmpty, "has no cgroups"),
            (configuration.shmSize != 0, "has no /dev/shm of its own"),
            (!["", "host"].contains(configuration.ipcMode), "has no IPC namespace"),
            (!["", "json-file"].contains(log.name) || !log.options.isEmpty, "keeps the log itself; leave the log driver and its options out"),
            (configuration.arguments.first?.contains("=") ?? true, "cannot run \"\(configuration.arguments.first ?? "")\""),
        ]
        return reasons.first { $0.0 }?.1
    }

    /// The word that stands for no program; the command line alone says what is run then.
    static let anyProgram = "host"

    /// What an image is here: a program of this machine. `nil` when the name cannot be one.
    static func image(_ reference: String) -> Image? {
        guard !reference.isEmpty, !reference.contains(":"), !reference.contains("@") else { return nil }
        var image = Image()
        image.id = ID("process/\(reference)")
        image.references = [reference]
        image.os = "linux"
        image.configuration.entrypoint = reference == anyProgram ? [] : [reference]
        return image
    }

    /// The variables, with what every program expects.
    func environment(_ more: [String] = [], home: String) -> [String] {
        // One without a sign would be taken for the command.
        var variables = (configuration.environment + more).filter { $0.contains("=") }
        func add(_ name: String, _ value: String) {
            if !variables.contains(where: { $0.hasPrefix("\(name)=") }) { variables.append("\(name)=\(value)") }
        }
        add("PATH", Self.defaultPath)
        add("HOME", home)
        return variables
    }

    var directory: String { configuration.workingDirectory.isEmpty ? "/" : configuration.workingDirectory }

    /// - Parameter folder: where `hosts`, `resolv.conf` and `hostname` are.
    func command(as user: ProcessUser?, folder: String) -> [String] {
        var command: [String] = []
        let path = configuration.networkNamespacePath
        if !path.isEmpty {
            let prepare = """
                [ ! -s "$0/hosts" ] || mount --bind "$0/hosts" /etc/hosts
                [ ! -s "$0/resolv.conf" ] || mount --bind "$0/resolv.conf" /etc/resolv.conf
                cat "$0/hostname" >/proc/sys/kernel/hostname
                exec "$@"
                """
            command += ["/usr/bin/nsenter", "--net=\(path)", "--", "/usr/bin/unshare", "--mount", "--uts", "--propagation", "slave", "--"]
            command += ["/bin/sh", "-ec", prepare, folder]
        }
        return command + ending(as: user, configuration.arguments, [])
    }

    /// A further command beside a process that runs.
    func command(beside process: Int32, as user: ProcessUser?, _ arguments: [String], _ environment: [String]) -> [String] {
        var command: [String] = []
        if !configuration.networkNamespacePath.isEmpty {
            command += ["/usr/bin/nsenter", "--target", "\(process)", "--net", "--mount", "--uts", "--"]
        }
        return command + ending(as: user, arguments, environment)
    }

    private func ending(as user: ProcessUser?, _ arguments: [String], _ more: [String]) -> [String] {
        var command: [String] = []
        if user != nil || configuration.noNewPrivileges { command.append("/usr/bin/setpriv") }
        if configuration.noNewPrivileges { command.append("--no-new-privs") }
        if let user { command += ["--reuid=\(user.user)", "--regid=\(user.group)", user.isKnown ? "--init-groups" : "--clear-groups"] }
        if user != nil || configuration.noNewPrivileges { command.append("--") }
        // A shell that starts something in the background lets it ignore what Ctrl-C sends.
        command += ["/usr/bin/env", "--ignore-environment", "--default-signal=INT,QUIT", "--chdir=\(directory)"]
        return command + environment(more, home: user?.home ?? "/root") + arguments
    }
}

/// Whom a command runs as.
struct ProcessUser: Sendable, Hashable {
    var user: UInt32
    var group: UInt32
    var home: String
    /// Whether the machine's table has the user.
    var isKnown: Bool
}
