import GRPCCore
import Logging
import NIOCore
import OpenSSL
import PluginAPI
import Synchronization
import Wire

@testable import Transport

/// A certificate authority of a test's own.
struct TestAuthority {
    let key: PrivateKey
    let root: Certificate
    let rootPEM: String

    init(name: String = "swarm-ca") throws {
        key = try PrivateKey.generate()
        root = try CertificateSigning.selfSigned(key: key, subject: DistinguishedName(commonName: name), now: Self.now, lifetime: .seconds(86_400))
        rootPEM = try root.pem()
    }

    static var now: Timestamp { PeerCertificate.now() }

    func identity(
        _ node: String, unit: String = "swarm-manager", cluster: String = "cluster", now: Timestamp = Self.now, lifetime: Duration = .seconds(3600),
        names: [String] = []
    ) throws -> TransportCredentials.Identity {
        let nodeKey = try PrivateKey.generate()
        let subject = DistinguishedName(commonName: node, organizationalUnit: unit, organization: cluster)
        let request = try CertificateRequest(key: nodeKey, subject: subject)
        let certificate = try CertificateSigning.sign(
            request, subject: subject, alternativeNames: names, authority: root, authorityKey: key, now: now, lifetime: lifetime)
        return TransportCredentials.Identity(certificateChain: try certificate.pem(), privateKey: try nodeKey.pem())
    }

    func credentials(_ node: String, unit: String = "swarm-manager", lifetime: Duration = .seconds(3600)) throws -> TransportCredentials {
        try TransportCredentials(roots: rootPEM, identity: identity(node, unit: unit, lifetime: lifetime))
    }
}

struct BytesCoder: MessageSerializer, MessageDeserializer {
    typealias Message = [UInt8]
    func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes { Bytes(message) }
    func deserialize<Bytes: GRPCContiguousBytes>(_ serialized: Bytes) throws -> [UInt8] { serialized.withUnsafeBytes { Array($0) } }
}

/// A service of raw bytes. `counts` are what the handlers have seen.
final class EchoService: RegistrableRPCService {
    static let name = "test.Echo"
    struct Counts {
        var started = 0
        var cancelled = 0
        var received = 0
        var sent = 0
    }
    let counts = Mutex(Counts())

    static func method(_ name: String) -> MethodDescriptor { MethodDescriptor(fullyQualifiedService: Self.name, method: name) }

    func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        add("Unary", &router) { request, _ in
            var message: [UInt8] = []
            for try await part in request.messages { message += part }
            let answer = message
            return StreamingServerResponse(metadata: request.metadata) { writer in
                try await writer.write(answer)
                return ["trailer": "end", "trailer-bin": .binary([0, 1, 255])]
            }
        }
        add("Bidirectional", &router) { request, _ in
            StreamingServerResponse { writer in
                for try await message in request.messages { try await writer.write(message) }
                return [:]
            }
        }
        // Answers with as many messages as the first byte says times 100, of 1000 bytes each.
        add("ServerStream", &router) { request, _ in
            var count = 0
            for try await message in request.messages { count += Int(message.first ?? 0) * 100 }
            let total = count
            return StreamingServerResponse { writer in
                for _ in 0..<total {
                    try await writer.write([UInt8](repeating: 7, count: 1000))
                    self.counts.withLock { $0.sent += 1 }
                }
                return [:]
            }
        }
        add("Fail", &router) { _, _ in
            throw RPCError(code: .failedPrecondition, message: "no – 100 % no", metadata: ["why": "because", "why-bin": .binary([1, 2, 3])])
        }
        // Answers metadata, and then nothing until it is cancelled.
        add("Hang", &router) { _, _ in
            StreamingServerResponse { _ in
                self.counts.withLock { $0.started += 1 }
                defer { self.counts.withLock { $0.cancelled += 1 } }
                try await ConcurrentTask.sleep(for: .seconds(3600))
                return [:]
            }
        }
        // Reads nothing until it is cancelled.
        add("Deaf", &router) { _, _ in
            self.counts.withLock { $0.started += 1 }
            defer { self.counts.withLock { $0.cancelled += 1 } }
            try await ConcurrentTask.sleep(for: .seconds(3600))
            return StreamingServerResponse(of: [UInt8].self) { _ in [:] }
        }
        add("Who", &router) { request, context in
            for try await _ in request.messages {}
            let identity = PeerIdentity.current
            let connection = PeerConnection.current
            let text =
                "\(identity?.nodeID.text ?? "nobody") \(identity.map { "\($0.role)" } ?? "-") \(identity?.clusterID.text ?? "-")"
                + " \(connection?.isExpired == true ? "expired" : "valid") \(connection?.certificate.isEmpty == false ? "der" : "-")"
                + " \(context.transportSpecific is PeerConnection ? "specific" : "-")"
            return StreamingServerResponse { writer in
                try await writer.write(Array(text.utf8))
                return [:]
            }
        }
    }

    private func add<Transport: ServerTransport>(
        _ name: String, _ router: inout RPCRouter<Transport>,
        _ handler: @escaping @Sendable (StreamingServerRequest<[UInt8]>, ServerContext) async throws -> StreamingServerResponse<[UInt8]>
    ) {
        router.registerHandler(forMethod: Self.method(name), deserializer: BytesCoder(), serializer: BytesCoder(), handler: handler)
    }
}

