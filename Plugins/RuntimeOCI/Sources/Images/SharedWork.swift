import PluginAPI
import Synchronization

/// Work that several callers want at once and that is done once.
///
/// The work is cancelled when its last caller is; that caller then returns when the work has ended. A caller who comes after
/// that begins it anew.
final class SharedWork<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    typealias Report = @Sendable (PullProgress) -> Void

    private struct Waiter {
        var continuation: CheckedContinuation<Outcome, Never>?
        var report: Report
        var isCancelled = false
    }

    private struct Entry {
        var task: ConcurrentTask<Void, Never>?
        var waiters: [Int: Waiter] = [:]
        var isEnding = false
    }

    private struct State {
        var entries: [Key: Entry] = [:]
        var next = 0
        var isClosed = false
    }

    private enum Outcome: Sendable {
        case finished(Result<Value, ApusError>)
        /// It ended because those before this caller gave up.
        case abandoned
    }

    private let state = Mutex(State())

    func run(_ key: Key, report: @escaping Report, _ body: @escaping @Sendable (@escaping Report) async throws(ApusError) -> Value)
        async throws(ApusError) -> Value
    {
        while true {
            guard !ConcurrentTask.isCancelled else { throw Self.cancelled }
            let number = state.withLock { state in
                state.next += 1
                return state.next
            }
            let outcome = await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in join(key, number, continuation, report, body) }
            } onCancel: {
                leave(key, number)
            }
            if case .finished(let result) = outcome { return try result.get() }
        }
    }

    func isRunning(_ key: Key) -> Bool { state.withLock { $0.entries[key] != nil } }

    /// Cancels all that runs and returns when it has ended.
    func close() async {
        let tasks = state.withLock { state in
            state.isClosed = true
            for key in state.entries.keys { state.entries[key]?.isEnding = true }
            return state.entries.values.compactMap(\.task)
        }
        for task in tasks { task.cancel() }
        for task in tasks { await task.value }
    }

    private static var cancelled: ApusError { ApusError(.cancelled, "the pull was cancelled") }

    private func join(
        _ key: Key, _ number: Int, _ continuation: CheckedContinuation<Outcome, Never>, _ report: @escaping Report,
        _ body: @escaping @Sendable (@escaping Report) async throws(ApusError) -> Value
    ) {
        let refusal: ApusError? = state.withLock { state in
            if state.isClosed { return ApusError(.unavailable, "the engine is stopping") }
            // The caller was cancelled before it came here: `leave` found nothing to leave.
            if ConcurrentTask.isCancelled { return Self.cancelled }
            var entry = state.entries[key] ?? Entry()
            entry.waiters[number] = Waiter(continuation: continuation, report: report)
            if entry.task == nil {
                entry.task = ConcurrentTask { [self] in
                    let result: Result<Value, ApusError>
                    do throws(ApusError) {
                        result = .success(try await body { progress in self.tell(key, progress) })
                    } catch {
                        result = .failure(error)
                    }
                    finish(key, result)
                }
            }
            state.entries[key] = entry
            return nil
        }
        if let refusal { continuation.resume(returning: .finished(.failure(refusal))) }
    }

    private func leave(_ key: Key, _ number: Int) {
        let (continuation, task) = state.withLock { state -> (CheckedContinuation<Outcome, Never>?, ConcurrentTask<Void, Never>?) in
            guard var entry = state.entries[key], entry.waiters[number] != nil else { return (nil, nil) }
            entry.waiters[number]?.isCancelled = true
            if entry.waiters.values.allSatisfy(\.isCancelled) {
                entry.isEnding = true
                state.entries[key] = entry
                return (nil, entry.task)
            }
            let waiter = entry.waiters.removeValue(forKey: number)
            state.entries[key] = entry
            return (waiter?.continuation, nil)
        }
        continuation?.resume(returning: .finished(.failure(Self.cancelled)))
        task?.cancel()
    }

    private func tell(_ key: Key, _ progress: PullProgress) {
        // With the lock held, so that nobody is told anything after his return.
        state.withLock { state in
            for waiter in state.entries[key]?.waiters.values ?? [:].values { waiter.report(progress) }
        }
    }

    private func finish(_ key: Key, _ result: Result<Value, ApusError>) {
        let entry = state.withLock { $0.entries.removeValue(forKey: key) }
        for waiter in entry?.waiters.values ?? [:].values {
            let isAbandoned = entry?.isEnding == true && !waiter.isCancelled
            var outcome = Outcome.finished(result)
            if isAbandoned, case .failure(let error) = result, error.code == .cancelled { outcome = .abandoned }
            waiter.continuation?.resume(returning: outcome)
        }
    }
}
