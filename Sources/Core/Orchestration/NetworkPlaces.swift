import Allocation
public import PluginAPI

extension SwarmState {
    /// The network through which every node answers for published ports.
    public var ingressNetwork: Network? { allNetworks.first { $0.spec.ingress } }
}

extension NetworkAttachment {
    /// A place in a network, without an address: of the network, what the store keeps in a task.
    public init(in network: Network, aliases: [String] = []) {
        self.init()
        self.network.id = network.id
        self.network.spec.name = network.spec.name
        self.network.spec.ingress = network.spec.ingress
        // The ingress network comes to no container, so a node needs no driver for it.
        if !network.spec.ingress { self.network.driver.name = network.driverName }
        self.aliases = aliases
    }
}

extension Network {
    /// The plugin that makes it.
    public var driverName: String { driver.name.isEmpty ? spec.driver?.name ?? "" : driver.name }

    /// Whether what leaves a node is to be encrypted.
    public var isEncrypted: Bool {
        let options = (spec.driver?.options ?? [:]).merging(driver.options) { first, _ in first }
        return options[Network.encryptionOption].map { $0 != "false" } ?? false
    }

    static var encryptionOption: String { "encrypted" }
}

extension ServiceSpec {
    /// Names of networks of the swarm as ids, so that a later network of the same name is another one. What the swarm does not have stays.
    public func resolvingNetworks(in state: some SwarmState) -> ServiceSpec {
        func resolved(_ networks: [NetworkAttachmentSpec]) -> [NetworkAttachmentSpec] {
            networks.map { attachment in
                var attachment = attachment
                if let network = state.network(attachment.target) { attachment.target = network.id.text }
                return attachment
            }
        }
        var spec = self
        spec.networks = resolved(networks)
        spec.task.networks = resolved(task.networks)
        return spec
    }
}

extension Task {
    /// With its networks whole, as the API shows them.
    public func resolvingNetworks(in state: some SwarmState) -> Task {
        var task = self
        for index in task.networks.indices {
            if let network = state.network(task.networks[index].network.id.text) { task.networks[index].network = network }
        }
        return task
    }
}

extension NetworkKey {
    /// Keys that the swarm holds at a time: one that nodes only accept yet, one that they send with, one that may still be under way.
    static var limit: Int { 3 }
    static var size: Int { 16 }
    static var period: Duration { .seconds(12 * 60 * 60) }
}

extension TaskTemplate {
    /// The places of a task in networks of the swarm; what the spec names and the swarm does not have is the node's own.
    func attachments(in state: some SwarmState) -> [NetworkAttachment] {
        let places = spec.networks.compactMap { wanted in
            state.network(wanted.target).map { NetworkAttachment(in: $0, aliases: wanted.aliases) }
        }
        return places + (ingress.map { [NetworkAttachment(in: $0)] } ?? [])
    }

    /// The networks in which the service has an address of its own.
    func virtualNetworks(in state: some SwarmState) -> [Network] {
        guard service.spec.endpoint?.mode != .dnsRoundRobin else { return [] }
        return (ingress.map { [$0] } ?? []) + spec.networks.compactMap { state.network($0.target) }
    }
}
