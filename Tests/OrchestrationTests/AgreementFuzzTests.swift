import Fuzzing
import PluginAPI
import Testing

@testable import Orchestration
@testable import RuntimeOCI

/// The manager checks what the runtime reads: both must agree, or a service is accepted whose tasks can never start.
@Suite("Managers and runtimes: fuzz") struct AgreementFuzzTests {
    @Test func imageReferences() {
        var random = Fuzzing.generator()
        let digest = "sha256:" + String(repeating: "0a", count: 32)
        let pieces = [
            "a", "nginx", ":", "/", "/", "@", ".", "-", "_", "__", "A", "0", "localhost", "5000", digest, "sha256:", "[::1]", "[", "]", ":::", "docker.io/",
            "library/", "index.docker.io/", "+80", "65536", "é", String(repeating: "f", count: 64), String(repeating: "x", count: 120), " ", "%",
        ]
        let examples = ["localhost:5000/team/app:1.2", "[::1]:5000/a@\(digest)", "docker.io/library/nginx", "a.b/c__d--e:latest"]
        var accepted = 0
        for round in 0..<Fuzzing.runs(60_000) {
            let text =
                round % 3 == 0
                ? Fuzzing.mutate(examples[round % examples.count], with: pieces, using: &random) : Fuzzing.text(of: pieces, 1...6, using: &random)
            // An image may be named by its id too, which is no reference.
            let isID = text.utf8.count == 64 && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
            let isReference = (try? ImageReference(text)) != nil
            #expect(ImageReferenceSyntax.isValid(text) == (isReference || isID), "\(text)")
            if isReference { accepted += 1 }
        }
        #expect(accepted > 100)
        for text in ["localhost:+80/a", "localhost:080000/a", "[:::]/a", "[1]/a", "[::1]x/a"] { #expect(!ImageReferenceSyntax.isValid(text), "\(text)") }
    }
}
