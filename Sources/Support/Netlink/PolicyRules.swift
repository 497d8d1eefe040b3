import CNetlink
import Glibc
import PluginAPI

/// A rule that says for which packets a routing table is asked. What is `nil` matches everything.
public struct PolicyRule: Sendable, Hashable {
    public var isIPv4: Bool
    /// Rules are asked from the lowest up; the main table's is 32766.
    public var preference: UInt32
    public var table: UInt32
    public var source: IPPrefix?
    public var destination: IPPrefix?
    /// Of the packet, under the mask.
    public var mark: UInt32?
    public var markMask: UInt32 = 0xffff_ffff
    /// By which the packet came; `lo` for what the node sends itself.
    public var incomingInterface: String?

    public init(isIPv4: Bool, preference: UInt32, table: UInt32) {
        self.isIPv4 = isIPv4
        self.preference = preference
        self.table = table
    }
}

extension NetlinkSocket {
    /// The rules that lead to a table, of both families.
    public func policyRules(toTable table: UInt32) throws(ApusError) -> [PolicyRule] {
        var cache: OpaquePointer?
        // Whatever family is asked for, libnl gives all.
        try check(rtnl_rule_alloc_cache(socket, AF_UNSPEC, &cache), "cannot list the routing rules")
        guard let cache else { return [] }
        defer { nl_cache_free(cache) }
        return readCache(cache) { pointer in
            let family = rtnl_rule_get_family(pointer)
            guard rtnl_rule_get_table(pointer) == table, family == AF_INET || family == AF_INET6 else { return nil }
            return Self.read(pointer, isIPv4: family == AF_INET)
        }
    }

    /// Adds a rule. Succeeds when it is there.
    public func addPolicyRule(_ rule: PolicyRule) throws(ApusError) {
        let request = try PolicyRuleRequest(rule)
        let code = rtnl_rule_add(socket, request.pointer, NLM_F_CREATE | NLM_F_EXCL)
        if code == -NLE_EXIST { return }
        try check(code, "cannot add the routing rule \(rule.preference)")
    }

    /// Removes a rule. Succeeds when there is none.
    public func removePolicyRule(_ rule: PolicyRule) throws(ApusError) {
        let request = try PolicyRuleRequest(rule)
        let code = rtnl_rule_delete(socket, request.pointer, 0)
        if code == -NLE_OBJ_NOTFOUND || code == -NLE_NOADDR { return }
        try check(code, "cannot remove the routing rule \(rule.preference)")
    }

    /// Makes a link the default route of a table other than main, by a gateway that need not be in any of the link's networks.
    public func setDefaultRoute(ofTable table: UInt32, gateway: IPAddress, linkIndex: Int) throws(ApusError) {
        guard let route = rtnl_route_alloc(), let hop = rtnl_route_nh_alloc() else { throw .outOfMemory }
        defer { rtnl_route_put(route) }
        rtnl_route_set_table(route, table)
        rtnl_route_set_scope(route, UInt8(RT_SCOPE_UNIVERSE.rawValue))
        let zero = IPAddress(bytes: [UInt8](repeating: 0, count: gateway.bytes.count)) ?? gateway
        let destination = try NetlinkAddress(zero, length: 0)
        let address = try NetlinkAddress(gateway)
        rtnl_route_nh_set_ifindex(hop, Int32(linkIndex))
        rtnl_route_nh_set_gateway(hop, address.pointer)
        rtnl_route_nh_set_flags(hop, UInt32(RTNH_F_ONLINK))
        // The route owns the hop from here on.
        rtnl_route_add_nexthop(route, hop)
        try check(rtnl_route_set_dst(route, destination.pointer), "cannot use the default route by \(gateway)")
        try check(rtnl_route_add(socket, route, NLM_F_CREATE | NLM_F_REPLACE), "cannot set the default route of the routing table \(table)")
    }

    /// The links that are the default route of a table, by family: whether IPv4, and the link's index.
    public func defaultRoutes(ofTable table: UInt32) throws(ApusError) -> [Bool: Int] {
        var found: [Bool: Int] = [:]
        for family in [AF_INET, AF_INET6] {
            var cache: OpaquePointer?
            try check(rtnl_route_alloc_cache(socket, family, 0, &cache), "cannot list the routes")
            guard let cache else { continue }
            defer { nl_cache_free(cache) }
            for link in readCache(
                cache,
                { pointer -> Int? in
                    guard rtnl_route_get_table(pointer) == table, rtnl_route_get_dst(pointer).map({ nl_addr_get_prefixlen($0) == 0 }) ?? true,
                        let hop = rtnl_route_nexthop_n(pointer, 0)
                    else { return nil }
                    return Int(rtnl_route_nh_get_ifindex(hop))
                })
            {
                found[family == AF_INET] = link
            }
        }
        return found
    }

    private static func read(_ pointer: OpaquePointer, isIPv4: Bool) -> PolicyRule? {
        var rule = PolicyRule(isIPv4: isIPv4, preference: rtnl_rule_get_prio(pointer), table: rtnl_rule_get_table(pointer))
        func prefix(_ address: OpaquePointer?) -> IPPrefix? {
            guard let address, let value = IPAddress(bytes: NetlinkAddress.bytes(address)) else { return nil }
            return IPPrefix(value, length: Int(nl_addr_get_prefixlen(address)))
        }
        rule.source = prefix(rtnl_rule_get_src(pointer))
        rule.destination = prefix(rtnl_rule_get_dst(pointer))
        let mask = rtnl_rule_get_mask(pointer)
        if mask != 0 { (rule.mark, rule.markMask) = (rtnl_rule_get_mark(pointer), mask) }
        rule.incomingInterface = rtnl_rule_get_iif(pointer).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
        return rule
    }
}

/// A libnl rule for the time of a request.
private final class PolicyRuleRequest {
    let pointer: OpaquePointer

    init(_ rule: PolicyRule) throws(ApusError) {
        guard let made = rtnl_rule_alloc() else { throw .outOfMemory }
        pointer = made
        rtnl_rule_set_family(made, rule.isIPv4 ? AF_INET : AF_INET6)
        rtnl_rule_set_prio(made, rule.preference)
        rtnl_rule_set_table(made, rule.table)
        rtnl_rule_set_action(made, UInt8(FR_ACT_TO_TBL))
        if let mark = rule.mark {
            rtnl_rule_set_mark(made, mark)
            rtnl_rule_set_mask(made, rule.markMask)
        }
        if let source = rule.source {
            let address = try NetlinkAddress(source.network.address, length: source.length)
            try check(rtnl_rule_set_src(made, address.pointer), "cannot use the source \(source)")
        }
        if let destination = rule.destination {
            let address = try NetlinkAddress(destination.network.address, length: destination.length)
            try check(rtnl_rule_set_dst(made, address.pointer), "cannot use the destination \(destination)")
        }
        if let name = rule.incomingInterface { try check(rtnl_rule_set_iif(made, name), "cannot use the interface \(name)") }
    }

    deinit { rtnl_rule_put(pointer) }
}
