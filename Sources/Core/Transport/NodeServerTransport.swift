public import GRPCCore
public import Logging
public import NIOCore
public import NIOPosix
import PluginAPI
import Synchronization

/// gRPC for nodes, the serving side: HTTP/2 by libnghttp2 over TLS by libssl, on swift-nio's sockets.
///
/// A client's certificate is optional: `PeerIdentity.current` is `nil` in the handler when none was shown, and services decide what
/// such a caller may do. A certificate that does not chain to the roots, or that the policy refuses, ends the handshake.
///
/// The handler's task is cancelled when its call ends early: reset by the client, connection lost, deadline passed.
public final class NodeServerTransport: ServerTransport {
    /// What messages are written into.
    public typealias Bytes = [UInt8]

    /// What connections rest on.
    public enum Security: Sendable {
        case tls(TransportCredentials)
        /// No encryption and no identities: for tests and measurements of HTTP/2.
        case plaintext
    }

    private enum Phase {
        case idle
        case listening(any Channel)
        case stopped
    }

    private struct State {
        var phase = Phase.idle
        var isStopping = false
        var failure: RPCError?
        var waiters: [CheckedContinuation<SocketAddress, any Error>] = []
        var end: CheckedContinuation<Void, Never>?
    }

    private let host: String
    private let port: Int
    private let group: any EventLoopGroup
    private let core: ServerCore
    private let state = Mutex(State())

    /// - Parameters:
    ///   - host: The address to listen on, or a name of it; `::` or `0.0.0.0` for all.
    ///   - port: 0 takes a free one, which `listeningAddress()` tells.
    public init(
        host: String, port: Int, security: Security, configuration: TransportConfiguration = TransportConfiguration(), logger: Logger,
        group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
    ) {
        self.host = host
        self.port = port
        self.group = group
        let connectionSecurity: ConnectionSecurity
        switch security {
        case .tls(let credentials):
            connectionSecurity = ConnectionSecurity(
                credentials: credentials, verification: .optional(allowsExpired: !configuration.expiredCertificateMethods.isEmpty))
        case .plaintext: connectionSecurity = ConnectionSecurity(credentials: nil, verification: .none)
        }
        core = ServerCore(configuration: configuration, security: connectionSecurity, logger: logger)
    }

    public var statistics: ServerStatistics { core.statistics.withLock { $0 } }

    /// How many connections are open.
    public var connectionCount: Int { core.connections.count }

    /// Where it listens, as soon as it does.
    /// - Throws: `RPCError` with `unavailable` when it cannot listen, or has stopped.
    public func listeningAddress() async throws -> SocketAddress {
        try await withCheckedThrowingContinuation { continuation in
            let known: Result<SocketAddress, any Error>? = state.withLock { state in
                switch state.phase {
                case .listening(let channel):
                    return channel.localAddress.map { .success($0) } ?? .failure(RPCError(code: .unavailable, message: "no local address"))
                case .stopped: return .failure(state.failure ?? RPCError(code: .unavailable, message: "the server has stopped"))
                case .idle:
                    state.waiters.append(continuation)
                    return nil
                }
            }
            if let known { continuation.resume(with: known) }
        }
    }

    /// Serves until `beginGracefulShutdown()` and the last call, at most the configured grace, or until the task is cancelled, which ends all
    /// connections at once. Returns when no handler runs any more.
    public func listen(
        streamHandler: @escaping @Sendable (_ stream: RPCStream<Inbound, Outbound>, _ context: ServerContext) async -> Void
    ) async throws {
        core.start(streamHandler)
        let channel: any Channel
        do {
            channel = try await bind()
        } catch {
            let failure = RPCError(code: .unavailable, message: "the server cannot listen on \(host):\(port): \(error)")
            tell(.failure(failure))
            throw failure
        }
        guard begin(channel) else {
            try? await channel.close()
            return
        }
        await withTaskCancellationHandler {
            await waitForEnd()
        } onCancel: {
            end()
        }
        try? await channel.close()
        let isCancelled = ConcurrentTask<Never, Never>.isCancelled
        if !isCancelled {
            core.shutDown()
            let core = self.core, grace = core.configuration.shutdownGrace
            await withTaskGroup(of: Void.self) { tasks in
                tasks.addTask { await core.waitUntilIdle() }
                tasks.addTask {
                    try? await ConcurrentTask.sleep(for: grace)
                    // Woken early it has nothing to do, unless the whole is being cancelled: then all end now.
                    for connection in core.connections { connection.closeNow("the server has stopped") }
                }
                await tasks.next()
                tasks.cancelAll()
            }
        }
        for connection in core.connections { connection.closeNow("the server has stopped") }
        await core.waitUntilIdle()
    }

    private func bind() async throws -> any Channel {
        let core = self.core
        return try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { channel in channel.eventLoop.makeCompletedFuture { try channel.closeOnExec() } }
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let connection = core.accept(channel)
                    do {
                        try channel.closeOnExec()
                        try channel.pipeline.syncOperations.addHandler(connection)
                    } catch {
                        // The peer is gone already, and nothing else would tell the connection.
                        connection.close("the connection was closed by the peer")
                        throw error
                    }
                }
            }
            .bind(host: host, port: port).get()
    }

    private func begin(_ channel: any Channel) -> Bool {
        guard let address = channel.localAddress else { return false }
        let mayRun = state.withLock { state in
            guard !state.isStopping else {
                state.phase = .stopped
                return false
            }
            state.phase = .listening(channel)
            return true
        }
        tell(mayRun ? .success(address) : .failure(RPCError(code: .unavailable, message: "the server has stopped")))
        return mayRun
    }

    private func tell(_ result: Result<SocketAddress, RPCError>) {
        let waiters = state.withLock { state -> [CheckedContinuation<SocketAddress, any Error>] in
            if case .failure(let error) = result {
                state.phase = .stopped
                state.failure = error
            }
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume(with: result.mapError { $0 }) }
    }

    private func waitForEnd() async {
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                guard !state.isStopping, !ConcurrentTask<Never, Never>.isCancelled else { return true }
                state.end = continuation
                return false
            }
            if isOver { continuation.resume() }
        }
    }

    private func end() {
        let waiter = state.withLock { state in
            state.isStopping = true
            defer { state.end = nil }
            return state.end
        }
        waiter?.resume()
    }

    /// Takes no new calls, tells the clients so, and lets `listen` return after the last one.
    public func beginGracefulShutdown() { end() }
}
