import PluginAPI

/// Signals by name, as `kill` and `STOPSIGNAL` take them.
enum SignalName {
    /// Reads `SIGTERM`, `term` or `15`; `SIGRTMIN+3` and `RTMAX-2` too. Numbers are Linux's on x86 and ARM.
    static func number(_ text: String) throws(ApusError) -> Int32 {
        if let number = Int32(text) {
            guard (1...64).contains(number) else { throw invalid(text) }
            return number
        }
        var name = text.uppercased()
        if name.hasPrefix("SIG") { name.removeFirst(3) }
        if let number = names.firstIndex(of: name) { return Int32(number + 1) }
        switch name {
        case "CLD": return 17
        case "IOT": return 6
        case "POLL": return 29
        case "RTMIN": return 34
        case "RTMAX": return 64
        default: break
        }
        if name.hasPrefix("RTMIN+"), let offset = Int32(name.dropFirst(6)), (1...30).contains(offset) { return 34 + offset }
        if name.hasPrefix("RTMAX-"), let offset = Int32(name.dropFirst(6)), (1...30).contains(offset) { return 64 - offset }
        throw invalid(text)
    }

    private static func invalid(_ text: String) -> ApusError { ApusError(.invalidArgument, "Invalid signal: \(text)") }

    /// 1 and up.
    private static let names = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT",
        "STOP",
        "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ]
}
