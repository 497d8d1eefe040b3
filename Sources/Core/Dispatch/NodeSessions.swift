public import Logging
public import Orchestration
public import PluginAPI
import Synchronization
public import Wire

/// What `NodeSessions` needs from the rest of the engine. Everything has a default that does without.
public struct NodeSessionsConfiguration<State: SwarmState & Sendable>: Sendable {
    /// Returns when this manager is sure, by asking a quorum, that it leads and has everything: `store.readLatest()`.
    /// A leader that was stalled must not hand out tasks of yesterday.
    public var confirmLeadership: @Sendable () async throws(ApusError) -> Void = {}
    /// The certificates that nodes are to trust, PEM; during a root rotation both.
    public var trustRoots: @Sendable (_ state: State) -> [UInt8] = { Array(($0.cluster?.root.certificate ?? "").utf8) }
    /// Whether the node is to renew its certificate now. Asked whenever the node or the cluster has changed.
    public var mustRenew: @Sendable (_ node: Node, _ state: State) -> Bool = { _, _ in false }
    public var sessions = SessionTable.Configuration()
    /// The wall clock that `NodeStatus.since` is taken from.
    public var now: @Sendable () -> Timestamp = { SystemClock().now() }

    public init() {}
}

/// The manager's side of all nodes: their sessions, their states in the store, their assignments.
///
/// It works while `run()` does, which the leader calls; otherwise every method throws `unavailable`. One watch of the store serves all nodes.
public final class NodeSessions<Store: SwarmStore>: Sendable {
    /// The stream of one session; ended by whoever replaces it.
    final class Handle: Sendable {
        let node: ID
        let id: ID
        let changed: AsyncStream<Void>
        let change: AsyncStream<Void>.Continuation
        let end = Mutex<ApusError?>(nil)
        let mailbox = Mutex<Mailbox<ID>?>(nil)
        let endpoints = Mutex(Endpoints())
        /// The stream on which the node is asked for logs.
        let logs = Mutex<AsyncStream<LogSubscription>.Continuation?>(nil)

        /// The stream of endpoints.
        struct Endpoints {
            var mailbox: Mailbox<EndpointKey>?
            /// Tasks of the node that it is to be told are withdrawn.
            var withdrawn: Set<ID> = []
            /// The last version that a stream of the session has used.
            var version: UInt64 = 0
        }

        init(node: ID, id: ID) {
            self.node = node
            self.id = id
            (changed, change) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        }

        func finish(_ reason: ApusError) {
            end.withLock { $0 = $0 ?? reason }
            change.finish()
            mailbox.withLock { $0 }?.close()
            endpoints.withLock { $0.mailbox }?.close()
            logs.withLock { $0 }?.finish()
        }

        /// - Throws: Why the session has ended.
        func check() throws(ApusError) { if let reason = end.withLock({ $0 }) { throw reason } }
    }

    struct Contents {
        /// `nil` while this manager does not lead.
        var table: SessionTable?
        var handles: [ID: Handle] = [:]
        var index = EndpointIndex()
        /// Logs that are read here, by subscription.
        var readings: [ID: LogReading] = [:]
        /// Of entries, since every stream of endpoints has looked.
        var changesSinceRefresh = 0
        var withdrawals = Withdrawals()
        var managers: [ManagerPeer] = []
        var writer: AsyncStream<Void>.Continuation?
    }

    let store: Store
    let configuration: NodeSessionsConfiguration<Store.State>
    let logger: Logger
    let contents = Mutex(Contents())

    public init(store: Store, configuration: NodeSessionsConfiguration<Store.State> = .init(), logger: Logger) {
        self.store = store
        self.configuration = configuration
        self.logger = logger
    }

    /// Whether `run()` is at work.
    public var isLeading: Bool { contents.withLock { $0.table != nil } }
    /// Nodes that have a session.
    public var sessionCount: Int { contents.withLock { $0.table?.sessionCount ?? 0 } }

