import Logging
import PluginAPI
import Synchronization

/// Snapshots that the loop takes, sends and installs.
extension RaftLoop {
    func snapshotIfDue(wanted: Bool) {
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
                if let failure {
                    node.logger.error("no snapshot could be written; the log keeps everything", metadata: ["reason": "\(failure)"])
                }
                node.state.withLock { state in
                    state.snapshotting = failure == nil ? .written(metadata) : .idle
                    // Without space the log goes on as long as it can. Any other failure says that the disk cannot be trusted.
                    if let failure, failure.code != .unavailable { state.failure = state.failure ?? failure }
                }
                node.wakeUp.wake()
            }
        } catch {
            node.logger.error("no snapshot now", metadata: ["reason": "\(error)"])
            node.state.withLock { $0.snapshotting = .idle }
        }
    }

    func snapshotFinished(_ metadata: SnapshotMetadata) throws(ApusError) {
        snapshotIndex = max(snapshotIndex, metadata.position.index)
        try log.drop(upTo: snapshotIndex)
        try snapshots.removeOld()
        node.state.withLock { state in
            state.snapshotting = .idle
            RaftNode.step(&state, .snapshotTaken(metadata))
        }
    }

    /// The second thread uses the folder until it has ended.
    func waitForSnapshot() {
        while node.state.withLock({ if case .writing = $0.snapshotting { true } else { false } }) { node.wakeUp.wait(until: nil) }
    }

    // MARK: Other members

    /// Hands messages to the transport; a snapshot goes with its bytes.
    func send(_ messages: [RaftMessage]) {
        guard let transport = node.transport else { return }
        var rest: [RaftMessage] = []
        for message in messages {
            guard case .installSnapshot(let metadata) = message.content else {
                rest.append(message)
                continue
            }
            do throws(ApusError) {
                node.startSending(message, SnapshotChunks(try SnapshotFileReader(metadata.position, in: snapshots)), transport)
            } catch {
                // A newer one has replaced it.
                if error.code != .notFound { node.logger.error("a snapshot cannot be read", metadata: ["reason": "\(error)"]) }
                node.step(.unreachable(message.to))
            }
        }
        if !rest.isEmpty { transport.send(rest) }
    }

    /// Gives a leader's snapshot, which is whole and durable, its name: from here on a restart begins with it.
    func publishReceived(_ metadata: SnapshotMetadata) throws(ApusError) {
        guard let received = node.state.withLock({ $0.received }), received.writer.metadata == metadata else {
            throw ApusError(.failed, "a snapshot is to be installed that has not come")
        }
        do throws(ApusError) {
            try received.writer.publish()
        } catch {
            throw error.code == .unavailable ? ApusError(.failed, error.message) : error
        }
    }

    /// Replaces the state machine's state; the log that led to the old one goes.
    func restore(_ metadata: SnapshotMetadata) throws(ApusError) {
        try snapshots.read(metadata.position) { metadata, pieces throws(ApusError) in try node.stateMachine.restore(metadata, pieces) }
        lastApplied = metadata.position
        snapshotIndex = metadata.position.index
        try log.drop(upTo: snapshotIndex)
        try snapshots.removeOld()
        node.logger.info("a snapshot of the leader is installed", metadata: ["index": "\(metadata.position.index)"])
        node.failChanges()
        let received = node.state.withLock { state in
            defer { state.received = nil }
            return state.received
        }
        received?.outcome.fulfil(nil)
    }
}
