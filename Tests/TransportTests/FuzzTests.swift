import CNGHTTP2
import Fuzzing
import GRPCCore
import Glibc
import PluginAPI
import Synchronization
import Testing

@testable import Transport

/// Changes bytes the way that finds bugs in parsers.
enum Mutation {
    static func mutate(_ bytes: [UInt8], with others: [[UInt8]], _ random: inout SplitMix64) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 0...6, using: &random) where !bytes.isEmpty {
            let index = Int.random(in: 0..<bytes.count, using: &random)
            let end = min(bytes.count, index + Int.random(in: 1...24, using: &random))
            switch Int.random(in: 0..<8, using: &random) {
            case 0: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 1: bytes[index] = [0, 1, 0x7f, 0x80, 0xff].randomElement(using: &random) ?? 0
            case 2: bytes[index] = UInt8.random(in: 0...255, using: &random)
            case 3: bytes.removeSubrange(index..<end)
            case 4: bytes.insert(contentsOf: bytes[index..<end], at: index)
            case 5: bytes.insert(contentsOf: (0..<4).map { _ in UInt8.random(in: 0...255, using: &random) }, at: index)
            case 6: bytes.removeSubrange(index...)
            default:
                guard let other = others.randomElement(using: &random), !other.isEmpty else { continue }
                let start = Int.random(in: 0..<other.count, using: &random)
                bytes.insert(contentsOf: other[start..<min(other.count, start + 64)], at: index)
            }
        }
        return bytes
    }
}

/// A server's side of a session without tasks: it answers every request, and keeps count.
private final class FuzzEvents: HTTP2Events {
    var session: HTTP2Session?
    var live: Set<Int32> = []
    var most = 0
    var decoders: [Int32: MessageDecoder] = [:]

    func headersBegan(stream: Int32, isFirst: Bool) -> Bool {
        if isFirst { live.insert(stream) }
        most = max(most, live.count)
        return true
    }

    func header(stream: Int32, name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>) -> Bool {
        var headers = IncomingHeaders()
        headers.add(name, value)
        return true
    }

    func headersEnded(stream: Int32, endsStream: Bool) {
        if endsStream { _ = session?.respondAndEnd(stream: stream, OutgoingHeaders.statusOnly(Status(code: .ok, message: "ä"), [:])) }
    }

    func data(stream: Int32, _ bytes: UnsafeRawBufferPointer) {
        session?.consumeConnection(bytes.count)
        session?.consume(stream: stream, bytes.count)
        var decoder = decoders[stream] ?? MessageDecoder(maximumLength: 1000)
        do throws(RPCError) { try decoder.decode(bytes) { _ in } } catch { session?.reset(stream: stream, NGHTTP2_CANCEL) }
        decoders[stream] = decoder
    }

    func remoteEnded(stream: Int32) { _ = session?.respond(stream: stream, OutgoingHeaders.response([:])) }

    func closed(stream: Int32, code: UInt32) {
        live.remove(stream)
        decoders[stream] = nil
    }

    func produce(stream: Int32, into buffer: UnsafeMutableRawBufferPointer) -> HTTP2Production {
        .trailers(0, OutgoingHeaders.trailers(Status(code: .ok, message: ""), [:]))
    }

    func settingsReceived() {}
    func goAwayReceived(code: UInt32, reason: String) {}
}

/// Changed bytes from a corpus, always the same ones: `APUS_FUZZ_SEED` and `APUS_FUZZ_RUNS` choose others.
@Suite struct FuzzTests {
    private static func setting(_ name: String, _ standard: Int) -> Int { getenv(name).flatMap { Int(String(cString: $0)) } ?? standard }
    private static let seed = UInt64(setting("APUS_FUZZ_SEED", 1))

