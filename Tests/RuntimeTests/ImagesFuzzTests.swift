import Coding
import Files
import Glibc
import PluginAPI
import Processes
import Testing

@testable import RuntimeOCI

/// Inputs at random, from a seed that the failure names. Nothing may trap, hang or get out.
@Suite("Images: fuzz", .serialized)
struct ImagesFuzzTests {
    /// SplitMix64.
    private struct Generator: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var value = state
            value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
            value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
            return value ^ (value >> 31)
        }
    }

    private static let seed: UInt64 = {
        if let text = getenv("APUS_FUZZ_SEED"), let value = UInt64(String(cString: text)) { return value }
        return UInt64.random(in: 0...UInt64.max)
    }()

    private static func mutate(_ bytes: [UInt8], _ generator: inout Generator) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...6, using: &generator) {
            guard !bytes.isEmpty else { break }
            let place = Int.random(in: 0..<bytes.count, using: &generator)
            switch Int.random(in: 0..<5, using: &generator) {
            case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 1: bytes[place] = UInt8.random(in: 0...255, using: &generator)
            case 2: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 1...600, using: &generator)))
            case 3: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + Int.random(in: 1...600, using: &generator))], at: place)
            default: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: place)
            }
        }
        return bytes
    }

    @Test("references: what is accepted reads back the same")
    func references() throws {
        var generator = Generator(state: Self.seed)
        let pieces = [
            "a", "nginx", ":", "/", "@", ".", "-", "_", "__", "A", "0", "localhost", "5000", "sha256:", "[::1]", "\u{0}", " ", "é",
            String(repeating: "f", count: 64),
        ]
        var accepted = 0
        for _ in 0..<30_000 {
            let text = (0..<Int.random(in: 0...8, using: &generator)).map { _ in pieces[Int.random(in: 0..<pieces.count, using: &generator)] }
                .joined()
            guard let reference = try? ImageReference(text) else { continue }
            accepted += 1
            #expect((try? ImageReference(reference.canonical)) == reference, "seed \(Self.seed): \(text)")
            #expect((try? ImageReference(reference.description)) == reference, "seed \(Self.seed): \(text)")
            #expect(!reference.path.contains("..") && !reference.canonical.contains("//"), "seed \(Self.seed): \(text)")
        }
        #expect(accepted > 100)
    }

    @Test("manifests, configurations, indexes and challenges")
    func documents() throws {
        var generator = Generator(state: Self.seed)
        let image = TestImage.small("fuzz")
        let list: JSONValue = ["schemaVersion": 2, "manifests": [TestImage.descriptor(image.manifest, TestImage.ociManifest)]]
        var index = StoreIndex()
        index.images["a"] = .init(layers: ["b"])
        index.layers["b"] = .init(number: 1, size: 2)
        index.references["c"] = "a"
        #expect(try StoreIndex(index.bytes()) == index)
        var read = 0
        let end = ContinuousClock.now + .seconds(3)
        for _ in 0..<20_000 {
            guard ContinuousClock.now < end else { break }
            for type in ManifestParser.imageTypes + [""]
            where (try? ManifestParser.parse(Self.mutate(image.manifest, &generator), contentType: type)) != nil { read += 1 }
            _ = try? ManifestParser.parse(Self.mutate(list.bytes(), &generator), contentType: ManifestParser.listTypes[0])
            _ = try? ImageDocument.parse(Self.mutate(image.configuration, &generator))
            _ = try? StoreIndex(Self.mutate(index.bytes(), &generator))
            _ = AuthorizationChallenge([
                String(decoding: Self.mutate(Array("Bearer realm=\"https://a/b\",service=\"s\"".utf8), &generator), as: UTF8.self)
            ])
        }
        #expect(read > 0)
    }

    @Test("mutated tars: unpacked or refused, never killed by the jail, never outside")
    func tars() async throws {
        var generator = Generator(state: Self.seed)
        var tar = TestTar()
        tar.folder("a")
        tar.file("a/file", "text", records: [("SCHILY.xattr.user.x", [1, 2, 3]), ("mtime", Array("1.5".utf8))])
        tar.symbolicLink("out", to: "../outside")
        tar.hardLink("b", to: "a/file")
        tar.file("a/.wh.gone")
        tar.file(".wh..wh..opq")
        tar.device("dev/null", 1, 3)
        tar.add(.init(name: "x", content: [UInt8](repeating: 3, count: 2000), records: [("path", Array("long/name".utf8))]))
        let plain = tar.finished()
        var seeds = [plain, plain]
        for program in ["gzip", "zstd", "xz", "bzip2"] { seeds.append(try await compressed(plain, with: program, ["-c"])) }
        let folder = try ImagesFolder()
        try Files.makeDirectory("\(folder.path)/outside")
        var configuration = ImageStoreConfiguration(directory: folder.path)
        configuration.isDurable = false
        configuration.maximumBytes = 8 << 20
        let unpacker = LayerUnpacker(configuration: configuration)
        let end = ContinuousClock.now + .seconds(6)
        var (good, bad) = (0, 0)
        for round in 0..<2000 {
            guard ContinuousClock.now < end else { break }
            let bytes = Self.mutate(seeds[round % seeds.count], &generator)
            try Files.writeAtomically(bytes, to: "\(folder.path)/archive", sync: false)
            let input = Descriptor(open("\(folder.path)/archive", O_RDONLY | O_CLOEXEC))
            defer { input.close() }
            do throws(ApusError) {
                _ = try await unpacker.unpack(input.number, into: "\(folder.path)/layer")
                good += 1
                await unpacker.remove("\(folder.path)/layer")
            } catch {
                bad += 1
                #expect([.corrupt, .tooLarge].contains(error.code), "seed \(Self.seed), round \(round): \(error.message)")
            }
            #expect(try Files.list("\(folder.path)/outside").isEmpty, "seed \(Self.seed), round \(round)")
        }
        #expect(good > 0 && bad > 0)
    }
}
