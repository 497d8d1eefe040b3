public import GRPCCore
public import PluginAPI

/// The methods of `apus.v1.Raft`.
public enum RaftMethods {
    public static let service = ServiceDescriptor(package: "apus.v1", service: "Raft")
    public static let send = MethodDescriptor(service: service, method: "Send", type: .clientStreaming)
    public static let installSnapshot = MethodDescriptor(service: service, method: "InstallSnapshot", type: .clientStreaming)
}

/// Messages of Raft, in the order in which they were sent.
public struct RaftBatch: FieldCoded {
    public var messages: [RaftEnvelope] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Messages", &messages, .omitEmpty)
    }
}

/// One message of Raft; which fields count depends on its kind, as Raft.proto says.
public struct RaftEnvelope: FieldCoded {
    public var from: UInt64 = 0
    public var to: UInt64 = 0
    public var term: UInt64 = 0
    public var kind: UInt64 = 0
    public var index: UInt64 = 0
    public var indexTerm: UInt64 = 0
    public var isPreVote: Bool = false
    public var isTransfer: Bool = false
    public var granted: Bool = false
    public var commit: UInt64 = 0
    public var round: UInt64 = 0
    public var match: UInt64 = 0
    public var id: UInt64 = 0
    public var entries: [RaftEntry] = []
    public var voters: [String] = []
    public var learners: [String] = []
    public var isBusy: Bool = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "From", &from, .omitEmpty)
        try coder.field(2, "To", &to, .omitEmpty)
        try coder.field(3, "Term", &term, .omitEmpty)
        try coder.field(4, "Kind", &kind, .omitEmpty)
        try coder.field(5, "Index", &index, .omitEmpty)
        try coder.field(6, "IndexTerm", &indexTerm, .omitEmpty)
        try coder.field(7, "IsPreVote", &isPreVote, .omitEmpty)
        try coder.field(8, "IsTransfer", &isTransfer, .omitEmpty)
        try coder.field(9, "Granted", &granted, .omitEmpty)
        try coder.field(10, "Commit", &commit, .omitEmpty)
        try coder.field(11, "Round", &round, .omitEmpty)
        try coder.field(12, "Match", &match, .omitEmpty)
        try coder.field(13, "ID", &id, .omitEmpty)
        try coder.field(14, "Entries", &entries, .omitEmpty)
        try coder.field(15, "Voters", &voters, .omitEmpty)
        try coder.field(16, "Learners", &learners, .omitEmpty)
        try coder.field(17, "IsBusy", &isBusy, .omitEmpty)
    }
}

/// One entry of the log.
public struct RaftEntry: FieldCoded {
    public var index: UInt64 = 0
    public var term: UInt64 = 0
    public var kind: UInt64 = 0
    public var payload: [UInt8] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Index", &index, .omitEmpty)
        try coder.field(2, "Term", &term, .omitEmpty)
        try coder.field(3, "Kind", &kind, .omitEmpty)
        try coder.field(4, "Payload", &payload, .omitEmpty)
    }
}

/// A part of a snapshot; the first has the message that announces it.
public struct SnapshotPart: FieldCoded {
    public var message: RaftEnvelope?
    /// 1 MiB at most.
    public var bytes: [UInt8] = []
    /// Whether a piece of the state machine is complete with this.
    public var endsPiece: Bool = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Message", &message)
        try coder.field(2, "Bytes", &bytes, .omitEmpty)
        try coder.field(3, "EndsPiece", &endsPiece, .omitEmpty)
    }
}

public struct RaftAnswer: FieldCoded {
    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}
