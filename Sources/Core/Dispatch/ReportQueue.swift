import PluginAPI
import Synchronization

/// Statuses on their way to the leader: the newest of each task, until it is acknowledged.
final class ReportQueue: Sendable {
    private struct Entry {
        var status: TaskStatus
        var number: UInt64
    }

    private struct Waiter {
        var number: UInt64
        var tasks: Set<ID>
        var continuation: CheckedContinuation<ApusError?, Never>
    }

    private struct Contents {
        var pending: [ID: Entry] = [:]
        /// What was said last of the tasks that the node has.
        var current: [ID: TaskStatus] = [:]
        var known: Set<ID> = []
        var number: UInt64 = 0
        var waiters: [UInt64: Waiter] = [:]
    }

    /// What is sent together.
    struct Batch: Sendable {
        var statuses: [(id: ID, status: TaskStatus)] = []
        fileprivate var numbers: [ID: UInt64] = [:]
        var isEmpty: Bool { statuses.isEmpty }
        var count: Int { statuses.count }

        /// The two halves.
        var halves: (Batch, Batch) {
            let middle = statuses.count / 2
            return (
                Batch(statuses: Array(statuses[..<middle]), numbers: numbers), Batch(statuses: Array(statuses[middle...]), numbers: numbers)
            )
        }
    }

    private let contents = Mutex(Contents())
    private let wakeup = Mutex<AsyncStream<Void>.Continuation?>(nil)

    /// Returns when the statuses, or newer ones of their tasks, are acknowledged.
    /// A status that the manager will never take counts as acknowledged: to say it again would not help.
    /// - Throws: `cancelled`.
    func report(_ statuses: [ID: TaskStatus]) async throws(ApusError) {
        guard !statuses.isEmpty else { return }
        let number = contents.withLock { contents in
            contents.number += 1
            for (id, status) in statuses {
                contents.pending[id] = Entry(status: status, number: contents.number)
                if contents.known.contains(id) { contents.current[id] = status }
            }
            return contents.number
        }
        let error: ApusError? = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isWaiting = contents.withLock { contents in
                    // What was sent in the meantime need not be waited for.
                    let open = Set(statuses.keys.filter { contents.pending[$0] != nil })
                    guard !open.isEmpty, !ConcurrentTask.isCancelled else { return false }
                    contents.waiters[number] = Waiter(number: number, tasks: open, continuation: continuation)
                    return true
                }
                guard isWaiting else {
                    return continuation.resume(returning: ConcurrentTask.isCancelled ? ApusError(CancellationError()) : nil)
                }
                wake()
                // A cancellation before the waiter was there found nobody.
                if ConcurrentTask.isCancelled { cancel(number) }
            }
        } onCancel: {
            cancel(number)
        }
        if let error { throw error }
    }

    private func cancel(_ number: UInt64) {
        contents.withLock { $0.waiters.removeValue(forKey: number) }?.continuation.resume(returning: ApusError(CancellationError()))
    }

    private func wake() { _ = wakeup.withLock { $0?.yield() } }

    /// The tasks that the node has now; what was said of others need not be said again.
    func keep(_ tasks: some Sequence<ID>) {
        let known = Set(tasks)
        contents.withLock { contents in
            contents.known = known
            for (id, entry) in contents.pending where known.contains(id) { contents.current[id] = entry.status }
            contents.current = contents.current.filter { known.contains($0.key) }
        }
    }

    /// A new session begins: everything is said again. Returns one element each time that there is something to send.
    func begin() -> AsyncStream<Void> {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        wakeup.withLock { $0 = continuation }
        contents.withLock { contents in
            for (id, status) in contents.current where contents.pending[id] == nil {
                contents.pending[id] = Entry(status: status, number: contents.number)
            }
        }
        continuation.yield()
        return stream
    }

    /// Up to so many statuses; they stay here until they are acknowledged.
    func batch(limit: Int) -> Batch {
        contents.withLock { contents in
            var batch = Batch()
            for (id, entry) in contents.pending.prefix(limit) {
                batch.statuses.append((id, entry.status))
                batch.numbers[id] = entry.number
            }
            return batch
        }
    }

    /// The manager has them, or will never take them.
    func finish(_ batch: Batch) {
        let done = contents.withLock { contents -> [Waiter] in
            for (id, _) in batch.statuses where contents.pending[id]?.number == batch.numbers[id] { contents.pending[id] = nil }
            var done: [Waiter] = []
            for (key, waiter) in contents.waiters {
                var waiter = waiter
                for (id, _) in batch.statuses where (batch.numbers[id] ?? 0) >= waiter.number { waiter.tasks.remove(id) }
                if waiter.tasks.isEmpty {
                    contents.waiters[key] = nil
                    done.append(waiter)
                } else {
                    contents.waiters[key] = waiter
                }
            }
            return done
        }
        for waiter in done { waiter.continuation.resume(returning: nil) }
    }
}
