import Dispatcher
import PluginAPI
import Wire

/// What this node makes of the endpoint table: a pure translation into what drivers, the balancer and the name server are told.
///
/// Of this node's own tasks the containers know better than the table, and are asked by `isServing`.
struct EndpointView: Sendable {
    let table: EndpointTable
    let node: ID
    /// The running containers of this node's tasks, by task.
    let containers: [ID: ContainerRecord]

    init(table: EndpointTable, node: ID, containers: some Sequence<ContainerRecord> = []) {
        self.table = table
        self.node = node
        let own = containers.filter { !$0.notes.taskID.isEmpty && $0.isRunning }
        self.containers = Dictionary(own.map { ($0.notes.taskID, $0) }) { first, _ in first }
    }

    /// Whether a task takes new connections.
    func isServing(_ task: EndpointTask) -> Bool {
        guard task.nodeID == node, !task.serviceID.isEmpty else { return task.isServing }
        return containers[task.id]?.isServing ?? false
    }

    // MARK: Networks

    var ingress: EndpointNetwork? { table.networks.values.first { $0.network.spec.ingress } }

    /// This node's address on the underlay.
    var underlay: IPAddress? { table.nodes[node].flatMap { IPAddress($0.address) } }

    /// A network of the swarm as its driver sees it; `nil` when the table does not have it, or this node has no address for it.
    func localNetwork(_ id: ID) -> LocalNetwork? {
        guard let entry = table.networks[id], !entry.network.spec.ingress, let underlay else { return nil }
        let network = entry.network
        let gateways = (network.ipam?.configs ?? []).compactMap { pool -> IPPrefix? in
            guard let subnet = IPPrefix(pool.subnet), let gateway = IPAddress(pool.gateway) else { return nil }
            return IPPrefix(gateway, length: subnet.length)
        }
        guard let gateway = gateways.first(where: \.address.isIPv4) else { return nil }
        var local = LocalNetwork(id: id, name: network.spec.name, gateway: gateway)
        local.gatewayV6 = gateways.first { !$0.address.isIPv4 }
        local.isInternal = network.spec.isInternal
        local.options = (network.spec.driver?.options ?? [:]).merging(network.driver.options) { _, allocated in allocated }
        local.vni = UInt32(truncatingIfNeeded: network.vni)
        local.underlay = underlay
        if let port = UInt16(exactly: entry.dataPathPort), port > 0 { local.dataPathPort = port }
        local.isEncrypted = Self.isEncrypted(network)
        local.keys = entry.keys
        return local
    }

    static func isEncrypted(_ network: Network) -> Bool {
        let options = (network.spec.driver?.options ?? [:]).merging(network.driver.options) { first, _ in first }
        return options["encrypted"].map { $0 != "false" } ?? false
    }

    static func driverName(_ network: Network) -> String {
        for name in [network.driver.name, network.spec.driver?.name ?? ""] where !name.isEmpty { return name }
        return "overlay"
    }

    /// Everybody in a network who is on another node.
    func peers(in network: ID) -> [NetworkPeer] {
        var peers: [NetworkPeer] = []
        for task in table.tasks.values where task.nodeID != node {
            guard let host = table.nodes[task.nodeID].flatMap({ IPAddress($0.address) }) else { continue }
            for attachment in task.attachments where attachment.network.id == network {
                guard let address = attachment.ipv4 else { continue }
                peers.append(
                    NetworkPeer(address: address, addressV6: attachment.ipv6, macAddress: MACAddress(containerWith: address), node: host))
            }
        }
        return peers.sorted { $0.address < $1.address }
    }

    var surroundings: NetworkSurroundings {
        var answer = NetworkSurroundings()
        answer.address = underlay
        let port = table.networks.values.lazy.compactMap { UInt16(exactly: $0.dataPathPort) }.first { $0 > 0 }
        if let port { answer.dataPathPort = port }
        answer.members = Set(table.nodes.values.filter { $0.id != node }.compactMap { IPAddress($0.address) }).sorted()
        answer.managers = Set(table.nodes.values.compactMap { Self.socket($0.managerAddress) }).sorted()
        return answer
    }

    /// `host:port` with an address for a host; `nil` for anything else.
    static func socket(_ text: String) -> NetworkSocket? {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        return IPAddress(String(host)).map { NetworkSocket(address: $0, port: port) }
    }

    // MARK: Services

    /// The ingress ports of all services.
    var servicePorts: [ID: [PortConfig]] {
        table.services.compactMapValues { service in
            let ports = service.ports.filter { $0.publishMode == .ingress }
            return ports.isEmpty ? nil : ports
        }
    }

    /// The addresses in the mesh of a service's tasks that run on other nodes and take connections, sorted.
    func remoteBackends() -> [ID: [IPAddress]] {
        guard let ingress = ingress?.network.id else { return [:] }
        var backends: [ID: [IPAddress]] = [:]
        for task in table.tasks.values where task.nodeID != node && task.isServing && !task.serviceID.isEmpty {
            guard table.nodes[task.nodeID]?.meshAddresses.isEmpty == false else { continue }
            for attachment in task.attachments where attachment.network.id == ingress {
                backends[task.serviceID, default: []] += [attachment.ipv4, attachment.ipv6].compactMap { $0 }
            }
        }
        return backends.mapValues { $0.sorted() }
    }

    /// The tasks of each service that take connections, with their addresses in a network, sorted.
    func servingAddresses(in network: ID) -> [ID: [IPAddress]] {
        var answer: [ID: [IPAddress]] = [:]
        for task in table.tasks.values where !task.serviceID.isEmpty && isServing(task) {
            for attachment in task.attachments where attachment.network.id == network {
                answer[task.serviceID, default: []] += [attachment.ipv4, attachment.ipv6].compactMap { $0 }
            }
        }
        return answer.mapValues { $0.sorted() }
    }

    /// The virtual addresses in each network of the node and who is behind them.
    func virtualServices() -> [ID: [VirtualService]] {
        var answer: [ID: [VirtualService]] = [:]
        for network in table.networks.keys where network != ingress?.network.id {
            let serving = servingAddresses(in: network)
            for service in table.services.values where service.mode != .dnsRoundRobin {
                for virtual in service.virtualIPs where virtual.networkID == network {
                    guard let address = IPPrefix(virtual.address)?.address else { continue }
                    let backends = (serving[service.id] ?? []).filter { $0.isIPv4 == address.isIPv4 }
                    answer[network, default: []].append(VirtualService(address: address, backends: backends))
                }
            }
        }
        return answer
    }
}

extension NetworkAttachment {
    private var parsed: [IPAddress] { addresses.compactMap { IPPrefix($0)?.address } }
    var ipv4: IPAddress? { parsed.first(where: \.isIPv4) }
    var ipv6: IPAddress? { parsed.first { !$0.isIPv4 } }
}
