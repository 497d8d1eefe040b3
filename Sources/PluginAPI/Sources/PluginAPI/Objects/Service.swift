/// A declared state that the swarm keeps (Engine API `Service`).
public struct Service: FieldCoded {
    /// 25 characters of base 36.
    public var id: ID = ""
    public var version: Version = Version()
    public var createdAt: Timestamp = .never
    public var updatedAt: Timestamp = .never
    public var spec: ServiceSpec = ServiceSpec()
    /// What `rollback` returns to.
    public var previousSpec: ServiceSpec?
    public var endpoint: Endpoint = Endpoint()
    /// Of the last update; `nil` before the first.
    public var updateStatus: UpdateStatus?
    /// Counts the changes that replace tasks.
    public var specVersion: Version?
    /// Removed by the user; stays until its tasks are gone.
    public var pendingDelete: Bool = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "ID", &id, .always)
        try coder.field(2, "Version", &version, .always)
        try coder.field(3, "CreatedAt", &createdAt, .always)
        try coder.field(4, "UpdatedAt", &updatedAt, .always)
        try coder.field(5, "Spec", &spec, .always)
        try coder.field(6, "PreviousSpec", &previousSpec)
        try coder.field(7, "Endpoint", &endpoint, .always)
        try coder.field(8, "UpdateStatus", &updateStatus)
        try coder.field(9, "SpecVersion", &specVersion, .internalOnly)
        try coder.field(10, "PendingDelete", &pendingDelete, .internalOnly)
    }
}

/// What the user declares.
public struct ServiceSpec: FieldCoded {
    public var name: String = ""
    public var labels: [String: String] = [:]
    public var task: TaskSpec = TaskSpec()
    public var mode: ServiceMode = ServiceMode()
    /// How tasks are replaced after a change; `nil`: the defaults.
    public var update: UpdateConfig?
    /// How they are replaced on the way back; `nil`: the defaults.
    public var rollback: UpdateConfig?
    /// Deprecated in favour of those of the task; used when the task names none.
    public var networks: [NetworkAttachmentSpec] = []
    public var endpoint: EndpointSpec?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name, .always)
        try coder.field(2, "Labels", &labels, .always)
        try coder.field(3, "TaskTemplate", &task, .always)
        try coder.field(4, "Mode", &mode, .always)
        try coder.field(5, "UpdateConfig", &update)
        try coder.field(6, "RollbackConfig", &rollback)
        try coder.field(7, "Networks", &networks)
        try coder.field(8, "EndpointSpec", &endpoint)
    }
}

/// Exactly one is set; none means replicated with one replica.
public struct ServiceMode: FieldCoded {
    public var replicated: ReplicatedService?
    public var global: GlobalService?
    public var replicatedJob: ReplicatedJob?
    public var globalJob: GlobalJob?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Replicated", &replicated)
        try coder.field(2, "Global", &global)
        try coder.field(3, "ReplicatedJob", &replicatedJob)
        try coder.field(4, "GlobalJob", &globalJob)
    }
}

/// A number of equal tasks.
public struct ReplicatedService: FieldCoded {
    /// One when absent.
    public var replicas: UInt64?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Replicas", &replicas)
    }
}

/// One task on every node that fits.
public struct GlobalService: FieldCoded {

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
    }
}

/// Tasks that run to completion.
public struct ReplicatedJob: FieldCoded {
    /// Tasks at once.
    public var maxConcurrent: UInt64?
    /// Tasks that must end well, all in all.
    public var totalCompletions: UInt64?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "MaxConcurrent", &maxConcurrent)
        try coder.field(2, "TotalCompletions", &totalCompletions)
    }
}

/// One run to completion on every node.
public struct GlobalJob: FieldCoded {

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
    }
}

