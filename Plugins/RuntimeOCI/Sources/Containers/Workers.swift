import PluginAPI
import Processes
import Synchronization

/// Threads for blocking work. Work under one key is done in the order of its arrival, one piece at a time; a waiting piece holds no thread.
///
/// Threads exist only while there is work.
final class Workers: Sendable {
    private struct Job {
        var key: String
        var body: @Sendable () -> Void
    }

    private struct State {
        var ready: [Job] = []
        /// Keys that are worked on, with what waits for them.
        var waiting: [String: [Job]] = [:]
        var threads = 0
        var drained: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())
    private let maximum: Int

    init(maximum: Int) { self.maximum = max(1, maximum) }

    /// Runs the body on a thread, after all earlier work of the same key.
    func submit(key: String, _ body: @escaping @Sendable () -> Void) {
        let needsThread = state.withLock { state in
            let job = Job(key: key, body: body)
            if state.waiting[key] != nil {
                state.waiting[key]?.append(job)
                return false
            }
            state.waiting[key] = []
            state.ready.append(job)
            guard state.threads < maximum else { return false }
            state.threads += 1
            return true
        }
        if needsThread { startThread(named: "apus-container") { self.work() } }
    }

    /// Runs the body on a thread and waits for its answer. Once begun it is not cancelled.
    func run<Value: Sendable>(
        key: String, _ body: @escaping @Sendable () throws(ApusError) -> Value
    ) async throws(ApusError) -> Value {
        let result: Result<Value, ApusError> = await withCheckedContinuation { continuation in
            submit(key: key) {
                do throws(ApusError) {
                    continuation.resume(returning: .success(try body()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
        return try result.get()
    }

    /// Returns when there is no work.
    func drain() async {
        await withCheckedContinuation { continuation in
            let isIdle = state.withLock { state in
                if state.threads == 0 { return true }
                state.drained.append(continuation)
                return false
            }
            if isIdle { continuation.resume() }
        }
    }

    private func work() {
        ThreadSignals.blockBrokenPipe()
        while let job = take() {
            job.body()
            finish(job.key)
        }
    }

    private func take() -> Job? {
        let (job, drained): (Job?, [CheckedContinuation<Void, Never>]) = state.withLock { state in
            if !state.ready.isEmpty { return (state.ready.removeFirst(), []) }
            state.threads -= 1
            guard state.threads == 0 else { return (nil, []) }
            defer { state.drained = [] }
            return (nil, state.drained)
        }
        for continuation in drained { continuation.resume() }
        return job
    }

    private func finish(_ key: String) {
        state.withLock { state in
            guard var queue = state.waiting[key] else { return }
            if queue.isEmpty {
                state.waiting[key] = nil
            } else {
                state.ready.append(queue.removeFirst())
                state.waiting[key] = queue
            }
        }
    }
}
