import PluginAPI

/// Which ports of the host lead where, computed from the containers and services there are. Pure.
struct PublishedPorts: Sendable {
    /// A port that somebody holds.
    struct Claim: Sendable, Hashable {
        var transport: TransportProtocol
        /// `nil`: all addresses.
        var address: IPAddress?
        var port: UInt16

        func collides(with other: Claim) -> Bool {
            guard transport == other.transport, port == other.port else { return false }
            return address == nil || other.address == nil || address == other.address
        }

        /// As Docker's message has it.
        var text: String { "\(address.map { $0.isIPv4 ? $0.description : "[\($0)]" } ?? "0.0.0.0"):\(port)" }
    }

    /// What a published port claims; `nil` without a host port.
    static func claim(_ port: ContainerPort) -> Claim? {
        guard let number = UInt16(exactly: port.hostPort), number > 0 else { return nil }
        return Claim(transport: port.transport, address: address(port.hostAddress), port: number)
    }

    /// The address that a port is published on; unspecified addresses mean all.
    static func address(_ text: String) -> IPAddress? {
        guard let address = IPAddress(text), address.bytes.contains(where: { $0 != 0 }) else { return nil }
        return address
    }

    static func allocated(_ claim: Claim) -> ApusError {
        ApusError(.conflict, "driver failed programming external connectivity: Bind for \(claim.text) failed: port is already allocated")
    }

    static func noSuchAddress(_ claim: Claim, _ address: IPAddress) -> ApusError {
        ApusError(
            .invalidArgument,
            "driver failed programming external connectivity: Bind for \(claim.text) failed: this machine does not have the address \(address)")
    }

    /// Throws `invalidArgument` for a port that cannot be published.
    static func check(_ port: ContainerPort) throws(ApusError) {
        guard (1...65535).contains(port.containerPort) else {
            throw ApusError(.invalidArgument, "invalid container port \(port.containerPort): a port is 1 to 65535")
        }
        guard port.hostPort <= 65535 else { throw ApusError(.invalidArgument, "invalid host port \(port.hostPort): a port is 1 to 65535") }
        guard port.hostAddress.isEmpty || IPAddress(port.hostAddress) != nil else {
            throw ApusError(.invalidArgument, "invalid host address \"\(port.hostAddress)\": write an IP address of this host")
        }
    }

    /// Throws `invalidArgument` for ports of one container that cannot be published, or not together.
    static func check(_ ports: [ContainerPort]) throws(ApusError) {
        struct Place: Hashable {
            var transport: TransportProtocol
            var port: UInt64
        }
        var addresses: [Place: [IPAddress?]] = [:]
        for port in ports {
            try check(port)
            guard port.hostPort != 0 else { continue }
            let (place, address) = (Place(transport: port.transport, port: port.hostPort), IPAddress(port.hostAddress))
            let others = addresses[place, default: []]
            guard !others.contains(where: { meet($0, address) }) else {
                let shown = Claim(transport: port.transport, address: address, port: UInt16(clamping: port.hostPort)).text
                throw ApusError(.invalidArgument, "the host port \(shown)/\(port.transport.rawValue) is published twice")
            }
            addresses[place] = others + [address]
        }
    }

    /// Whether two sockets of one port cannot be bound to these addresses at once. All addresses of one family leave room for those of the other: clients
    /// write `0.0.0.0` and `::` beside each other.
    private static func meet(_ left: IPAddress?, _ right: IPAddress?) -> Bool {
        guard let left, let right else { return true }
        guard left.isIPv4 == right.isIPv4 else { return false }
        return left == right || [left, right].contains { $0.bytes.allSatisfy { $0 == 0 } }
    }

    /// Without those that say again what an earlier one says: `0.0.0.0` and `::` are both all addresses here.
    static func withoutRepetitions(_ ports: [ContainerPort]) -> [ContainerPort] {
        struct Way: Hashable {
            var claim: Claim
            var target: UInt64
        }
        var seen: Set<Way> = []
        return ports.filter { port in
            guard let claim = claim(port) else { return true }
            return seen.insert(Way(claim: claim, target: port.containerPort)).inserted
        }
    }