/// How a new spec replaces the old (Engine API `UpdateConfig`).
public struct UpdateConfig: FieldCoded {
    /// Tasks at once; 0 is all.
    public var parallelism: UInt64 = 0
    /// Between batches.
    public var delay: Duration = .zero
    public var failureAction: FailureAction = .unset
    /// Five seconds when absent.
    public var monitor: Duration?
    /// 0 to 1.
    public var maxFailureRatio: Double = 0
    public var order: UpdateOrder = .unset

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Parallelism", &parallelism, .always)
        try coder.field(2, "Delay", &delay)
        try coder.field(3, "FailureAction", &failureAction)
        try coder.field(4, "Monitor", &monitor)
        try coder.field(5, "MaxFailureRatio", &maxFailureRatio, .always)
        try coder.field(6, "Order", &order)
    }
}

/// What a failed update does.
public enum FailureAction: String, Sendable, Hashable, CaseIterable {
    /// As `pause`.
    case unset = ""
    case pause
    case `continue`
    case rollback
}

/// Which of the two tasks of a slot goes first.
public enum UpdateOrder: String, Sendable, Hashable, CaseIterable {
    /// As `stop-first`.
    case unset = ""
    case stopFirst = "stop-first"
    case startFirst = "start-first"
}

/// How far an update is.
public struct UpdateStatus: FieldCoded {
    public var state: UpdateState = .unset
    public var startedAt: Timestamp = .never
    public var completedAt: Timestamp = .never
    /// For people.
    public var message: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "State", &state)
        try coder.field(2, "StartedAt", &startedAt)
        try coder.field(3, "CompletedAt", &completedAt)
        try coder.field(4, "Message", &message)
    }
}

/// States of an update.
public enum UpdateState: String, Sendable, Hashable, CaseIterable {
    case unset = ""
    case updating
    case paused
    case completed
    case rollbackStarted = "rollback_started"
    case rollbackPaused = "rollback_paused"
    case rollbackCompleted = "rollback_completed"
}

/// How a service is reached.
public struct EndpointSpec: FieldCoded {
    /// A virtual address, or the addresses of the tasks in answers.
    public var mode: EndpointMode = .unset
    public var ports: [PortConfig] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Mode", &mode)
        try coder.field(2, "Ports", &ports)
    }
}

/// One address for the service, or the addresses of its tasks.
public enum EndpointMode: String, Sendable, Hashable, CaseIterable {
    /// As `vip`.
    case unset = ""
    case vip
    case dnsRoundRobin = "dnsrr"
}

/// A published port.
public struct PortConfig: FieldCoded {
    /// Without effect.
    public var name: String = ""
    public var transport: TransportProtocol = .tcp
    /// The container's.
    public var targetPort: UInt64 = 0
    /// The node's; 0: one from 30000 to 32767 is chosen.
    public var publishedPort: UInt64 = 0
    /// Balanced on every node, or on the task's node alone.
    public var publishMode: PublishMode = .ingress

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name)
        try coder.field(2, "Protocol", &transport)
        try coder.field(3, "TargetPort", &targetPort, .always)
        try coder.field(4, "PublishedPort", &publishedPort)
        try coder.field(5, "PublishMode", &publishMode)
    }
}

/// Protocols with ports.
public enum TransportProtocol: String, Sendable, Hashable, CaseIterable {
    case tcp
    case udp
    case sctp
}

/// Whether every node answers, or the task's own node alone.
public enum PublishMode: String, Sendable, Hashable, CaseIterable {
    case ingress
    case host
}

/// How a service is reached, as allocated.
public struct Endpoint: FieldCoded {
    public var spec: EndpointSpec = EndpointSpec()
    /// With every published port filled in.
    public var ports: [PortConfig] = []
    public var virtualIPs: [VirtualIP] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Spec", &spec, .always)
        try coder.field(2, "Ports", &ports)
        try coder.field(3, "VirtualIPs", &virtualIPs)
    }
}

/// A service's address in a network.
public struct VirtualIP: FieldCoded {
    public var networkID: ID = ""
    /// With the length of the network.
    public var address: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "NetworkID", &networkID)
        try coder.field(2, "Addr", &address)
    }
}
