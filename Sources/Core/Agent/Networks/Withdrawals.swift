import PluginAPI
import Synchronization

/// Which tasks of this node no other node sends new connections to any more, as the leader says; and who waits for it.
final class Withdrawals: Sendable {
    private struct State {
        var withdrawn: Set<ID> = []
        var waiting: [ID: [AsyncStream<Void>.Continuation]] = [:]
    }

    private let state = Mutex(State())

    func note(_ tasks: Set<ID>) {
        let waiting = state.withLock { state in
            state.withdrawn.formUnion(tasks)
            return tasks.flatMap { state.waiting.removeValue(forKey: $0) ?? [] }
        }
        for continuation in waiting { continuation.finish() }
    }

    /// A task that is through.
    func forget(_ task: ID) {
        state.withLock { state in
            state.withdrawn.remove(task)
            state.waiting[task] = nil
        }
    }

    /// Returns when the leader has said so, when the time is over, or when cancelled.
    func wait(for task: ID, atMost limit: Duration, clock: EngineClock) async {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
        let isOver = state.withLock { state in
            if state.withdrawn.contains(task) { return true }
            state.waiting[task, default: []].append(continuation)
            return false
        }
        if isOver { return }
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                try? await clock.sleep(limit)
                continuation.finish()
            }
            for await _ in stream {}
            group.cancelAll()
        }
    }
}
