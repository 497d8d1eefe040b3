import Fuzzing
import PluginAPI
import Processes
import Testing

@Suite struct SignalNameTests {
    @Test(arguments: [
        ("SIGTERM", 15), ("term", 15), ("9", 9), ("KILL", 9), ("SIGHUP", 1), ("usr2", 12), ("SIGRTMIN+3", 37), ("RTMIN+0", 34), ("RTMAX-1", 63),
        ("SYS", 31), ("WINCH", 28), ("SIGQUIT", 3), ("quit", 3), ("CLD", 17), ("IOT", 6), ("POLL", 29), ("64", 64),
    ])
    func known(_ name: String, _ number: Int32) throws { #expect(try SignalName.number(name) == number) }

    @Test(arguments: ["", "0", "65", "-1", "SIGNOPE", "SIGNO", "RTMIN+31", "RTMIN+40", "TERM "]) func unknown(_ name: String) {
        #expect(throws: ApusError.self) { try SignalName.number(name) }
    }

    /// Names are ASCII, numbers have no sign.
    @Test func signalsAreKnownOrRefused() {
        var random = Fuzzing.generator()
        let pieces = ["SIG", "sig", "TERM", "term", "KILL", "RTMIN", "RTMAX", "+", "-", "1", "3", "9", "30", "HUP", "I", "S"] + Fuzzing.traps
        var accepted = 0
        for _ in 0..<Fuzzing.runs(40_000) {
            let text = Fuzzing.text(of: pieces, 1...4, using: &random)
            guard !text.isEmpty, let number = try? SignalName.number(text) else { continue }
            accepted += 1
            #expect((1...64).contains(number), "\(text)")
            let upper = text.uppercased()
            let rest = upper.hasPrefix("SIG") ? String(upper.dropFirst(3)) : upper
            #expect(text.utf8.allSatisfy { $0 < 128 }, "\(text)")
            if rest.utf8.allSatisfy({ (48...57).contains($0) }) {
                #expect(rest == upper && Int32(text) == number, "\(text)")
            } else if let sign = rest.firstIndex(where: { $0 == "+" || $0 == "-" }) {
                let offset = Int32(rest[rest.index(after: sign)...]) ?? -1
                #expect(rest[..<sign] == (rest[sign] == "+" ? "RTMIN" : "RTMAX"), "\(text)")
                #expect(rest[rest.index(after: sign)...].utf8.allSatisfy { (48...57).contains($0) }, "\(text)")
                #expect(rest[sign] == "+" ? number == 34 + offset : number == 64 - offset, "\(text)")
            } else {
                #expect(rest.utf8.allSatisfy { (65...90).contains($0) || (48...57).contains($0) }, "\(text)")
                #expect((try? SignalName.number("SIG" + rest)) == number && (try? SignalName.number(rest.lowercased())) == number, "\(text)")
            }
        }
        #expect(accepted > 100)
        for text in ["+9", "RTMIN++3", "RTMIN+-0", "\u{17f}IGTERM", "SIGSIGTERM", "SIG9", "0", "65", "9223372036854775808"] {
            #expect(throws: ApusError.self, "\(text)") { try SignalName.number(text) }
        }
    }
}
