import Glibc
import PluginAPI

enum Signals {
    private static let numbers: [String: Int32] = [
        "HUP": SIGHUP, "INT": SIGINT, "QUIT": SIGQUIT, "ABRT": SIGABRT, "KILL": SIGKILL, "USR1": SIGUSR1, "USR2": SIGUSR2, "ALRM": SIGALRM, "TERM": SIGTERM,
        "CONT": SIGCONT, "STOP": SIGSTOP, "WINCH": SIGWINCH, "PWR": SIGPWR,
    ]

    /// `SIGQUIT`, `quit` and `3`; SIGTERM when empty.
    static func number(_ text: String) throws(ApusError) -> Int32 {
        if text.isEmpty { return SIGTERM }
        if let number = Int32(text), (1...64).contains(number) { return number }
        let name = text.uppercased()
        guard let number = numbers[name.hasPrefix("SIG") ? String(name.dropFirst(3)) : name] else {
            throw ApusError(.invalidArgument, "\(text) is no signal that the runtime process knows")
        }
        return number
    }
}
