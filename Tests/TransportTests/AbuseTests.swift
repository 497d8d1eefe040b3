import GRPCCore
import PluginAPI
import Synchronization
import Testing

@testable import Transport

/// Peers that mean no good, or speak something else: they are sent away, and others do not notice.
@Suite struct AbuseTests {
    private static let enhanceYourCalm: UInt32 = 11

    /// Sends bytes to a plain server, checks that the connection ends, and that the server still serves.
    private func expectEnd(
        _ bytes: [UInt8], goAway: UInt32? = nil, configuration: TransportConfiguration = TransportConfiguration(),
        service: EchoService = EchoService(),
        _ check: (ServerStatistics) -> Bool
    ) async throws {
        try await Fixture.withServer(.plaintext, configuration: configuration, service: service) { server, port in
            let peer = try await RawPeer(port: port)
            await peer.send(bytes)
            let isSo1 = await Fixture.becomesTrue { peer.isClosed }
            #expect(isSo1)
            if let goAway { #expect(peer.goAwayCode == goAway) }
            let isCounted = await Fixture.becomesTrue { check(server.statistics) }
            #expect(isCounted, "\(server.statistics)")
            let answer = try await Fixture.withClient(port: port, .plaintext) { try await $0.bytes("Unary", [5]) }
            #expect(answer == [5])
        }
    }

    @Test func rapidReset() async throws {
        var bytes = Frames.preface + Frames.settings
        for number in 0..<2000 { bytes += Frames.request(UInt32(number * 2 + 1), "/test.Echo/Hang") + Frames.reset(UInt32(number * 2 + 1)) }
        let service = EchoService()
        try await expectEnd(bytes, goAway: Self.enhanceYourCalm, service: service) { $0.floods == 1 }
        // None of the handlers is left behind: the server has stopped, and it waits for them.
        let isSo5 = service.counts.withLock { $0.started == $0.cancelled && $0.started <= 201 }
        #expect(isSo5)
    }

    @Test func resetsThatThePeerProvokes() async throws {
        // A header that is not allowed is an error of the stream, so this end is made to reset (CVE-2025-8671).
        var bytes = Frames.preface + Frames.settings
        for number in 0..<2000 { bytes += Frames.request(UInt32(number * 2 + 1), "/test.Echo/Hang", more: [("Upper", "case")]) }
        try await expectEnd(bytes, goAway: Self.enhanceYourCalm) { $0.floods == 1 }
    }

    @Test func anErrorOfTheConnection() async throws {
        let bytes = Frames.preface + Frames.settings + Frames.frame(8, [0, 0, 0, 0])
        try await expectEnd(bytes, goAway: 1) { $0.protocolViolations == 1 }
    }

    private static let idleFrames = [Frames.ping, Frames.settings, Frames.frame(2, stream: 1, [0, 0, 0, 0, 16])]

    @Test(arguments: idleFrames)
    func framesWithoutContent(_ frame: [UInt8]) async throws {
        let bytes = Frames.preface + Frames.settings + Array((0..<2000).map { _ in frame }.joined())
        try await expectEnd(bytes) { $0.floods == 1 }
    }

    @Test func emptyData() async throws {
        let bytes =
            Frames.preface + Frames.settings + Frames.request(1, "/test.Echo/Hang") + Array((0..<2000).map { _ in Frames.data(1, []) }.joined())
        try await expectEnd(bytes, goAway: Self.enhanceYourCalm) { $0.floods == 1 }
    }

    @Test func continuationsWithoutEnd() async throws {
        var bytes = Frames.preface + Frames.settings + Frames.frame(1, stream: 1, Frames.fields([(":method", "POST")]))
        for _ in 0..<2000 { bytes += Frames.frame(9, stream: 1, Frames.fields([("x", "y")])) }
        try await expectEnd(bytes) { $0.floods + $0.protocolViolations == 1 }
    }

    private static let others = [
        Array("GET / HTTP/1.1\r\nHost: test\r\n\r\n".utf8), Array("SSH-2.0-OpenSSH_9.2\r\n".utf8), [UInt8](repeating: 0, count: 3000), Frames.preface,
    ]

    @Test(arguments: others.dropLast())
    func otherProtocolsInClear(_ bytes: [UInt8]) async throws { try await expectEnd(bytes) { $0.protocolViolations == 1 } }

    @Test func wrongRequestsGetAnswersAndNoHandler() async throws {
        let service = EchoService()
        try await Fixture.withServer(.plaintext, service: service) { _, port in
            let peer = try await RawPeer(port: port)
            var bytes = Frames.preface + Frames.settings
            bytes += Frames.request(1, "/test.Echo/Hang", ends: true, method: "GET")
            bytes += Frames.request(3, "/test.Echo/Hang", ends: true, contentType: "text/html")
            bytes += Frames.request(5, "/nothing", ends: true)
            bytes += Frames.request(7, "/test.Echo/Hang", ends: true, more: [("grpc-encoding", "gzip")])
            bytes += Frames.request(9, "/test.Echo/Hang", ends: true, more: [("x-bin", "*")])
            // A message that says that it is compressed, one that is too long, and one that is cut off.
            bytes += Frames.request(11, "/test.Echo/Unary") + Frames.data(11, [1, 0, 0, 0, 1, 9], ends: true)
            bytes += Frames.request(13, "/test.Echo/Unary") + Frames.data(13, [0, 255, 255, 255, 255, 9], ends: true)
            bytes += Frames.request(15, "/test.Echo/Unary") + Frames.data(15, [0, 0, 0, 0, 9, 9], ends: true)
            // And a good one at last.
            bytes += Frames.request(17, "/test.Echo/Unary") + Frames.data(17, Frames.message([1, 2]), ends: true)
            await peer.send(bytes)
            let decoder = ResponseReader()
            let isAnswered = await Fixture.becomesTrue { decoder.read(peer.received).count == 9 }
            #expect(isAnswered)
            let answers = decoder.read(peer.received)
            #expect(answers[1]?[":status"] == "405")
            #expect(answers[3]?[":status"] == "415")
            #expect(answers[5]?["grpc-status"] == "12")
            #expect(answers[7]?["grpc-status"] == "12")
            #expect(answers[9]?["grpc-status"] == "3")
            #expect(answers[11]?["grpc-status"] == "13")
            #expect(answers[13]?["grpc-status"] == "8")
            #expect(answers[15]?["grpc-status"] == "13")
            #expect(answers[17]?["grpc-status"] == "0")
            let isSo6 = service.counts.withLock { $0.started } == 0
            #expect(isSo6)
            await peer.close()
        }
    }

    @Test(arguments: others)
    func clearTextOnTheTLSPort(_ bytes: [UInt8]) async throws {
        let authority = try TestAuthority()
        try await Fixture.withServer(.tls(authority.credentials("manager1"))) { server, port in
            let peer = try await RawPeer(port: port)
            await peer.send(bytes)
            let isSo2 = await Fixture.becomesTrue { peer.isClosed && server.statistics.failedHandshakes == 1 }
            #expect(isSo2)
        }
    }

    @Test func aHandshakeThatNeverEnds() async throws {
        let authority = try TestAuthority()
        var configuration = TransportConfiguration()
        configuration.handshakeLimit = .milliseconds(300)
        try await Fixture.withServer(.tls(authority.credentials("manager1")), configuration: configuration) { server, port in
            let peer = try await RawPeer(port: port)
            await peer.send([0x16, 3, 1, 0, 200])
            let isSo3 = await Fixture.becomesTrue { peer.isClosed && server.statistics.failedHandshakes == 1 && server.connectionCount == 0 }
            #expect(isSo3)
        }
    }

    @Test func strangersMakeRoomForEachOther() async throws {
        let authority = try TestAuthority()
        var configuration = TransportConfiguration()
        configuration.strangers.connectionsPerAddress = 5
        try await Fixture.withServer(.tls(authority.credentials("manager1")), configuration: configuration) { server, port in
            // A member is no stranger and stays.
            try await Fixture.withClient(port: port, .tls(authority.credentials("node1")), configuration: configuration) { client in
                let before = try await client.text("Who")
                var peers: [RawPeer] = []
                for _ in 0..<30 { peers.append(try await RawPeer(port: port)) }
                let areEvicted = await Fixture.becomesTrue { server.statistics.evicted == 25 && server.connectionCount == 6 }
                #expect(areEvicted, "\(server.statistics) \(server.connectionCount)")
                #expect(peers.last?.isClosed == false)
                #expect(peers.first?.isClosed == true)
                let after = try await client.text("Who")
                #expect(before == after)
                #expect(server.statistics.opened == 1)
                for peer in peers { await peer.close() }
            }
        }
    }

    @Test func strangersHaveFewCallsAndSmallMessages() async throws {
        let authority = try TestAuthority()
        let service = EchoService()
        var configuration = TransportConfiguration()
        configuration.strangers.streams = 2
        try await Fixture.withServer(.tls(authority.credentials("manager1")), configuration: configuration, service: service) { _, port in
            try await Fixture.withClient(port: port, .tls(TransportCredentials(roots: authority.rootPEM))) { client in
                let error = await client.failure("Unary", [UInt8](repeating: 0, count: 65_537))
                #expect(error?.code == .resourceExhausted)
                await withTaskGroup(of: Void.self) { tasks in
                    for _ in 0..<5 { tasks.addTask { _ = await client.failure("Hang") } }
                    let areTwo = await Fixture.becomesTrue { service.counts.withLock { $0.started == 2 } }
                    #expect(areTwo)
                    tasks.cancelAll()
                }
                let isSo7 = service.counts.withLock { $0.started } <= 5
                #expect(isSo7)
            }
        }
    }

    @Test func aPeerThatSaysNothingIsGivenUp() async throws {
        var configuration = TransportConfiguration()
        configuration.keepaliveIdle = .milliseconds(200)
        configuration.keepaliveAnswer = .milliseconds(200)
        try await Fixture.withServer(.plaintext, configuration: configuration) { server, port in
            let mute = try await RawPeer(port: port)
            await mute.send(Frames.preface + Frames.settings)
            let isSo4 = await Fixture.becomesTrue { mute.isClosed && server.connectionCount == 0 }
            #expect(isSo4)
            // It was asked first.
            #expect(mute.received.count > 9)
            try await Fixture.withClient(port: port, .plaintext, configuration: configuration) { client in
                let first = try await client.bytes("Unary", [1])
                try await ConcurrentTask.sleep(for: .seconds(1))
                let second = try await client.bytes("Unary", [1])
                #expect(first == second)
                #expect(server.statistics.accepted == 2)
            }
        }
    }
}
