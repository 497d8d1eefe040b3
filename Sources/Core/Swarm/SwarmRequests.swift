public import PluginAPI

/// How a swarm begins.
public struct SwarmBeginning: Sendable {
    /// Where managers are listened for.
    public var listen: NodeAddress
    /// Where other nodes reach this one.
    public var advertise: NodeAddress
    /// Where VXLAN reaches this node; empty: where it is advertised.
    public var dataPathAddress = ""
    /// With its spec; id, root and tokens are made.
    public var cluster: Cluster
    public var availability: NodeAvailability
    /// Goes on with what this manager has, alone: when a majority of the managers is lost for good.
    public var isForced: Bool

    public init(listen: NodeAddress, advertise: NodeAddress, cluster: Cluster, availability: NodeAvailability, isForced: Bool) {
        self.listen = listen
        self.advertise = advertise
        self.cluster = cluster
        self.availability = availability
        self.isForced = isForced
    }
}

/// How a node comes into a swarm.
public struct SwarmJoining: Sendable {
    public var listen: NodeAddress
    public var advertise: NodeAddress
    /// Where VXLAN reaches this node; empty: where it is advertised.
    public var dataPathAddress = ""
    /// Managers to ask.
    public var managers: [String]
    public var token: String
    public var availability: NodeAvailability

    public init(listen: NodeAddress, advertise: NodeAddress, managers: [String], token: String, availability: NodeAvailability) {
        self.listen = listen
        self.advertise = advertise
        self.managers = managers
        self.token = token
        self.availability = availability
    }
}

/// This node's part in a swarm, for `info`.
public struct SwarmStatus: Sendable {
    /// The Engine API's words.
    public enum State: String, Sendable {
        case inactive, pending, active, error, locked
    }

    public var state: State = .inactive
    public var nodeID: ID = ""
    /// Where other nodes reach this one, without a port.
    public var address = ""
    public var isManager = false
    public var error = ""
    /// `host:port` of the managers that are known.
    public var managers: [(nodeID: ID, address: String)] = []

    public init() {}
}
