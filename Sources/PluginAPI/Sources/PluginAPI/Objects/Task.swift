/// One run of a service's template in one slot on one node (Engine API `Task`).
public struct Task: FieldCoded {
    /// 25 characters of base 36.
    public var id: ID = ""
    public var version: Version = Version()
    public var createdAt: Timestamp = .never
    public var updatedAt: Timestamp = .never
    public var labels: [String: String] = [:]
    public var spec: TaskSpec = TaskSpec()
    public var serviceID: ID = ""
    /// 1 and up in a replicated service, 0 in a global one.
    public var slot: UInt64 = 0
    /// Empty until it is placed; set from the start in a global service.
    public var nodeID: ID = ""
    /// What the node reports.
    public var status: TaskStatus = TaskStatus()
    /// What the managers want.
    public var desiredState: TaskState = .new
    /// Its places in networks, given by the leader.
    public var networks: [NetworkAttachment] = []
    public var genericResources: [GenericResource] = []
    /// Of a job's task: which run of the job it belongs to.
    public var jobIteration: Version?
    /// At the time of creation, for the name of the container.
    public var serviceName: String = ""
    /// The service's when this task was made.
    public var specVersion: Version = Version()
    /// Host-mode ports.
    public var ports: [PortConfig] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "ID", &id, .always)
        try coder.field(2, "Version", &version, .always)
        try coder.field(3, "CreatedAt", &createdAt, .always)
        try coder.field(4, "UpdatedAt", &updatedAt, .always)
        try coder.field(5, "Labels", &labels, .always)
        try coder.field(6, "Spec", &spec, .always)
        try coder.field(7, "ServiceID", &serviceID)
        try coder.field(8, "Slot", &slot)
        try coder.field(9, "NodeID", &nodeID)
        try coder.field(10, "Status", &status, .always)
        try coder.field(11, "DesiredState", &desiredState, .always)
        try coder.field(12, "NetworksAttachments", &networks)
        try coder.field(13, "GenericResources", &genericResources)
        try coder.field(14, "JobIteration", &jobIteration)
        try coder.field(15, "ServiceName", &serviceName, .internalOnly)
        try coder.field(16, "SpecVersion", &specVersion, .internalOnly)
        try coder.field(17, "Ports", &ports, .internalOnly)
    }
}

extension Task {
    /// `service.slot.id`, or `service.node.id` in a global service, as containers are named.
    public var name: String { "\(serviceName).\(slot == 0 ? nodeID.text : String(slot)).\(id)" }
}

/// What is known of a task.
public struct TaskStatus: FieldCoded {
    public var timestamp: Timestamp = .never
    public var state: TaskState = .new
    /// What is being done, for people.
    public var message: String = ""
    /// Why it failed; empty otherwise.
    public var error: String = ""
    public var container: ContainerStatus?
    /// Ports that the node has published for this task alone.
    public var ports: PortStatus = PortStatus()
    /// Of the container, so that balancers may leave out what is not well.
    public var health: HealthState = .none

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Timestamp", &timestamp, .always)
        try coder.field(2, "State", &state, .always)
        try coder.field(3, "Message", &message)
        try coder.field(4, "Err", &error)
        try coder.field(5, "ContainerStatus", &container)
        try coder.field(6, "PortStatus", &ports, .always)
        try coder.field(7, "Health", &health, .internalOnly)
    }
}

/// The container of a task.
public struct ContainerStatus: FieldCoded {
    public var containerID: ID = ""
    /// In the host's namespace; 0 when nothing runs.
    public var processID: Int64 = 0
    public var exitCode: Int64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "ContainerID", &containerID)
        try coder.field(2, "PID", &processID, .always)
        try coder.field(3, "ExitCode", &exitCode, .always)
    }
}

/// Ports that a task publishes on its own node.
public struct PortStatus: FieldCoded {
    public var ports: [PortConfig] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Ports", &ports)
    }
}

/// What health checks say.
public enum HealthState: String, Sendable, Hashable, CaseIterable {
    /// There are none.
    case none
    case starting
    case healthy
    case unhealthy
}

/// The states of a task, in order; it only ever moves forward (SwarmKit `TaskState`, same numbers).
public enum TaskState: String, Sendable, Hashable, CaseIterable, Comparable {
    case new, pending, assigned, accepted, preparing, ready, starting, running, complete, shutdown, failed, rejected, remove, orphaned

    /// SwarmKit's number of the state.
    public var rank: Int {
        switch self {
        case .new: 0
        case .pending: 64
        case .assigned: 192
        case .accepted: 256
        case .preparing: 320
        case .ready: 384
        case .starting: 448
        case .running: 512
        case .complete: 576
        case .shutdown: 640
        case .failed: 704
        case .rejected: 768
        case .remove: 800
        case .orphaned: 832
        }
    }

    public static func < (left: TaskState, right: TaskState) -> Bool { left.rank < right.rank }

    /// Whether nothing of the task runs any more, or ever will.
    public var isTerminal: Bool { self > .running }
}

/// A task's place in a network.
public struct NetworkAttachment: FieldCoded {
    /// In the store its id, its name, its driver's name, whether it is the ingress network, and nothing else; the API fills in the rest.
    public var network: Network = Network()
    /// With the length of the network: IPv4, and IPv6 where the network has it.
    public var addresses: [String] = []
    /// Other names of the task in the network.
    public var aliases: [String] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Network", &network, .always)
        try coder.field(2, "Addresses", &addresses)
        try coder.field(3, "Aliases", &aliases, .internalOnly)
    }
}
