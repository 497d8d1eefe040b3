import Glibc
import PluginAPI
import Processes
import Testing

@testable import Names

/// What is not known here is asked for elsewhere.
@Suite struct UpstreamTests {
    private static let good = IPAddress(v4: 192, 0, 2, 1)
    private static let evil = IPAddress(v4: 198, 51, 100, 66)
    private static let answering: ScriptedUpstream.Script = { query, _, _ in [.init(bytes: Message.answer(to: query, addresses: [good]))] }
    private static let silent: ScriptedUpstream.Script = { _, _, _ in [] }

    /// Runs a test with a sandbox whose queries go to these servers.
    private func run(
        _ upstream: [ScriptedUpstream], limits: NameServerLimits = NameServerLimits(),
        _ body: @Sendable @escaping (NameLaboratory, _ sandbox: String) async throws -> Void
    ) async throws {
        defer { for each in upstream { each.stop() } }
        try await NameLaboratory.run(limits: limits) { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            await laboratory.server.apply(try NameLaboratory.state([sandbox], names: ["web": ["10.0.7.1"]], upstream: upstream.map(\.server)))
            try await body(laboratory, sandbox)
        }
    }

    @Test(arguments: ["127.0.0.1", "::1"]) func unknownNamesAreAskedForAsTheyAre(loopback: String) async throws {
        let upstream = try ScriptedUpstream(address: loopback, Self.answering)
        try await run([upstream]) { (laboratory, sandbox) async throws in
            #expect(try await laboratory.digShort(in: sandbox, "far.Example") == ["192.0.2.1"])
            #expect(try await laboratory.digShort(in: sandbox, "+tcp", "far.Example") == ["192.0.2.1"])
            #expect(try await laboratory.digShort(in: sandbox, "singlelabel") == ["192.0.2.1"])
            #expect(try await laboratory.digShort(in: sandbox, "web") == ["10.0.7.1"])
            let whole = try await laboratory.dig(in: sandbox, "+bufsize=1400", "+dnssec", "+nocookie", "x.example")
            #expect(whole.contains("flags: qr rd ra;"), "\(whole)")
            let seen = upstream.queries
            #expect(seen.map(\.isStream) == [false, true, false, false])
            let last = try query(try #require(seen.last).bytes)
            #expect(last.extensions == .init(datagramSize: 1400, version: 0, wantsSignatures: true))
            #expect(try query(seen[0].bytes).question.name.wire == DomainName("far.Example")?.wire)
        }
    }

    @Test func portsAndIdsAreOthersEachTime() async throws {
        let upstream = try ScriptedUpstream(Self.answering)
        try await run([upstream]) { (_, sandbox) async throws in
            let client = try Client(in: sandbox)
            for index in 0..<50 { #expect(try await client.ask(Message.query("n\(index).example", id: 7)).header.id == 7) }
            let seen = upstream.queries
            #expect(Set(seen.map(\.port)).count > 40 && Set(seen.map(\.id)).count > 45)
        }
    }

    @Test func whoIsSilentIsPassedBy() async throws {
        let (dead, alive) = (try ScriptedUpstream(Self.silent), try ScriptedUpstream(Self.answering))
        try await run([dead, alive]) { (laboratory, sandbox) async throws in
            #expect(try await laboratory.digShort(in: sandbox, "far.example") == ["192.0.2.1"])
            #expect(try await laboratory.digShort(in: sandbox, "+tcp", "far.example") == ["192.0.2.1"])
            #expect(dead.queries.count >= 2)
        }
    }

    @Test func whoSaysNoIsPassedByAtOnce() async throws {
        let refusing = try ScriptedUpstream { query, _, _ in [.init(bytes: Message.answer(to: query, code: 5))] }
        let failing = try ScriptedUpstream { query, _, _ in [.init(bytes: Message.answer(to: query, code: 2))] }
        let gone = try ScriptedUpstream(Self.silent)
        gone.stop()
        let alive = try ScriptedUpstream(Self.answering)
        try await run([refusing, failing, alive]) { (_, sandbox) async throws in
            let start = ContinuousClock.now
            let client = try Client(in: sandbox)
            #expect(try await client.ask(Message.query("far.example")).addresses == [Self.good])
            #expect(ContinuousClock.now - start < .seconds(1))
        }
    }

    @Test func allSilentIsAFailureInBoundedTime() async throws {
        try await run([try ScriptedUpstream(Self.silent), try ScriptedUpstream(Self.silent)]) { (_, sandbox) async throws in
            let start = ContinuousClock.now
            async let stream = {
                let client = try Client(in: sandbox, isStream: true)
                client.send(Client.frame(Message.query("far.example")))
                return try await Message(client.receiveFrame() ?? [])
            }()
            let datagram = try await Client(in: sandbox).ask(Message.query("far.example"))
            #expect(datagram.header.code == ResponseCode.serverFailure && datagram.questions.count == 1)
            #expect(try await stream.header.code == ResponseCode.serverFailure)
            #expect(ContinuousClock.now - start < .seconds(5) + .seconds(2), "a client waits for five seconds; two are this machine's")
        }
    }

    @Test func allRefusingIsAFailureAtOnce() async throws {
        let refusing = try ScriptedUpstream { query, _, _ in [.init(bytes: Message.answer(to: query, code: 5))] }
        try await run([refusing]) { (laboratory, sandbox) async throws in
            let start = ContinuousClock.now
            let client = try Client(in: sandbox)
            #expect(try await client.ask(Message.query("far.example")).header.code == ResponseCode.refused)
            // Nobody listens at all.
            let closed = UpstreamServer(IPAddress(v4: 127, 0, 0, 1), port: 1)
            await laboratory.server.apply(try NameLaboratory.state([sandbox], upstream: [closed]))
            #expect(try await client.ask(Message.query("far.example")).header.code == ResponseCode.serverFailure)
            #expect(ContinuousClock.now - start < .seconds(3))
        }
    }

    @Test func forgedAnswersAreNotTaken() async throws {
        let upstream = try ScriptedUpstream { query, _, _ in
            let other = Message.query("other.example", id: UInt16(query[0]) << 8 | UInt16(query[1]))
            return [
                .init(bytes: Message.answer(to: query, addresses: [Self.evil], id: (UInt16(query[0]) << 8 | UInt16(query[1])) &+ 1)),
                .init(bytes: Message.answer(to: other, addresses: [Self.evil])),
                .init(bytes: [1, 2, 3]), .init(bytes: query),
                .init(bytes: Message.answer(to: query, addresses: [Self.good]), delay: .milliseconds(50)),
            ]
        }
        try await run([upstream]) { (laboratory, sandbox) async throws in
            let client = try Client(in: sandbox)
            #expect(try await client.ask(Message.query("far.example")).addresses == [Self.good])
            #expect(laboratory.server.statistics.foreignAnswers == 4)
        }
    }

    @Test func aSlowAnswerStillCounts() async throws {
        // Slower than it takes until the next one is asked, which is silent.
        let slow = try ScriptedUpstream { query, _, _ in [.init(bytes: Message.answer(to: query, addresses: [Self.good]), delay: .milliseconds(2200))] }
        try await run([slow, try ScriptedUpstream(Self.silent)]) { (_, sandbox) async throws in
            #expect(try await Client(in: sandbox).ask(Message.query("far.example")).addresses == [Self.good])
        }
    }

    @Test func longAnswersComeOverTCP() async throws {
        let many = (0..<300).map { IPAddress(v4: 192, 0, UInt8($0 / 256), UInt8($0 % 256)) }
        let upstream = try ScriptedUpstream { query, name, isStream in
            if isStream { return [.init(bytes: Message.answer(to: query, addresses: many))] }
            // One is honest about the limit, the other ignores it.
            return [.init(bytes: name == "rude.example" ? Message.answer(to: query, addresses: many) : Message.answer(to: query, extraFlags: 0x200))]
        }
        try await run([upstream]) { (laboratory, sandbox) async throws in
            for name in ["honest.example", "rude.example"] {
                #expect(try await laboratory.dig(in: sandbox, "+ignore", name).contains("flags: qr tc rd ra;"))
                #expect(try await laboratory.digShort(in: sandbox, name).count == 300)
            }
        }
    }

    @Test func aServerWithoutTCPIsAskedByDatagram() async throws {
        let upstream = try ScriptedUpstream(hasStreams: false, Self.answering)
        try await run([upstream]) { (laboratory, sandbox) async throws in
            #expect(try await laboratory.digShort(in: sandbox, "+tcp", "far.example") == ["192.0.2.1"])
        }
    }

    @Test func aFloodHurtsItsSandboxAlone() async throws {
        var limits = NameServerLimits()
        limits.forwardedPerSandbox = 20
        limits.forwarded = 30
        let upstream = try ScriptedUpstream { query, name, _ in name == "good.example" ? [.init(bytes: Message.answer(to: query, addresses: [Self.good]))] : []
        }
        try await run([upstream], limits: limits) { (laboratory, one) async throws in
            let two = try laboratory.makeSandbox("two")
            let three = try laboratory.makeSandbox("three")
            await laboratory.server.apply(try NameLaboratory.state([one, two, three], names: ["web": ["10.0.7.1"]], upstream: [upstream.server]))
            let floods = [try Client(in: one), try Client(in: two)]
            for id in 0..<100 { for flood in floods { flood.send(Message.query("x\(id).example", id: UInt16(id))) } }
            for flood in floods { #expect(try await Message(flood.receive() ?? []).header.code == ResponseCode.serverFailure) }
            for _ in 0..<20 {
                let client = try Client(in: three)
                #expect(try await client.ask(Message.query("good.example")).addresses == [Self.good])
                #expect(try await client.ask(Message.query("web")).addresses.count == 1)
            }
            #expect(laboratory.server.statistics.refused > 100)
        }
    }
}
