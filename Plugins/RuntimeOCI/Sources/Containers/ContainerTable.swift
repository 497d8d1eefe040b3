import Glibc
import PluginAPI
import Processes
import Synchronization

/// The containers of this node in memory, and who waits for their ends.
final class ContainerTable: Sendable {
    private struct Entry {
        var record: ContainerRecord
        var waiters: [UInt64: CheckedContinuation<ContainerState?, Never>] = [:]
        /// Called at the end, for those that wait on a thread.
        var endings: [UInt64: @Sendable () -> Void] = [:]
    }

    private struct State {
        var entries: [ID: Entry] = [:]
        /// Being created.
        var reserved: Set<ID> = []
        /// Waiters whose time was up, or that were cancelled, before they waited.
        var woken: Set<UInt64> = []
        var isClosed = false
        var next: UInt64 = 0
    }

    private let state = Mutex(State())

    static func noSuchContainer(_ id: ID) -> ApusError { ApusError(.notFound, "No such container: \(id)") }

    func reserve(_ id: ID) throws(ApusError) {
        let isFree = state.withLock { $0.entries[id] == nil && $0.reserved.insert(id).inserted }
        guard isFree else { throw ApusError(.conflict, "Conflict. The container id \(id) is already in use") }
    }

    func release(_ id: ID) { _ = state.withLock { $0.reserved.remove(id) } }

    func insert(_ record: ContainerRecord) {
        state.withLock { state in
            state.reserved.remove(record.id)
            state.entries[record.id] = Entry(record: record)
        }
    }

    func record(_ id: ID) throws(ApusError) -> ContainerRecord {
        guard let record = state.withLock({ $0.entries[id]?.record }) else { throw Self.noSuchContainer(id) }
        return record
    }

    func all() -> [ContainerRecord] { state.withLock { $0.entries.values.map(\.record) } }

    var isEmpty: Bool { state.withLock { $0.entries.isEmpty && $0.reserved.isEmpty } }

    func update(_ record: ContainerRecord) { state.withLock { $0.entries[record.id]?.record = record } }

    /// Puts an ended container's state in and wakes all who wait for it.
    func end(_ record: ContainerRecord) {
        let (waiters, endings) = state.withLock { state in
            state.entries[record.id]?.record = record
            let entry = state.entries[record.id]
            state.entries[record.id]?.waiters = [:]
            return (entry?.waiters ?? [:], entry?.endings ?? [:])
        }
        for waiter in waiters.values { waiter.resume(returning: record.container.state) }
        for ending in endings.values { ending() }
    }

    func remove(_ id: ID) {
        let entry = state.withLock { $0.entries.removeValue(forKey: id) }
        guard let entry else { return }
        for waiter in entry.waiters.values { waiter.resume(returning: entry.record.container.state) }
        for ending in entry.endings.values { ending() }
    }

    /// Calls back when the container ends or is removed, until taken back. `nil` when there is no such container.
    func onEnd(_ id: ID, _ body: @escaping @Sendable () -> Void) -> UInt64? {
        state.withLock { state in
            guard state.entries[id] != nil else { return nil }
            state.next += 1
            state.entries[id]?.endings[state.next] = body
            return state.next
        }
    }

    func cancelOnEnd(_ id: ID, _ key: UInt64) { state.withLock { _ = $0.entries[id]?.endings.removeValue(forKey: key) } }

    /// Waits until the container does not run.
    /// - Returns: its state, or `nil` when the limit has passed before.
    /// - Throws: `cancelled`.
    func waitForEnd(_ id: ID, limit: Duration? = nil) async throws(ApusError) -> ContainerState? {
        let key = try state.withLock { (state) throws(ApusError) -> UInt64 in
            guard state.entries[id] != nil else { throw Self.noSuchContainer(id) }
            state.next += 1
            return state.next
        }
        let watchdog = limit.map { limit in Deadline.shared.after(limit) { [self] in wake(id, key) } }
        let answer: ContainerState? = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let now: ContainerState?? = state.withLock { state in
                    guard !state.isClosed, let record = state.entries[id]?.record else { return .some(nil) }
                    if record.container.state.phase != .running { return .some(record.container.state) }
                    if state.woken.contains(key) { return .some(nil) }
                    state.entries[id]?.waiters[key] = continuation
                    return nil
                }
                if let now { continuation.resume(returning: now) }
            }
        } onCancel: {
            wake(id, key)
        }
        if let watchdog { Deadline.shared.cancel(watchdog) }
        state.withLock { _ = $0.woken.remove(key) }
        if answer == nil, _Concurrency.Task.isCancelled || state.withLock({ $0.isClosed }) {
            throw ApusError(.cancelled, "the operation was cancelled")
        }
        return answer
    }

    /// Nobody learns of an end any more: who waits gets `cancelled`, who reads on a thread ends.
    func close() {
        let entries = state.withLock { state in
            state.isClosed = true
            let entries = Array(state.entries.values)
            for id in state.entries.keys {
                state.entries[id]?.waiters = [:]
                state.entries[id]?.endings = [:]
            }
            return entries
        }
        for entry in entries {
            for waiter in entry.waiters.values { waiter.resume(returning: nil) }
            for ending in entry.endings.values { ending() }
        }
    }

    private func wake(_ id: ID, _ key: UInt64) {
        let waiter = state.withLock { state in
            let waiter = state.entries[id]?.waiters.removeValue(forKey: key)
            if waiter == nil { state.woken.insert(key) }
            return waiter
        }
        waiter?.resume(returning: nil)
    }
}

/// Everybody who follows the events of the runtime.
final class RuntimeEvents: Sendable {
    private struct State {
        var followers: [UInt64: AsyncStream<RuntimeEvent>.Continuation] = [:]
        var next: UInt64 = 0
        var isFinished = false
    }

    private let state = Mutex(State())

    func follow() -> AsyncStream<RuntimeEvent> {
        let (stream, continuation) = AsyncStream<RuntimeEvent>.makeStream()
        let key = state.withLock { state -> UInt64? in
            guard !state.isFinished else { return nil }
            state.next += 1
            state.followers[state.next] = continuation
            return state.next
        }
        guard let key else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { [weak self] _ in
            guard let self else { return }
            state.withLock { _ = $0.followers.removeValue(forKey: key) }
        }
        return stream
    }

    func publish(_ kind: RuntimeEvent.Kind, _ id: ID, _ containerState: ContainerState) {
        let event = RuntimeEvent(kind: kind, containerID: id, state: containerState)
        for follower in state.withLock({ Array($0.followers.values) }) { follower.yield(event) }
    }

    func finish() {
        let followers = state.withLock { state in
            state.isFinished = true
            defer { state.followers = [:] }
            return Array(state.followers.values)
        }
        for follower in followers { follower.finish() }
    }
}
