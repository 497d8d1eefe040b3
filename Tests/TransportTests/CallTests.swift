import GRPCCore
import PluginAPI
import Synchronization
import Testing

@testable import Transport

/// Calls of every kind between this transport's two ends, over mutual TLS.
@Suite struct CallTests {
    private func withBoth<Result: Sendable>(
        service: EchoService = EchoService(), configuration: TransportConfiguration = TransportConfiguration(),
        _ body: (GRPCClient<NodeClientTransport>, NodeServerTransport) async throws -> Result
    ) async throws -> Result {
        let authority = try TestAuthority()
        let client = try authority.credentials("worker1", unit: "swarm-worker")
        return try await Fixture.withServer(.tls(authority.credentials("manager1")), configuration: configuration, service: service) { server, port in
            try await Fixture.withClient(port: port, .tls(client), configuration: configuration) { try await body($0, server) }
        }
    }

    @Test func unaryCarriesMessageAndMetadata() async throws {
        try await withBoth { client, _ in
            let metadata: Metadata = ["key": "value", "data-bin": .binary([0, 200, 13, 10])]
            let response = try await client.call("Unary", [1, 2, 3], metadata: metadata)
            #expect(try response.message == [1, 2, 3])
            #expect(Array(response.metadata[stringValues: "key"]) == ["value"])
            #expect(Array(response.metadata[binaryValues: "data-bin"]) == [[0, 200, 13, 10]])
            #expect(Array(response.trailingMetadata[stringValues: "trailer"]) == ["end"])
            #expect(Array(response.trailingMetadata[binaryValues: "trailer-bin"]) == [[0, 1, 255]])
        }
    }

    @Test(arguments: [0, 1, 5, 16_379, 16_384, 65_536, 300_000, 4 << 20])
    func messagesOfAnySizeComeBack(_ size: Int) async throws {
        try await withBoth { client, _ in
            let message = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            let answer = try await client.bytes("Unary", message)
            #expect(answer == message)
        }
    }

