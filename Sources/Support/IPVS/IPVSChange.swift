import PluginAPI

/// One step from what the kernel has to what is wanted.
public enum IPVSChange: Sendable, Hashable, CustomStringConvertible {
    case addServer(VirtualServer)
    case removeServer(VirtualServer)
    /// With weight 1.
    case add(RealServer, VirtualServer)
    case setWeight(UInt32, RealServer, VirtualServer)
    case remove(RealServer, VirtualServer)

    public var description: String {
        switch self {
        case .addServer(let server): "add the virtual server \(server)"
        case .removeServer(let server): "remove the virtual server \(server)"
        case .add(let destination, let server): "add \(destination) to \(server)"
        case .setWeight(let weight, let destination, let server): "set the weight of \(destination) in \(server) to \(weight)"
        case .remove(let destination, let server): "remove \(destination) from \(server)"
        }
    }
}

extension VirtualServer: CustomStringConvertible {
    public var description: String { "mark 0x\(String(mark, radix: 16)) of IPv\(isIPv4 ? 4 : 6)" }
}

extension RealServer: CustomStringConvertible {
    public var description: String { (address.isIPv4 ? "\(address)" : "[\(address)]") + (port == 0 ? "" : ":\(port)") }
}

/// The virtual servers of a namespace with their destinations, and how one such picture becomes another. Pure.
public struct IPVSTable: Sendable, Hashable {
    public var servers: [VirtualServer: [RealServerState]]

    public init(servers: [VirtualServer: [RealServerState]] = [:]) { self.servers = servers }

    /// What is to be done, in order, so that at no moment a connection is refused that somebody could answer.
    public struct Difference: Sendable, Hashable {
        /// Before the first packet gets a new mark.
        public var preparing: [IPVSChange] = []
        /// After the last packet has had an old mark.
        public var finishing: [IPVSChange] = []
        /// Whether destinations stay only for as long as they have connections: there will be another difference.
        public var isDraining = false

        public var isEmpty: Bool { preparing.isEmpty && finishing.isEmpty }
    }

    /// - Parameters:
    ///   - wanted: the destinations that get new connections.
    ///   - isOurs: whether a virtual server that is not wanted is ours to remove.
    ///   - drains: whether a virtual server's destinations keep their connections. Where flows have no end that IPVS could see, they are
    ///     removed at once instead.
    public func difference(
        to wanted: [VirtualServer: Set<RealServer>], isOurs: (VirtualServer) -> Bool, drains: (VirtualServer) -> Bool
    ) -> Difference {
        var difference = Difference()
        let unwanted = servers.keys.filter { wanted[$0] == nil && isOurs($0) }
        for server in (Array(wanted.keys) + unwanted).sorted(by: Self.order) {
            let present = servers[server]
            if present == nil { difference.preparing.append(.addServer(server)) }
            let targets = wanted[server] ?? []
            let known = Set((present ?? []).map(\.server))
            for target in targets.subtracting(known).sorted(by: Self.order) { difference.preparing.append(.add(target, server)) }
            var isEmpty = targets.isEmpty
            for state in (present ?? []).sorted(by: { Self.order($0.server, $1.server) }) {
                if targets.contains(state.server) {
                    if state.weight != 1 { difference.preparing.append(.setWeight(1, state.server, server)) }
                } else if drains(server), state.activeConnections > 0 || state.inactiveConnections > 0 || state.weight > 0 {
                    // One with a weight may get a connection until it has none: that it is unused is only believed afterwards.
                    if state.weight > 0 { difference.finishing.append(.setWeight(0, state.server, server)) }
                    difference.isDraining = true
                    isEmpty = false
                } else {
                    difference.finishing.append(.remove(state.server, server))
                }
            }
            if isEmpty, wanted[server] == nil { difference.finishing.append(.removeServer(server)) }
        }
        return difference
    }

    private static func order(_ left: VirtualServer, _ right: VirtualServer) -> Bool {
        (left.mark, left.isIPv4 ? 0 : 1) < (right.mark, right.isIPv4 ? 0 : 1)
    }

    private static func order(_ left: RealServer, _ right: RealServer) -> Bool { (left.address, left.port) < (right.address, right.port) }
}

extension IPVSSocket {
    /// What the kernel has in the namespace, of the virtual servers that `isIncluded` wants.
    public func table(where isIncluded: (VirtualServer) -> Bool) throws(ApusError) -> IPVSTable {
        var table = IPVSTable()
        for server in try servers() where isIncluded(server) { table.servers[server] = try destinations(of: server) }
        return table
    }
}
