public import Logging
public import Orchestration
public import PluginAPI
public import Wire

/// Takes the statuses that nodes report, and writes those of many nodes together.
public struct NodeReports<Store: SwarmStore>: Sendable {
    /// By how much a node's clock may differ before its times are corrected.
    static var tolerance: Duration { .seconds(2) }

    private let sessions: NodeSessions<Store>
    private let reports: StatusReports

    public init(sessions: NodeSessions<Store>, logger: Logger) {
        self.sessions = sessions
        reports = StatusReports(store: sessions.store, logger: logger)
    }

    /// Returns when the statuses are committed; those that bring nothing new, or are of tasks that are no more, are dropped.
    /// - Throws: `permissionDenied` when one of the tasks is another node's; `invalidArgument` for a state that a node has no say in; as
    ///   `NodeSessions.heartbeat`; what the store throws.
    public func report(_ request: UpdateTaskStatusRequest, from peer: PeerIdentity?) async throws(ApusError) {
        let node = try sessions.authorize(peer)
        try sessions.checkSession(node, request.sessionID)
        guard request.updates.count <= NodeLimits.statuses else {
            throw ApusError(.invalidArgument, "\(request.updates.count) statuses in one request, \(NodeLimits.statuses) at most")
        }
        let state = sessions.store.read()
        let now = sessions.configuration.now()
        let skew = request.sentAt.isNever ? .zero : now - request.sentAt
        let isWrong = skew > Self.tolerance || skew < .zero - Self.tolerance
        var statuses: [ID: TaskStatus] = [:]
        for update in request.updates {
            guard let task = state.task(update.taskID) else { continue }
            guard task.nodeID == node else {
                throw ApusError(.permissionDenied, "task \(task.id) is not on node \(node), which speaks of it")
            }
            var status = update.status
            guard status.state >= .assigned, status.state <= .rejected else {
                throw ApusError(.invalidArgument, "a node cannot say of task \(task.id) that it is \(status.state.rawValue)")
            }
            if isWrong {
                // The age of the status is right even though the node's clock is not.
                status.timestamp = min(now, status.timestamp + skew)
                var same = status
                same.timestamp = task.status.timestamp
                if same == task.status { continue }
            }
            if let known = statuses[update.taskID], StatusReports.isBehind(status, known) { continue }
            statuses[update.taskID] = status
        }
        try await reports.report(statuses)
    }
}
