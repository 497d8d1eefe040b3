import GRPCCore
import Glibc
import PluginAPI

struct Coder: MessageSerializer, MessageDeserializer {
    typealias Message = [UInt8]
    func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes { Bytes(message) }
    func deserialize<Bytes: GRPCContiguousBytes>(_ serialized: Bytes) throws -> [UInt8] { serialized.withUnsafeBytes { Array($0) } }
}

/// A line that is out at once, also into a pipe.
func say(_ line: String) {
    let bytes = Array("\(line)\n".utf8)
    _ = Glibc.write(1, bytes, bytes.count)
}

func method(_ name: String) -> MethodDescriptor { MethodDescriptor(fullyQualifiedService: "bench.Echo", method: name) }

/// Kilobytes of the process in memory.
func residentKilobytes() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 200)
    let count = fread(&bytes, 1, bytes.count, file)
    let fields = String(decoding: bytes.prefix(count), as: UTF8.self).split(separator: " ")
    return (fields.count > 1 ? Int(fields[1]) ?? 0 : 0) * 4
}

struct EchoService: RegistrableRPCService {
    func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        router.registerHandler(forMethod: method("Unary"), deserializer: Coder(), serializer: Coder()) { request, _ in
            var message: [UInt8] = []
            for try await part in request.messages { message = part }
            let answer = message
            return StreamingServerResponse(single: ServerResponse(message: answer))
        }
        router.registerHandler(forMethod: method("Bidirectional"), deserializer: Coder(), serializer: Coder()) { request, _ in
            StreamingServerResponse { writer in
                for try await message in request.messages { try await writer.write(message) }
                return [:]
            }
        }
        router.registerHandler(forMethod: method("Memory"), deserializer: Coder(), serializer: Coder()) { request, _ in
            for try await _ in request.messages {}
            return StreamingServerResponse(single: ServerResponse(message: Array(String(residentKilobytes()).utf8)))
        }
    }
}

func serve<T: ServerTransport>(_ transport: T, _ port: @escaping @Sendable () async throws -> Int) async throws {
    let server = GRPCServer(transport: transport, services: [EchoService()])
    try await withThrowingTaskGroup(of: Void.self) { tasks in
        tasks.addTask { try await server.serve() }
        say(String(try await port()))
        try await tasks.waitForAll()
    }
}

extension GRPCClient {
    func echo(_ name: String, _ message: [UInt8]) async throws -> [UInt8] {
        try await unary(
            request: ClientRequest(message: message), descriptor: method(name), serializer: Coder(), deserializer: Coder(), options: .defaults
        ) {
            try $0.message
        }
    }

    func memory() async throws -> Int { Int(String(decoding: try await echo("Memory", []), as: UTF8.self)) ?? 0 }
}

func load<T: ClientTransport>(_ make: () throws -> T) async throws {
    let client = GRPCClient(transport: try make())
    try await withThrowingTaskGroup(of: Void.self) { tasks in
        tasks.addTask { try await client.runConnections() }
        _ = try await client.echo("Unary", [1])
        for (name, width) in [("calls-one-at-a-time", 1), ("calls-64-at-a-time", 64)] {
            _ = try await calls(client, width: width, for: .seconds(1))
            say("\(name) \(try await calls(client, width: width, for: .seconds(4)))")
        }
        say("messages-both-ways \(try await messages(client, for: .seconds(4)))")
        client.beginGracefulShutdown()
        try await tasks.waitForAll()
    }
    try await idle(make)
}

/// Unary calls a second of 100 bytes, so many at once.
private func calls<T: ClientTransport>(_ client: GRPCClient<T>, width: Int, for duration: Duration) async throws -> Int {
    let start = ContinuousClock.now
    let total = try await withThrowingTaskGroup(of: Int.self) { tasks in
        for _ in 0..<width {
            tasks.addTask {
                var count = 0
                let message = [UInt8](repeating: 1, count: 100)
                while ContinuousClock.now - start < duration {
                    _ = try await client.echo("Unary", message)
                    count += 1
                }
                return count
            }
        }
        return try await tasks.reduce(0, +)
    }
    return Int(Double(total) / ((ContinuousClock.now - start) / .seconds(1)))
}

/// Messages of 100 bytes a second that came back on one stream.
private func messages<T: ClientTransport>(_ client: GRPCClient<T>, for duration: Duration) async throws -> Int {
    let start = ContinuousClock.now
    let count = try await client.bidirectionalStreaming(
        request: StreamingClientRequest { writer in
            let message = [UInt8](repeating: 1, count: 100)
            while ContinuousClock.now - start < duration { for _ in 0..<50 { try await writer.write(message) } }
        }, descriptor: method("Bidirectional"), serializer: Coder(), deserializer: Coder(), options: .defaults
    ) { response in
        var count = 0
        for try await _ in response.messages { count += 1 }
        return count
    }
    return Int(Double(count) / ((ContinuousClock.now - start) / .seconds(1)))
}

/// Kilobytes that one idle connection costs the server, of a thousand.
private func idle<T: ClientTransport>(_ make: () throws -> T) async throws {
    let connections = 1000
    let clients = try (0..<connections).map { _ in GRPCClient(transport: try make()) }
    let observer = GRPCClient(transport: try make())
    try await withThrowingTaskGroup(of: Void.self) { tasks in
        tasks.addTask { try await observer.runConnections() }
        let before = try await observer.memory()
        let ownBefore = residentKilobytes()
        for client in clients {
            tasks.addTask { try await client.runConnections() }
            _ = try await client.echo("Unary", [1])
        }
        try await ConcurrentTask.sleep(for: .seconds(2))
        let after = try await observer.memory()
        let ownAfter = residentKilobytes()
        say("server-bytes-per-connection \((after - before) * 1024 / connections)")
        say("client-bytes-per-connection \((ownAfter - ownBefore) * 1024 / connections)")
        for client in clients { client.beginGracefulShutdown() }
        observer.beginGracefulShutdown()
        try await tasks.waitForAll()
    }
}
