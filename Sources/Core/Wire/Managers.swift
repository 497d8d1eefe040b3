public import GRPCCore
public import PluginAPI

/// The methods of `apus.v1.Managers`.
public enum ManagersMethods {
    /// On the port of the managers, for callers with a node certificate.
    public static let service = ServiceDescriptor(package: "apus.v1", service: "Managers")
    /// `JoinGroupRequest`: the caller becomes a learner.
    public static let join = MethodDescriptor(service: service, method: "Join", type: .unary)
    /// `CompleteJoinRequest`: the learner becomes a voter, when it has caught up.
    public static let complete = MethodDescriptor(service: service, method: "Complete", type: .unary)
    /// `LeaveGroupRequest`: the caller is out of the group.
    public static let leave = MethodDescriptor(service: service, method: "Leave", type: .unary)
    /// `ForwardCertificateRequest`: a call of CA, NodeCA or Identity that came to a follower.
    public static let certificate = MethodDescriptor(service: service, method: "Certificate", type: .unary)
    /// `RecordCertificateRequest`: a certificate that the caller has signed itself.
    public static let record = MethodDescriptor(service: service, method: "Record", type: .unary)
    /// `ForwardRequest`: a call of the Engine API for the leader.
    public static let forward = MethodDescriptor(service: service, method: "Forward", type: .unary)
    /// `AttachNetworkRequest`: a place in a network for a node's own container.
    public static let attach = MethodDescriptor(service: service, method: "Attach", type: .unary)
    /// `DetachNetworkRequest`: that place is given back.
    public static let detach = MethodDescriptor(service: service, method: "Detach", type: .unary)
    /// `PluginInquiry`: what a manager has of a plugin; every manager answers, not only the leader.
    public static let plugin = MethodDescriptor(service: service, method: "Plugin", type: .unary)
}

/// A node with a manager's certificate asks to be in the group.
public struct JoinGroupRequest: FieldCoded {
    /// That it wants in the Raft group, and keeps for good.
    public var memberID: UInt64 = 0
    /// Where other managers reach it, `host:port`.
    public var address: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "MemberID", &memberID, .omitEmpty)
        try coder.field(2, "Address", &address, .omitEmpty)
    }
}

/// Who is in the group already.
public struct JoinGroupResponse: FieldCoded {
    /// The caller, a learner now, among them.
    public var members: [GroupMember] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Members", &members, .omitEmpty)
    }
}

/// A manager as the others find it.
public struct GroupMember: FieldCoded {
    /// In the Raft group.
    public var memberID: UInt64 = 0
    public var nodeID: ID = ""
    /// `host:port`.
    public var address: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "MemberID", &memberID, .omitEmpty)
        try coder.field(2, "NodeID", &nodeID)
        try coder.field(3, "Address", &address, .omitEmpty)
    }
}

/// The caller has signed itself a certificate, and wants it on record.
public struct RecordCertificateRequest: FieldCoded {
    /// PEM, the node's own first.
    public var certificateChain: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "CertificateChain", &certificateChain)
    }
}

/// The caller wants to be a voter.
public struct CompleteJoinRequest: FieldCoded {
    /// The caller's.
    public var memberID: UInt64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "MemberID", &memberID, .omitEmpty)
    }
}

/// The caller wants to be out of the group.
public struct LeaveGroupRequest: FieldCoded {
    /// The caller's.
    public var memberID: UInt64 = 0
    /// Whether the node leaves the swarm altogether.
    public var isLeaving: Bool = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "MemberID", &memberID, .omitEmpty)
        try coder.field(2, "IsLeaving", &isLeaving, .omitEmpty)
    }
}

/// It is done. Answers what has nothing more to say: `Complete`, `Leave`, `Record` and `Detach`.
public struct ManagersAnswer: FieldCoded {
    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}

