import Logging
import PluginAPI
import Synchronization

/// What a node's thread does. Everything here is used by that thread alone, but for the snapshot that a second one writes.
final class RaftLoop {
    private let node: RaftNode
    private let log: WriteAheadLog
    private let snapshots: SnapshotFiles
    private var lastApplied: LogPosition
    private var snapshotIndex: UInt64
    private var isReady = false
    private var nextTick: Int64

    init(node: RaftNode, storage: RaftStorage.Opened) {
        self.node = node
        log = storage.log
        snapshots = storage.snapshots
        lastApplied = storage.snapshot.position
        snapshotIndex = storage.snapshot.position.index
        nextTick = WakeUp.now
    }

    func run() {
        do throws(ApusError) {
            while try turn() {}
            try log.close()
        } catch {
            log.abandon()
            node.logger.critical("the log cannot be written: the engine must stop", metadata: ["reason": "\(error)"])
            node.fail(error)
        }
        waitForSnapshot()
        node.ended.fulfil(())
    }

    /// One round; false when the node closes and nothing is left to do.
    private func turn() throws(ApusError) -> Bool {
        let (outputs, isClosing, needsTicks, finished) = node.state.withLock { state in
            defer { state.queue = [] }
            var finished: SnapshotMetadata?
            if case .written(let metadata) = state.snapshotting { finished = metadata }
            return (state.queue, state.isClosing, state.core.needsTicks, finished)
        }
        if let failure = node.state.withLock({ $0.failure }) { throw failure }
        if let finished { try snapshotFinished(finished) }
        if !outputs.isEmpty {
            try process(outputs)
            return true
        }
        if isClosing { return false }
        guard needsTicks else {
            node.wakeUp.wait(until: nil)
            // The clock starts anew: time that was not counted must not count as silence.
            nextTick = WakeUp.now + node.configuration.tick.nanoseconds
            return true
        }
        let now = WakeUp.now
        if now >= nextTick {
            // A thread that could not run skips ticks: they would all come at once.
            nextTick = now + node.configuration.tick.nanoseconds
            node.state.withLock { _ = RaftNode.step(&$0, .tick) }
        } else {
            node.wakeUp.wait(until: nextTick)
        }
        return true
    }

    private func process(_ outputs: [RaftOutput]) throws(ApusError) {
        // Persist: all that has come together, in one record and with one fdatasync.
        var items: [LogItem] = []
        var persisted: LogPosition?
        for output in outputs {
            guard let persist = output.persist else { continue }
            if persist.snapshot != nil { throw ApusError(.unimplemented, "a leader's snapshot cannot be installed yet") }
            if let hardState = persist.hardState { items.append(.hardState(hardState)) }
            items += persist.entries.map { .entry($0) }
            persisted = persist.position ?? persisted
        }
        if !items.isEmpty { try log.append(items) }
        // Send.
        let messages = outputs.flatMap(\.send)
        if !messages.isEmpty { node.transport?.send(messages) }
        apply(outputs.flatMap(\.apply))
        for change in outputs.compactMap(\.roleChange) {
            node.logger.debug("raft role", metadata: ["role": "\(change.role.rawValue)", "term": "\(change.term)"])
            node.stateMachine.roleChanged(change)
        }
        answerReads(outputs)
        if let persisted { reportPersisted(persisted) }
        let becomesReady = node.state.withLock { state in
            state.core.isEstablishedLeader && state.core.committedIndex == lastApplied.index
        }
        if becomesReady, !isReady {
            isReady = true
            node.markReady()
        }
        snapshotIfDue(wanted: outputs.contains { $0.wantsSnapshot })
    }

    private func apply(_ entries: [LogEntry]) {
        guard let last = entries.last else { return }
        node.stateMachine.apply(entries)
        lastApplied = LogPosition(index: last.index, term: last.term)
        node.state.withLock { _ = RaftNode.step(&$0, .applied(last.index)) }
    }

