import Glibc
import PluginAPI
import Synchronization

/// Where a command writes.
protocol Console: Sendable {
    func write(_ bytes: [UInt8])
    func writeError(_ bytes: [UInt8])
    /// Whether standard output is a terminal, so that lines may be written again.
    var isTerminal: Bool { get }
    /// Characters in a line of the terminal.
    var columns: Int { get }
}

extension Console {
    func line(_ text: String) { write(Array(text.utf8) + [0x0a]) }
    func errorLine(_ text: String) { writeError(Array(text.utf8) + [0x0a]) }
    func text(_ text: String) { write(Array(text.utf8)) }
}

/// Standard output and standard error.
struct SystemConsole: Console {
    func write(_ bytes: [UInt8]) { Self.writeAll(bytes, to: 1) }
    func writeError(_ bytes: [UInt8]) { Self.writeAll(bytes, to: 2) }

    var isTerminal: Bool {
        guard isatty(1) == 1, let terminal = getenv("TERM") else { return false }
        return strcmp(terminal, "dumb") != 0
    }

    var columns: Int {
        var size = winsize()
        guard ioctl(1, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
        return Int(size.ws_col)
    }

    private static func writeAll(_ bytes: [UInt8], to descriptor: Int32) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR || errno == EAGAIN { continue }
                // Nobody reads any more, as in `apus service ls | head -1`: there is nothing left to do.
                if errno == EPIPE { exit(141) }
                return
            }
            rest = rest.dropFirst(count)
        }
    }
}

extension String {
    /// Fit for one line of a terminal: a name or message of a stranger moves no cursor.
    var printable: String {
        guard unicodeScalars.contains(where: { $0.value < 0x20 || (0x7f...0x9f).contains($0.value) }) else { return self }
        var output = String.UnicodeScalarView()
        for scalar in unicodeScalars { output.append(scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) ? " " : scalar) }
        return String(output)
    }

    /// At most so many characters, the last one an ellipsis when some are cut.
    func shortened(to length: Int) -> String { count <= length ? self : String(prefix(max(0, length - 1))) + "…" }

    /// With spaces behind to that many characters.
    func padded(to length: Int) -> String { self + String(repeating: " ", count: max(0, length - count)) }
}
