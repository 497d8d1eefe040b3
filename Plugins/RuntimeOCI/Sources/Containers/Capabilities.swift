import Files
import PluginAPI

/// Linux capabilities by name, and which ones a container gets.
enum Capabilities {
    /// In the order of their numbers (capabilities(7)).
    static let names = [
        "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
        "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
        "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
        "PERFMON", "BPF", "CHECKPOINT_RESTORE",
    ].map { "CAP_\($0)" }

    /// Docker's default set.
    static let defaults: Set<String> = [
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP",
        "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
    ]

    /// The capabilities of a container, in the order of their numbers.
    ///
    /// Adding `ALL` starts from all of them, dropping `ALL` from none; then the named ones are taken away or added.
    /// - Parameter available: bits of those that this machine can give at all.
    static func resolve(add: [String], drop: [String], privileged: Bool, available: UInt64) throws(ApusError) -> [String] {
        let known = names.indices.filter { available & 1 << UInt64($0) != 0 }.map { names[$0] }
        if privileged { return known }
        let added = try normalized(add)
        let dropped = try normalized(drop)
        var result: Set<String>
        switch (added.contains("ALL"), dropped.contains("ALL")) {
        case (true, _): result = Set(known).subtracting(dropped)
        case (false, true): result = Set(added)
        case (false, false): result = defaults.union(added).subtracting(dropped)
        }
        result.remove("ALL")
        if let missing = added.subtracting(["ALL"]).subtracting(known).sorted().first {
            throw ApusError(.invalidArgument, "capability \(missing) cannot be given: the engine itself does not have it on this machine")
        }
        return known.filter(result.contains)
    }

    private static func normalized(_ list: [String]) throws(ApusError) -> Set<String> {
        var result: Set<String> = []
        for item in list {
            let upper = item.uppercased()
            let name = upper == "ALL" || upper.hasPrefix("CAP_") ? upper : "CAP_\(upper)"
            guard name == "ALL" || names.contains(name) else { throw ApusError(.invalidArgument, "unknown capability: \"\(item)\"") }
            result.insert(name)
        }
        return result
    }

    /// What this process could hand on: its bounding set.
    static func ofThisProcess() -> UInt64 {
        let status = (try? Files.readText("/proc/self/status")) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("CapBnd:") }
        return (line?.split(whereSeparator: \.isWhitespace).last).flatMap { UInt64($0, radix: 16) } ?? 0
    }
}