    private func corpus() throws -> [[UInt8]] {
        let folder = #filePath.split(separator: "/").dropLast().map { "/" + $0 }.joined() + "/Corpus"
        guard let directory = opendir(folder) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) } }
            if name.hasSuffix(".bin") { names.append(name) }
        }
        return names.sorted().map { name in
            guard let file = fopen("\(folder)/\(name)", "r") else { return [] }
            defer { fclose(file) }
            var bytes = [UInt8](repeating: 0, count: 1 << 16)
            let count = fread(&bytes, 1, bytes.count, file)
            return Array(bytes.prefix(count))
        }
    }

    @Test func sessionsSurviveAnyFrames() throws {
        let corpus = try corpus()
        #expect(corpus.count >= 16)
        var random = SplitMix64(seed: Self.seed)
        var endings: [String: Int] = [:]
        for run in 0..<Self.setting("APUS_FUZZ_RUNS", 6000) {
            guard let start = corpus.randomElement(using: &random) else { return }
            let bytes = Mutation.mutate(start, with: corpus, &random)
            let events = FuzzEvents()
            let settings = HTTP2Session.Settings(
                maximumStreams: 10, streamWindow: 65_535, connectionWindow: 65_535, maximumMetadataBytes: 4096, abuse: AbuseLimits())
            let session = try #require(HTTP2Session(role: run % 4 == 0 ? .client : .server, settings: settings, events: events))
            events.session = session
            defer { events.session = nil }
            var ending = "open"
            var position = 0
            var sent = 0
            while position < bytes.count {
                let count = min(bytes.count - position, Int.random(in: 1...200, using: &random))
                do {
                    try bytes[position..<position + count].withUnsafeBytes { try session.receive($0, now: UInt64(position)) }
                } catch {
                    ending = (error as? HTTP2Failure).map { "\($0.kind)" } ?? "unknown"
                    break
                }
                position += count
                _ = session.drain { piece in
                    sent += piece.count
                    return true
                }
                if !session.wantsRead, !session.wantsWrite {
                    ending = "ended"
                    break
                }
            }
            endings[ending, default: 0] += 1
            #expect(events.most <= 11, "run \(run) of seed \(Self.seed): \(events.most) streams")
            #expect(sent < 4096 + bytes.count * 40, "run \(run) of seed \(Self.seed): \(sent) bytes for \(bytes.count)")
        }
        // Were all alike, nothing would have been tried.
        #expect(endings.count >= 3, "\(endings)")
    }

    /// However a stream is cut, the same messages come out, or the same error.
    @Test func messagesDoNotDependOnTheCuts() throws {
        var random = SplitMix64(seed: Self.seed)
        var errors = 0
        var messages = 0
        for run in 0..<Self.setting("APUS_FUZZ_RUNS", 6000) {
            var bytes: [UInt8] = []
            for _ in 0..<Int.random(in: 0...5, using: &random) {
                let message = (0..<Int.random(in: 0...300, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
                bytes += Frames.message(message)
            }
            if run % 2 == 0 { bytes = Mutation.mutate(bytes, with: [bytes], &random) }
            let whole = decode([bytes])
            var pieces: [[UInt8]] = []
            var rest = bytes[...]
            while !rest.isEmpty {
                let count = Int.random(in: 0...min(rest.count, 40), using: &random)
                pieces.append(Array(rest.prefix(count)))
                rest = rest.dropFirst(count)
            }
            #expect(decode(pieces) == whole, "run \(run) of seed \(Self.seed)")
            if whole.error != nil { errors += 1 }
            messages += whole.messages.count
        }
        #expect(errors > 100 && messages > 1000)
    }

    private struct Decoded: Equatable {
        var messages: [[UInt8]] = []
        var error: RPCError.Code?
        var isInside = false
    }

    private func decode(_ pieces: [[UInt8]]) -> Decoded {
        var decoder = MessageDecoder(maximumLength: 5000)
        var result = Decoded()
        do {
            for piece in pieces { try piece.withUnsafeBytes { try decoder.decode($0) { result.messages.append($0) } } }
            result.isInside = decoder.isInsideMessage
        } catch {
            result.error = (error as? RPCError)?.code
        }
        return result
    }

    /// The same bytes to a whole server, which serves others all the while.
    @Test func aServerSurvivesAnyBytes() async throws {
        let corpus = try corpus()
        var random = SplitMix64(seed: Self.seed)
        let authority = try TestAuthority()
        for security in [NodeServerTransport.Security.plaintext, .tls(try authority.credentials("manager1"))] {
            try await Fixture.withServer(security) { server, port in
                for _ in 0..<Self.setting("APUS_FUZZ_RUNS", 6000) / 40 {
                    guard let start = corpus.randomElement(using: &random) else { return }
                    let peer = try await RawPeer(port: port)
                    await peer.send(Mutation.mutate(start, with: corpus, &random))
                    await peer.close()
                }
                let isEmpty = await Fixture.becomesTrue { server.connectionCount == 0 }
                #expect(isEmpty)
                // A connection that was reset before it was accepted does not count.
                #expect(server.statistics.accepted > Self.setting("APUS_FUZZ_RUNS", 6000) / 50)
                guard case .plaintext = security else { return }
                let answer = try await Fixture.withClient(port: port, .plaintext) { try await $0.bytes("Unary", [5]) }
                #expect(answer == [5])
            }
        }
    }
}
