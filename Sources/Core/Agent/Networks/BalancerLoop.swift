import Logging
import PluginAPI
import Synchronization

/// Applies the balancer's state, one call at a time: whoever asks while one is under way is served by the next, together with all others who asked.
final class BalancerLoop: Sendable {
    private struct State {
        var wanted: UInt64 = 0
        var done: UInt64 = 0
        var isRunning = false
        var lastError: ApusError?
        var waiting: [(number: UInt64, continuation: CheckedContinuation<ApusError?, Never>)] = []
    }

    private let state = Mutex(State())
    private let tasks: BackgroundTasks
    private let apply: @Sendable () async throws(ApusError) -> Void

    init(tasks: BackgroundTasks, apply: @escaping @Sendable () async throws(ApusError) -> Void) {
        self.tasks = tasks
        self.apply = apply
    }

    /// Asks for an application without waiting for it.
    func request() {
        let starts = state.withLock { state in
            state.wanted += 1
            if state.isRunning { return false }
            state.isRunning = true
            return true
        }
        if starts { start() }
    }

    /// Returns when what is wanted now is in force; the error of that application, if it had one.
    func applied() async -> ApusError? {
        await withCheckedContinuation { continuation in
            let starts = state.withLock { state in
                state.wanted += 1
                state.waiting.append((state.wanted, continuation))
                if state.isRunning { return false }
                state.isRunning = true
                return true
            }
            if starts { start() }
        }
    }

    private func start() {
        let isAccepted = tasks.add("balancer") { await self.run() }
        if !isAccepted { finishAll() }
    }

    private func run() async {
        while true {
            let goal: UInt64? = state.withLock { state in
                if state.done == state.wanted {
                    state.isRunning = false
                    return nil
                }
                return state.wanted
            }
            guard let goal else { return }
            var failure: ApusError?
            do throws(ApusError) {
                try await apply()
            } catch {
                failure = error
            }
            let served = state.withLock { state in
                state.done = goal
                state.lastError = failure
                let served = state.waiting.filter { $0.number <= goal }
                state.waiting.removeAll { $0.number <= goal }
                return served.map(\.continuation)
            }
            for continuation in served { continuation.resume(returning: failure) }
        }
    }

    /// After the shutdown nothing is applied any more, and nobody may wait for it.
    private func finishAll() {
        let waiting = state.withLock { state in
            state.isRunning = false
            state.done = state.wanted
            let waiting = state.waiting.map(\.continuation)
            state.waiting = []
            return waiting
        }
        for continuation in waiting { continuation.resume(returning: ApusError(.cancelled, "the engine is stopping")) }
    }
}