    /// Whether a node is connected with this leader now.
    public func hasSession(_ node: ID) -> Bool { contents.withLock { $0.handles[node] != nil } }

    func wakeWriter() { _ = contents.withLock { $0.writer?.yield() } }

    static var notLeading: ApusError { ApusError(.unavailable, "this manager is not the leader: turn to the leader") }

    // MARK: What nodes ask for

    /// Registers the node and sends what it must know of the managers, at once and whenever it changes, until the session is over or
    /// the caller is cancelled.
    /// - Parameter peer: who is calling; `nil` without a certificate.
    /// - Throws: `unauthenticated`, `permissionDenied`, `unavailable`, `invalidArgument`; `notFound` when another session of the node
    ///   has taken its place; what `send` throws.
    public func serveSession(
        _ request: SessionRequest, from peer: PeerIdentity?, send: @Sendable (SessionMessage) async throws -> Void
    ) async throws {
        let node = try authorize(peer)
        try Self.check(request.description, request.address)
        try await configuration.confirmLeadership()
        let handle = try begin(node, request)
        var last: SessionMessage?
        var changes = handle.changed.makeAsyncIterator()
        repeat {
            try handle.check()
            // It may have been removed meanwhile.
            _ = try authorize(peer)
            let message = message(for: handle)
            if message != last {
                try await send(message)
                last = message
            }
        } while await changes.next() != nil
        try handle.check()
    }

    /// A sign of life; returns when the next one is due.
    /// - Throws: `unauthenticated`, `permissionDenied`, `unavailable`; `notFound` when the session is not the node's.
    public func heartbeat(_ request: HeartbeatRequest, from peer: PeerIdentity?) throws(ApusError) -> HeartbeatResponse {
        let node = try authorize(peer)
        let now = ContinuousClock.now
        return try contents.withLock { contents throws(ApusError) in
            var generator = SystemRandomNumberGenerator()
            guard let period = try contents.table?.heartbeat(node, request.sessionID, now: now, using: &generator) else { throw Self.notLeading }
            var response = HeartbeatResponse()
            response.period = period
            return response
        }
    }

    /// Sends the node's tasks, as a full set and then what changes, until the session is over or the caller is cancelled.
    /// - Throws: as `serveSession`.
    public func serveAssignments(
        _ request: AssignmentsRequest, from peer: PeerIdentity?, send: @Sendable (AssignmentsMessage) async throws -> Void
    ) async throws {
        let node = try authorize(peer)
        let handle = try handle(of: node, request.sessionID)
        try await configuration.confirmLeadership()
        let mailbox = Mailbox<ID>()
        // A stream that was there before ends.
        let old = handle.mailbox.withLock { current in
            defer { current = mailbox }
            return current
        }
        old?.close()
        var cursor = AssignmentCursor(node: node)
        try handle.check()
        for message in cursor.full(store.read()) { try await send(message) }
        var sentAt = ContinuousClock.now
        var signals = mailbox.signals.makeAsyncIterator()
        while try await mailbox.wait(after: sentAt, &signals) {
            try handle.check()
            let messages = cursor.changes(mailbox.take(), store.read())
            guard !messages.isEmpty else { continue }
            for message in messages { try await send(message) }
            sentAt = .now
        }
        try handle.check()
        guard !ConcurrentTask.isCancelled else { return }
        throw ApusError(.notFound, "another stream of assignments of node \(node) has taken the place of this one")
    }

    /// - Throws: as `heartbeat`, and `invalidArgument` for a description that is too large.
    public func updateDescription(_ request: UpdateNodeDescriptionRequest, from peer: PeerIdentity?) throws(ApusError) {
        let node = try authorize(peer)
        try Self.check(request.description, "")
        try contents.withLock { contents throws(ApusError) in
            guard contents.table != nil else { throw Self.notLeading }
            try contents.table?.describe(node, request.sessionID, request.description)
        }
        wakeWriter()
    }

