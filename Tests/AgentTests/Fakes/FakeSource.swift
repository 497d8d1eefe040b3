import Dispatcher
import PluginAPI
import Synchronization

/// A manager that a test plays.
final class FakeSource: AssignmentSource {
    struct State {
        var tasks: [ID: Task] = [:]
        var streams: [AsyncStream<[Task]>.Continuation] = []
        var reports: [ID: [TaskStatus]] = [:]
        var failures = 0
        var isKnown = false
        var files = AssignedFiles()
    }

    let state = Mutex(State())

    func assignments(for node: ID) -> AsyncStream<[Task]> {
        let (stream, continuation) = AsyncStream.makeStream(of: [Task].self)
        state.withLock { state in
            state.streams.append(continuation)
            if state.isKnown { continuation.yield(Array(state.tasks.values)) }
        }
        return stream
    }

    func files() -> AssignedFiles { state.withLock(\.files) }

    func report(_ statuses: [ID: TaskStatus]) async throws(ApusError) {
        let fails = state.withLock { state in
            if state.failures > 0 {
                state.failures -= 1
                return true
            }
            for (id, status) in statuses {
                state.reports[id, default: []].append(status)
                state.tasks[id]?.status = status
            }
            return false
        }
        if fails { throw ApusError(.unavailable, "no leader") }
    }

    func set(_ change: (inout [ID: Task]) -> Void) {
        state.withLock { state in
            change(&state.tasks)
            state.isKnown = true
            for stream in state.streams { stream.yield(Array(state.tasks.values)) }
        }
    }

    func add(_ tasks: Task...) { set { all in for task in tasks { all[task.id] = task } } }
    func desire(_ desired: TaskState, _ id: ID) { set { $0[id]?.desiredState = desired } }
    func remove(_ id: ID) { set { $0[id] = nil } }

    func status(_ id: ID) -> TaskStatus? { state.withLock { $0.reports[id]?.last } }
    func states(_ id: ID) -> [TaskState] { state.withLock { $0.reports[id]?.map(\.state) ?? [] } }

    /// Waits for a report of that state.
    func until(_ id: ID, _ wanted: TaskState) async -> Bool { await eventually { self.status(id)?.state == wanted } }
}
