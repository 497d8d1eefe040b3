import Orchestration
import PluginAPI
import Wire

/// Which of a table's entries is meant.
struct EndpointKey: Hashable, Sendable {
    enum Kind: String, Sendable {
        case node, network, service, task
    }

    var kind: Kind
    var id: ID

    init(_ kind: Kind, _ id: ID) {
        self.kind = kind
        self.id = id
    }

    /// `kind/id`, as it is on the wire; `nil` for something else.
    init?(_ text: String) {
        guard let slash = text.firstIndex(of: "/"), let kind = Kind(rawValue: String(text[..<slash])) else { return nil }
        self.init(kind, ID(String(text[text.index(after: slash)...])))
    }

    var text: String { "\(kind.rawValue)/\(id)" }
}

/// One entry of a table.
protocol EndpointEntry: FieldCoded {
    static var kind: EndpointKey.Kind { get }
    var id: ID { get }
}

extension EndpointNode: EndpointEntry {
    static var kind: EndpointKey.Kind { .node }

    init(_ node: Node) {
        self.init()
        id = node.id
        hostname = node.description.hostname
        address = node.description.dataPathAddress.isEmpty ? node.status.address : node.description.dataPathAddress
        meshAddresses = node.meshAddresses
        managerAddress = node.manager?.address ?? ""
    }
}

extension EndpointNetwork: EndpointEntry {
    static var kind: EndpointKey.Kind { .network }
    var id: ID { network.id }

    /// UDP, where the swarm does not say otherwise.
    private static var usualDataPathPort: UInt64 { 4789 }

    init(_ network: Network, in cluster: Cluster?) {
        self.init()
        self.network = network
        if Self.isEncrypted(network) { keys = cluster?.networkKeys ?? [] }
        dataPathPort = cluster?.dataPathPort ?? 0
        if dataPathPort == 0 { dataPathPort = Self.usualDataPathPort }
    }

    /// `--opt encrypted`, whose value is empty, or `true`.
    private static func isEncrypted(_ network: Network) -> Bool {
        guard let value = network.driver.options["encrypted"] ?? network.spec.driver?.options["encrypted"] else { return false }
        return value != "false"
    }

    /// The swarm's ingress network; there is one at most.
    static func ingress(of state: some SwarmState) -> ID? { state.allNetworks.lazy.filter(\.spec.ingress).map(\.id).min() }
}

extension EndpointService: EndpointEntry {
    static var kind: EndpointKey.Kind { .service }

    /// With everything that the service has; `nil` for one without networks and published ports, or that is to go.
    init?(_ service: Service, in state: some SwarmState) {
        guard !service.pendingDelete else { return nil }
        self.init()
        id = service.id
        name = service.spec.name
        mode = service.endpoint.spec.mode == .unset ? (service.spec.endpoint?.mode ?? .unset) : service.endpoint.spec.mode
        virtualIPs = service.endpoint.virtualIPs
        ports = service.endpoint.ports.filter { $0.publishMode == .ingress }
        let wanted = service.spec.task.networks.isEmpty ? service.spec.networks : service.spec.task.networks
        aliases = wanted.compactMap { wanted in
            guard let network = state.network(wanted.target) else { return nil }
            var aliases = EndpointAliases()
            aliases.networkID = network.id
            aliases.names = wanted.aliases
            return aliases
        }
        guard !networks.isEmpty || !ports.isEmpty else { return nil }
    }

    /// Where it has a place.
    var networks: Set<ID> { Set(virtualIPs.map(\.networkID)).union(aliases.map(\.networkID)) }

    /// What somebody in these networks must know of it; `nil`: nothing.
    func limited(to networks: Set<ID>) -> EndpointService? {
        var limited = self
        limited.virtualIPs.removeAll { !networks.contains($0.networkID) }
        limited.aliases.removeAll { !networks.contains($0.networkID) }
        return limited.virtualIPs.isEmpty && limited.aliases.isEmpty && limited.ports.isEmpty ? nil : limited
    }
}

extension EndpointTask: EndpointEntry {
    static var kind: EndpointKey.Kind { .task }

    /// With all its places; `nil` for a task without one, without a node, or that has ended.
    init?(_ task: Task, in state: some SwarmState) {
        guard !task.networks.isEmpty, !task.nodeID.isEmpty, task.status.state >= .assigned, !task.status.state.isTerminal else { return nil }
        self.init()
        id = task.id
        serviceID = task.serviceID
        nodeID = task.nodeID
        name = task.isOfNode ? task.serviceName : task.name
        attachments = task.networks
        isServing = Self.isServing(task, in: state)
    }

    /// Whether it takes new connections. A node that is down takes none; of one that has only lost its manager nothing is known that is bad.
    private static func isServing(_ task: Task, in state: some SwarmState) -> Bool {
        guard !isLeaving(task, in: state), let node = state.node(task.nodeID), node.status.state != .down else { return false }
        if task.isOfNode { return true }
        return task.status.state == .running && task.status.health != .starting && task.status.health != .unhealthy
    }

    /// Whether it is to take no new connections ever again.
    static func isLeaving(_ task: Task, in state: some SwarmState) -> Bool {
        guard task.desiredState <= .running else { return true }
        return !task.isOfNode && state.service(task.serviceID)?.pendingDelete ?? true
    }

    /// What somebody in these networks must know of it; `nil`: nothing.
    func limited(to networks: Set<ID>) -> EndpointTask? {
        var limited = self
        limited.attachments.removeAll { !networks.contains($0.network.id) }
        return limited.attachments.isEmpty ? nil : limited
    }
}

extension Task {
    /// Whether it stands for a container of a node's own in an attachable network. `serviceName` is the container's name then.
    fileprivate var isOfNode: Bool { spec.runtime == "attachment" }
}
