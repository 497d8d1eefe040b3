import Allocation
public import PluginAPI

/// The network objects that the API writes: with a subnet, a gateway and a number of their own, made in one transaction with the check that they are free.
public enum NetworkDraft {
    /// Networks that every node has, which no network of the swarm may be named after.
    public static let predefined: Set<String> = ["bridge", "host", "none"]

    /// The network that comes with a swarm.
    public static var ingressSpec: NetworkSpec {
        var spec = NetworkSpec()
        spec.name = "ingress"
        spec.ingress = true
        var driver = NetworkDriverState()
        driver.name = "overlay"
        spec.driver = driver
        return spec
    }

    /// A new network.
    ///
    /// Subnets that are not named come from the swarm's default pools, IPv6 ones from the swarm's own unique local addresses.
    /// - Parameter reserved: addresses that are never given away, by name.
    /// - Throws: `invalidArgument` for what is wrong in itself; `conflict` for a name or a number that another network has, or a second ingress network;
    ///   `permissionDenied` for the name of a predefined network and for a subnet that overlaps another one; `unavailable` when the pools are used up.
    public static func create(
        _ spec: NetworkSpec, reserved: [String: String] = [:], id: ID = ID.random(), in state: some SwarmState
    ) throws(ApusError) -> Network {
        var spec = spec
        // Published ports answer over both families.
        if spec.ingress { spec.ipv6 = true }
        spec.scope = "swarm"
        try NetworkValidation(spec: spec, reserved: reserved).check()
        guard !predefined.contains(spec.name) else {
            throw ApusError(.permissionDenied, "operation is not permitted on predefined \(spec.name) network")
        }
        if let other = state.allNetworks.first(where: { $0.spec.name == spec.name }) {
            throw ApusError(.conflict, "network with name \(other.spec.name) already exists")
        }
        if spec.ingress, let other = state.ingressNetwork {
            throw ApusError(.conflict, "ingress network (\(other.id)) is already present: remove \"\(other.spec.name)\" first")
        }
        var network = Network()
        network.id = id
        network.driver = spec.driver ?? NetworkDriverState()
        if network.driver.name.isEmpty { network.driver.name = "overlay" }
        spec.driver = network.driver
        network.spec = spec
        let networks = state.allNetworks.sorted { ($0.createdAt, $0.vni, $0.id) < ($1.createdAt, $1.vni, $1.id) }
        network.vni = try vni(of: spec, networks)
        network.driver.options[vniOption] = String(network.vni)
        var ipam = IPAMConfig()
        // The default one. Docker's clients want an object here, and nothing when there is nothing to say.
        ipam.driver = ""
        for (name, address) in reserved { ipam.options[IPAMConfig.reservedPrefix + name] = address }
        ipam.configs = try subnets(of: network, networks, state.cluster ?? Cluster())
        for pool in ipam.configs { try check(pool, reserved, among: networks) }
        network.ipam = ipam
        return network
    }

    /// Whether a network may be removed.
    /// - Throws: `invalidArgument`, as swarm's status has it, naming who uses the network.
    public static func checkRemoval(of network: Network, in state: some SwarmState) throws(ApusError) {
        let users = users(of: network, in: state)
        guard let first = users.first else { return }
        guard !network.spec.ingress else {
            throw ApusError(
                .invalidArgument,
                "ingress network cannot be removed because \(first) depends on it\(more(users)): unpublish the ports or remove the services first")
        }
        throw ApusError(.invalidArgument, "network \(network.spec.name) is in use by \(first)\(more(users))")
    }

    private static func more(_ users: [String]) -> String {
        users.count > 1 ? " (and \(users.count - 1) more: \(users[1..<min(5, users.count)].joined(separator: ", "))\(users.count > 5 ? ", …" : ""))" : ""
    }

    /// Who keeps a network from being removed, in words: services first, then tasks of others that still end, and containers.
    public static func users(of network: Network, in state: some SwarmState) -> [String] {
        var users: [String] = []
        var services: Set<ID> = []
        for service in state.allServices.sorted(by: { $0.spec.name < $1.spec.name }) where isUser(service, of: network) {
            services.insert(service.id)
            users.append("service \(service.spec.name)")
        }
        // What has no interface in the network does not hold it.
        guard !network.spec.ingress else { return users }
        let tasks = state.allTasks.filter { task in
            !services.contains(task.serviceID) && !task.status.state.isTerminal && task.networks.contains { $0.network.id == network.id }
        }
        for task in tasks.sorted(by: { $0.id < $1.id }) {
            users.append(task.isAttachment ? "container \(task.serviceName) of node \(task.nodeID)" : "task \(task.name)")
        }
        return users
    }

    private static func isUser(_ service: Service, of network: Network) -> Bool {
        if network.spec.ingress { return service.spec.endpoint?.ports.contains { $0.publishMode == .ingress } ?? false }
        let wanted = service.spec.task.networks.isEmpty ? service.spec.networks : service.spec.task.networks
        return wanted.contains { $0.target == network.id.text || $0.target == network.spec.name }
    }