    /// The node says goodbye; its session ends.
    /// - Throws: as `heartbeat`.
    public func endSession(_ request: EndSessionRequest, from peer: PeerIdentity?) throws(ApusError) {
        let node = try authorize(peer)
        let now = ContinuousClock.now
        let handle = try contents.withLock { contents throws(ApusError) in
            guard contents.table != nil else { throw Self.notLeading }
            try contents.table?.end(node, request.sessionID, isLeaving: request.isLeaving, now: now)
            contents.withdrawals.gone(node)
            contents.deliverWithdrawals()
            return contents.handles.removeValue(forKey: node)
        }
        handle?.finish(ApusError(.notFound, "node \(node) has ended its session"))
        wakeWriter()
    }

    // MARK: Who is who

    /// The node that calls.
    func authorize(_ peer: PeerIdentity?) throws(ApusError) -> ID {
        guard let peer else { throw ApusError(.unauthenticated, "a node must show its certificate") }
        let state = store.read()
        guard isLeading else { throw Self.notLeading }
        guard state.cluster?.id == peer.clusterID else {
            throw ApusError(.permissionDenied, "node \(peer.nodeID) has a certificate of another swarm (\(peer.clusterID))")
        }
        guard state.node(peer.nodeID) != nil else {
            throw ApusError(.permissionDenied, "node \(peer.nodeID) is not part of this swarm, or no longer; to come back it must join anew")
        }
        return peer.nodeID
    }

    /// - Throws: `notFound` when the session is not the node's.
    func checkSession(_ node: ID, _ session: ID) throws(ApusError) { _ = try handle(of: node, session) }

    func handle(of node: ID, _ session: ID) throws(ApusError) -> Handle {
        try contents.withLock { contents throws(ApusError) in
            guard let table = contents.table else { throw Self.notLeading }
            try table.check(node, session)
            guard let handle = contents.handles[node], handle.id == session else {
                throw ApusError(.notFound, "the session \(session) of node \(node) is over; the node must register again")
            }
            return handle
        }
    }

    private static func check(_ description: NodeDescription, _ address: String) throws(ApusError) {
        guard NodeLimits.isBounded(description), address.utf8.count <= 256 else {
            throw ApusError(.invalidArgument, "the description or the address of the node is too large (\(NodeLimits.descriptionSize) bytes at most)")
        }
    }

    private func begin(_ node: ID, _ request: SessionRequest) throws(ApusError) -> Handle {
        let handle = Handle(node: node, id: .random())
        let now = ContinuousClock.now
        let old = try contents.withLock { contents throws(ApusError) -> Handle? in
            guard contents.table != nil else { throw Self.notLeading }
            try contents.table?.register(node, session: handle.id, address: request.address, description: request.description, now: now)
            return contents.handles.updateValue(handle, forKey: node)
        }
        old?.finish(ApusError(.notFound, "node \(node) has opened another session"))
        wakeWriter()
        logger.info("node \(node) has registered", metadata: ["session": "\(handle.id)", "address": "\(request.address)"])
        return handle
    }

    private func message(for handle: Handle) -> SessionMessage {
        let state = store.read()
        var message = SessionMessage()
        message.sessionID = handle.id
        message.node = state.node(handle.node) ?? Node()
        // What the node itself brings about is no news to it.
        message.node.version = Version()
        message.node.updatedAt = .never
        message.node.status = NodeStatus()
        message.node.description = NodeDescription()
        contents.withLock { contents in
            message.managers = contents.managers
            message.heartbeatPeriod = contents.table?.configuration.heartbeatPeriod ?? .zero
        }
        message.trustRoots = configuration.trustRoots(state)
        message.renewCertificate = state.node(handle.node).map { configuration.mustRenew($0, state) } ?? false
        return message
    }
}
