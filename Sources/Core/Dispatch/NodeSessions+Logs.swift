import Orchestration
public import PluginAPI
import Synchronization
public import Wire

/// A log that is read on this manager.
final class LogReading: Sendable {
    let node: ID
    let pipe = LogPipe()
    /// Whether the node has begun to send.
    let isOpen = Mutex(false)

    init(node: ID) { self.node = node }
}

// Nodes are behind firewalls: the leader cannot call them, so each keeps a stream on which it is asked for logs, and sends each in a call of its own.
extension NodeSessions {
    /// For a node to begin with a log.
    private static var patience: Duration { .seconds(10) }
    /// Bytes of one piece.
    private static var pieceLimit: Int { 1 << 20 }

    // MARK: What nodes ask for

    /// Tells the node of the logs that are to be read, until the session is over or the caller is cancelled.
    /// - Throws: as `serveSession`.
    public func serveLogs(_ request: LogsRequest, from peer: PeerIdentity?, send: @Sendable (LogSubscription) async throws -> Void) async throws {
        let node = try authorize(peer)
        let handle = try handle(of: node, request.sessionID)
        let (subscriptions, continuation) = AsyncStream.makeStream(of: LogSubscription.self)
        handle.logs.withLock { logs in
            defer { logs = continuation }
            return logs
        }?.finish()
        defer { breakReadings(of: node, continuation, handle) }
        try handle.check()
        for await subscription in subscriptions { try await send(subscription) }
        try handle.check()
        guard !ConcurrentTask.isCancelled else { return }
        throw ApusError(.notFound, "another stream of logs of node \(node) has taken the place of this one")
    }

    private func breakReadings(of node: ID, _ continuation: AsyncStream<LogSubscription>.Continuation, _ handle: Handle) {
        continuation.finish()
        let readings = contents.withLock { contents in contents.readings.values.filter { $0.node == node } }
        for reading in readings { reading.pipe.finish(Self.noSession(node)) }
    }

    private static func noSession(_ node: ID) -> ApusError { ApusError(.unavailable, "node \(node) has no session with the managers") }

    /// A log that a node sends.
    public func publication(from peer: PeerIdentity?) -> LogPublication<Store> { LogPublication(sessions: self, peer: peer) }

    /// - Throws: `notFound` when nobody reads it any more.
    fileprivate func reading(_ message: PublishLogsMessage, _ peer: PeerIdentity?) throws(ApusError) -> LogReading {
        let node = try authorize(peer)
        try checkSession(node, message.sessionID)
        guard let reading = contents.withLock({ $0.readings[message.subscriptionID] }), reading.node == node else {
            throw ApusError(.notFound, "nobody reads the log \(message.subscriptionID) of node \(node)")
        }
        let wasOpen = reading.isOpen.withLock { isOpen in
            defer { isOpen = true }
            return isOpen
        }
        guard !wasOpen else { throw ApusError(.conflict, "the log \(message.subscriptionID) is being sent already") }
        return reading
    }

    fileprivate static func check(_ message: PublishLogsMessage) throws(ApusError) {
        guard message.data.count <= pieceLimit, message.error.utf8.count <= 4096 else {
            throw ApusError(.invalidArgument, "a piece of a log is larger than \(pieceLimit) bytes")
        }
    }

    // MARK: What managers ask for

    /// Reads the log of a task on a node, to its end, until the session with the node is over, or the caller is cancelled.
    /// - Throws: `unavailable` when this manager does not lead, or the node is not there, or goes; `timedOut`; what the node says; what `write`
    ///   throws.
    public func readLogs(_ subscription: LogSubscription, on node: ID, write: ([UInt8]) async throws -> Void) async throws {
        var subscription = subscription
        subscription.id = .random()
        let reading = LogReading(node: node)
        let listener = try contents.withLock { contents throws(ApusError) in
            guard contents.table != nil else { throw Self.notLeading }
            guard let listener = contents.handles[node]?.logs.withLock({ $0 }) else { throw Self.noSession(node) }
            contents.readings[subscription.id] = reading
            return listener
        }
        defer {
            _ = contents.withLock { $0.readings.removeValue(forKey: subscription.id) }
            reading.pipe.finish(ApusError(.cancelled, "nobody reads the log any more"))
            var end = LogSubscription()
            end.id = subscription.id
            end.isEnd = true
            listener.yield(end)
        }
        if case .terminated = listener.yield(subscription) { throw Self.noSession(node) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await ConcurrentTask.sleep(for: Self.patience)
                if !reading.isOpen.withLock({ $0 }) { reading.pipe.finish(ApusError(.timedOut, "node \(node) does not send the log")) }
            }
            defer { group.cancelAll() }
            while let piece = try await reading.pipe.take() { try await write(piece) }
        }
    }

    /// As another manager's own `readLogs`.
    /// - Throws: `permissionDenied` for a worker.
    public func serveReading(_ request: ReadLogsRequest, from peer: PeerIdentity?, send: @Sendable (LogChunk) async throws -> Void) async throws {
        let caller = try authorize(peer)
        guard peer?.role == .manager, store.read().node(caller)?.spec.role == .manager else {
            throw ApusError(.permissionDenied, "logs are for managers, and node \(caller) is a worker")
        }
        try await readLogs(request.subscription, on: request.nodeID) { data in
            var chunk = LogChunk()
            chunk.data = data
            try await send(chunk)
        }
    }
}

/// A log on its way from a node to whoever reads it here. Used by one task at a time.
public final class LogPublication<Store: SwarmStore>: Sendable {
    private let sessions: NodeSessions<Store>
    private let peer: PeerIdentity?
    private let reading = Mutex<LogReading?>(nil)

    init(sessions: NodeSessions<Store>, peer: PeerIdentity?) {
        self.sessions = sessions
        self.peer = peer
    }

    /// Returns when there is room for more.
    /// - Throws: `unauthenticated`, `permissionDenied`, `notFound`, `invalidArgument`, `cancelled`.
    public func take(_ message: PublishLogsMessage) async throws(ApusError) {
        try NodeSessions<Store>.check(message)
        let current: LogReading
        if let known = reading.withLock({ $0 }) {
            current = known
        } else {
            let found = try sessions.reading(message, peer)
            reading.withLock { $0 = found }
            current = found
        }
        if !message.data.isEmpty { try await current.pipe.give(message.data) }
        if !message.error.isEmpty { current.pipe.finish(ApusError(.failed, message.error)) }
        if message.isComplete { current.pipe.finish() }
    }

    /// The node sends no more. Without its word that the log is complete, there may be more: a stream can end in good order although its
    /// node is cut off.
    /// - Parameter error: what ended the stream, if it did not end by itself.
    public func end(_ error: (any Error)? = nil) {
        guard let reading = reading.withLock({ $0 }) else { return }
        let reason = error.map { ": \(DispatcherFailure($0).error.message)" } ?? ""
        reading.pipe.finish(ApusError(.unavailable, "node \(reading.node) broke off\(reason)"))
    }
}