    /// A port of the range that nobody has claimed, from a place that changes, so that a port is not used again at once.
    static func choose(
        _ transport: TransportProtocol, address: IPAddress?, in range: ClosedRange<UInt16>, taken: [Claim], from start: UInt16,
        isFree: (TransportProtocol, IPAddress?, UInt16) -> Bool
    ) throws(ApusError) -> UInt16 {
        let count = Int(range.upperBound) - Int(range.lowerBound) + 1
        for step in 0..<count {
            let port = UInt16(Int(range.lowerBound) + (Int(start) + step) % count)
            let claim = Claim(transport: transport, address: address, port: port)
            if taken.contains(where: { $0.collides(with: claim) }) || !isFree(transport, address, port) { continue }
            return port
        }
        throw ApusError(.unavailable, "all host ports from \(range.lowerBound) to \(range.upperBound) are in use; publish on a port of your choice")
    }

    /// Where a container is reached from its node: its addresses in the first of the node's own networks that it is in.
    static func reachableAddresses(of container: ContainerRecord, isLocal: (ID) -> Bool) -> (IPAddress, IPAddress?)? {
        for endpoint in container.configuration.endpoints where isLocal(endpoint.networkID) {
            guard let address = IPPrefix(endpoint.address)?.address else { continue }
            return (address, IPPrefix(endpoint.addressV6)?.address)
        }
        return nil
    }

    /// Everything that this node balances: the ports of services over their containers that serve, then the ports of single containers.
    ///
    /// - Parameters:
    ///   - isLocal: whether a network is this node's own; by its address there a container is reached from the node.
    ///   - remote: the addresses in the mesh of each service's tasks on other nodes.
    static func balancerState(
        containers: some Collection<ContainerRecord>, servicePorts: [ID: [PortConfig]], subnets: [IPPrefix],
        isLocal: (ID) -> Bool = { _ in true }, remote: [ID: [IPAddress]] = [:]
    ) -> BalancerState {
        var backends: [Claim: [Backend]] = [:]
        // Whoever runs a container on a port had it before the service that wants it too.
        let own = containers.filter(\.isRunning).flatMap { $0.notes.publishedPorts.compactMap(claim) }
        func ingress(_ port: PortConfig) -> Claim? {
            guard port.publishMode == .ingress, let number = UInt16(exactly: port.publishedPort), number > 0 else { return nil }
            let claim = Claim(transport: port.transport, address: nil, port: number)
            return own.contains { $0.collides(with: claim) } ? nil : claim
        }
        for (service, ports) in servicePorts {
            for port in ports {
                guard let claim = ingress(port), let target = UInt16(exactly: port.targetPort) else { continue }
                backends[claim, default: []] += (remote[service] ?? []).map { Backend(address: $0, port: target) }
            }
        }
        for container in containers where container.isRunning {
            guard let (ipv4, ipv6) = reachableAddresses(of: container, isLocal: isLocal) else { continue }
            let addresses = [ipv4, ipv6].compactMap { $0 }
            let isTask = !container.notes.taskID.isEmpty
            if isTask, !container.isServing { continue }
            if isTask {
                for port in servicePorts[container.notes.serviceID] ?? [] {
                    guard let claim = ingress(port), let target = UInt16(exactly: port.targetPort) else { continue }
                    backends[claim, default: []] += addresses.map { Backend(address: $0, port: target) }
                }
            }
            for port in container.notes.publishedPorts {
                guard let claim = claim(port), let target = UInt16(exactly: port.containerPort) else { continue }
                backends[claim, default: []] += addresses.map { Backend(address: $0, port: target) }
            }
        }
        let ports = backends.map { key, backends in
            BalancedPort(
                transport: key.transport, port: key.port, hostAddress: key.address,
                backends: backends.sorted { ($0.address, $0.port) < ($1.address, $1.port) })
        }
        return BalancerState(
            ports: ports.sorted {
                ($0.port, $0.transport.rawValue, $0.hostAddress?.description ?? "") < (
                    $1.port, $1.transport.rawValue, $1.hostAddress?.description ?? ""
                )
            },
            subnets: subnets)
    }
}
