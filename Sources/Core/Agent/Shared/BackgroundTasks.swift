import PluginAPI
import Synchronization

/// Owns work that outlives the call that began it: each piece has a key, the next of the same key waits for nothing and replaces nothing,
/// and `shutDown` cancels and awaits all.
final class BackgroundTasks: Sendable {
    private struct State {
        var tasks: [UInt64: (key: String, task: ConcurrentTask<Void, Never>)] = [:]
        var finishedEarly: Set<UInt64> = []
        var next: UInt64 = 0
        var isClosed = false
    }

    private let state = Mutex(State())

    /// Begins the work; false after `shutDown`: then it is dropped.
    @discardableResult
    func add(_ key: String, _ body: @escaping @Sendable () async -> Void) -> Bool {
        let number: UInt64? = state.withLock { state in
            guard !state.isClosed else { return nil }
            state.next += 1
            return state.next
        }
        guard let number else { return false }
        let task = ConcurrentTask<Void, Never> {
            await body()
            self.finished(number)
        }
        let isLate = state.withLock { state in
            if state.finishedEarly.remove(number) != nil { return false }
            state.tasks[number] = (key, task)
            return state.isClosed
        }
        if isLate { task.cancel() }
        return true
    }

    private func finished(_ number: UInt64) {
        state.withLock { state in
            if state.tasks.removeValue(forKey: number) == nil { state.finishedEarly.insert(number) }
        }
    }

    /// Whether work of this key is under way.
    func contains(_ key: String) -> Bool { state.withLock { $0.tasks.values.contains { $0.key == key } } }

    /// Cancels the work of this key.
    func cancel(_ key: String) {
        let tasks = state.withLock { state in state.tasks.values.filter { $0.key == key }.map(\.task) }
        for task in tasks { task.cancel() }
    }

    /// Returns when nothing runs. New work is dropped from now on.
    func shutDown() async {
        while true {
            let tasks = state.withLock { state in
                state.isClosed = true
                return state.tasks.values.map(\.task)
            }
            if tasks.isEmpty { return }
            for task in tasks { task.cancel() }
            for task in tasks { await task.value }
        }
    }
}
