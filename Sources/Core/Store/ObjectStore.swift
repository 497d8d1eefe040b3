import Coding
import Events
import Files
import Logging
public import PluginAPI
public import Raft
import Synchronization

/// The objects of the swarm: in memory, replicated by Raft, every change in its log.
///
/// Reads are values. Writes are transactions that run one after the other, each on the result of those before it, and are made
/// durable together; each is one entry of the log, of at most 1 MiB. Names of services, networks, secrets and configs are unique.
public final class ObjectStore: Sendable {
    private let state: ReplicatedState
    private let node: RaftNode
    private let now: @Sendable () -> Timestamp

    private init(state: ReplicatedState, node: RaftNode, now: @escaping @Sendable () -> Timestamp) {
        self.state = state
        self.node = node
        self.now = now
    }

    /// Opens the folder, or begins a new group of one in an empty one. Returns, for a group of one, when everything that was ever acknowledged
    /// can be read; a member of a larger group has what its snapshot holds, and hears the rest from the leader.
    /// - Throws: `corrupt` for damaged files; the message names the file and the way out.
    public static func open(_ configuration: StoreConfiguration) async throws(ApusError) -> ObjectStore {
        let state = ReplicatedState(configuration)
        let member = try memberID(configuration.directory)
        let alone = Membership(voters: [member], contacts: configuration.contact.map { [member: $0] } ?? [:])
        var raft = RaftConfiguration(id: member, directory: configuration.directory, bootstrap: configuration.isJoining ? nil : alone)
        raft.snapshotInterval = configuration.snapshotInterval
        raft.segmentSize = configuration.segmentSize
        raft.files = configuration.files
        let node = try await RaftNode.open(raft, stateMachine: state, transport: configuration.transport, logger: configuration.logger)
        return ObjectStore(state: state, node: node, now: configuration.now)
    }

    /// Everything that this member has on disk, decided or not, without a group: what a member that cannot speak to the others goes by. The store must
    /// not be open.
    /// - Throws: `corrupt` for damaged files.
    public static func lastKnown(_ configuration: StoreConfiguration) throws(ApusError) -> StoreSnapshot {
        let contents = try RaftRecovery.contents(
            member: try memberID(configuration.directory), directory: configuration.directory, files: configuration.files)
        var snapshot = try contents.snapshot.map { pieces throws(ApusError) in try StoreSnapshot(decoding: pieces) } ?? StoreSnapshot()
        for entry in contents.entries where entry.kind == .command {
            // An entry that cannot be applied changes nothing, here as on every member.
            guard let record = try? ProtobufFields.decode(TransactionRecord.self, from: entry.payload),
                let (next, _) = try? record.applied(to: snapshot, at: entry.index)
            else { continue }
            snapshot = next
        }
        return snapshot
    }

