import Files
import Glibc
import PluginAPI
import Testing

@testable import Names

/// Changed messages from a corpus, always the same ones: `APUS_FUZZ_SEED` and `APUS_FUZZ_RUNS` choose others.
@Suite struct FuzzTests {
    private static func setting(_ name: String, _ standard: Int) -> Int { getenv(name).flatMap { Int(String(cString: $0)) } ?? standard }

    static func corpus() throws -> [[UInt8]] {
        let folder = #filePath.split(separator: "/").dropLast().map { "/" + $0 }.joined() + "/Corpus"
        return try Files.list(folder).filter { $0.hasSuffix(".bin") }.sorted().map { try Files.read("\(folder)/\($0)") }
    }

    static func mutate(_ bytes: [UInt8], with others: [[UInt8]], _ random: inout SplitMix) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 0...6, using: &random) where !bytes.isEmpty {
            let index = Int.random(in: 0..<bytes.count, using: &random)
            let end = min(bytes.count, index + Int.random(in: 1...24, using: &random))
            switch Int.random(in: 0..<8, using: &random) {
            case 0: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 1: bytes[index] = [0, 1, 0x3f, 0x40, 0xc0, 0xff].randomElement(using: &random) ?? 0
            case 2: bytes[index] = UInt8.random(in: 0...255, using: &random)
            case 3: bytes.removeSubrange(index..<end)
            case 4: bytes.insert(contentsOf: bytes[index..<end], at: index)
            case 5: bytes.insert(contentsOf: [0xc0, UInt8.random(in: 0...64, using: &random)], at: index)
            case 6: bytes.removeSubrange(index...)
            default:
                guard let other = others.randomElement(using: &random), !other.isEmpty else { continue }
                let start = Int.random(in: 0..<other.count, using: &random)
                bytes.insert(contentsOf: other[start..<min(other.count, start + 64)], at: index)
            }
        }
        return bytes
    }

    @Test func messagesAreReadOrRefused() throws {
        let corpus = try Self.corpus()
        #expect(corpus.count >= 30)
        var random = seeded(UInt64(Self.setting("APUS_FUZZ_SEED", 1)))
        var sandbox = SandboxNames(networks: ["n"])
        sandbox.ownNames = ["a": [], "redis": [IPAddress(v4: 10, 0, 0, 2)]]
        let names = (1...100).map { IPAddress(v4: 10, 0, 0, UInt8($0)) }
        let networks: [ID: NetworkNames] = ["n": NetworkNames(name: "mynet", names: ["frontend": names], pointers: [IPAddress(v4: 10, 0, 0, 2): "frontend"])]
        let asked = Question(name: try #require(DomainName("frontend")), type: 1, networkClass: 1)
        var (understood, refused, known) = (0, 0, 0)
        for _ in 0..<Self.setting("APUS_FUZZ_RUNS", 200_000) {
            guard let start = corpus.randomElement(using: &random) else { break }
            let bytes = Self.mutate(start, with: corpus, &random)
            _ = UpstreamAnswer(bytes, id: 0x1234, question: asked)
            _ = try? Message(bytes)
            switch Query.receive(bytes) {
            case .ignored: continue
            case .refused(let header, let code):
                refused += 1
                let answer = try Message(Response.refusal(header, code: code))
                #expect(answer.header.id == header.id && answer.header.isResponse && answer.header.code == code)
            case .query(let query):
                understood += 1
                var content = Response.Content.empty
                if case .answer(let found) = NameLookup.resolve(query.question, in: sandbox, networks) {
                    content = found
                    known += 1
                }
                let answer = Response.make(query, content, isOwn: true, limit: query.datagramLimit, isDatagram: true)
                #expect(answer.count <= query.datagramLimit)
                let read = try Message(answer)
                #expect(read.header.id == query.header.id && read.questions == [query.question])
                #expect(try Message(Response.truncated(query, code: 0)).header.isTruncated)
            }
        }
        #expect(understood > 1000 && refused > 1000 && known > 100)
    }

    @Test func resolverFilesAreReadWhateverIsInThem() {
        let start = Array("# a\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch a b\ndomain c\noptions ndots:2 edns0\nnameserver ::1\n".utf8)
        var random = seeded(UInt64(Self.setting("APUS_FUZZ_SEED", 1)))
        for _ in 0..<20_000 {
            let text = String(decoding: Self.mutate(start, with: [start], &random), as: UTF8.self)
            let file = ResolverFile(text)
            #expect((1...3).contains(file.servers.count))
            let own = ResolverFile.sandboxText(host: text, dns: nil)
            #expect(own.hasPrefix("nameserver 127.0.0.11\n") && own.contains("ndots:"))
            #expect(ResolverFile(own).servers == [UpstreamServer(ResolverFile.sandboxAddress)])
        }
    }
}
