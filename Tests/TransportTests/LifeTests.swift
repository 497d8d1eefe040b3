import GRPCCore
import Glibc
import NIOCore
import NIOPosix
import PluginAPI
import Synchronization
import Testing

@testable import Transport

/// Connections that come, go and come back.
@Suite struct LifeTests {
    @Test func nobodyThereIsToldAtOnceOrWaitedFor() async throws {
        let port = try await Fixture.freePort()
        try await Fixture.withClient(port: port, .plaintext) { client in
            let error = await client.failure("Unary")
            #expect(error?.code == .unavailable)
            #expect(error?.message.contains("127.0.0.1:\(port)") == true, "\(error?.message ?? "")")
            #expect(error?.message.contains("refused") == true, "\(error?.message ?? "")")
            try await withThrowingTaskGroup(of: [UInt8].self) { tasks in
                tasks.addTask { try await client.bytes("Unary", [4], options: .with { $0.waitForReady = true }) }
                try await ConcurrentTask.sleep(for: .milliseconds(300))
                let server = GRPCServer(
                    transport: NodeServerTransport(host: "127.0.0.1", port: port, security: .plaintext, logger: Fixture.logger),
                    services: [EchoService()])
                try await withThrowingTaskGroup(of: Void.self) { serving in
                    serving.addTask { try await server.serve() }
                    let answer = try await tasks.next()
                    #expect(answer == [4])
                    server.beginGracefulShutdown()
                    try await serving.waitForAll()
                }
            }
        }
    }

    @Test func aWaitingCallCanBeCancelled() async throws {
        let port = try await Fixture.freePort()
        try await Fixture.withClient(port: port, .plaintext) { client in
            let error = await client.failure(
                "Unary",
                options: .with {
                    $0.waitForReady = true
                    $0.timeout = .milliseconds(300)
                })
            #expect(error?.code == .deadlineExceeded)
        }
    }

