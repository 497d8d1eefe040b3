public import PluginAPI
public import Wire

/// What a node knows of networks and published ports: a value that the leader computes from the store for this node.
public struct EndpointTable: Sendable, Hashable {
    /// All nodes of the swarm, this one too.
    public var nodes: [ID: EndpointNode] = [:]
    /// Those that the node takes part in, and the ingress network.
    public var networks: [ID: EndpointNetwork] = [:]
    /// Those in one of these networks, or with published ports.
    public var services: [ID: EndpointService] = [:]
    /// All that have a place in one of these networks, those of this node too.
    public var tasks: [ID: EndpointTask] = [:]

    public init() {}
}
