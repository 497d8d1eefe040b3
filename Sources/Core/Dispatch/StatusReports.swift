import Logging
import Orchestration
import PluginAPI
import Synchronization

/// Writes the statuses of tasks, many in one transaction.
///
/// The first report is written at once by whoever brings it. What comes meanwhile is written together by one of those who wait, not sooner
/// than `spacing` after the last.
final class StatusReports: Sendable {
    private struct Contents {
        var pending: [ID: TaskStatus] = [:]
        var waiters: [CheckedContinuation<Role, Never>] = []
        var isWriting = false
        var lastWrite: ContinuousClock.Instant?
    }

    /// What a waiter wakes up to.
    private enum Role {
        case done(ApusError?)
        case writer
    }

    /// Items in one transaction.
    static var batchLimit: Int { 200 }
    static var spacing: Duration { .milliseconds(10) }

    private let contents = Mutex(Contents())
    private let write: @Sendable ([ID: TaskStatus]) async throws(ApusError) -> Void

    init(store: some SwarmStore, logger: Logger) {
        write = { statuses throws(ApusError) in
            var dropped = 0
            for batch in Self.batches(statuses) { dropped += try await Self.write(batch, to: store) }
            if dropped > 0 { logger.debug("dropped reports of tasks that are unknown or further on", metadata: ["count": "\(dropped)"]) }
        }
    }

    func report(_ statuses: [ID: TaskStatus]) async throws(ApusError) {
        guard !statuses.isEmpty else { return }
        let role: Role = await withCheckedContinuation { continuation in
            let isWriter = contents.withLock { contents in
                contents.pending.merge(statuses) { old, new in Self.isBehind(new, old) ? old : new }
                if contents.isWriting {
                    contents.waiters.append(continuation)
                    return false
                }
                contents.isWriting = true
                return true
            }
            if isWriter { continuation.resume(returning: .writer) }
        }
        switch role {
        case .done(let error): if let error { throw error }
        case .writer: try await writeBatch()
        }
    }

    /// Writes what is pending, tells those who waited for it, and hands over to one of those who came meanwhile.
    private func writeBatch() async throws(ApusError) {
        if let last = contents.withLock(\.lastWrite), case let rest = last + Self.spacing - .now, rest > .zero {
            // Cut short when cancelled; the batch is written all the same, for others wait for it.
            try? await ConcurrentTask.sleep(for: rest)
        }
        let (batch, waiters) = contents.withLock { contents in
            defer {
                contents.pending = [:]
                contents.waiters = []
            }
            return (contents.pending, contents.waiters)
        }
        var failure: ApusError?
        do throws(ApusError) { try await write(batch) } catch { failure = error }
        let next = contents.withLock { contents -> CheckedContinuation<Role, Never>? in
            contents.lastWrite = .now
            if contents.waiters.isEmpty {
                contents.isWriting = false
                return nil
            }
            return contents.waiters.removeFirst()
        }
        next?.resume(returning: .writer)
        for waiter in waiters { waiter.resume(returning: .done(failure)) }
        if let failure { throw failure }
    }

    private static func batches(_ statuses: [ID: TaskStatus]) -> [[(ID, TaskStatus)]] {
        let sorted = statuses.sorted { $0.key < $1.key }
        return stride(from: 0, to: sorted.count, by: batchLimit).map { start in
            sorted[start..<min(start + batchLimit, sorted.count)].map { ($0.key, $0.value) }
        }
    }

    /// One transaction, or several where objects are so large that it would not fit.
    private static func write(_ batch: [(ID, TaskStatus)], to store: some SwarmStore) async throws(ApusError) -> Int {
        do throws(ApusError) {
            return try await store.transact { transaction throws(ApusError) in try apply(batch, to: &transaction) }
        } catch  where error.code == .tooLarge && batch.count > 1 {
            let half = batch.count / 2
            return try await write(Array(batch.prefix(half)), to: store) + write(Array(batch.dropFirst(half)), to: store)
        }
    }

    /// Applies statuses that bring something new, and counts the others.
    static func apply(_ statuses: [(ID, TaskStatus)], to transaction: inout some SwarmTransaction) throws(ApusError) -> Int {
        var dropped = 0
        for (id, status) in statuses {
            guard var task = transaction.task(id), !isBehind(status, task.status), status != task.status else {
                dropped += 1
                continue
            }
            task.status = status
            try transaction.update(task)
        }
        return dropped
    }

    /// Whether a status would take a task back. An end is an end: a task that completed does not fail afterwards.
    static func isBehind(_ new: TaskStatus, _ old: TaskStatus) -> Bool {
        if old.state.isTerminal { return new.state != old.state || new.timestamp < old.timestamp }
        if new.state != old.state { return new.state < old.state }
        return new.timestamp < old.timestamp
    }
}
