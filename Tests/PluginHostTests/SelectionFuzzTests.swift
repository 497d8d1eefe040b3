import Coding
import Fuzzing
import PluginAPI
import Testing

@testable import PluginHost

/// The file that remembers which plugins are enabled: what was written comes back, what is damaged is never read as another choice.
@Suite("Selection: fuzz") struct SelectionFuzzTests {
    private static let roles = ["scheduler", "network", "balancer", "runtime", "ca"]

    private func selection(_ random: inout SplitMix64) throws -> PluginSelection {
        var selection = PluginSelection()
        for _ in 0..<Int.random(in: 0...4, using: &random) {
            let text = "\(Self.roles.randomElement(using: &random) ?? "")/\(Fuzzing.text(of: ["a", "b", "-c", "9"], 1...3, using: &random))"
            guard let identity = PluginIdentity(text) else { continue }
            let digest = Fuzzing.text(of: ["0123456789abcdef"], 4...4, using: &random)
            if Bool.random(using: &random) {
                selection.enabled[identity] = Bool.random(using: &random) ? digest : ""
            } else {
                selection.disabled.insert(identity)
            }
        }
        return selection
    }

    @Test func whatIsWrittenIsReadBack() throws {
        var random = Fuzzing.generator()
        var plugins = 0
        for _ in 0..<Fuzzing.runs(3000) {
            let selection = try selection(&random)
            plugins += selection.enabled.count
            #expect(try PluginSelection(selection.json.bytes()) == selection)
            #expect(try PluginSelection(selection.json.bytes(pretty: true)) == selection)
        }
        #expect(plugins > 100)
    }

    @Test func damageIsRefused() throws {
        var random = Fuzzing.generator()
        let digest = String(repeating: "0123456789abcdef", count: 4)
        let example: JSONValue = [
            "enabled": [["name": "scheduler/fair", "sha256": .string(digest)], ["name": "network/bridge"]], "disabled": ["balancer/nftables"],
        ]
        _ = try PluginSelection(example.bytes())
        // Nothing of another kind is left out in silence: a plugin without its digest would be trusted as one of the default set.
        for place in example.places {
            for _ in 0..<8 {
                let json = example.replacing(place, by: Fuzzing.otherKind(than: example.value(at: place), using: &random))
                #expect(throws: ApusError.self, "\(json.text())") { try PluginSelection(json.bytes()) }
            }
        }
        for bad in ["", "abc", String(repeating: "g", count: 64), digest.uppercased()] {
            let json = example.replacing([JSONStep.key("enabled"), .index(0), .key("sha256")], by: .string(bad))
            #expect(throws: ApusError.self, "\(bad)") { try PluginSelection(json.bytes()) }
        }
        let twice: JSONValue = ["enabled": [["name": "network/bridge"], ["name": "network/bridge", "sha256": .string(digest)]]]
        #expect(throws: ApusError.self) { try PluginSelection(twice.bytes()) }

        var (read, refused) = (0, 0)
        for round in 0..<Fuzzing.runs(6000) {
            let bytes = round % 2 == 0 ? Fuzzing.mutate(example.bytes(), using: &random) : Fuzzing.mutate(example, using: &random).bytes()
            do throws(ApusError) {
                let selection = try PluginSelection(bytes)
                read += 1
                #expect((try? PluginSelection(selection.json.bytes())) == selection)
            } catch {
                refused += 1
                #expect([.corrupt, .invalidArgument].contains(error.code) && !error.message.isEmpty)
            }
        }
        #expect(read > 100 && refused > 100)
    }
}
