import Logging
public import PluginAPI
import Synchronization

/// A leader's snapshot that is whole on disk, still without its name.
struct ReceivedSnapshot: Sendable {
    var writer: SnapshotFileWriter
    /// Fulfilled when it is installed, or never will be.
    var outcome: Promise<ApusError?>
}

extension RaftNode {
    /// Takes a leader's snapshot: `message` is its `installSnapshot`, `chunks` are its bytes as `SnapshotChunks` yields them. They are
    /// written to disk as they come. Returns when the snapshot is durable and the state machine has it, or when it is not needed.
    /// - Throws: `conflict` while another one is coming in, `corrupt` when it ends too early, `tooLarge` for a chunk or piece beyond its limit,
    ///   or the error of `chunks`. Nothing has changed then.
    public func receiveSnapshot<Chunks: AsyncSequence & Sendable>(
        _ message: RaftMessage, chunks: Chunks
    ) async throws(ApusError) where Chunks.Element == SnapshotChunk {
        guard case .installSnapshot(let metadata) = message.content, message.to == configuration.id, message.from != configuration.id else {
            throw ApusError(.invalidArgument, "this is no snapshot for this member")
        }
        let isNeeded = try state.withLock { state throws(ApusError) -> Bool in
            if let error = state.failure ?? state.suspension ?? (state.isClosing ? Self.closing : nil) { throw error }
            guard state.core.needs(message) else {
                // The core answers: it is of an old leader, or everything in it is here.
                Self.step(&state, .received(message))
                return false
            }
            guard !state.isReceiving else { throw ApusError(.conflict, "another snapshot is coming in") }
            state.isReceiving = true
            return true
        }
        wakeUp.wake()
        guard isNeeded else { return }
        defer { state.withLock { $0.isReceiving = false } }
        let worker = try Worker.Owner("raft-receive")
        let snapshots = snapshots
        let writer = try await worker.run { () throws(ApusError) in try SnapshotFileWriter(metadata, .received, in: snapshots) }
        do {
            for try await chunk in chunks {
                try await worker.run { () throws(ApusError) in try writer.append(chunk) }
                if state.withLock({ $0.isClosing || $0.failure != nil }) { throw Self.closing }
            }
            try await worker.run { () throws(ApusError) in try writer.finish() }
        } catch {
            try? await worker.run { () throws(ApusError) in writer.abandon() }
            throw ApusError(error)
        }
        let outcome = Promise<ApusError?>()
        let isTaken = state.withLock { state -> Bool in
            if state.failure != nil || state.isClosing { return false }
            let output = Self.step(&state, .received(message))
            guard output.restore == metadata else { return false }
            state.received = ReceivedSnapshot(writer: writer, outcome: outcome)
            return true
        }
        wakeUp.wake()
        guard isTaken else {
            try await worker.run { () throws(ApusError) in writer.abandon() }
            return
        }
        if let error = await outcome.value() { throw error }
    }

    /// Starts to bring a member a snapshot; an older one for it is called off.
    func startSending(_ message: RaftMessage, _ chunks: SnapshotChunks, _ transport: any RaftTransport) {
        state.withLock { state in
            guard !state.isClosing else { return }
            for (_, other) in state.sending where other.member == message.to { other.task.cancel() }
            state.nextRequest += 1
            let id = state.nextRequest
            let task = ConcurrentTask { [self] in
                var input = RaftInput.snapshotDelivered(message.to)
                do throws(ApusError) {
                    try await transport.sendSnapshot(message, chunks)
                } catch {
                    logger.info("a snapshot did not arrive", metadata: ["member": "\(message.to)", "reason": "\(error)"])
                    input = .unreachable(message.to)
                }
                self.state.withLock { state in
                    // One that was called off says nothing about the one that replaced it.
                    let isNewest = !state.sending.contains { $0.key > id && $0.value.member == message.to }
                    state.sending[id] = nil
                    if isNewest { Self.step(&state, input) }
                }
                wakeUp.wake()
            }
            state.sending[id] = (message.to, task)
        }
    }

    // MARK: For the loop

    /// Entries are decided: whoever waits for one of them as a change of the membership hears it.
    func settleChanges(_ entries: [LogEntry]) {
        guard let last = entries.last else { return }
        let settled = state.withLock { state -> [(Promise<ApusError?>, ApusError?)] in
            var settled: [(Promise<ApusError?>, ApusError?)] = []
            for (index, change) in state.changes where index <= last.index {
                let isThis = entries.contains { $0.index == index && $0.term == change.term }
                settled.append((change.outcome, isThis ? nil : Self.leadershipLost))
                state.changes[index] = nil
            }
            return settled
        }
        for (outcome, error) in settled { outcome.fulfil(error) }
    }

    /// Leadership is lost: what waits may happen or not.
    func failChanges() {
        let changes = state.withLock { state in
            defer { state.changes = [:] }
            return state.changes.values.map(\.outcome)
        }
        for change in changes { change.fulfil(Self.leadershipLost) }
    }

    static var leadershipLost: ApusError {
        ApusError(.unavailable, "this manager does not lead any more; the change may have happened or not: look, and try again")
    }

    /// Nothing can be written for now: others must lead.
    func suspend(_ error: ApusError) {
        let reason = ApusError(.unavailable, "this manager cannot write its log, and waits for space: \(error.message)")
        logger.critical("the log cannot be written: this manager stops leading until there is space", metadata: ["reason": "\(error)"])
        let change = state.withLock { state -> RaftOutput.RoleChange? in
            state.suspension = reason
            return Self.step(&state, .stepDown).roleChange
        }
        failWaiting(reason)
        // Told at once: what is queued waits for the disk.
        if let change { stateMachine.roleChanged(change) }
    }

    func resume() {
        logger.notice("the log can be written again")
        state.withLock { $0.suspension = nil }
    }
}

extension RaftCore {
    /// Whether a leader's snapshot would be taken as things are.
    func needs(_ message: RaftMessage) -> Bool {
        guard case .installSnapshot(let metadata) = message.content else { return false }
        return message.term >= term && metadata.position.index > log.committed && log.term(at: metadata.position.index) != metadata.position.term
    }
}
