import PluginAPI
import Testing

@testable import Engine

/// Patterns of names of images.
struct GlobPatternTests {
    /// What a pattern means, by definition. Its time is exponential.
    private func fits(_ pattern: Substring, _ text: Substring) -> Bool {
        guard let first = pattern.first else { return text.isEmpty }
        switch first {
        case "*": return fits(pattern.dropFirst(), text) || !text.isEmpty && text.first != "/" && fits(pattern, text.dropFirst())
        case "?": return !text.isEmpty && text.first != "/" && fits(pattern.dropFirst(), text.dropFirst())
        default: return text.first == first && fits(pattern.dropFirst(), text.dropFirst())
        }
    }

    @Test func agreesWithTheDefinition() {
        var generator = SystemRandomNumberGenerator()
        func word(_ letters: String, _ length: Int) -> String {
            String((0..<Int.random(in: 0...length, using: &generator)).compactMap { _ in letters.randomElement(using: &generator) })
        }
        for _ in 0..<20_000 {
            let pattern = word("ab/:?***", 9)
            let text = word("aab/:", 9)
            let expected =
                fits(pattern[...], text[...])
                || text.lastIndex(of: ":").map { !text[$0...].contains("/") && fits(pattern[...], text[..<$0]) } ?? false
            #expect(GlobPattern.matches(pattern, reference: text) == expected, "\(pattern) and \(text)")
        }
    }

    /// The recursion that was here before took longer than anybody waits.
    @Test func manyStarsCostNoMoreThanTheProductOfTheLengths() {
        let text = String(repeating: "a", count: 255) + ":" + String(repeating: "b", count: 128)
        #expect(!GlobPattern.matches(String(repeating: "*a", count: 500) + "c", reference: text))
        #expect(GlobPattern.matches(String(repeating: "*a", count: 200) + "*:*b", reference: text))
        #expect(!GlobPattern.matches(String(repeating: "?*", count: 100) + "/", reference: text))
    }

    @Test func longPatternsAreRefused() {
        #expect(throws: Never.self) { try GlobPattern.check(String(repeating: "*", count: GlobPattern.maximumLength)) }
        #expect { try GlobPattern.check(String(repeating: "*", count: GlobPattern.maximumLength + 1)) } throws: {
            ($0 as? ApusError)?.code == .invalidArgument
        }
    }
}
