/// Decides which node runs a task.
///
/// The host feeds every committed change in order, then asks for batches, always from one thread at a time. A scheduler keeps
/// no other state: the host feeds it `reset` and then the whole state whenever it is enabled, or the host looks at everything anew. `SchedulingView` keeps the
/// books and the filters, so that a scheduler is left with its own idea: which of the nodes that fit is best.
public protocol Scheduler: Plugin {
    /// Changes since the last call, in commit order.
    func apply(_ changes: [SchedulingChange])
    /// Places what it can, each task at most once, and gives a reason for the rest. Counts its own placements at once:
    /// the matching changes arrive later.
    func schedule(_ request: ScheduleRequest) throws(ApusError) -> ScheduleAnswer
}

/// One change of what a scheduler needs to know.
public enum SchedulingChange: Sendable, Hashable {
    /// Forget everything: another swarm, or the same one looked at anew. All that there is follows.
    case reset
    case node(Node)
    case nodeRemoved(ID)
    /// New, changed, or placed.
    case task(Task)
    case taskRemoved(ID)
}

/// Tasks to be placed.
public struct ScheduleRequest: Sendable {
    public var tasks: [Task]
    /// For what depends on time, such as recent failures.
    public var now: Timestamp

    public init(tasks: [Task], now: Timestamp) {
        self.tasks = tasks
        self.now = now
    }
}

/// Where each task goes, or why it goes nowhere.
public struct ScheduleAnswer: Sendable, Hashable {
    /// Task to node.
    public var placements: [ID: ID] = [:]
    /// Task to reason, with counts per filter, as `service ps` shows it.
    public var reasons: [ID: String] = [:]

    public init() {}
}
