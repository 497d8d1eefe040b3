import Fuzzing
import PluginAPI
import Testing

@testable import PluginHost

/// The readers of files that nobody has vouched for.
@Suite struct ReaderTests {
    /// All that is ever read of a file before it is loaded.
    private func readAll(_ bytes: [UInt8]) throws(ApusError) -> PluginManifest {
        let image = try ELFImage(bytes)
        _ = try image.dynamic()
        _ = try image.symbols()
        return try PluginManifest(image)
    }

    @Test func aGoodFileIsReadAsItIs() throws {
        let good = try Workshop.shelf().good
        let manifest = try readAll(good)
        #expect(manifest.role == .scheduler)
        #expect(manifest.name == "micro")
        #expect(manifest.version == "1.2.3")
        #expect(manifest.apiMajor == APIVersion.major && manifest.apiMinor == APIVersion.minor)
        #expect(manifest.compiler == PluginManifest.hostCompiler)
        #expect(manifest.incompatibility() == nil)
        let image = try ELFImage(good)
        let dynamic = try image.dynamic()
        #expect(dynamic.bindsNow)
        #expect(dynamic.needed.contains("libPluginAPI.so") && dynamic.needed.contains("libswiftCore.so"))
        let symbols = try image.symbols()
        #expect(symbols.contains { $0.name == "apus_plugin_entry" && !$0.isUndefined })
        #expect(symbols.contains { $0.name == "swift_allocObject" && $0.isUndefined && !$0.isWeak })
        #expect(symbols.contains { $0.version.hasPrefix("GLIBC_") })
    }

    @Test func aFileCutShortAnywhereIsRefused() throws {
        let good = try Workshop.shelf().good
        for length in stride(from: 0, to: good.count, by: 97) {
            #expect(throws: ApusError.self, "\(length) bytes") { try readAll(Array(good[..<length])) }
        }
        #expect(throws: ApusError.self) { try readAll(Array(good.dropLast())) }
    }

    @Test func theRecordSaysWhatIsWrongWithIt() throws {
        let good = Patch(try Workshop.shelf().good)
        func reason(_ patch: Patch) -> String {
            do {
                _ = try readAll(patch.bytes)
                return "nothing"
            } catch {
                return error.message
            }
        }
        #expect(reason(try good.record(0, 0)).contains("APSPLGIN"))
        #expect(reason(try good.record(8, 55)).contains("55 bytes"))
        #expect(reason(try good.record(8, 57)).contains("57 bytes"))
        #expect(reason(try good.record(16, 9)).contains("role 9"))
        #expect(reason(try good.named("")).contains("name in its record"))
        #expect(reason(try good.named("../up")).contains("name in its record"))
        #expect(reason(try good.named("Upper")).contains("name in its record"))
        #expect(reason(try good.record(24 + 8, 0x41)).contains("name in its record"))
        #expect(reason(try good.renaming("apus_plugin")).contains("no record"))
        #expect(reason(try good.renaming("apus_compiler")).contains("which compiler"))
    }

    @Test func compatibilityIsSameMajorOlderMinorSameCompiler() throws {
        var manifest = try readAll(try Workshop.shelf().good)
        (manifest.apiMajor, manifest.apiMinor) = (1, 4)
        let own = manifest.compiler
        #expect(manifest.incompatibility(hostMajor: 1, hostMinor: 4, compiler: own) == nil)
        #expect(manifest.incompatibility(hostMajor: 1, hostMinor: 5, compiler: own) == nil)
        #expect(manifest.incompatibility(hostMajor: 1, hostMinor: 3, compiler: own)?.contains("newer") == true)
        #expect(manifest.incompatibility(hostMajor: 2, hostMinor: 4, compiler: own)?.contains("PluginAPI 1.4") == true)
        #expect(manifest.incompatibility(hostMajor: 1, hostMinor: 4, compiler: "9.9.9")?.contains("Swift 9.9.9") == true)
    }

    @Test func namesOfPlugins() {
        #expect(PluginIdentity("scheduler/spread")?.fileName == "scheduler-spread.so")
        #expect(PluginIdentity("scheduler-my-own")?.name == "my-own")
        #expect(PluginIdentity("ca/internal:latest") == PluginIdentity(.certificateAuthority, "internal"))
        for wrong in [
            "", "spread", "scheduler/", "scheduler/../x", "editor/vi", "scheduler/-a", "scheduler/a-",
            "scheduler/" + String(repeating: "a", count: 33),
        ] {
            #expect(PluginIdentity(wrong) == nil, "\(wrong)")
        }
    }

    /// Damaged bytes give an error or a value, and end in good time; what would fail is a trap, or a test that never returns.
    @Test(.timeLimit(.minutes(2))) func twentyThousandDamagedFiles() throws {
        let good = try Workshop.shelf().good
        let image = try ELFImage(good)
        // Where numbers are that lead the reader: the headers, the tables and the record.
        var places: [Range<Int>] = [0..<64, 64..<64 + 56 * 8, (good.count - 64 * image.sections.count)..<good.count]
        let table = try image.bytes.offset64(40)
        places.append(table..<min(good.count, table + 64 * image.sections.count))
        for section in image.sections where [".dynamic", ".dynsym", ".gnu.version_r", "apus_plugin", "apus_compiler"].contains(section.name) {
            if section.size > 0 { places.append(section.offset..<section.offset + section.size) }
        }
        let extremes: [UInt8] = [0, 1, 0x7f, 0x80, 0xff]
        var generator = SplitMix64(seed: 20_261_122)
        var outcomes = (read: 0, refused: 0)
        let start = ContinuousClock.now
        for round in 0..<20_000 {
            var bytes = good
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let place = places[Int.random(in: 0..<places.count, using: &generator)]
                let offset = Int.random(in: place, using: &generator)
                let width = min([1, 2, 4, 8][Int.random(in: 0..<4, using: &generator)], bytes.count - offset)
                let isExtreme = Bool.random(using: &generator)
                let extreme = extremes[Int.random(in: 0..<extremes.count, using: &generator)]
                for index in 0..<width { bytes[offset + index] = isExtreme ? extreme : UInt8.random(in: 0...255, using: &generator) }
            }
            if round % 16 == 0 { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &generator)) }
            do throws(ApusError) {
                _ = try readAll(bytes)
                outcomes.read += 1
            } catch {
                #expect(!error.message.isEmpty)
                outcomes.refused += 1
            }
        }
        #expect(outcomes.read > 1000 && outcomes.refused > 1000, "\(outcomes) in \(ContinuousClock.now - start)")
    }
}
