public import PluginAPI
import Synchronization

/// The default scheduler: tasks of a service go as far apart as possible.
///
/// The node with the fewest tasks of the service, then with the fewest tasks at all; placement preferences are honoured first.
public final class SpreadScheduler: Scheduler {
    private let view = Mutex(SchedulingView())

    public init() {}

    public func apply(_ changes: [SchedulingChange]) {
        view.withLock { $0.apply(changes) }
    }

    public func schedule(_ request: ScheduleRequest) throws(ApusError) -> ScheduleAnswer {
        view.withLock { view in
            view.schedule(request) { node, task in NodeRank(node.taskCount(ofService: task.serviceID), node.taskCount) }
        }
    }
}