    /// A listener whose handshake never goes on: the client's end does not wait for it.
    @Test(.timeLimit(.minutes(2))) func stoppingEndsAConnectionThatIsBeingMade() async throws {
        let silent = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton).bind(host: "127.0.0.1", port: 0).get()
        let authority = try TestAuthority()
        var configuration = TransportConfiguration()
        configuration.handshakeLimit = .seconds(3600)
        try await Fixture.withClient(
            port: silent.localAddress?.port ?? 0, .tls(authority.credentials("node1")), configuration: configuration
        ) { client in
            let error = await client.failure("Unary", options: .with { $0.timeout = .milliseconds(300) })
            #expect(error?.code == .deadlineExceeded)
        }
        try await silent.close()
    }

    @Test func aServerThatComesBackIsFoundAgain() async throws {
        let authority = try TestAuthority()
        let credentials = try authority.credentials("manager1")
        let free = try await Fixture.freePort()
        try await Fixture.withClient(port: free, .tls(authority.credentials("node1"))) { client in
            for round in 0..<3 {
                let server = GRPCServer(
                    transport: NodeServerTransport(host: "127.0.0.1", port: free, security: .tls(credentials), logger: Fixture.logger),
                    services: [EchoService()])
                try await withThrowingTaskGroup(of: Void.self) { serving in
                    serving.addTask { try await server.serve() }
                    let isBack = await Fixture.becomesTrue { await client.failure("Who") == nil }
                    #expect(isBack, "round \(round)")
                    server.beginGracefulShutdown()
                    try await serving.waitForAll()
                }
                let error = await client.failure("Who")
                #expect(error?.code == .unavailable)
            }
        }
        #expect(credentials.connectionCount == 0)
    }

    @Test func stoppingLetsCallsEnd() async throws {
        let service = EchoService()
        let transport = NodeServerTransport(host: "127.0.0.1", port: 0, security: .plaintext, logger: Fixture.logger)
        let server = GRPCServer(transport: transport, services: [service])
        try await withThrowingTaskGroup(of: Void.self) { serving in
            serving.addTask { try await server.serve() }
            let port = try await transport.listeningAddress().port ?? 0
            try await Fixture.withClient(port: port, .plaintext) { client in
                let (messages, more) = AsyncStream.makeStream(of: [UInt8].self)
                more.yield([1])
                let received = try await client.bidirectionalStreaming(
                    request: StreamingClientRequest { writer in for await message in messages { try await writer.write(message) } },
                    descriptor: EchoService.method("Bidirectional"), serializer: BytesCoder(), deserializer: BytesCoder(), options: .defaults
                ) { response in
                    var received: [[UInt8]] = []
                    for try await message in response.messages {
                        received.append(message)
                        if message == [1] {
                            // The call goes on after the server was asked to stop, and no other begins.
                            server.beginGracefulShutdown()
                            let isRefused = await Fixture.becomesTrue { await client.failure("Unary")?.code == .unavailable }
                            #expect(isRefused)
                            more.yield([2])
                            more.finish()
                        }
                    }
                    return received
                }
                #expect(received == [[1], [2]])
            }
            try await serving.waitForAll()
        }
    }

    @Test func stoppingEndsWhatDoesNotEndByItself() async throws {
        let service = EchoService()
        var configuration = TransportConfiguration()
        configuration.shutdownGrace = .milliseconds(300)
        let error = try await withThrowingTaskGroup(of: RPCError?.self) { tasks in
            try await Fixture.withServer(.plaintext, configuration: configuration, service: service) { _, port in
                tasks.addTask { try await Fixture.withClient(port: port, .plaintext) { await $0.failure("Deaf") } }
                let hasStarted = await Fixture.becomesTrue { service.counts.withLock { $0.started == 1 } }
                #expect(hasStarted)
            }
            // The server has returned, so its handlers have.
            #expect(service.counts.withLock { $0.cancelled } == 1)
            return try await tasks.next() ?? nil
        }
        #expect(error?.code == .unavailable)
    }

    /// A program that is started meanwhile holds neither the listening socket nor a connection.
    @Test func childrenDoNotInheritSockets() async throws {
        try await Fixture.withServer(.plaintext) { _, port in
            try await Fixture.withClient(port: port, .plaintext) { client in
                let before = try await client.bytes("Unary", [1])
                #expect(before == [1])
                let digits = String(port, radix: 16, uppercase: true)
                let hexadecimal = String(repeating: "0", count: 4 - digits.count) + digits
                // Inode numbers of the sockets of this port, and those that the child has.
                let own = try await PeerPrograms.run("awk '/:\(hexadecimal) /{print $10}' /proc/net/tcp")
                let sockets = Set(own.output.split(separator: "\n").filter { $0 != "0" })
                #expect(sockets.count >= 3)
                let inherited = try await PeerPrograms.run("ls -l /proc/self/fd").output
                #expect(!sockets.contains { inherited.contains("socket:[\($0)]") }, "\(sockets) in \(inherited)")
            }
        }
    }

    @Test func aPortInUseIsNamed() async throws {
        try await Fixture.withServer(.plaintext) { _, port in
            let second = NodeServerTransport(host: "127.0.0.1", port: port, security: .plaintext, logger: Fixture.logger)
            let error = await #expect(throws: RPCError.self) { try await second.listen { _, _ in } }
            #expect(error?.message.contains("127.0.0.1:\(port)") == true)
            await #expect(throws: RPCError.self) { try await second.listeningAddress() }
        }
    }

    /// Old versions of TLS, other protocols by ALPN, and sessions that could be resumed: OpenSSL's own client tries.
    @Test(.enabled(if: access("/usr/bin/openssl", X_OK) == 0, "openssl is missing"))
    func whatTLSOffers() async throws {
        let authority = try TestAuthority()
        try await Fixture.withServer(.tls(authority.credentials("manager1"))) { server, port in
            func client(_ options: String) async throws -> String {
                try await PeerPrograms.run("timeout 20 openssl s_client -connect 127.0.0.1:\(port) \(options) < /dev/null").output
            }
            let modern = try await client("-alpn h2")
            #expect(modern.contains("New, TLSv1.3"), "\(modern)")
            #expect(modern.contains("ALPN protocol: h2"))
            #expect(!modern.contains("session ticket"))
            let older = try await client("-alpn h2 -tls1_2")
            #expect(older.contains("New, TLSv1.2, Cipher is ECDHE-ECDSA-"), "\(older)")
            #expect(!older.contains("session ticket"))
            #expect(older.contains("Session-ID: \n"))
            for options in [
                "-alpn h2 -tls1_1 -cipher ALL:@SECLEVEL=0", "-alpn http/1.1", "-alpn h2 -tls1_2 -cipher AES128-SHA",
                "-alpn h2 -tls1_2 -cipher ECDHE-ECDSA-AES128-SHA",
            ] {
                let refused = try await client(options)
                #expect(refused.contains("Cipher is (NONE)") || refused.contains("alert no application protocol"), "\(options): \(refused)")
            }
            let before = server.statistics.opened
            // Without ALPN the handshake is right, and the connection ends all the same.
            _ = try await client("")
            #expect(server.statistics.opened == before)
        }
    }
}