    @Test func aThousandCallsAtOnce() async throws {
        try await withBoth { client, _ in
            try await withThrowingTaskGroup(of: Bool.self) { tasks in
                for number in 0..<1000 {
                    tasks.addTask {
                        let message = [UInt8(number & 255), UInt8(number >> 8)]
                        return try await client.bytes("Unary", message) == message
                    }
                }
                for try await isRight in tasks { #expect(isRight) }
            }
        }
    }

    @Test func aServerStreamArrivesWhole() async throws {
        try await withBoth { client, _ in
            let count = try await client.serverStreaming(
                request: ClientRequest(message: [10]), descriptor: EchoService.method("ServerStream"), serializer: BytesCoder(),
                deserializer: BytesCoder(), options: .defaults
            ) { response in
                var count = 0
                for try await message in response.messages where message.count == 1000 { count += 1 }
                return count
            }
            #expect(count == 1000)
        }
    }

    @Test func aClientStreamArrivesWhole() async throws {
        try await withBoth { client, _ in
            let message = try await client.clientStreaming(
                request: StreamingClientRequest { writer in
                    for number in 0..<500 { try await writer.write([UInt8](repeating: UInt8(number & 255), count: 1000)) }
                },
                descriptor: EchoService.method("Unary"), serializer: BytesCoder(), deserializer: BytesCoder(), options: .defaults
            ) { try $0.message }
            #expect(message == (0..<500).flatMap { [UInt8](repeating: UInt8($0 & 255), count: 1000) })
        }
    }

    @Test func bothDirectionsTakeTurns() async throws {
        try await withBoth { client, _ in
            let (answers, more) = AsyncStream.makeStream(of: Int.self)
            more.yield(0)
            let last = try await client.bidirectionalStreaming(
                request: StreamingClientRequest { writer in
                    for await number in answers {
                        guard number < 200 else { break }
                        try await writer.write([UInt8(number)])
                    }
                },
                descriptor: EchoService.method("Bidirectional"), serializer: BytesCoder(), deserializer: BytesCoder(), options: .defaults
            ) { response in
                var last = -1
                for try await message in response.messages {
                    #expect(message == [UInt8(last + 1)])
                    last += 1
                    more.yield(last + 1)
                }
                return last
            }
            #expect(last == 199)
        }
    }

    @Test func anErrorHasItsCodeMessageAndMetadata() async throws {
        try await withBoth { client, _ in
            let error = await client.failure("Fail")
            #expect(error?.code == .failedPrecondition)
            #expect(error?.message == "no – 100 % no")
            #expect(error.map { Array($0.metadata[stringValues: "why"]) } == ["because"])
            #expect(error.map { Array($0.metadata[binaryValues: "why-bin"]) } == [[1, 2, 3]])
            #expect(await client.failure("Nothing")?.code == .unimplemented)
        }
    }

    @Test func aDeadlineEndsTheCallAtBothEnds() async throws {
        let service = EchoService()
        try await withBoth(service: service) { client, _ in
            #expect(await client.failure("Hang", options: .with { $0.timeout = .seconds(3) })?.code == .deadlineExceeded)
            #expect(await Fixture.becomesTrue { service.counts.withLock { $0.started == 1 && $0.cancelled == 1 } })
        }
    }

    @Test func cancellingTheCallerCancelsTheHandler() async throws {
        let service = EchoService()
        try await withBoth(service: service) { client, _ in
            await withTaskGroup(of: Void.self) { tasks in
                tasks.addTask { _ = await client.failure("Hang") }
                let hasStarted = await Fixture.becomesTrue { service.counts.withLock { $0.started == 1 } }
                #expect(hasStarted)
                tasks.cancelAll()
            }
            #expect(await Fixture.becomesTrue { service.counts.withLock { $0.cancelled == 1 } })
            let answer = try await client.bytes("Unary", [1])
            #expect(answer == [1])
        }
    }

    @Test func tooLargeAMessageIsRefusedByEitherEnd() async throws {
        var configuration = TransportConfiguration()
        configuration.maximumMessageBytes = 1000
        try await withBoth(configuration: configuration) { client, _ in
            let first = await client.failure("Unary", [UInt8](repeating: 0, count: 1001))
            #expect(first?.code == .resourceExhausted, "\(String(describing: first))")
            // Past the client's own bound, so that the server says it.
            let error = await client.failure("Unary", [UInt8](repeating: 0, count: 1001), options: .with { $0.maxRequestMessageBytes = 1 << 20 })
            #expect(error?.code == .resourceExhausted, "\(String(describing: error))")
            let answer = try await client.bytes("Unary", [UInt8](repeating: 0, count: 1000))
            #expect(answer.count == 1000)
            let last = await client.failure("Unary", [1, 2, 3], options: .with { $0.maxResponseMessageBytes = 2 })
            #expect(last?.code == .resourceExhausted, "\(String(describing: last))")
        }
    }

    @Test func tooMuchMetadataIsRefused() async throws {
        try await withBoth { client, _ in
            let response = try await client.call("Unary", metadata: ["long": .string(String(repeating: "x", count: 17 << 10))])
            #expect(throws: RPCError.self) { try response.message }
            let answer = try await client.bytes("Unary", [1])
            #expect(answer == [1])
        }
    }

    /// Writers stop when nobody reads, and what is under way stays below the windows and bounds.
    @Test func aSlowReaderStopsTheWriter() async throws {
        let service = EchoService()
        try await withBoth(service: service) { client, _ in
            let total = try await client.serverStreaming(
                request: ClientRequest(message: [200]), descriptor: EchoService.method("ServerStream"), serializer: BytesCoder(),
                deserializer: BytesCoder(), options: .defaults
            ) { response in
                var iterator = response.messages.makeAsyncIterator()
                _ = try await iterator.next()
                // Wait until the writer stands still.
                var last = -1
                var stillFor = 0
                _ = await Fixture.becomesTrue {
                    let now = service.counts.withLock { $0.sent }
                    stillFor = now == last ? stillFor + 1 : 0
                    last = now
                    return stillFor > 20
                }
                // 256 KiB of window, 64 KiB of unsent bytes, a message beyond, and the socket's buffers do not matter.
                #expect(last < 500)
                var total = 1
                while try await iterator.next() != nil { total += 1 }
                return total
            }
            #expect(total == 20_000)
        }
    }
}
