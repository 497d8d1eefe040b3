import Logging
import PluginAPI
import Synchronization

/// What a node's thread does. Everything here is used by that thread alone, but for the snapshot that a second one writes.
final class RaftLoop {
    let node: RaftNode
    let log: WriteAheadLog
    let snapshots: SnapshotFiles
    var lastApplied: LogPosition
    var snapshotIndex: UInt64
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
            node.state.withLock { state in
                state.received?.writer.abandon()
                state.received?.outcome.fulfil(error)
                state.received = nil
            }
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
            ageReads()
        } else {
            node.wakeUp.wait(until: nextTick)
        }
        return true
    }

    private func process(_ outputs: [RaftOutput]) throws(ApusError) {
        // What came before a leader's snapshot must be done before it.
        if let index = outputs.dropFirst().firstIndex(where: { $0.restore != nil }) {
            try process(Array(outputs[..<index]))
            return try process(Array(outputs[index...]))
        }
        // Persist: all that has come together, in one record and with one fdatasync.
        var items: [LogItem] = []
        var persisted: LogPosition?
        let snapshot = outputs.first?.restore
        if let snapshot {
            try publishReceived(snapshot)
            items.append(.reset(snapshot.position))
        }
        for output in outputs {
            guard let persist = output.persist else { continue }
            if let hardState = persist.hardState { items.append(.hardState(hardState)) }
            items += persist.entries.map { .entry($0) }
            persisted = persist.position ?? persisted
        }
        // Send: what the others can write while this member does, before.
        let order = RaftOutput.sendOrder(of: outputs)
        if !order.early.isEmpty { send(order.early) }
        try write(items)
        if !order.late.isEmpty { send(order.late) }
        if let snapshot { try restore(snapshot) }
        apply(outputs.flatMap(\.apply))
        for change in outputs.compactMap(\.roleChange) {
            node.logger.debug("raft role", metadata: ["role": "\(change.role.rawValue)", "term": "\(change.term)"])
            node.stateMachine.roleChanged(change)
            if change.role != .leader { node.failChanges() }
        }
        answerReads(outputs)
        if outputs.contains(where: { $0.roleChange?.leader != nil }) { askAgain() }
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

    /// Writes, and for want of space waits until there is some. Meanwhile the others see a member that is away: it does not send, so
    /// that they elect another leader if it was the leader. A disk that is full for a while is no more than a slow disk.
    private func write(_ items: [LogItem]) throws(ApusError) {
        if items.isEmpty { return }
        var isSuspended = false
        while true {
            do throws(ApusError) {
                try log.append(items)
                if isSuspended { node.resume() }
                return
            } catch {
                guard error.code == .unavailable else { throw error }
                if !isSuspended { node.suspend(error) }
                isSuspended = true
                if node.state.withLock({ $0.isClosing }) { throw error }
                node.wakeUp.wait(until: WakeUp.now + node.configuration.tick.nanoseconds * 10)
            }
        }
    }

    private func apply(_ entries: [LogEntry]) {
        guard let last = entries.last else { return }
        node.stateMachine.apply(entries)
        lastApplied = LogPosition(index: last.index, term: last.term)
        node.state.withLock { _ = RaftNode.step(&$0, .applied(last.index)) }
        node.settleChanges(entries)
    }

    /// Asks again for reads of a follower whose question or answer may have been lost, and gives up on those that waited too long.
    private func ageReads() {
        let limit = node.configuration.readTicks
        let expired = node.state.withLock { state -> [CheckedContinuation<Result<UInt64, ApusError>, Never>] in
            if state.reads.isEmpty { return [] }
            var expired: [CheckedContinuation<Result<UInt64, ApusError>, Never>] = []
            let asks = state.core.role != .leader
            for id in state.reads.keys.sorted() {
                guard var read = state.reads[id] else { continue }
                read.age += 1
                guard read.age < limit else {
                    expired.append(read.waiter)
                    state.reads[id] = nil
                    continue
                }
                state.reads[id] = read
                if asks, read.age % 5 == 0, !state.confirmedReads.contains(where: { $0.id == id }) { RaftNode.step(&state, .readIndex(id: id)) }
            }
            state.confirmedReads.removeAll { state.reads[$0.id] == nil }
            return expired
        }
        for waiter in expired {
            waiter.resume(returning: .failure(ApusError(.unavailable, "the managers did not confirm in time what is newest: try again")))
        }
    }

    /// Puts the reads that wait to the leader who is known now, which may be this member: the one who was asked is gone, and its answer with it.
    private func askAgain() {
        node.state.withLock { state in
            for id in state.reads.keys.sorted() where !state.confirmedReads.contains(where: { $0.id == id }) {
                RaftNode.step(&state, .readIndex(id: id))
            }
        }
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
                    answers.append((waiter.waiter, .failure(RaftNode.error(rejected, limit: state.core.settings.entryLimit))))
                }
            }
            for read in state.confirmedReads where read.index <= applied {
                if let waiter = state.reads.removeValue(forKey: read.id) { answers.append((waiter.waiter, .success(read.index))) }
            }
            state.confirmedReads.removeAll { $0.index <= applied }
            return answers
        }
        for (waiter, answer) in answers { waiter.resume(returning: answer) }
    }
}
