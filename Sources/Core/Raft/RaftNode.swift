public import Logging
public import PluginAPI
import Synchronization

/// One member of a Raft group: the shell around a `RaftCore`.
///
/// A thread of its own takes what the core puts out, in order: it persists, then sends, then applies. Everything that was proposed
/// while it wrote is written next with one fdatasync. When a write fails it does nothing more, for ever: what the kernel did with the
/// pages is unknown. `failure()` then returns, and the engine must end.
public final class RaftNode: Sendable {
    enum Snapshotting {
        case idle
        /// By a thread of its own.
        case writing
        /// Durable; the loop has not yet let go of what it covers.
        case written(SnapshotMetadata)
    }

    struct State {
        var core: RaftCore
        var queue: [RaftOutput] = []
        var isClosing = false
        var failure: ApusError?
        var snapshotting = Snapshotting.idle
        var nextRequest: UInt64 = 1
        var reads: [UInt64: Read] = [:]
        /// Reads that are confirmed and wait for the state machine.
        var confirmedReads: [(id: UInt64, index: UInt64)] = []
        /// Changes of the membership that are in the log, by index, and who waits for them.
        var changes: [UInt64: (term: UInt64, outcome: Promise<ApusError?>)] = [:]
        /// Why nothing can be written for now.
        var suspension: ApusError?
        /// A leader's snapshot that has come and is whole; the loop takes it.
        var received: ReceivedSnapshot?
        var isReceiving = false
        /// Snapshots on their way to other members.
        var sending: [UInt64: (member: MemberID, task: ConcurrentTask<Void, Never>)] = [:]
    }

    struct Read {
        var waiter: CheckedContinuation<Result<UInt64, ApusError>, Never>
        /// Ticks that it has waited.
        var age = 0
    }

    static let closing = ApusError(.unavailable, "the store is closing")
    /// Outputs that may wait for the disk before messages of others are dropped.
    static let queueLimit = 10_000

    let state: Mutex<State>
    let wakeUp = WakeUp()
    let configuration: RaftConfiguration
    let stateMachine: any RaftStateMachine
    let transport: (any RaftTransport)?
    let logger: Logger
    let snapshots: SnapshotFiles
    private let failed = Promise<ApusError>()
    private let ready = Promise<ApusError?>()
    let ended = Promise<Void>()

    private init(
        core: RaftCore, configuration: RaftConfiguration, stateMachine: any RaftStateMachine, transport: (any RaftTransport)?, logger: Logger,
        snapshots: SnapshotFiles
    ) {
        var state = State(core: core)
        // Answers to an earlier run's requests may still be on their way: they must not fit.
        state.nextRequest = UInt64.random(in: 1 ... .max / 2)
        self.state = Mutex(state)
        self.configuration = configuration
        self.stateMachine = stateMachine
        self.transport = transport
        self.logger = logger
        self.snapshots = snapshots
    }

    /// Opens the folder, restores the state machine from the newest snapshot, and starts. A member that is the only voter has elected
    /// itself and applied its whole log when this returns; any other waits for nobody.
    /// - Throws: `corrupt` for a damaged log or snapshot; the message names the file and the way out.
    public static func open(
        _ configuration: RaftConfiguration, stateMachine: any RaftStateMachine, transport: (any RaftTransport)? = nil, logger: Logger
    ) async throws(ApusError) -> RaftNode {
        let opened = Promise<Result<RaftNode, ApusError>>()
        try Thread.start("raft-log") {
            do throws(ApusError) {
                let storage = try RaftStorage.open(configuration) { metadata, chunks throws(ApusError) in
                    try stateMachine.restore(metadata, chunks)
                }
                if storage.cutBytes > 0 {
                    logger.warning("the log ended in a write that was not finished; it was cut off", metadata: ["bytes": "\(storage.cutBytes)"])
                }
                let core = RaftCore(
                    id: configuration.id, settings: configuration.settings, hardState: storage.hardState, snapshot: storage.snapshot,
                    entries: storage.entries, seed: configuration.seed)
                let node = RaftNode(
                    core: core, configuration: configuration, stateMachine: stateMachine, transport: transport, logger: logger,
                    snapshots: storage.snapshots)
                if core.membership.voters == [configuration.id] { node.step(.campaign) } else { node.ready.fulfil(nil) }
                opened.fulfil(.success(node))
                RaftLoop(node: node, storage: storage).run()
            } catch {
                opened.fulfil(.failure(error))
            }
        }
        let node = try await opened.value().get()
        if let error = await node.ready.value() {
            await node.close()
            throw error
        }
        return node
    }

    /// Gives the core an input and the thread its output.
    @discardableResult
    func step(_ input: RaftInput) -> RaftOutput {
        let output = state.withLock { state in Self.step(&state, input) }
        wakeUp.wake()
        return output
    }

    @discardableResult
    static func step(_ state: inout State, _ input: RaftInput) -> RaftOutput {
        let output = state.core.step(input)
        if output != RaftOutput() { state.queue.append(output) }
        return output
    }