    /// The member's number in Raft, made once: `<directory>/member`, hexadecimal.
    private static func memberID(_ directory: String) throws(ApusError) -> MemberID {
        let path = "\(directory)/member"
        if Files.exists(path) {
            let text = try Files.readText(path)
            let digits = text.hasSuffix("\n") ? text.dropLast() : text[...]
            guard digits.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }), let number = UInt64(digits, radix: 16), number != 0
            else {
                throw ApusError(
                    .corrupt, "\(path) does not hold a member's number: restore it from a copy, or remove the swarm's state and join again")
            }
            return MemberID(number)
        }
        if Files.exists("\(directory)/wal") {
            throw ApusError(.corrupt, "\(path) is missing, and there is a log: restore it from a copy, or remove the swarm's state and join again")
        }
        try Files.makeDirectory(directory)
        let number = UInt64.random(in: 1 ... .max)
        try Files.writeAtomically(Array("\(String(number, radix: 16))\n".utf8), to: path)
        return MemberID(number)
    }

    // MARK: Reading

    /// What is committed and applied here. On the leader that is everything that was ever acknowledged.
    public func read() -> StoreSnapshot { state.published.withLock { $0.snapshot } }

    /// Like `read`, but at least as new as everything that was acknowledged, anywhere in the swarm, before this call.
    public func readLatest() async throws(ApusError) -> StoreSnapshot {
        try await node.readBarrier()
        return read()
    }

    /// A state, and every commit after it, in order.
    ///
    /// A watcher that falls more than `watchLimit` commits behind gets what is buffered, and then the end of its stream: it watches
    /// again, from a new snapshot. The stream ends as well when the store is closed.
    public func watch() -> (snapshot: StoreSnapshot, commits: AsyncStream<StoreCommit>) {
        let departed = state.departedWatchers
        let (snapshot, id, stream, continuation, isClosed) = state.published.withLock { state in
            for number in departed.take() { state.watchers.remove(number) }
            let (id, stream, continuation) = state.watchers.add()
            return (state.snapshot, id, stream, continuation, state.isClosed)
        }
        follow(id, continuation, isClosed)
        return (snapshot, stream)
    }

    /// Every commit after a version, in order; `nil` when they are not all remembered.
    public func watch(from version: Version) -> AsyncStream<StoreCommit>? {
        let added = state.published.withLock { state -> (UInt64, AsyncStream<StoreCommit>, AsyncStream<StoreCommit>.Continuation, Bool)? in
            guard version <= state.snapshot.version, let missed = state.watchers.commits(after: version) else { return nil }
            let (id, stream, continuation) = state.watchers.add()
            for commit in missed { continuation.yield(commit) }
            return (id, stream, continuation, state.isClosed)
        }
        guard let (id, stream, continuation, isClosed) = added else { return nil }
        follow(id, continuation, isClosed)
        return stream
    }

    private func follow(_ id: UInt64, _ continuation: AsyncStream<StoreCommit>.Continuation, _ isClosed: Bool) {
        if isClosed { return continuation.finish() }
        continuation.onTermination = { [departed = state.departedWatchers] _ in departed.add(id) }
    }

    // MARK: Writing

    /// Runs a transaction, and returns after its commit is durable and can be read.
    ///
    /// The body sees everything that was proposed before it, and must not block: others wait. When it throws, nothing changes. A transaction
    /// that changes nothing commits nothing, but still waits for what it has seen.
    /// - Throws: What the body throws; `tooLarge`; `unavailable` without leadership; the disk's error once the store has failed. After
    ///   `unavailable` from a change of leader the transaction may have happened or not.
    public func update<Result: Sendable>(
        _ body: @Sendable (inout StoreTransaction) throws(ApusError) -> Result
    ) async throws(ApusError) -> Result {
        let (result, outcome) = try state.proposing.withLock { proposing throws(ApusError) -> (Result, Promise<ApusError?>?) in
            if let failure = proposing.failure { throw failure }
            guard let index = node.nextIndex else {
                throw ApusError(.unavailable, "this manager is not the leader, or has only just become it: try again")
            }
            let head = proposing.waiting.last?.head ?? state.published.withLock { $0.snapshot }
            let time = now()
            var transaction = StoreTransaction(snapshot: head, version: Version(index: index), now: time)
            let result = try body(&transaction)
            let changes = transaction.changes
            guard !changes.isEmpty else { return (result, proposing.waiting.last?.outcome) }
            let record = TransactionRecord(base: head.version, time: time, changes: changes)
            let position = try node.propose(ProtobufFields.encode(record), at: index)
            var newHead = transaction.snapshot
            newHead.version = Version(index: index)
            let outcome = Promise<ApusError?>()
            proposing.waiting.append(
                ReplicatedState.Proposal(
                    position: position, base: head.version, head: newHead,
                    commit: StoreCommit(version: Version(index: index), changes: changes), outcome: outcome))
            return (result, outcome)
        }
        if let outcome, let error = await outcome.value() { throw error }
        return result
    }

    // MARK: Raft

    public var isLeader: Bool { state.published.withLock { $0.role.role == .leader } }
    /// Whether this manager leads and holds everything that was committed: only then does it know who is part of the swarm.
    public var isSettledLeader: Bool { state.published.withLock { $0.leading != nil } }
    public var leaderID: MemberID? { state.published.withLock { $0.role.leader } }
    /// This manager's own number.
    public var memberID: MemberID { node.memberID }
    /// The member of the group below: for the messages of others, and for changes of the membership.
    public var raft: RaftNode { node }

    /// The term while this member leads and knows everything that was committed, `nil` while it does not: now, and whenever it changes.
    /// The stream ends when the store is closed.
    public func leadership() -> AsyncStream<UInt64?> {
        let (stream, continuation) = AsyncStream.makeStream(of: UInt64?.self, bufferingPolicy: .bufferingNewest(1))
        let id = state.published.withLock { state -> UInt64? in
            continuation.yield(state.leading)
            return state.isClosed ? nil : state.addFollower(continuation)
        }
        guard let id else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { [departed = state.departedFollowers] _ in departed.add(id) }
        return stream
    }

    /// Returns when the store has failed for good, such as after a failed fsync: the engine must end. After `close` it returns `unavailable`.
    public func failure() async -> ApusError { await node.failure() }

    /// Makes everything durable, ends the watches and closes the files.
    ///
    /// Transactions that a majority has not decided by then throw `unavailable`: nobody is left who could tell them.
    public func close() async {
        await node.close()
        state.failed(ApusError(.unavailable, "the store was closed before this was decided, and it may happen or not"))
        let (following, leadership) = state.published.withLock { state in
            state.isClosed = true
            defer { state.leadershipFollowers = [:] }
            return (state.watchers.removeAll(), Array(state.leadershipFollowers.values))
        }
        for continuation in following { continuation.finish() }
        for continuation in leadership { continuation.finish() }
    }
}
