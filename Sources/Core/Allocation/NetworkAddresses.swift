public import PluginAPI

/// The addresses of the swarm's networks: which are in use, and which come next.
///
/// A plain value made from the objects of the moment, so that nothing drifts: an address is in use because somebody holds it. It counts
/// what it gives away itself, until it is forgotten.
public struct NetworkAddresses: Sendable {
    /// One network's.
    private struct Space: Sendable {
        /// IPv4 first.
        var pools: [AddressPool] = []
        var inUse: Set<IPAddress> = []
        /// Held by whoever came last, by family.
        var latest: [Bool: (time: Timestamp, address: IPAddress)] = [:]

        /// Known to have no address left, so that it is not looked for again.
        var isFull = false

        mutating func hold(_ prefix: String, since time: Timestamp, isInUse: Bool) {
            guard let address = IPPrefix(prefix)?.address else { return }
            if isInUse { inUse.insert(address) }
            if let known = latest[address.isIPv4], (known.time, known.address) >= (time, address) { return }
            latest[address.isIPv4] = (time, address)
        }

        mutating func give(_ wishes: [Bool: IPAddress], _ name: String) throws(ApusError) -> [IPPrefix] {
            var given: [IPPrefix] = []
            for pool in pools {
                let isIPv4 = pool.subnet.address.isIPv4
                let twin = given.first.flatMap { pool.counterpart(of: $0.address, in: $0) }.flatMap { inUse.contains($0) ? nil : $0 }
                let free = wishes[isIPv4] ?? twin ?? (isFull ? nil : pool.next(inUse: inUse, after: latest[isIPv4]?.address))
                guard let address = free, let prefix = IPPrefix(address, length: pool.subnet.length) else {
                    isFull = true
                    throw ApusError(.unavailable, "the network \(name) has no free address left in \(pool.subnet)")
                }
                given.append(prefix)
            }
            for prefix in given {
                inUse.insert(prefix.address)
                // Later than everybody of the past.
                latest[prefix.address.isIPv4] = (Timestamp(nanoseconds: .max), prefix.address)
            }
            return given
        }
    }

    private var spaces: [ID: Space] = [:]
    private var names: [ID: String] = [:]

    public init(
        networks: some Sequence<Network>, services: some Sequence<Service>, nodes: some Sequence<Node>, tasks: some Sequence<Task>
    ) {
        var ingress: ID?
        for network in networks {
            spaces[network.id] = Space(pools: network.addressPools)
            names[network.id] = network.spec.name
            if network.spec.ingress { ingress = network.id }
        }
        for service in services {
            for virtual in service.endpoint.virtualIPs {
                spaces[virtual.networkID]?.hold(virtual.address, since: service.createdAt, isInUse: true)
            }
        }
        if let ingress {
            for node in nodes { for address in node.meshAddresses { spaces[ingress]?.hold(address, since: node.createdAt, isInUse: true) } }
        }
        for task in tasks where !task.networks.isEmpty {
            for attachment in task.networks {
                for address in attachment.addresses {
                    spaces[attachment.network.id]?.hold(address, since: task.createdAt, isInUse: task.holdsAddresses)
                }
            }
        }
    }

    /// An address of every family that the network has, with its length: IPv4 first, and IPv6 with the same host part where that is free.
    ///
    /// - Parameter wanted: addresses to give, with or without a length; `invalidArgument` when they are not the network's to give, `conflict` when
    ///   somebody has them.
    /// - Throws: `notFound` without such a network; `unavailable` when no address is left.
    public mutating func give(in network: ID, wanted: [String] = []) throws(ApusError) -> [String] {
        guard let pools = spaces[network]?.pools else { throw ApusError(.notFound, "network \(network) not found") }
        let name = names[network] ?? network.text
        var wishes: [Bool: IPAddress] = [:]
        for text in wanted {
            guard let address = IPPrefix(text)?.address ?? IPAddress(text) else { throw ApusError(.invalidArgument, "\"\(text)\" is not an address") }
            guard pools.contains(where: { $0.contains(address) }) else {
                throw ApusError(.invalidArgument, "the address \(address) is not one that the network \(name) gives away")
            }
            guard spaces[network]?.inUse.contains(address) == false else {
                throw ApusError(.conflict, "the address \(address) in the network \(name) is in use")
            }
            wishes[address.isIPv4] = address
        }
        // In place: the set of what is in use may be large.
        return try spaces[network]?.give(wishes, name).map(\.description) ?? []
    }

    /// What was given and is not needed after all.
    public mutating func takeBack(_ addresses: [String], in network: ID) {
        for address in addresses.compactMap({ IPPrefix($0)?.address }) { spaces[network]?.inUse.remove(address) }
        spaces[network]?.isFull = false
    }

    /// What is in use in a network, its gateways left out.
    public func inUse(in network: ID) -> Set<IPAddress> { spaces[network]?.inUse ?? [] }
}

extension Task {
    /// Whether its addresses are not to be given to anybody else: until it is known that nothing of it runs any more.
    ///
    /// The place of a container that is still new has its wishes there.
    public var holdsAddresses: Bool { !status.state.isTerminal && !(isAttachment && status.state == .new) }

    /// Whether it stands for a container of a node's own in an attachable network.
    public var isAttachment: Bool { spec.runtime == TaskSpec.attachmentRuntime }
}

extension TaskSpec {
    /// `runtime` of a task that stands for a container of a node's own in an attachable network.
    public static var attachmentRuntime: String { "attachment" }
}

extension Network {
    /// The pools of its subnets, IPv4 first; those that cannot be read are left out.
    public var addressPools: [AddressPool] {
        let reserved = reservedAddresses.values.compactMap { IPAddress($0) }
        let pools = (ipam?.configs ?? []).compactMap { pool -> AddressPool? in
            guard let subnet = IPPrefix(pool.subnet) else { return nil }
            return try? AddressPool(subnet: subnet, gateway: IPAddress(pool.gateway), range: IPPrefix(pool.range), reserved: reserved)
        }
        return pools.filter(\.subnet.address.isIPv4) + pools.filter { !$0.subnet.address.isIPv4 }
    }

    /// The subnets of the network.
    public var subnets: [IPPrefix] { (ipam?.configs ?? []).compactMap { IPPrefix($0.subnet)?.network } }

    /// Addresses that other things than containers have, by name (`--aux-address`); kept among the options of the address management.
    public var reservedAddresses: [String: String] {
        var addresses: [String: String] = [:]
        for (key, value) in ipam?.options ?? [:] where key.hasPrefix(IPAMConfig.reservedPrefix) {
            addresses[String(key.dropFirst(IPAMConfig.reservedPrefix.count))] = value
        }
        return addresses
    }
}

extension IPAMConfig {
    /// Before the name of an auxiliary address among the options.
    public static var reservedPrefix: String { "apus.reserved." }
}
