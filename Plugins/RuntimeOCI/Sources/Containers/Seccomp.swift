import CSeccomp
import Coding
import Glibc
import PluginAPI

/// Which system calls a container may make, before this machine's kernel, architecture and the container's capabilities are known.
struct SeccompProfile: Sendable {
    var defaultAction: String
    var defaultErrorNumber: Int64?
    /// An architecture, and those whose calls its kernel answers too.
    var architectures: [String: [String]]
    /// Architectures without a map, in older profiles.
    var plainArchitectures: [String] = []
    var flags: [String] = []
    var rules: [SeccompRule]
}

/// What happens to some system calls.
struct SeccompRule: Sendable {
    struct Argument: Sendable {
        var index: Int64
        var value: UInt64
        /// With `SCMP_CMP_MASKED_EQ`: what is left under the mask `value` is compared with this.
        var secondValue: UInt64 = 0
        var comparison: String
    }

    /// When a rule is in force, or not in force.
    struct Condition: Sendable {
        var capabilities: [String] = []
        var architectures: [String] = []
        var minimumKernel: String?
    }

    var names: [String]
    var action = "SCMP_ACT_ALLOW"
    var errorNumber: Int64?
    var arguments: [Argument] = []
    var includes = Condition()
    var excludes = Condition()

    /// - Parameter architecture: as Docker names it: `amd64`, `arm64`.
    func applies(capabilities: Set<String>, architecture: String, kernel: KernelVersion) -> Bool {
        if !excludes.architectures.isEmpty, excludes.architectures.contains(architecture) { return false }
        if excludes.capabilities.contains(where: capabilities.contains) { return false }
        if let version = excludes.minimumKernel.flatMap(KernelVersion.init), kernel >= version { return false }
        if !includes.architectures.isEmpty, !includes.architectures.contains(architecture) { return false }
        if !includes.capabilities.allSatisfy(capabilities.contains) { return false }
        if let version = includes.minimumKernel.flatMap(KernelVersion.init), kernel < version { return false }
        return true
    }
}

/// `major.minor` of a kernel.
struct KernelVersion: Sendable, Hashable, Comparable {
    var major: Int
    var minor: Int

    init(major: Int, minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// Reads `6.1.0-13-amd64` too.
    init?(_ text: String) {
        let numbers = text.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
        guard numbers.count == 2 else { return nil }
        self.init(major: numbers[0], minor: numbers[1])
    }

    static func < (left: KernelVersion, right: KernelVersion) -> Bool { (left.major, left.minor) < (right.major, right.minor) }

    static let running: KernelVersion = {
        var names = utsname()
        uname(&names)
        let release = withUnsafeBytes(of: &names.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        return KernelVersion(release) ?? KernelVersion(major: 0, minor: 0)
    }()
}

/// libseccomp's view of this machine.
struct SeccompPlatform: Sendable {
    /// `SCMP_ARCH_X86_64`.
    var architecture: String
    /// `amd64`.
    var dockerArchitecture: String

    static let current: SeccompPlatform = {
        let names: [(UInt32, String, String)] = [
            (seccomp_arch_resolve_name("x86_64"), "SCMP_ARCH_X86_64", "amd64"),
            (seccomp_arch_resolve_name("aarch64"), "SCMP_ARCH_AARCH64", "arm64"),
            (seccomp_arch_resolve_name("arm"), "SCMP_ARCH_ARM", "arm"),
            (seccomp_arch_resolve_name("x86"), "SCMP_ARCH_X86", "x86"),
            (seccomp_arch_resolve_name("s390x"), "SCMP_ARCH_S390X", "s390x"),
            (seccomp_arch_resolve_name("ppc64le"), "SCMP_ARCH_PPC64LE", "ppc64le"),
            (seccomp_arch_resolve_name("riscv64"), "SCMP_ARCH_RISCV64", "riscv64"),
        ]
        let native = seccomp_arch_native()
        let found = names.first { $0.0 == native }
        return SeccompPlatform(architecture: found?.1 ?? "SCMP_ARCH_NATIVE", dockerArchitecture: found?.2 ?? "")
    }()

    /// Whether the call exists on one of the architectures, as far as libseccomp knows.
    static func knows(_ name: String, on architectures: [String]) -> Bool {
        architectures.contains { architecture in
            let short = architecture.dropFirst("SCMP_ARCH_".count).lowercased()
            let token = short == "native" ? UInt32(SCMP_ARCH_NATIVE) : seccomp_arch_resolve_name(short)
            if token == 0, short != "native" { return false }
            // Negative: known to the library, but not a call of that architecture.
            return seccomp_syscall_resolve_name_arch(token, name) >= 0
        }
    }

    static let isSupported = access("/proc/sys/kernel/seccomp/actions_avail", F_OK) == 0
}

extension SeccompProfile {
    /// The `linux.seccomp` part of the OCI configuration: only rules that are in force here, only calls that exist here.
    func resolve(
        capabilities: Set<String>, platform: SeccompPlatform = .current, kernel: KernelVersion = .running
    ) -> JSONValue {
        var all = plainArchitectures
        if let others = architectures[platform.architecture] { all = [platform.architecture] + others }
        if all.isEmpty { all = [platform.architecture] }
        var known: [String: Bool] = [:]
        var calls: [JSONValue] = []
        for rule in rules where rule.applies(capabilities: capabilities, architecture: platform.dockerArchitecture, kernel: kernel) {
            let names = rule.names.filter { name in
                if let answer = known[name] { return answer }
                let answer = SeccompPlatform.knows(name, on: all)
                known[name] = answer
                return answer
            }
            guard !names.isEmpty else { continue }
            var call: JSONValue = ["names": JSONValue(names), "action": .string(rule.action)]
            if let number = rule.errorNumber { call["errnoRet"] = .integer(number) }
            if !rule.arguments.isEmpty { call["args"] = .array(rule.arguments.map(Self.json)) }
            calls.append(call)
        }
        var result: JSONValue = ["defaultAction": .string(defaultAction), "architectures": JSONValue(all), "syscalls": .array(calls)]
        if let defaultErrorNumber { result["defaultErrnoRet"] = .integer(defaultErrorNumber) }
        if !flags.isEmpty { result["flags"] = JSONValue(flags) }
        return result
    }

    private static func json(_ argument: SeccompRule.Argument) -> JSONValue {
        [
            "index": .integer(argument.index), "value": JSONValue(argument.value), "valueTwo": JSONValue(argument.secondValue),
            "op": .string(argument.comparison),
        ]
    }
}
