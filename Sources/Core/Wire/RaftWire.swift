public import PluginAPI

// The messages of Raft.proto, package apus.v1.

/// An entry of the log.
public struct RaftLogEntry: FieldCoded {
    public var index: UInt64 = 0
    public var term: UInt64 = 0
    /// 0 empty, 1 command, 2 membership.
    public var kind: UInt64 = 0
    /// A command's bytes, or an encoded membership.
    public var payload: [UInt8] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "index", &index)
        try coder.field(2, "term", &term)
        try coder.field(3, "kind", &kind)
        try coder.field(4, "payload", &payload)
    }
}

/// A member as a snapshot's membership has it.
public struct RaftMember: FieldCoded {
    /// In the Raft group.
    public var id: UInt64 = 0
    /// It gets the log and does not vote.
    public var isLearner = false
    public var nodeID: ID = ""
    /// `host:port`; empty when the group was not told.
    public var address = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "id", &id)
        try coder.field(2, "is_learner", &isLearner)
        try coder.field(3, "node_id", &nodeID)
        try coder.field(4, "address", &address)
    }
}

/// One message of any kind; what a kind does not use is zero. The meaning of each field is in Raft.proto.
public struct RaftPeerMessage: FieldCoded {
    /// A member, as `to`.
    public var from: UInt64 = 0
    public var to: UInt64 = 0
    /// The sender's.
    public var term: UInt64 = 0
    /// Which message it is; the numbers are in Raft.proto.
    public var kind: UInt64 = 0
    /// With `positionTerm`: the place in the log that the message is about.
    public var positionIndex: UInt64 = 0
    public var positionTerm: UInt64 = 0
    public var isPreVote = false
    public var isTransfer = false
    public var isGranted = false
    public var entries: [RaftLogEntry] = []
    public var commit: UInt64 = 0
    public var round: UInt64 = 0
    public var index: UInt64 = 0
    public var request: UInt64 = 0
    public var isBusy = false
    public var members: [RaftMember] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "from", &from)
        try coder.field(2, "to", &to)
        try coder.field(3, "term", &term)
        try coder.field(4, "kind", &kind)
        try coder.field(5, "position_index", &positionIndex)
        try coder.field(6, "position_term", &positionTerm)
        try coder.field(7, "is_pre_vote", &isPreVote)
        try coder.field(8, "is_transfer", &isTransfer)
        try coder.field(9, "is_granted", &isGranted)
        try coder.field(10, "entries", &entries)
        try coder.field(11, "commit", &commit)
        try coder.field(12, "round", &round)
        try coder.field(13, "index", &index)
        try coder.field(14, "request", &request)
        try coder.field(15, "is_busy", &isBusy)
        try coder.field(16, "members", &members)
    }
}

/// Messages of one peer, in order.
public struct RaftBatch: FieldCoded {
    /// In the order in which they were sent.
    public var messages: [RaftPeerMessage] = []
    /// Where the sender is, `host:port`: for a receiver that does not know it yet. Empty when it need not be said.
    public var address = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "messages", &messages)
        try coder.field(2, "address", &address)
    }
}

/// The stream has ended; single messages are not answered.
public struct RaftSendResponse: FieldCoded {
    public init() {}
    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}

/// The first of a stream has the message, the others a chunk each.
public struct InstallSnapshotRequest: FieldCoded {
    /// `nil` in all but the first.
    public var message: RaftPeerMessage?
    /// At most 1 MiB; empty in the first.
    public var chunk: [UInt8] = []
    /// Whether the state machine's piece is complete with this chunk.
    public var endsPiece = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "message", &message)
        try coder.field(2, "chunk", &chunk)
        try coder.field(3, "ends_piece", &endsPiece)
    }
}

/// The snapshot is durable at the member.
public struct InstallSnapshotResponse: FieldCoded {
    public init() {}
    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}
