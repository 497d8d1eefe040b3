import Coding
public import PluginAPI

/// Names of Linux capabilities.
enum CapabilitySyntax {
    /// In the order of their numbers (capabilities(7)).
    private static let names: Set<String> = [
        "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
        "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
        "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
        "PERFMON", "BPF", "CHECKPOINT_RESTORE",
    ]

    /// With or without `CAP_`, in any case; `ALL` too.
    static func isValid(_ text: String) -> Bool {
        let upper = text.uppercased()
        return upper == "ALL" || names.contains(upper.hasPrefix("CAP_") ? String(upper.dropFirst(4)) : upper)
    }
}

/// The outer form of a seccomp profile in Docker's JSON format; what its rules mean is the runtime's to know.
public enum SeccompProfileSyntax {
    /// - Throws: `invalidArgument` for a text that is no profile.
    public static func check(_ text: String) throws(ApusError) {
        let profile: JSONValue
        do throws(ApusError) { profile = try JSONValue.parse(text) } catch { throw error.during("decoding seccomp profile failed") }
        guard profile.object != nil else {
            throw ApusError(.invalidArgument, "decoding seccomp profile failed: it is \(profile.kind), not an object")
        }
        guard let action = profile["defaultAction"]?.string else {
            throw ApusError(.invalidArgument, "decoding seccomp profile failed: \"defaultAction\" is missing")
        }
        try check(action: action)
        guard let calls = profile["syscalls"], !calls.isNull else { return }
        guard let rules = calls.array else {
            throw ApusError(.invalidArgument, "decoding seccomp profile failed: \"syscalls\" is \(calls.kind), not an array")
        }
        for rule in rules { try check(action: rule["action"]?.string ?? "") }
    }

    private static func check(action: String) throws(ApusError) {
        let known = ["KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY"]
        guard known.contains(where: { action == "SCMP_ACT_\($0)" }) else {
            throw ApusError(.invalidArgument, "the seccomp profile has an unknown action: \"\(ServiceValidation.printable(action))\"")
        }
    }
}