    // MARK: Numbers and subnets

    /// The option with which swarm's users choose a network's number.
    static let vniOption = "com.docker.network.driver.overlay.vxlanid_list"

    private static func vni(of spec: NetworkSpec, _ networks: [Network]) throws(ApusError) -> UInt64 {
        let taken = Set(networks.map(\.vni))
        if let text = spec.driver?.options[vniOption] {
            guard let number = UInt64(text), (1...SubnetChoice.lastVNI).contains(number) else {
                throw ApusError(.invalidArgument, "\(vniOption)=\(ServiceValidation.printable(text)): one number from 1 to \(SubnetChoice.lastVNI) is expected")
            }
            if let other = networks.first(where: { $0.vni == number }) {
                throw ApusError(.conflict, "\(vniOption)=\(number): network \(other.spec.name) has this number")
            }
            return number
        }
        let previous = networks.last { $0.vni >= SubnetChoice.firstVNI }?.vni
        guard let number = SubnetChoice.vni(avoiding: taken, after: previous) else {
            throw ApusError(.unavailable, "all numbers of VXLAN are in use; remove networks first")
        }
        return number
    }

    private static func subnets(of network: Network, _ networks: [Network], _ cluster: Cluster) throws(ApusError) -> [IPAMPool] {
        let wanted = network.spec.ipam?.configs ?? []
        let named = wanted.filter { !$0.subnet.isEmpty }
        var pools: [IPAMPool] = []
        if let pool = named.first(where: { IPPrefix($0.subnet)?.address.isIPv4 == true }) {
            pools.append(pool)
        } else {
            var pool = IPAMPool()
            pool.subnet = try free(for: network.spec, networks, cluster).description
            pools.append(pool)
        }
        if network.spec.ipv6 {
            if let pool = named.first(where: { IPPrefix($0.subnet)?.address.isIPv4 == false }) {
                pools.append(pool)
            } else {
                var pool = IPAMPool()
                pool.subnet = try freeV6(networks, network, cluster).description
                pools.append(pool)
            }
        }
        return try pools.map { pool throws(ApusError) in
            var pool = pool
            guard let subnet = IPPrefix(pool.subnet) else { throw ApusError(.invalidArgument, "invalid subnet \(pool.subnet)") }
            let addresses = try AddressPool(subnet: subnet, gateway: IPAddress(pool.gateway), range: IPPrefix(pool.range))
            pool.subnet = addresses.subnet.description
            pool.gateway = addresses.gateway.description
            return pool
        }
    }

    /// A subnet of the default pools.
    private static func free(for spec: NetworkSpec, _ networks: [Network], _ cluster: Cluster) throws(ApusError) -> IPPrefix {
        let pools = (cluster.defaultAddressPool.isEmpty ? ["10.0.0.0/8"] : cluster.defaultAddressPool).compactMap { IPPrefix($0) }
        let size = cluster.subnetSize == 0 ? 24 : Int(clamping: cluster.subnetSize)
        let taken = networks.flatMap(\.subnets)
        // Every published task and every node has an address in there: it is to be wide, where enough is left for all others.
        if spec.ingress, let wide = SubnetChoice.subnet(from: pools.filter { $0.length <= 14 }, length: min(16, size), avoiding: taken) { return wide }
        let previous = networks.last?.subnets.first
        guard let subnet = SubnetChoice.subnet(from: pools, length: size, avoiding: taken, after: previous) else {
            throw ApusError(
                .unavailable,
                "no subnet of /\(size) is left in the swarm's default pools (\(pools.map(\.description).joined(separator: ", "))); name one with --subnet")
        }
        return subnet
    }

    private static func freeV6(_ networks: [Network], _ network: Network, _ cluster: Cluster) throws(ApusError) -> IPPrefix {
        let taken = networks.flatMap(\.subnets)
        // The ingress network has the first one.
        let start: UInt16 = network.spec.ingress ? 0 : UInt16(truncatingIfNeeded: network.vni)
        var number = start
        repeat {
            if let subnet = SubnetChoice.uniqueLocal(of: cluster.id, number: number), !taken.contains(where: { $0.overlaps(subnet) }) { return subnet }
            number &+= 1
        } while number != start
        throw ApusError(.unavailable, "no IPv6 subnet is left; name one with --subnet")
    }

    private static func check(_ pool: IPAMPool, _ reserved: [String: String], among networks: [Network]) throws(ApusError) {
        guard let subnet = IPPrefix(pool.subnet) else { return }
        for other in networks {
            guard let clash = other.subnets.first(where: { $0.overlaps(subnet) }) else { continue }
            throw ApusError(
                .permissionDenied, "Pool overlaps with other one on this address space: \(subnet) and \(clash) of network \(other.spec.name)")
        }
    }
}