enum Fixture {
    static var logger: Logger {
        var logger = Logger(label: "transport")
        logger.logLevel = .critical
        return logger
    }

    /// A port that was free a moment ago, and that no outgoing connection is given: those get 32768 and more.
    static func freePort() async throws -> Int {
        while true {
            let port = Int.random(in: 20_000..<32_000)
            do {
                return try await withServer(.plaintext, port: port) { _, port in port }
            } catch is RPCError {
                continue
            }
        }
    }

    /// Runs an echo server for the time of `body`.
    static func withServer<Result: Sendable>(
        _ security: NodeServerTransport.Security, port: Int = 0, configuration: TransportConfiguration = TransportConfiguration(),
        service: EchoService = EchoService(), logger: Logger = Fixture.logger, _ body: (NodeServerTransport, Int) async throws -> Result
    ) async throws -> Result {
        let transport = NodeServerTransport(host: "127.0.0.1", port: port, security: security, configuration: configuration, logger: logger)
        let server = GRPCServer(transport: transport, services: [service])
        return try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await server.serve() }
            let port = try await transport.listeningAddress().port ?? 0
            do {
                let result = try await body(transport, port)
                server.beginGracefulShutdown()
                try await tasks.waitForAll()
                return result
            } catch {
                tasks.cancelAll()
                throw error
            }
        }
    }

    static func withClient<Result: Sendable>(
        port: Int, _ security: NodeClientTransport.Security, configuration: TransportConfiguration = TransportConfiguration(),
        _ body: (GRPCClient<NodeClientTransport>) async throws -> Result
    ) async throws -> Result {
        let transport = try NodeClientTransport(host: "127.0.0.1", port: port, security: security, configuration: configuration, logger: logger)
        return try await withGRPCClient(transport: transport) { try await body($0) }
    }

    /// Polls until it is so; `false` after a minute.
    static func becomesTrue(_ condition: () async throws -> Bool) async rethrows -> Bool {
        for _ in 0..<3000 {
            if try await condition() { return true }
            try? await ConcurrentTask.sleep(for: .milliseconds(20))
        }
        return false
    }
}

extension GRPCClient {
    func call(_ method: String, _ message: [UInt8] = [], metadata: Metadata = [:], options: CallOptions = .defaults) async throws -> ClientResponse<
        [UInt8]
    > {
        try await unary(
            request: ClientRequest(message: message, metadata: metadata), descriptor: EchoService.method(method), serializer: BytesCoder(),
            deserializer: BytesCoder(), options: options
        ) { $0 }
    }

    func bytes(_ method: String, _ message: [UInt8] = [], options: CallOptions = .defaults) async throws -> [UInt8] {
        try await call(method, message, options: options).message
    }

    func text(_ method: String, options: CallOptions = .defaults) async throws -> String {
        String(decoding: try await call(method, options: options).message, as: UTF8.self)
    }

    /// The error that a call ends with.
    func failure(_ method: String, _ message: [UInt8] = [], options: CallOptions = .defaults) async -> RPCError? {
        do {
            _ = try await call(method, message, options: options).message
            return nil
        } catch {
            return error as? RPCError ?? RPCError(code: .unknown, message: "not an RPCError: \(error)")
        }
    }
}

extension CallOptions {
    static func with(_ change: (inout CallOptions) -> Void) -> CallOptions {
        var options = CallOptions.defaults
        change(&options)
        return options
    }
}
