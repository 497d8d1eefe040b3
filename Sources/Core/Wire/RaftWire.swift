public import PluginAPI

// The messages of Raft.proto, package apus.v1.

/// An entry of the log.
public struct RaftLogEntry: FieldCoded {
    public var index: UInt64 = 0
    public var term: UInt64 = 0
    /// 0 empty, 1 command, 2 membership.
    public var kind: UInt64 = 0
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
    public var id: UInt64 = 0
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
    public var from: UInt64 = 0
    public var to: UInt64 = 0
    public var term: UInt64 = 0
    public var kind: UInt64 = 0
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
    public var messages: [RaftPeerMessage] = []
    /// Where the sender is, `host:port`: for a receiver that does not know it yet. Empty when it need not be said.
    public var address = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "messages", &messages)
        try coder.field(2, "address", &address)
    }
}

public struct RaftSendResponse: FieldCoded {
    public init() {}
    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}

/// The first of a stream has the message, the others a chunk each.
public struct InstallSnapshotRequest: FieldCoded {
    public var message: RaftPeerMessage?
    public var chunk: [UInt8] = []
    public var endsPiece = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "message", &message)
        try coder.field(2, "chunk", &chunk)
        try coder.field(3, "ends_piece", &endsPiece)
    }
}

public struct InstallSnapshotResponse: FieldCoded {
    public init() {}
    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}
