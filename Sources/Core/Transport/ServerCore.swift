import GRPCCore
import Logging
import NIOCore
import PluginAPI
import Synchronization

/// Counts of what a server has seen since it began.
public struct ServerStatistics: Sendable {
    /// Connections that TCP brought.
    public var accepted = 0
    /// Connections whose handshake was right.
    public var opened = 0
    /// Handshakes that ended for what the peer's certificate is.
    public var refusedCertificates = 0
    /// Handshakes that ended otherwise: no TLS, an old version, no answer in time.
    public var failedHandshakes = 0
    /// Connections that broke HTTP/2.
    public var protocolViolations = 0
    /// Connections that ended because the peer sent too much that brings nothing.
    public var floods = 0
    /// Strangers that made room for newer ones.
    public var evicted = 0
}

typealias ServerHandler =
    @Sendable (
        RPCStream<RPCAsyncSequence<RPCRequestPart<[UInt8]>, any Error>, RPCWriter<RPCResponsePart<[UInt8]>>.Closable>, ServerContext
    ) async -> Void

/// What the connections of a server share.
final class ServerCore: Sendable {
    private struct State {
        var handler: ServerHandler?
        var connections: [ObjectIdentifier: ServerConnection] = [:]
        var calls = 0
        var isStopping = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    let configuration: TransportConfiguration
    let security: ConnectionSecurity
    let logger: Logger
    let statistics = Mutex(ServerStatistics())
    let strangers: StrangerTable
    let refusals = RefusalLog()
    private let state = Mutex(State())

    init(configuration: TransportConfiguration, security: ConnectionSecurity, logger: Logger) {
        self.configuration = configuration
        self.security = security
        self.logger = logger
        strangers = StrangerTable(configuration.strangers)
    }

    func start(_ handler: @escaping ServerHandler) { state.withLock { $0.handler = handler } }

    func handle(
        _ stream: RPCStream<RPCAsyncSequence<RPCRequestPart<[UInt8]>, any Error>, RPCWriter<RPCResponsePart<[UInt8]>>.Closable>,
        _ context: ServerContext
    ) async {
        await state.withLock { $0.handler }?(stream, context)
    }

    // MARK: connections

    /// A connection that TCP brought, on its event loop. Others may have to go for it.
    func accept(_ channel: any Channel) -> ServerConnection {
        statistics.withLock { $0.accepted += 1 }
        let (number, evicted) = strangers.add(Addresses.host(channel.remoteAddress) ?? "")
        let connection = ServerConnection(server: self, strangerNumber: number, eventLoop: channel.eventLoop)
        strangers.set(connection, number)
        for other in evicted {
            statistics.withLock { $0.evicted += 1 }
            refusals.log("a stranger makes room for newer ones", logger, ["peer": "\(other.remoteAddress)"])
            other.closeNow("too many connections without a certificate: the oldest makes room")
        }
        let isStopping = state.withLock { state in
            state.connections[ObjectIdentifier(connection)] = connection
            return state.isStopping
        }
        if isStopping { connection.shutDown() }
        return connection
    }

    func remove(_ connection: ServerConnection) {
        let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            state.connections[ObjectIdentifier(connection)] = nil
            return Self.ready(&state)
        }
        for waiter in waiters { waiter.resume() }
    }

    var connections: [ServerConnection] { state.withLock { Array($0.connections.values) } }

    // MARK: calls

    func beginCall() -> Bool {
        state.withLock { state in
            guard state.handler != nil else { return false }
            state.calls += 1
            return true
        }
    }

    func endCall() {
        let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            state.calls -= 1
            return Self.ready(&state)
        }
        for waiter in waiters { waiter.resume() }
    }

    // MARK: the end

    /// Lets calls end and takes no new ones.
    func shutDown() {
        state.withLock { $0.isStopping = true }
        for connection in connections { connection.shutDown() }
    }

    /// Returns when no connection and no handler is left.
    func waitUntilIdle() async {
        await withCheckedContinuation { continuation in
            let isIdle = state.withLock { state in
                guard state.calls > 0 || !state.connections.isEmpty else { return true }
                state.waiters.append(continuation)
                return false
            }
            if isIdle { continuation.resume() }
        }
    }

    private static func ready(_ state: inout State) -> [CheckedContinuation<Void, Never>] {
        guard state.calls == 0, state.connections.isEmpty else { return [] }
        defer { state.waiters = [] }
        return state.waiters
    }
}
