import CNetlink
import Glibc
import PluginAPI

/// A route of the main table.
public struct Route: Sendable, Hashable {
    /// Length 0 is the default route.
    public var destination: IPPrefix
    public var gateway: IPAddress?
    public var linkIndex: Int

    public init(destination: IPPrefix, gateway: IPAddress? = nil, linkIndex: Int) {
        self.destination = destination
        self.gateway = gateway
        self.linkIndex = linkIndex
    }

    /// The default route of the gateway's family.
    public static func byDefault(gateway: IPAddress, linkIndex: Int) -> Route? {
        guard let zero = IPAddress(bytes: [UInt8](repeating: 0, count: gateway.bytes.count)), let all = IPPrefix(zero, length: 0) else { return nil }
        return Route(destination: all, gateway: gateway, linkIndex: linkIndex)
    }
}

/// Who is where on a link.
public struct Neighbour: Sendable, Hashable {
    public var linkIndex: Int
    public var address: IPAddress
    public var macAddress: MACAddress

    public init(linkIndex: Int, address: IPAddress, macAddress: MACAddress) {
        self.linkIndex = linkIndex
        self.address = address
        self.macAddress = macAddress
    }
}

extension NetlinkSocket {
    /// The routes of the main table.
    public func routes() throws(ApusError) -> [Route] {
        var found: [Route] = []
        for family in [AF_INET, AF_INET6] {
            var cache: OpaquePointer?
            try check(rtnl_route_alloc_cache(socket, family, 0, &cache), "cannot list the routes")
            guard let cache else { continue }
            defer { nl_cache_free(cache) }
            found += readCache(cache) { pointer in
                guard rtnl_route_get_table(pointer) == UInt32(RT_TABLE_MAIN.rawValue), let hop = rtnl_route_nexthop_n(pointer, 0) else { return nil }
                let length = rtnl_route_get_dst(pointer).map { Int(nl_addr_get_prefixlen($0)) } ?? 0
                var bytes = NetlinkAddress.bytes(rtnl_route_get_dst(pointer))
                if bytes.isEmpty { bytes = [UInt8](repeating: 0, count: family == AF_INET ? 4 : 16) }
                guard let address = IPAddress(bytes: bytes), let destination = IPPrefix(address, length: length) else { return nil }
                return Route(
                    destination: destination, gateway: IPAddress(bytes: NetlinkAddress.bytes(rtnl_route_nh_get_gateway(hop))),
                    linkIndex: Int(rtnl_route_nh_get_ifindex(hop)))
            }
        }
        return found
    }

    /// Adds a route, or replaces the one to the same destination.
    public func setRoute(_ route: Route) throws(ApusError) {
        let request = try RouteRequest(route)
        try check(
            rtnl_route_add(socket, request.pointer, NLM_F_CREATE | NLM_F_REPLACE),
            "cannot set the route to \(route.destination)" + (route.gateway.map { " by \($0)" } ?? ""))
    }

    /// Removes a route. Succeeds when there is none.
    public func removeRoute(_ route: Route) throws(ApusError) {
        let request = try RouteRequest(route)
        let code = rtnl_route_delete(socket, request.pointer, 0)
        if code == -NLE_OBJ_NOTFOUND || code == -NLE_NODEV { return }
        try check(code, "cannot remove the route to \(route.destination)")
    }

    /// The neighbours with a known hardware address.
    public func neighbours() throws(ApusError) -> [Neighbour] {
        var cache: OpaquePointer?
        try check(rtnl_neigh_alloc_cache(socket, &cache), "cannot list the neighbours")
        guard let cache else { return [] }
        defer { nl_cache_free(cache) }
        return readCache(cache) { pointer in
            guard let address = IPAddress(bytes: NetlinkAddress.bytes(rtnl_neigh_get_dst(pointer))),
                let macAddress = MACAddress(bytes: NetlinkAddress.bytes(rtnl_neigh_get_lladdr(pointer)))
            else { return nil }
            return Neighbour(linkIndex: Int(rtnl_neigh_get_ifindex(pointer)), address: address, macAddress: macAddress)
        }
    }

    /// Adds a permanent neighbour, or replaces what is known about its address.
    public func setNeighbour(_ neighbour: Neighbour) throws(ApusError) {
        let request = try NeighbourRequest(neighbour)
        rtnl_neigh_set_state(request.pointer, Int32(NUD_PERMANENT))
        try check(rtnl_neigh_add(socket, request.pointer, NLM_F_CREATE | NLM_F_REPLACE), "cannot set the neighbour \(neighbour.address)")
    }

    /// Removes a neighbour. Succeeds when there is none.
    public func removeNeighbour(_ neighbour: Neighbour) throws(ApusError) {
        let request = try NeighbourRequest(neighbour)
        let code = rtnl_neigh_delete(socket, request.pointer, 0)
        if code == -NLE_OBJ_NOTFOUND || code == -NLE_NODEV { return }
        try check(code, "cannot remove the neighbour \(neighbour.address)")
    }
}

/// A libnl route for the time of a request.
private final class RouteRequest {
    let pointer: OpaquePointer

    init(_ route: Route) throws(ApusError) {
        guard let made = rtnl_route_alloc() else { throw .outOfMemory }
        pointer = made
        rtnl_route_set_table(made, UInt32(RT_TABLE_MAIN.rawValue))
        rtnl_route_set_scope(made, UInt8(route.gateway == nil ? RT_SCOPE_LINK.rawValue : RT_SCOPE_UNIVERSE.rawValue))
        let destination = try NetlinkAddress(route.destination.network.address, length: route.destination.length)
        try check(rtnl_route_set_dst(made, destination.pointer), "cannot use the route to \(route.destination)")
        guard let hop = rtnl_route_nh_alloc() else { throw .outOfMemory }
        rtnl_route_nh_set_ifindex(hop, Int32(route.linkIndex))
        if let gateway = route.gateway {
            let address = try NetlinkAddress(gateway)
            rtnl_route_nh_set_gateway(hop, address.pointer)
        }
        // The route owns the hop from here on.
        rtnl_route_add_nexthop(made, hop)
    }

    deinit { rtnl_route_put(pointer) }
}

/// A libnl neighbour for the time of a request.
private final class NeighbourRequest {
    let pointer: OpaquePointer

    init(_ neighbour: Neighbour) throws(ApusError) {
        guard let made = rtnl_neigh_alloc() else { throw .outOfMemory }
        pointer = made
        rtnl_neigh_set_ifindex(made, Int32(neighbour.linkIndex))
        let address = try NetlinkAddress(neighbour.address)
        try check(rtnl_neigh_set_dst(made, address.pointer), "cannot use the neighbour's address \(neighbour.address)")
        let hardware = try NetlinkAddress(neighbour.macAddress)
        rtnl_neigh_set_lladdr(made, hardware.pointer)
    }

    deinit { rtnl_neigh_put(pointer) }
}
