public import PluginAPI
import Synchronization

/// Places tasks on the nodes in turn, in the order of their ids, whatever they carry already.
public final class RoundrobinScheduler: Scheduler {
    private struct State {
        /// Nodes, what they carry and the filters; kept up to date by `apply`.
        var view = SchedulingView()
        /// The node that had the last turn.
        var last: ID = ""
    }

    private let state = Mutex(State())

    public init(host: any HostServices) {}

    public func apply(_ changes: [SchedulingChange]) {
        state.withLock { $0.view.apply(changes) }
    }

    public func schedule(_ request: ScheduleRequest) throws(ApusError) -> ScheduleAnswer {
        state.withLock { state in
            var answer = ScheduleAnswer()
            for task in request.tasks {
                let fitting = state.view.candidates(for: task)
                guard let node = fitting.first(where: { $0.id > state.last }) ?? fitting.first else {
                    answer.reasons[task.id] = state.view.reason(against: task)
                    continue
                }
                answer.placements[task.id] = node.id
                // Counted at once, so that the next task of the batch finds what this one takes taken.
                state.view.place(task, on: node.id)
                // A task that names its node does not cost a turn.
                if task.nodeID.isEmpty { state.last = node.id }
            }
            return answer
        }
    }
}
