import Netlink
import PluginAPI

/// The mesh's device, and the routing that leads marked packets to it.
///
/// What is marked goes by a routing table of its own to a gateway that does not exist: its neighbour entry only makes the kernel hand the packet to the
/// device, whose egress hook puts the right node's hardware address in.
enum MeshDevices {
    /// Of the routing table.
    static let table: UInt32 = 0x4150
    /// Before the main table's 32766, and before those that VPNs are used to.
    private static let preference: UInt32 = 4150
    /// After the main and the default table.
    private static let fallbackPreference: UInt32 = 33000
    private static let gateways = [IPAddress(v4: 169, 254, 65, 80), IPAddress("fe80::4150")].compactMap { $0 }
    /// The device's own. Without any, the check of the return path lets nothing pass; nobody uses it.
    private static let deviceAddress = IPAddress(v4: 169, 254, 65, 81)
    private static let gatewayMAC = MACAddress(containerWith: IPAddress(v4: 255, 255, 255, 254))

    /// The MTU of the interface that has the underlay's address, in bytes.
    /// - Throws: `notFound` when none has.
    static func mtu(ofUnderlay underlay: IPAddress, _ netlink: NetlinkSocket) throws(ApusError) -> Int {
        guard let address = try netlink.addresses().first(where: { $0.prefix.address == underlay }), let link = try netlink.link(at: address.linkIndex)
        else { throw ApusError(.notFound, "no interface of this node has the data path address \(underlay)") }
        return link.mtu
    }

    /// Makes what is missing, and removes what is wrong. Returns the device's index.
    static func makeAll(_ plan: MeshPlan, _ netlink: NetlinkSocket, _ log: (LogLevel, String) -> Void) throws(ApusError) -> Int {
        if try SystemSetting.ensure("net/ipv4/ip_forward", "1") {
            log(.info, "net.ipv4.ip_forward was off; it is on now, for published ports of tasks on other nodes")
        }
        if plan.state.addressV6 != nil, try SystemSetting.ensure("net/ipv6/conf/all/forwarding", "1") {
            log(.info, "net.ipv6.conf.all.forwarding was off; it is on now, for published ports of tasks on other nodes")
        }
        let index = try makeDevice(plan, netlink)
        for entry in plan.forwarding { try netlink.setMeshForwarding(entry, ofLinkAt: index) }
        for entry in try netlink.meshForwarding(ofLinkAt: index) where !plan.forwarding.contains(entry) {
            try netlink.removeMeshForwarding(entry, ofLinkAt: index)
        }
        for gateway in gateways where gateway.isIPv4 || plan.state.addressV6 != nil {
            try netlink.setNeighbour(Neighbour(linkIndex: index, address: gateway, macAddress: gatewayMAC))
            try netlink.setDefaultRoute(ofTable: table, gateway: gateway, linkIndex: index)
        }
        let wanted = policyRules(plan)
        let present = Set(try netlink.policyRules(toTable: table))
        for rule in wanted.subtracting(present) { try netlink.addPolicyRule(rule) }
        for rule in present.subtracting(wanted) { try netlink.removePolicyRule(rule) }
        return index
    }

    /// Whether all but the forwarding entries, which go with the device, is as `makeAll` leaves it.
    static func isIntact(_ plan: MeshPlan, linkIndex: Int, _ netlink: NetlinkSocket) throws(ApusError) -> Bool {
        guard let link = try netlink.link(named: plan.device.name), link.index == linkIndex, link.isUp,
            try netlink.meshDevice(named: plan.device.name) == plan.device
        else { return false }
        let routes = try netlink.defaultRoutes(ofTable: table)
        guard routes[true] == linkIndex, plan.state.addressV6 == nil || routes[false] == linkIndex else { return false }
        return policyRules(plan).isSubset(of: try netlink.policyRules(toTable: table))
    }

    /// Removes the device, with its routes and entries, and the rules that lead to it.
    static func removeAll(_ netlink: NetlinkSocket) throws(ApusError) {
        for rule in try netlink.policyRules(toTable: table) { try netlink.removePolicyRule(rule) }
        try netlink.removeLink(named: Mesh.deviceName)
    }

    private static func makeDevice(_ plan: MeshPlan, _ netlink: NetlinkSocket) throws(ApusError) -> Int {
        let device = plan.device
        var present = try netlink.meshDevice(named: device.name)
        // The MTU can be changed; everything else makes another device.
        present?.mtu = device.mtu
        if present != device {
            try netlink.removeLink(named: device.name)
            try netlink.createMeshDevice(device)
        }
        guard let link = try netlink.link(named: device.name) else { throw ApusError(.failed, "the interface \(device.name) vanished while it was made") }
        // Clients come by other interfaces than those where the routes to them lead: 2 accepts them where the setting of all interfaces is 1.
        let settings = [
            ("ipv4", "rp_filter", "2"), ("ipv4", "src_valid_mark", "1"), ("ipv4", "route_localnet", "1"), ("ipv4", "accept_redirects", "0"),
            ("ipv4", "send_redirects", "0"), ("ipv6", "disable_ipv6", plan.state.addressV6 == nil ? "1" : "0"), ("ipv6", "accept_ra", "0"),
            ("ipv6", "addr_gen_mode", "1"),
        ]
        for (family, setting, value) in settings { try SystemSetting.ensure("net/\(family)/conf/\(device.name)/\(setting)", value) }
        if let address = IPPrefix(deviceAddress, length: 32) { try netlink.addAddress(address, toLinkAt: link.index) }
        if !link.isUp || link.mtu != device.mtu { try netlink.change(linkAt: link.index, LinkChange(isUp: true, mtu: device.mtu)) }
        return link.index
    }

    private static func policyRules(_ plan: MeshPlan) -> Set<PolicyRule> {
        var rules: Set<PolicyRule> = []
        for prefix in [plan.state.address, plan.state.addressV6] {
            guard let prefix = prefix?.network else { continue }
            let isIPv4 = prefix.address.isIPv4
            var marked = PolicyRule(isIPv4: isIPv4, preference: preference, table: table)
            (marked.mark, marked.markMask) = (MeshMarks.brought, MeshMarks.routedMask)
            rules.insert(marked)
            // The node's own connections are routed once before they have their mark: where no route leads anywhere, this one does.
            var fallback = PolicyRule(isIPv4: isIPv4, preference: fallbackPreference, table: table)
            fallback.destination = prefix
            rules.insert(fallback)
            guard isIPv4 else { continue }
            // An address of the loopback interface may not leave by most interfaces.
            var loopback = PolicyRule(isIPv4: true, preference: preference, table: table)
            (loopback.source, loopback.destination) = (IPPrefix(IPAddress(v4: 127, 0, 0, 0), length: 8), prefix)
            rules.insert(loopback)
            // The check of the return path asks with the mark of what arrived: also where no route leads to the client, this one does.
            var check = PolicyRule(isIPv4: true, preference: fallbackPreference, table: table)
            (check.mark, check.markMask) = (MeshMarks.arrived, MeshMarks.kindMask)
            rules.insert(check)
        }
        return rules
    }
}