    /// Puts a command into the log; it is decided when the state machine sees an entry at this index: with this term it was
    /// accepted, with another one it was lost.
    /// - Parameter index: Where the command must stand; `unavailable` when it would stand elsewhere.
    /// - Throws: `unavailable` without leadership, `tooLarge`, or the error that the log failed with.
    public func propose(_ payload: [UInt8], at index: UInt64? = nil) throws(ApusError) -> LogPosition {
        let result = state.withLock { state -> Result<LogPosition, ApusError> in
            if let error = state.failure ?? state.suspension ?? (state.isClosing ? Self.closing : nil) { return .failure(error) }
            if let index, state.core.lastIndex + 1 != index { return .failure(ApusError(.unavailable, "the log has moved on: try again")) }
            let output = state.core.step(.propose(id: 0, payload: payload))
            if let rejected = output.rejected.first { return .failure(Self.error(rejected, limit: state.core.settings.entryLimit)) }
            state.queue.append(output)
            guard let accepted = output.accepted.first else { return .failure(ApusError(.failed, "a proposal was not answered")) }
            return .success(accepted.position)
        }
        wakeUp.wake()
        return try result.get()
    }

    static func error(_ rejected: RaftOutput.Rejected, limit: Int) -> ApusError {
        switch rejected.reason {
        case .notLeader:
            ApusError(.unavailable, "this manager is not the leader" + (rejected.leader.map { ": ask \($0)" } ?? ", and there is none now"))
        case .tooLarge: ApusError(.tooLarge, "a change may have \(limit) bytes: split it")
        case .busy: ApusError(.unavailable, "too many changes wait for the disk: try again")
        case .transferring: ApusError(.unavailable, "leadership is being handed over: try again")
        case .changePending: ApusError(.conflict, "another change of the managers is under way: try again")
        case .badChange: ApusError(.invalidArgument, "the managers cannot be changed like this")
        }
    }

    /// The index that the next proposal gets, if this member leads and knows everything that is committed.
    public var nextIndex: UInt64? {
        state.withLock { $0.core.isEstablishedLeader ? $0.core.lastIndex + 1 : nil }
    }

    /// Returns once the state machine holds everything that was committed when this was called, anywhere in the group.
    /// - Throws: `unavailable` without a leader, without a majority, and when no answer came within `readTicks`.
    public func readBarrier() async throws(ApusError) {
        let result: Result<UInt64, ApusError> = await withCheckedContinuation { continuation in
            let failure = state.withLock { state -> ApusError? in
                if let error = state.failure ?? state.suspension ?? (state.isClosing ? Self.closing : nil) { return error }
                let id = state.nextRequest
                state.nextRequest += 1
                state.reads[id] = Read(waiter: continuation)
                Self.step(&state, .readIndex(id: id))
                return nil
            }
            if let failure { continuation.resume(returning: .failure(failure)) }
            wakeUp.wake()
        }
        _ = try result.get()
    }

    /// A message of another member; that it is this one who sent it, the caller has made sure. A snapshot comes with `receiveSnapshot`.
    public func receive(_ message: RaftMessage) {
        if case .installSnapshot = message.content { return }
        state.withLock { state in
            // Messages may be lost: a member whose disk does not keep up, or cannot be written, is away for the others.
            guard state.queue.count < Self.queueLimit, state.suspension == nil, state.failure == nil, !state.isClosing else { return }
            Self.step(&state, .received(message))
        }
        wakeUp.wake()
    }

    public var memberID: MemberID { configuration.id }

    /// Role, term and leader now.
    public var role: RaftOutput.RoleChange {
        state.withLock { RaftOutput.RoleChange(role: $0.core.role, term: $0.core.term, leader: $0.core.leader) }
    }

    public var membership: Membership { state.withLock { $0.core.membership } }

    /// Returns when the log has failed for good. Never returns otherwise, but after `close`, with `unavailable`.
    public func failure() async -> ApusError { await failed.value() }

    /// Writes what was proposed, ends the thread and closes the files. Returns at once when it failed before.
    public func close() async {
        let sending = state.withLock { state in
            state.isClosing = true
            return state.sending.values.map(\.task)
        }
        for task in sending { task.cancel() }
        wakeUp.wake()
        await ended.value()
        for task in sending { await task.value }
        failWaiting(ApusError(.unavailable, "the store is closed"))
        failed.fulfil(ApusError(.unavailable, "the store is closed"))
    }

    func markReady() { ready.fulfil(nil) }

    /// Ends everything after a failed write.
    func fail(_ error: ApusError) {
        state.withLock { state in
            state.failure = state.failure ?? error
            // It does not lead any more, whatever comes in.
            _ = state.core.step(.stepDown)
        }
        failWaiting(error)
        stateMachine.failed(error)
        ready.fulfil(error)
        failed.fulfil(error)
    }

    /// Answers every read and every change of the membership that waits.
    func failWaiting(_ error: ApusError) {
        let (reads, changes) = state.withLock { state in
            defer {
                state.reads = [:]
                state.changes = [:]
                state.confirmedReads = []
            }
            return (state.reads.values.map(\.waiter), state.changes.values.map(\.outcome))
        }
        for read in reads { read.resume(returning: .failure(error)) }
        for change in changes { change.fulfil(error) }
    }
}
