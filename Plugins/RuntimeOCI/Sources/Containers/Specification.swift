import Coding
import PluginAPI

/// What the machine has and the configuration of a container does not say.
struct SpecificationContext: Sendable {
    var cgroupVersion: Int
    var cgroupPath: String
    /// Bits of those that can be given.
    var capabilities: UInt64
    var kernel: KernelVersion
    var seccompSupported: Bool
    /// The kernel can limit swap.
    var swapLimits: Bool
    /// A small init, or `nil` when none is installed.
    var initPath: String?

    var rootPath: String
    var user: ProcessUser
    /// Files that are mounted over the image's: target to source.
    var files: [String: String]
    /// Mounts with sources resolved to paths of the host.
    var mounts: [ResolvedMount]
    var devices: [HostDevice]
}

/// A mount of a container with its source found.
struct ResolvedMount: Sendable, Hashable {
    var mount: Mount
    /// A path of the host; empty for a tmpfs.
    var source: String
}

/// Makes the OCI runtime's `config.json` (runtime specification 1.0) from a container's configuration. No input or output but the values.
struct Specification {
    let configuration: ContainerConfiguration
    let context: SpecificationContext
    let capabilities: [String]

    init(configuration: ContainerConfiguration, context: SpecificationContext) throws(ApusError) {
        self.configuration = configuration
        self.context = context
        capabilities = try Capabilities.resolve(
            add: configuration.capabilityAdd, drop: configuration.capabilityDrop, privileged: configuration.privileged,
            available: context.capabilities)
    }

    func json() throws(ApusError) -> JSONValue {
        var linux = try linux()
        if let propagation = rootPropagation { linux["rootfsPropagation"] = .string(propagation) }
        return [
            "ociVersion": "1.0.2",
            "process": try process(),
            "root": ["path": .string(context.rootPath), "readonly": .bool(configuration.readOnlyRoot)],
            "hostname": .string(hostname),
            "mounts": .array(try mounts()),
            "linux": linux,
        ]
    }

    var hostname: String { configuration.hostname.isEmpty ? configuration.id.short : configuration.hostname }

    static let defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    /// Docker's variables, then the configuration's, which win; `HOME` when nobody set it.
    static func environment(_ configured: [String], hostname: String, terminal: Bool, home: String) -> [String] {
        var result = [defaultPath, "HOSTNAME=\(hostname)"] + (terminal ? ["TERM=xterm"] : [])
        for variable in configured {
            let name = variable.prefix { $0 != "=" }
            // Without a value it takes a default away.
            let isSet = variable.contains("=")
            if let index = result.firstIndex(where: { $0.prefix { $0 != "=" } == name }) {
                if isSet { result[index] = variable } else { result.remove(at: index) }
            } else if isSet {
                result.append(variable)
            }
        }
        if !result.contains(where: { $0.hasPrefix("HOME=") }) { result.append("HOME=\(home)") }
        return result
    }

    func process() throws(ApusError) -> JSONValue {
        var arguments = configuration.arguments
        if configuration.initProcess { arguments = [Self.initTarget, "--"] + arguments }
        let environment = Self.environment(
            configuration.environment, hostname: hostname, terminal: configuration.terminal, home: context.user.home)
        var process: JSONValue = [
            "terminal": .bool(configuration.terminal),
            "user": Self.json(context.user),
            "args": JSONValue(arguments),
            "env": JSONValue(environment),
            "cwd": .string(configuration.workingDirectory.isEmpty ? "/" : configuration.workingDirectory),
            "noNewPrivileges": .bool(configuration.noNewPrivileges),
            "oomScoreAdj": .integer(configuration.oomScoreAdjustment),
        ]
        process["capabilities"] = Self.json(capabilities: capabilities, user: context.user)
        let limits = try configuration.ulimits.map { (limit) throws(ApusError) -> JSONValue in try Self.json(limit) }
        if !limits.isEmpty { process["rlimits"] = .array(limits) }
        return process
    }

    static let initTarget = "/sbin/docker-init"

    static func json(_ user: ProcessUser) -> JSONValue {
        [
            "uid": .integer(Int64(user.user)), "gid": .integer(Int64(user.group)),
            "additionalGids": .array(user.additionalGroups.map { .integer(Int64($0)) }),
        ]
    }

    /// Another user than root has them only in the bounding set, as after an exec by root.
    static func json(capabilities: [String], user: ProcessUser) -> JSONValue {
        let list = JSONValue(capabilities)
        return user.user == 0 ? ["bounding": list, "effective": list, "permitted": list] : ["bounding": list]
    }

    private static let limitNames: Set<String> = [
        "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending",
        "stack",
    ]

    private static func json(_ limit: Ulimit) throws(ApusError) -> JSONValue {
        guard limitNames.contains(limit.name) else { throw ApusError(.invalidArgument, "invalid ulimit type: \(limit.name)") }
        guard limit.hard == -1 || (limit.soft != -1 && limit.soft <= limit.hard) else {
            throw ApusError(.invalidArgument, "ulimit soft limit must be less than or equal to hard limit: \(limit.soft) > \(limit.hard)")
        }
        // -1 is "unlimited": no machine reaches the largest number that JSON values hold exactly.
        func number(_ value: Int64) -> JSONValue { .integer(value < 0 ? .max : value) }
        return ["type": .string("RLIMIT_\(limit.name.uppercased())"), "soft": number(limit.soft), "hard": number(limit.hard)]
    }
}
