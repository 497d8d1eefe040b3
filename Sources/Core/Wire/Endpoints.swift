public import GRPCCore
public import PluginAPI

extension DispatcherMethods {
    /// `EndpointsRequest`: the table of endpoints, and every change of it.
    public static let endpoints = MethodDescriptor(service: service, method: "Endpoints", type: .serverStreaming)
    /// `ConfirmEndpointsRequest`: a table is in force on the node.
    public static let confirmEndpoints = MethodDescriptor(service: service, method: "ConfirmEndpoints", type: .unary)
}

/// Asks for what the node must know of networks and published ports.
public struct EndpointsRequest: FieldCoded {
    /// Of the node's session.
    public var sessionID: ID = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "session_id", &sessionID)
    }
}

/// The whole table of endpoints, or a change of it, or a part of either; `Dispatch.proto` has the rules.
public struct EndpointsMessage: FieldCoded {
    /// What is not in it is gone.
    public var isFull: Bool = false
    /// 0 with a full table.
    public var appliesTo: UInt64 = 0
    /// The number of the table that there is then.
    public var resultsIn: UInt64 = 0
    /// 0 and up.
    public var part: UInt64 = 0
    /// Another part follows; parts are applied together.
    public var hasMore: Bool = false
    /// New or changed, as all that follow.
    public var nodes: [EndpointNode] = []
    public var networks: [EndpointNetwork] = []
    public var services: [EndpointService] = []
    public var tasks: [EndpointTask] = []
    /// Ids, each with its kind: `node/…`, `network/…`, `service/…`, `task/…`.
    public var removed: [String] = []
    /// Of the whole table that results (`EndpointTable.checksum`).
    public var checksum: UInt64 = 0
    /// The node is to confirm the table when it is in force everywhere on the node: somebody waits for it to end a task.
    public var mustConfirm: Bool = false
    /// Tasks of this node that no other node sends anything to any more: new connections cannot reach them.
    public var withdrawn: [String] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "is_full", &isFull)
        try coder.field(2, "applies_to", &appliesTo)
        try coder.field(3, "results_in", &resultsIn)
        try coder.field(4, "part", &part)
        try coder.field(5, "has_more", &hasMore)
        try coder.field(6, "nodes", &nodes)
        try coder.field(7, "networks", &networks)
        try coder.field(8, "services", &services)
        try coder.field(9, "tasks", &tasks)
        try coder.field(10, "removed", &removed)
        try coder.field(11, "checksum", &checksum)
        try coder.field(12, "must_confirm", &mustConfirm)
        try coder.field(13, "withdrawn", &withdrawn)
    }
}

/// A node of the swarm, as others reach it.
public struct EndpointNode: FieldCoded {
    public var id: ID = ""
    /// As `node ls` shows it.
    public var hostname: String = ""
    /// On the underlay, without a port.
    public var address: String = ""
    /// In the ingress network, with its length: IPv4, and IPv6 where the network has it.
    public var meshAddresses: [String] = []
    /// `host:port` where it listens as a manager; empty for a worker.
    public var managerAddress: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "id", &id)
        try coder.field(2, "hostname", &hostname)
        try coder.field(3, "address", &address)
        try coder.field(4, "mesh_addresses", &meshAddresses)
        try coder.field(5, "manager_address", &managerAddress)
    }
}

/// A network of the swarm that the node takes part in, by a task or a container, or the ingress network.
public struct EndpointNetwork: FieldCoded {
    /// The whole object, as the store has it.
    public var network = Network()
    /// Of an encrypted network, oldest first.
    public var keys: [NetworkKey] = []
    /// UDP, of VXLAN.
    public var dataPathPort: UInt64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "network", &network)
        try coder.field(2, "keys", &keys)
        try coder.field(3, "data_path_port", &dataPathPort)
    }
}

/// A service in the networks of the node, or with published ports.
public struct EndpointService: FieldCoded {
    public var id: ID = ""
    /// By which containers in its networks find it.
    public var name: String = ""
    /// Virtual addresses, or the addresses of the tasks in answers.
    public var mode: EndpointMode = .unset
    /// In the networks that the node takes part in.
    public var virtualIPs: [VirtualIP] = []
    /// Those of the ingress mode.
    public var ports: [PortConfig] = []
    /// The service's other names, by network.
    public var aliases: [EndpointAliases] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "id", &id)
        try coder.field(2, "name", &name)
        try coder.field(3, "mode", &mode)
        try coder.field(4, "virtual_ips", &virtualIPs)
        try coder.field(5, "ports", &ports)
        try coder.field(6, "aliases", &aliases)
    }
}

/// Other names in one network.
public struct EndpointAliases: FieldCoded {
    public var networkID: ID = ""
    /// Each stands for the service as its own name does.
    public var names: [String] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "network_id", &networkID)
        try coder.field(2, "names", &names)
    }
}

/// A task, or a node's own container in an attachable network, with its places in networks.
public struct EndpointTask: FieldCoded {
    public var id: ID = ""
    /// Empty for a container of a node's own.
    public var serviceID: ID = ""
    /// Where it runs.
    public var nodeID: ID = ""
    /// The container's name.
    public var name: String = ""
    /// Its places in the networks that the receiving node takes part in.
    public var attachments: [NetworkAttachment] = []
    /// Whether it takes new connections: it runs, is well, and is to go on.
    public var isServing: Bool = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "id", &id)
        try coder.field(2, "service_id", &serviceID)
        try coder.field(3, "node_id", &nodeID)
        try coder.field(4, "name", &name)
        try coder.field(5, "attachments", &attachments)
        try coder.field(6, "is_serving", &isServing)
    }
}

/// The table of this number is in force on the node.
public struct ConfirmEndpointsRequest: FieldCoded {
    public var sessionID: ID = ""
    /// `EndpointsMessage.resultsIn`.
    public var version: UInt64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "session_id", &sessionID)
        try coder.field(2, "version", &version)
    }
}

/// The confirmation is heard.
public struct ConfirmEndpointsResponse: FieldCoded {
    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}
