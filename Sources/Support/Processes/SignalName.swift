import Glibc
public import PluginAPI

/// Signals by name or number, as `kill` and `STOPSIGNAL` take them.
public enum SignalName {
    private static let numbers: [String: Int32] = [
        "HUP": SIGHUP, "INT": SIGINT, "QUIT": SIGQUIT, "ILL": SIGILL, "TRAP": SIGTRAP, "ABRT": SIGABRT, "IOT": SIGABRT, "BUS": SIGBUS,
        "FPE": SIGFPE, "KILL": SIGKILL, "USR1": SIGUSR1, "SEGV": SIGSEGV, "USR2": SIGUSR2, "PIPE": SIGPIPE, "ALRM": SIGALRM,
        "TERM": SIGTERM, "STKFLT": 16, "CHLD": SIGCHLD, "CLD": SIGCHLD, "CONT": SIGCONT, "STOP": SIGSTOP, "TSTP": SIGTSTP, "TTIN": SIGTTIN,
        "TTOU": SIGTTOU, "URG": SIGURG, "XCPU": SIGXCPU, "XFSZ": SIGXFSZ, "VTALRM": SIGVTALRM, "PROF": SIGPROF, "WINCH": SIGWINCH,
        "IO": SIGIO, "POLL": SIGIO, "PWR": SIGPWR, "SYS": SIGSYS, "RTMIN": firstRealTime, "RTMAX": lastRealTime,
    ]
    private static let firstRealTime: Int32 = 34
    private static let lastRealTime: Int32 = 64

    /// Reads `SIGTERM`, `term` or `15`; `SIGRTMIN+3` and `RTMAX-2` too.
    /// - Returns: 1 to 64.
    /// - Throws: `invalidArgument` for anything else, the empty text and numbers with a sign included.
    public static func number(_ text: String) throws(ApusError) -> Int32 {
        // Characters of other scripts can become Latin ones in upper case.
        guard text.utf8.allSatisfy({ $0 < 128 }) else { throw invalid(text) }
        if let number = number(text[...], in: 1...lastRealTime) { return number }
        var name = text.uppercased()
        if name.hasPrefix("SIG") { name.removeFirst(3) }
        if let number = numbers[name] { return number }
        let offsets = 0...(lastRealTime - firstRealTime)
        if name.hasPrefix("RTMIN+"), let offset = number(name.dropFirst(6), in: offsets) { return firstRealTime + offset }
        if name.hasPrefix("RTMAX-"), let offset = number(name.dropFirst(6), in: offsets) { return lastRealTime - offset }
        throw invalid(text)
    }

    private static func invalid(_ text: String) -> ApusError { ApusError(.invalidArgument, "Invalid signal: \(text)") }

    /// Digits without a sign, which `Int32` would read.
    private static func number(_ text: Substring, in range: ClosedRange<Int32>) -> Int32? {
        guard text.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int32(text), range.contains(number) else { return nil }
        return number
    }
}
