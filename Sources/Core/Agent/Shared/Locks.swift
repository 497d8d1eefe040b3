import PluginAPI
import Synchronization

/// Lets one caller per key in at a time, in the order of asking.
final class KeyedLock<Key: Hashable & Sendable>: Sendable {
    // A key is present while it is held; its value are those who wait.
    private let waiting = Mutex<[Key: [CheckedContinuation<Void, Never>]]>([:])

    func withLock<Answer: Sendable, Failure: Error>(
        _ key: Key, _ body: () async throws(Failure) -> Answer
    ) async throws(Failure) -> Answer {
        await withCheckedContinuation { continuation in
            let isFree = waiting.withLock { waiting in
                if waiting[key] == nil {
                    waiting[key] = []
                    return true
                }
                waiting[key]?.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
        defer { release(key) }
        return try await body()
    }

    private func release(_ key: Key) {
        let next: CheckedContinuation<Void, Never>? = waiting.withLock { waiting in
            guard let queue = waiting[key], !queue.isEmpty else {
                waiting[key] = nil
                return nil
            }
            return waiting[key]?.removeFirst()
        }
        next?.resume()
    }
}

/// Lets a number of callers in at a time, in the order of asking. A cancelled caller leaves the queue.
final class Semaphore: Sendable {
    private struct State {
        var free: Int
        var next: UInt64 = 0
        var order: [UInt64] = []
        var waiting: [UInt64: CheckedContinuation<Bool, Never>] = [:]
    }

    private let state: Mutex<State>

    init(_ count: Int) { state = Mutex(State(free: max(1, count))) }

    /// Throws `cancelled` when the caller was cancelled before its turn.
    func withPermit<Answer: Sendable>(_ body: () async throws(ApusError) -> Answer) async throws(ApusError) -> Answer {
        guard await acquire() else { throw ApusError(.cancelled, "the operation was cancelled") }
        defer { release() }
        return try await body()
    }

    private func acquire() async -> Bool {
        let number = state.withLock { state in
            state.next += 1
            return state.next
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer: Bool? = state.withLock { state in
                    // The handler below runs after the task is marked: whoever comes second to the lock sees the other.
                    if ConcurrentTask.isCancelled { return false }
                    if state.free > 0 {
                        state.free -= 1
                        return true
                    }
                    state.order.append(number)
                    state.waiting[number] = continuation
                    return nil
                }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            let waiter: CheckedContinuation<Bool, Never>? = state.withLock { state in
                guard let waiter = state.waiting.removeValue(forKey: number) else { return nil }
                state.order.removeAll { $0 == number }
                return waiter
            }
            waiter?.resume(returning: false)
        }
    }

    private func release() {
        let next: CheckedContinuation<Bool, Never>? = state.withLock { state in
            guard !state.order.isEmpty else {
                state.free += 1
                return nil
            }
            return state.waiting.removeValue(forKey: state.order.removeFirst())
        }
        next?.resume(returning: true)
    }
}
