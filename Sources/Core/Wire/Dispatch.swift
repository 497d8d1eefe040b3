public import GRPCCore
public import PluginAPI

/// The methods of `apus.v1.Dispatcher`; `Dispatch.proto` is the contract.
public enum DispatcherMethods {
    /// On the port of the managers, for callers with a node certificate; only the leader has sessions.
    public static let service = ServiceDescriptor(package: "apus.v1", service: "Dispatcher")
    /// `SessionRequest`: registers the node; the stream is its session.
    public static let session = MethodDescriptor(service: service, method: "Session", type: .serverStreaming)
    /// `HeartbeatRequest`: a sign of life.
    public static let heartbeat = MethodDescriptor(service: service, method: "Heartbeat", type: .unary)
    /// `AssignmentsRequest`: the node's tasks, and every change of them.
    public static let assignments = MethodDescriptor(service: service, method: "Assignments", type: .serverStreaming)
    /// `UpdateTaskStatusRequest`: how tasks are.
    public static let updateTaskStatus = MethodDescriptor(service: service, method: "UpdateTaskStatus", type: .unary)
    /// `UpdateNodeDescriptionRequest`: what the node is and has.
    public static let updateNodeDescription = MethodDescriptor(service: service, method: "UpdateNodeDescription", type: .unary)
    /// `EndSessionRequest`: goodbye.
    public static let endSession = MethodDescriptor(service: service, method: "EndSession", type: .unary)

    /// The metadata in which a manager that does not lead says where the leader is, `host:port`.
    public static let leaderMetadata = "apus-leader"
}

/// Registers a node.
public struct SessionRequest: FieldCoded {
    /// What the node is and has now.
    public var description = NodeDescription()
    /// Where other nodes reach this one, without a port.
    public var address: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "description", &description)
        try coder.field(2, "address", &address)
    }
}

/// What a node must know of itself and of the managers; the last one holds.
public struct SessionMessage: FieldCoded {
    /// Stands in every other call of the node until the stream ends.
    public var sessionID: ID = ""
    /// As the swarm has it: role, availability, labels.
    public var node = Node()
    /// All of them, for when this one is lost.
    public var managers: [ManagerPeer] = []
    /// Between two signs of life.
    public var heartbeatPeriod: Duration = .zero
    /// PEM, one or more certificates, all of which are to be trusted.
    public var trustRoots: [UInt8] = []
    /// Now, not at the usual time.
    public var renewCertificate: Bool = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "session_id", &sessionID)
        try coder.field(2, "node", &node)
        try coder.field(3, "managers", &managers)
        try coder.field(4, "heartbeat_period", &heartbeatPeriod)
        try coder.field(5, "trust_roots", &trustRoots)
        try coder.field(6, "renew_certificate", &renewCertificate)
    }
}

/// A manager that a node may turn to.
public struct ManagerPeer: FieldCoded {
    public var nodeID: ID = ""
    /// `host:port`.
    public var address: String = ""
    /// The higher, the more often it is to be chosen.
    public var weight: Int64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "node_id", &nodeID)
        try coder.field(2, "address", &address)
        try coder.field(3, "weight", &weight)
    }
}

/// A sign of life.
public struct HeartbeatRequest: FieldCoded {
    /// Of the first `SessionMessage`, as in the other calls.
    public var sessionID: ID = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "session_id", &sessionID)
    }
}

/// When the next sign of life is due.
public struct HeartbeatResponse: FieldCoded {
    /// From this answer on.
    public var period: Duration = .zero

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "period", &period)
    }
}

/// Asks for the tasks of the node.
public struct AssignmentsRequest: FieldCoded {
    public var sessionID: ID = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "session_id", &sessionID)
    }
}

/// The whole set of what a node must know, or a change of it, or a part of either; `Dispatch.proto` has the rules.
public struct AssignmentsMessage: FieldCoded {
    /// What is not in it is to be ended and forgotten.
    public var isFull: Bool = false
    /// 0 with a full set.
    public var appliesTo: UInt64 = 0
    /// The number of the set that there is then.
    public var resultsIn: UInt64 = 0
    /// 0 and up.
    public var part: UInt64 = 0
    /// Another part follows; parts are applied together.
    public var hasMore: Bool = false
    /// New or changed.
    public var tasks: [Task] = []
    /// Ids.
    public var removedTasks: [String] = []
    /// With their data: those that tasks of this node need, and that it does not have.
    public var secrets: [Secret] = []
    /// With their data, as the secrets.
    public var configs: [Config] = []
    /// Ids of those that no task of this node needs any more.
    public var removedSecrets: [String] = []
    /// Ids, as those of the secrets.
    public var removedConfigs: [String] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "is_full", &isFull)
        try coder.field(2, "applies_to", &appliesTo)
        try coder.field(3, "results_in", &resultsIn)
        try coder.field(4, "part", &part)
        try coder.field(5, "has_more", &hasMore)
        try coder.field(6, "tasks", &tasks)
        try coder.field(7, "removed_tasks", &removedTasks)
        try coder.field(9, "secrets", &secrets)
        try coder.field(10, "configs", &configs)
        try coder.field(11, "removed_secrets", &removedSecrets)
        try coder.field(12, "removed_configs", &removedConfigs)
    }
}

/// How tasks of the node are.
public struct UpdateTaskStatusRequest: FieldCoded {
    public var sessionID: ID = ""
    /// The last status of each task that has a new one.
    public var updates: [TaskStatusUpdate] = []
    /// By the node's clock, which may be wrong: times of statuses are read relative to it.
    public var sentAt: Timestamp = .never

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "session_id", &sessionID)
        try coder.field(2, "updates", &updates)
        try coder.field(3, "sent_at", &sentAt)
    }
}

/// How one task is.
public struct TaskStatusUpdate: FieldCoded {
    public var taskID: ID = ""
    public var status = TaskStatus()

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "task_id", &taskID)
        try coder.field(2, "status", &status)
    }
}

/// The statuses are committed.
public struct UpdateTaskStatusResponse: FieldCoded {
    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}

/// The node has another description now.
public struct UpdateNodeDescriptionRequest: FieldCoded {
    public var sessionID: ID = ""
    /// The whole of it.
    public var description = NodeDescription()

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "session_id", &sessionID)
        try coder.field(2, "description", &description)
    }
}

/// The description is taken.
public struct UpdateNodeDescriptionResponse: FieldCoded {
    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}

/// The node says goodbye.
public struct EndSessionRequest: FieldCoded {
    public var sessionID: ID = ""
    /// For good; otherwise the node comes back, and its containers go on meanwhile.
    public var isLeaving: Bool = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "session_id", &sessionID)
        try coder.field(2, "is_leaving", &isLeaving)
    }
}

/// The goodbye is heard.
public struct EndSessionResponse: FieldCoded {
    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}
