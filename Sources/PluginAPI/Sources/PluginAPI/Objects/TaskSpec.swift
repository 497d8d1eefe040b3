/// The template of a service's tasks (Engine API `TaskSpec`).
public struct TaskSpec: FieldCoded {
    public var container: ContainerSpec?
    public var resources: ResourceRequirements?
    public var restartPolicy: RestartPolicy?
    public var placement: Placement?
    public var networks: [NetworkAttachmentSpec] = []
    public var logDriver: LogDriver?
    /// A counter: another value replaces the tasks although nothing else changed.
    public var forceUpdate: UInt64 = 0
    /// `container` or empty; `attachment` for the place of a container of a node's own in an attachable network, which is no service's task.
    public var runtime: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "ContainerSpec", &container)
        try coder.field(2, "Resources", &resources)
        try coder.field(3, "RestartPolicy", &restartPolicy)
        try coder.field(4, "Placement", &placement)
        try coder.field(5, "Networks", &networks)
        try coder.field(6, "LogDriver", &logDriver)
        try coder.field(7, "ForceUpdate", &forceUpdate)
        try coder.field(8, "Runtime", &runtime)
    }
}

/// Limits and reservations.
public struct ResourceRequirements: FieldCoded {
    /// What a task may use at most.
    public var limits: Resources?
    /// What a node must have free to get the task.
    public var reservations: Resources?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Limits", &limits)
        try coder.field(2, "Reservations", &reservations)
    }
}

/// Amounts of CPU, memory and processes.
public struct Resources: FieldCoded {
    /// Billionths of a CPU.
    public var nanoCPUs: Int64 = 0
    public var memoryBytes: Int64 = 0
    /// Limits only; 0 is unlimited.
    public var pids: Int64 = 0
    public var genericResources: [GenericResource] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "NanoCPUs", &nanoCPUs)
        try coder.field(2, "MemoryBytes", &memoryBytes)
        try coder.field(3, "Pids", &pids)
        try coder.field(4, "GenericResources", &genericResources)
    }
}

/// A countable or named resource of a node.
public struct GenericResource: FieldCoded {
    public var named: NamedResource?
    public var discrete: DiscreteResource?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "NamedResourceSpec", &named)
        try coder.field(2, "DiscreteResourceSpec", &discrete)
    }
}

/// One thing by its name.
public struct NamedResource: FieldCoded {
    public var kind: String = ""
    public var value: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Kind", &kind)
        try coder.field(2, "Value", &value)
    }
}

/// A number of things.
public struct DiscreteResource: FieldCoded {
    public var kind: String = ""
    public var value: Int64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Kind", &kind)
        try coder.field(2, "Value", &value)
    }
}

/// When a task that ended is replaced.
public struct RestartPolicy: FieldCoded {
    public var condition: RestartCondition = .unset
    /// Five seconds when absent.
    public var delay: Duration?
    /// 0 or absent: without end.
    public var maxAttempts: UInt64?
    /// Attempts older than this do not count; 0: all count.
    public var window: Duration?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Condition", &condition)
        try coder.field(2, "Delay", &delay)
        try coder.field(3, "MaxAttempts", &maxAttempts)
        try coder.field(4, "Window", &window)
    }
}

/// Which ends call for a replacement.
public enum RestartCondition: String, Sendable, Hashable, CaseIterable {
    /// As `any`.
    case unset = ""
    case none
    case onFailure = "on-failure"
    case any
}

/// Where tasks may go.
public struct Placement: FieldCoded {
    /// `node.role==manager` and the like, all must hold.
    public var constraints: [String] = []
    /// Spread over these, the first one first.
    public var preferences: [PlacementPreference] = []
    /// Per node; 0 is unlimited.
    public var maxReplicas: UInt64 = 0
    /// Those that the image can run on; empty: any.
    public var platforms: [Platform] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Constraints", &constraints)
        try coder.field(2, "Preferences", &preferences)
        try coder.field(3, "MaxReplicas", &maxReplicas)
        try coder.field(4, "Platforms", &platforms)
    }
}

/// How tasks are spread.
public struct PlacementPreference: FieldCoded {
    public var spread: SpreadOver?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Spread", &spread)
    }
}

/// Spread evenly over the values of a label.
public struct SpreadOver: FieldCoded {
    /// `node.labels.rack`.
    public var descriptor: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "SpreadDescriptor", &descriptor)
    }
}

/// A processor architecture and an operating system.
public struct Platform: FieldCoded {
    /// As Docker names it: `amd64`; `x86_64` is the same.
    public var architecture: String = ""
    public var os: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Architecture", &architecture)
        try coder.field(2, "OS", &os)
    }
}

/// A network that tasks join.
public struct NetworkAttachmentSpec: FieldCoded {
    /// Id or name.
    public var target: String = ""
    /// More names of the task in this network.
    public var aliases: [String] = []
    public var driverOptions: [String: String] = [:]

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Target", &target)
        try coder.field(2, "Aliases", &aliases)
        try coder.field(3, "DriverOpts", &driverOptions)
    }
}

/// Where output goes.
public struct LogDriver: FieldCoded {
    /// `json-file`, `local` or empty: the engine keeps it; `none`: nobody does.
    public var name: String = ""
    public var options: [String: String] = [:]

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name)
        try coder.field(2, "Options", &options)
    }
}
