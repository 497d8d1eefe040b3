import Orchestration
public import PluginAPI
public import Wire

/// What a node knows of networks and published ports: a value that the leader computes from the store for this node.
public struct EndpointTable: Sendable, Hashable {
    /// This node and the managers. All nodes of the swarm, if a port is published anywhere or this node is in a network: to others it has nothing to
    /// send, and a swarm of thousands of nodes would tell each of all.
    public var nodes: [ID: EndpointNode] = [:]
    /// Those that the node takes part in, and the ingress network.
    public var networks: [ID: EndpointNetwork] = [:]
    /// Those in one of these networks, or with published ports.
    public var services: [ID: EndpointService] = [:]
    /// All that have a place in one of these networks, those of this node too. They stay until they have ended, for the sake of what they still
    /// have to say; whether they take new connections is `isServing`.
    public var tasks: [ID: EndpointTask] = [:]

    public init() {}

    /// The published ports of the ingress mode, by service.
    public var servicePorts: [ID: [PortConfig]] { services.compactMapValues { $0.ports.isEmpty ? nil : $0.ports } }
}

extension EndpointTable {
    /// What a node must know of a state: looked up from the beginning. The leader comes to the same from event to event with `EndpointIndex`.
    static func of(_ state: some SwarmState, node: ID) -> EndpointTable {
        var table = EndpointTable()
        let ingress = EndpointNetwork.ingress(of: state)
        var places = Set(ingress.map { [$0] } ?? [])
        for task in state.tasks(onNode: node) { for attachment in EndpointTask(task, in: state)?.attachments ?? [] { places.insert(attachment.network.id) } }
        for network in state.allNetworks where places.contains(network.id) {
            table.networks[network.id] = EndpointNetwork(network, in: state.cluster)
        }
        let networks = Set(table.networks.keys)
        for service in state.allServices { table.services[service.id] = EndpointService(service, in: state)?.limited(to: networks) }
        for task in state.allTasks { table.tasks[task.id] = EndpointTask(task, in: state)?.limited(to: networks) }
        let isInNetwork = state.tasks(onNode: node).contains { EndpointTask($0, in: state)?.attachments.isEmpty == false }
        let knowsAll = isInNetwork || state.allServices.contains { EndpointService($0, in: state)?.ports.isEmpty == false }
        for other in state.allNodes {
            let entry = EndpointNode(other)
            if knowsAll || other.id == node || !entry.managerAddress.isEmpty { table.nodes[other.id] = entry }
        }
        return table
    }
}
