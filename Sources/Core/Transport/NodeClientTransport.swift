public import GRPCCore
public import Logging
public import NIOCore
public import NIOPosix
import PluginAPI
import Synchronization
public import Wire

/// gRPC for nodes, the calling side: one connection to one address, made when a call needs it, and made again when it is lost.
///
/// A call fails at once with `unavailable` while the address cannot be reached, unless `CallOptions.waitForReady` is `true`.
public final class NodeClientTransport: ClientTransport {
    /// What messages are written into.
    public typealias Bytes = [UInt8]

    /// What the connection rests on.
    public enum Security: Sendable {
        /// The server must show a certificate that chains to the roots and that `expecting` has nothing against. The own identity is
        /// shown when the credentials have one.
        case tls(TransportCredentials, expecting: @Sendable (PeerIdentity) -> String? = NodeClientTransport.expectManager)
        /// Any server will do: to fetch the root certificate, whose digest the caller then compares with a join token. Never for more.
        case tlsUnverified
        /// No encryption and no identities: for tests and measurements of HTTP/2.
        case plaintext
    }

    /// Refuses servers that are no managers.
    public static let expectManager: @Sendable (PeerIdentity) -> String? = { peer in
        peer.role == .manager ? nil : "the node \(peer.nodeID) is no manager"
    }

    /// Metadata of an error by which a caller knows that nothing of the call was sent: there was no connection.
    public static let unsentMetadata = "apus-unsent"

    private let host: String
    private let port: Int
    private let security: ConnectionSecurity
    private let configuration: TransportConfiguration
    private let logger: Logger
    private let group: any EventLoopGroup
    private let onRetire: @Sendable () -> Void
    private let keeper = ConnectionKeeper()

    /// - Parameters:
    ///   - host: An address or a name.
    ///   - onRetire: Called when a connection takes no more calls though it still stands: the server asked for that, or its certificate is of a root that
    ///     counts no more. Calls that are under way may move to another connection.
    /// - Throws: Only for `tlsUnverified`, when TLS cannot be set up at all.
    public init(
        host: String, port: Int, security: Security, configuration: TransportConfiguration = TransportConfiguration(), logger: Logger,
        group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton, onRetire: @escaping @Sendable () -> Void = {}
    ) throws {
        self.onRetire = onRetire
        self.host = host
        self.port = port
        self.configuration = configuration
        self.logger = logger
        self.group = group
        switch security {
        case .tls(let credentials, let expecting):
            self.security = ConnectionSecurity(credentials: credentials, verification: .required, expectation: expecting)
        case .tlsUnverified:
            self.security = ConnectionSecurity(credentials: try TransportCredentials(roots: ""), verification: .none)
        case .plaintext: self.security = ConnectionSecurity(credentials: nil, verification: .none)
        }
    }

    public var retryThrottle: RetryThrottle? { nil }

    /// None: deadlines come with each call.
    public func config(forMethod descriptor: MethodDescriptor) -> MethodConfig? { nil }

    /// Keeps the connection for as long as it runs; ends after `beginGracefulShutdown()` and the last call, or when its task is cancelled.
    public func connect() async throws {
        await withTaskCancellationHandler {
            await withDiscardingTaskGroup { tasks in
                var pause = configuration.minimumBackoff
                while await keeper.waitForDemand() {
                    do {
                        let connection = try await establish()
                        tasks.addTask { await connection.waitUntilOver() }
                        pause = configuration.minimumBackoff
                        // What was asked for meanwhile gets it; if it is draining already, the next round makes another.
                        if !keeper.ready(connection) { connection.drain() }
                    } catch {
                        let reason = RPCError(
                            code: .unavailable, message: "no connection to \(host):\(port): \((error as? RPCError)?.message ?? "\(error)")")
                        logger.debug("a connection could not be made", metadata: ["peer": "\(host):\(port)", "reason": "\(reason.message)"])
                        keeper.failed(reason)
                        let jitter = Double.random(in: 0.8...1.2)
                        await keeper.pause(pause * jitter)
                        pause = min(pause * 1.6, configuration.maximumBackoff)
                    }
                }
            }
        } onCancel: {
            keeper.stop()
        }
        keeper.finish()
    }

    private func establish() async throws -> ClientConnection {
        let eventLoop = group.next()
        let connection = ClientConnection(
            configuration: configuration, security: security, authority: host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)",
            eventLoop: eventLoop, logger: logger, onDrain: { [weak keeper] in keeper?.lost($0) }, onRetire: onRetire)
        let bootstrap = ClientBootstrap(group: eventLoop)
            .connectTimeout(TimeAmount(configuration.handshakeLimit))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.closeOnExec()
                    try channel.pipeline.syncOperations.addHandler(connection)
                }
            }
        keeper.connecting(connection)
        do {
            _ = try await bootstrap.connect(host: host, port: port).get()
        } catch {
            connection.closeNow("no connection")
            throw RPCError(code: .unavailable, message: ConnectionKeeper.words(error))
        }
        try await connection.waitUntilReady()
        return connection
    }

    /// Makes one connection, and lets it go when the server was verified.
    /// - Throws: `unavailable` with the reason why there is no connection, or why the server is not believed.
    public func probe() async throws { try await establish().drain() }

    /// No new calls; `connect` returns after the last one.
    public func beginGracefulShutdown() { keeper.stop() }

    /// One call. It begins when there is a connection, and fails with `unavailable` when there is none.
    public func withStream<T: Sendable>(
        descriptor: MethodDescriptor, options: CallOptions,
        _ closure: (_ stream: RPCStream<Inbound, Outbound>, _ context: ClientContext) async throws -> T
    ) async throws -> T {
        let connection: ClientConnection
        do {
            connection = try await keeper.connection(waitForReady: options.waitForReady ?? false)
        } catch var error as RPCError {
            error.metadata.replaceOrAddString("1", forKey: Self.unsentMetadata)
            throw error
        }
        defer { connection.letGo() }
        let stream = CallStream(
            connection: connection, maximumMessageBytes: options.maxResponseMessageBytes ?? configuration.maximumMessageBytes,
            window: configuration.streamWindow)
        stream.call = descriptor
        // What is left of the call when its user is through is of no use to anyone.
        defer { if !stream.isOver { connection.post(.cancel(stream)) } }
        let context = ClientContext(descriptor: descriptor, remotePeer: "\(host):\(port)", localPeer: "")
        return try await closure(
            RPCStream(
                descriptor: descriptor, inbound: RPCAsyncSequence(wrapping: ResponseParts(stream: stream)),
                outbound: RPCWriter.Closable(
                    wrapping: ClientCall(stream: stream, maximumMessageBytes: options.maxRequestMessageBytes ?? configuration.maximumMessageBytes))),
            context)
    }
}
