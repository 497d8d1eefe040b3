public import PluginAPI

/// What a Raft group replicates. Called from one thread at a time, and must not block.
public protocol RaftStateMachine: AnyObject, Sendable {
    /// Committed entries in order, each once, also those that are not commands.
    func apply(_ entries: [LogEntry])
    /// The state as it is now, cheaply; it is written while more is applied.
    func capture() -> any SnapshotSource
    /// Replaces the state with that of a snapshot, in the pieces in which it was written.
    func restore(_ metadata: SnapshotMetadata, _ chunks: [[UInt8]]) throws(ApusError)
    /// The role, term or leader of this member is new.
    func roleChanged(_ change: RaftOutput.RoleChange)
    /// The log cannot be written any more: nothing that was not applied will ever be.
    func failed(_ error: ApusError)
}

/// A state that can be written at any time, from any thread.
public protocol SnapshotSource: Sendable {
    /// Hands over the state in pieces of 1 MiB or so.
    func write(_ sink: ([UInt8]) throws(ApusError) -> Void) throws(ApusError)
}

/// Brings messages to other members. It tells the node with `RaftNode.unreachable` when it loses the way to one.
public protocol RaftTransport: AnyObject, Sendable {
    /// Never blocks. A message may be lost, come twice or out of order.
    func send(_ messages: [RaftMessage])

    /// Brings `message.to` a snapshot: `message` is the `installSnapshot`, `chunks` are the bytes that go with it. The other side gives
    /// both to `RaftNode.receiveSnapshot`. Returns when that has returned; cancelled when the node closes or has a newer snapshot.
    /// - Throws: Anything when it failed; the node tries again later.
    func sendSnapshot(_ message: RaftMessage, _ chunks: SnapshotChunks) async throws(ApusError)
}