/// A call of the Engine API that only the leader can answer.
public struct ForwardRequest: FieldCoded {
    /// `GET`.
    public var method: String = ""
    /// Path and query, as the client sent them.
    public var target: String = ""
    /// Names in lower case.
    public var headers: [String: String] = [:]
    /// Whole.
    public var body: [UInt8] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Method", &method, .omitEmpty)
        try coder.field(2, "Target", &target, .omitEmpty)
        try coder.field(3, "Headers", &headers, .omitEmpty)
        try coder.field(4, "Body", &body, .omitEmpty)
    }
}

/// What the leader answered.
public struct ForwardResponse: FieldCoded {
    /// Of HTTP.
    public var status: UInt64 = 0
    /// `application/json`, or empty without a body.
    public var contentType: String = ""
    public var body: [UInt8] = []
    /// Nothing was done: whom it reached does not lead. Everything else is empty then.
    public var isRefused = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Status", &status, .omitEmpty)
        try coder.field(2, "ContentType", &contentType, .omitEmpty)
        try coder.field(3, "Body", &body, .omitEmpty)
        try coder.field(4, "IsRefused", &isRefused, .omitEmpty)
    }
}

/// The leader asks what a manager has of a plugin that the swarm is to use.
public struct PluginInquiry: FieldCoded {
    /// `role/name`.
    public var name: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name, .omitEmpty)
    }
}

/// What it has.
public struct PluginReport: FieldCoded {
    /// The plugin's own.
    public var version: String = ""
    /// Of the file, 64 hexadecimal digits.
    public var sha256: String = ""
    /// Why it cannot use the plugin; empty when it can.
    public var problem: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Version", &version, .omitEmpty)
        try coder.field(2, "SHA256", &sha256, .omitEmpty)
        try coder.field(3, "Problem", &problem, .omitEmpty)
    }
}

/// A call for a certificate that came to a follower.
public struct ForwardCertificateRequest: FieldCoded {
    /// `trust`, `unlock key`, `issue`, `status` or `renew expired`.
    public var method: String = ""
    /// Who called, as the follower verified it; empty without a certificate.
    public var nodeID: ID = ""
    /// `manager` or `worker`, as the follower verified it; empty without a certificate.
    public var role: String = ""
    /// As the follower verified it; empty without a certificate.
    public var clusterID: ID = ""
    /// Where the caller called from.
    public var address: String = ""
    /// The call's request, as protobuf.
    public var message: [UInt8] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Method", &method, .omitEmpty)
        try coder.field(2, "NodeID", &nodeID)
        try coder.field(3, "Role", &role, .omitEmpty)
        try coder.field(4, "ClusterID", &clusterID)
        try coder.field(5, "Address", &address, .omitEmpty)
        try coder.field(6, "Message", &message, .omitEmpty)
    }
}

/// What the leader answered.
public struct ForwardCertificateResponse: FieldCoded {
    /// The call's response, as protobuf.
    public var message: [UInt8] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Message", &message, .omitEmpty)
    }
}

/// A node asks for a place in an attachable network for a container of its own.
public struct AttachNetworkRequest: FieldCoded {
    /// Id or name.
    public var network: String = ""
    /// Asked again for the same one and the same network, the place is the same.
    public var containerID: ID = ""
    /// The first of the names by which others in the network find it.
    public var containerName: String = ""
    /// More names by which they find it.
    public var aliases: [String] = []
    /// Without a length; empty: one is chosen.
    public var address: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Network", &network, .omitEmpty)
        try coder.field(2, "ContainerID", &containerID)
        try coder.field(3, "ContainerName", &containerName, .omitEmpty)
        try coder.field(4, "Aliases", &aliases, .omitEmpty)
        try coder.field(5, "Address", &address, .omitEmpty)
    }
}

/// The place, as the task that stands for it.
public struct AttachNetworkResponse: FieldCoded {
    /// With its addresses; it runs as long as the place is held.
    public var task = Task()

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Task", &task)
    }
}

/// A node gives a place back.
public struct DetachNetworkRequest: FieldCoded {
    /// Of `AttachNetworkResponse`; one that is gone already is no error.
    public var taskID: ID = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "TaskID", &taskID)
    }
}
