import Coding
import Events
import Logging
import PluginAPI
import Raft
import Synchronization

/// The store's side of Raft: the committed state, the transactions that wait, and the watchers.
///
/// A transaction is computed on the head: the committed state with everything that was proposed before it. Its result is kept, and
/// becomes the committed state when its entry is committed; an entry of another origin is decoded and applied.
/// Two locks, always taken in this order: `proposing`, `published`.
final class ReplicatedState: RaftStateMachine {
    struct Proposal {
        var position: LogPosition
        var base: Version
        var head: StoreSnapshot
        var commit: StoreCommit
        var outcome: Promise<ApusError?>
    }

    struct Proposing {
        /// In the order of the log.
        var waiting: [Proposal] = []
        var failure: ApusError?
    }

    struct Published {
        var snapshot = StoreSnapshot()
        var watchers: Watchers
        var role = RaftOutput.RoleChange(role: .follower, term: 0, leader: nil)
        /// The term in which this member leads and has everything that was committed.
        var leading: UInt64?
        var leadershipFollowers: [UInt64: AsyncStream<UInt64?>.Continuation] = [:]
        private var nextFollower: UInt64 = 1
        var isClosed = false

        init(watchers: Watchers) { self.watchers = watchers }

        mutating func addFollower(_ continuation: AsyncStream<UInt64?>.Continuation) -> UInt64 {
            defer { nextFollower += 1 }
            leadershipFollowers[nextFollower] = continuation
            return nextFollower
        }

        mutating func lead(_ term: UInt64?) {
            guard leading != term else { return }
            leading = term
            for continuation in leadershipFollowers.values { continuation.yield(term) }
        }
    }

    let proposing = Mutex(Proposing())
    let published: Mutex<Published>
    let departedWatchers = Departures()
    let departedFollowers = Departures()
    private let logger: Logger

    init(_ configuration: StoreConfiguration) {
        logger = configuration.logger
        published = Mutex(
            Published(watchers: Watchers(version: Version(), historyLimit: configuration.historyLimit, watchLimit: configuration.watchLimit)))
    }

    func apply(_ entries: [LogEntry]) {
        for entry in entries { apply(entry) }
    }

    /// What is left to do outside of the locks.
    private struct Aftermath {
        var outcomes: [(Promise<ApusError?>, ApusError?)] = []
        var slow: [AsyncStream<StoreCommit>.Continuation] = []
    }

    private func apply(_ entry: LogEntry) {
        // Under one lock: a transaction that begins now must find its predecessor either waiting or published.
        let aftermath = proposing.withLock { state -> Aftermath in
            var aftermath = Aftermath()
            guard let mine = state.waiting.first, mine.position.index <= entry.index else {
                if entry.kind == .command { _ = decide(entry, &aftermath) }
                return aftermath
            }
            guard mine.position == LogPosition(index: entry.index, term: entry.term) else {
                // Another leader's entry stands there. What was computed on top of this transaction is lost with it.
                let error = ApusError(.unavailable, "the leader changed before this was decided: read again, and repeat it if need be")
                aftermath.outcomes = state.waiting.map { ($0.outcome, error) }
                state.waiting = []
                if entry.kind == .command { _ = decide(entry, &aftermath) }
                return aftermath
            }
            state.waiting.removeFirst()
            var error: ApusError?
            if published.withLock({ $0.snapshot.version }) == mine.base {
                publish(mine.head, mine.commit, &aftermath)
            } else {
                error = decide(entry, &aftermath)
            }
            aftermath.outcomes.append((mine.outcome, error))
            return aftermath
        }
        // A leader's first entry: with it, everything of earlier terms is here.
        if entry.kind == .empty {
            published.withLock { state in
                for number in departedFollowers.take() { state.leadershipFollowers[number] = nil }
                if state.role.role == .leader, state.role.term == entry.term { state.lead(entry.term) }
            }
        }
        for (outcome, error) in aftermath.outcomes { outcome.fulfil(error) }
        for continuation in aftermath.slow { continuation.finish() }
    }

    /// Applies an entry from its bytes. An error is part of the result: the entry then changes nothing, on every member.
    private func decide(_ entry: LogEntry, _ aftermath: inout Aftermath) -> ApusError? {
        let snapshot = published.withLock { $0.snapshot }
        do throws(ApusError) {
            let record = try ProtobufFields.decode(TransactionRecord.self, from: entry.payload)
            let (result, commit) = try record.applied(to: snapshot, at: entry.index)
            publish(result, commit, &aftermath)
            return nil
        } catch {
            logger.warning("a log entry changes nothing", metadata: ["index": "\(entry.index)", "reason": "\(error)"])
            return error
        }
    }

    private func publish(_ snapshot: StoreSnapshot, _ commit: StoreCommit, _ aftermath: inout Aftermath) {
        aftermath.slow += published.withLock { state in
            for number in departedWatchers.take() { state.watchers.remove(number) }
            state.snapshot = snapshot
            return state.watchers.publish(commit)
        }
    }

    func capture() -> any SnapshotSource { StoreSnapshotSource(snapshot: published.withLock { $0.snapshot }) }

    func restore(_ metadata: SnapshotMetadata, _ chunks: [[UInt8]]) throws(ApusError) {
        let snapshot = try StoreSnapshot(decoding: chunks)
        let following = published.withLock { state in
            state.snapshot = snapshot
            state.watchers.reset(to: snapshot.version)
            return state.watchers.removeAll()
        }
        for continuation in following { continuation.finish() }
    }

    func roleChanged(_ change: RaftOutput.RoleChange) {
        published.withLock { state in
            for number in departedFollowers.take() { state.leadershipFollowers[number] = nil }
            state.role = change
            if change.role != .leader || state.leading != change.term { state.lead(nil) }
        }
        guard change.role != .leader else { return }
        // What waits for a majority that is gone would wait for ever.
        let waiting = proposing.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
        let error = ApusError(.unavailable, "the leader changed before this was decided, and it may have happened or not: read again, and repeat it if need be")
        for proposal in waiting { proposal.outcome.fulfil(error) }
    }

    func failed(_ error: ApusError) {
        let waiting = proposing.withLock { state in
            state.failure = error
            defer { state.waiting = [] }
            return state.waiting
        }
        for proposal in waiting { proposal.outcome.fulfil(error) }
    }
}