    /// What became durable may now be committed. It is applied at once where that keeps the order: behind it in the queue there is often
    /// the next batch, and nobody should wait for that one's fdatasync too.
    private func reportPersisted(_ position: LogPosition) {
        let early = node.state.withLock { state -> RaftOutput? in
            let output = state.core.step(.persisted(position))
            let isNext = state.queue.allSatisfy { $0.apply.isEmpty && $0.restore == nil }
            guard isNext, output.persist == nil, output.restore == nil, let last = output.apply.last, last.index <= position.index else {
                if output != RaftOutput() { state.queue.append(output) }
                return nil
            }
            var rest = output
            rest.apply = []
            rest.reads = []
            if rest != RaftOutput() { state.queue.append(rest) }
            return output
        }
        guard let early else { return }
        apply(early.apply)
        answerReads([early])
    }

    private func answerReads(_ outputs: [RaftOutput]) {
        let applied = lastApplied.index
        let answers = node.state.withLock { state -> [(CheckedContinuation<Result<UInt64, ApusError>, Never>, Result<UInt64, ApusError>)] in
            var answers: [(CheckedContinuation<Result<UInt64, ApusError>, Never>, Result<UInt64, ApusError>)] = []
            for output in outputs {
                state.confirmedReads += output.reads.map { ($0.id, $0.index) }
                for rejected in output.rejected {
                    guard let waiter = state.reads.removeValue(forKey: rejected.id) else { continue }
                    answers.append((waiter, .failure(RaftNode.error(rejected, limit: state.core.settings.entryLimit))))
                }
            }
            for read in state.confirmedReads where read.index <= applied {
                if let waiter = state.reads.removeValue(forKey: read.id) { answers.append((waiter, .success(read.index))) }
            }
            state.confirmedReads.removeAll { $0.index <= applied }
            return answers
        }
        for (waiter, answer) in answers { waiter.resume(returning: answer) }
    }

    // MARK: Snapshots

    private func snapshotIfDue(wanted: Bool) {
        let configuration = node.configuration
        guard lastApplied.index > snapshotIndex else { return }
        guard
            wanted || lastApplied.index - snapshotIndex >= configuration.snapshotInterval || log.bytesSinceSnapshot >= configuration.snapshotBytes
                || log.segments.count > configuration.segmentLimit
        else { return }
        let position = lastApplied
        let metadata = node.state.withLock { state -> SnapshotMetadata? in
            guard case .idle = state.snapshotting else { return nil }
            state.snapshotting = .writing
            return SnapshotMetadata(position: position, membership: state.core.membership(at: position.index))
        }
        guard let metadata else { return }
        let source = node.stateMachine.capture()
        do throws(ApusError) {
            try Thread.start("raft-snapshot") { [node, snapshots] in
                var failure: ApusError?
                do throws(ApusError) { try snapshots.write(metadata, source) } catch { failure = error }
                node.state.withLock { state in
                    state.snapshotting = failure == nil ? .written(metadata) : .idle
                    if let failure { state.failure = state.failure ?? failure }
                }
                node.wakeUp.wake()
            }
        } catch {
            node.logger.error("no snapshot now", metadata: ["reason": "\(error)"])
            node.state.withLock { $0.snapshotting = .idle }
        }
    }

    private func snapshotFinished(_ metadata: SnapshotMetadata) throws(ApusError) {
        snapshotIndex = metadata.position.index
        try log.drop(upTo: snapshotIndex)
        try snapshots.clean()
        node.state.withLock { state in
            state.snapshotting = .idle
            RaftNode.step(&state, .snapshotTaken(metadata))
        }
    }

    /// The second thread uses the folder until it has ended.
    private func waitForSnapshot() {
        while node.state.withLock({ if case .writing = $0.snapshotting { true } else { false } }) { node.wakeUp.wait(until: nil) }
    }
}
