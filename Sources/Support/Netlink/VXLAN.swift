import CNetlink
import Glibc
import PluginAPI

/// A VXLAN device that neither learns nor floods: it sends what it has a forwarding entry for, and answers the questions of ARP and neighbour
/// discovery from its own neighbour entries.
public struct VXLANDevice: Sendable, Hashable {
    public var name: String
    /// 24 bits.
    public var vni: UInt32
    /// The outer packets' source.
    public var local: IPAddress
    /// UDP, of the outer packets' destination and of the socket on which they are received.
    public var port: UInt16

    public init(name: String, vni: UInt32, local: IPAddress, port: UInt16) {
        self.name = name
        self.vni = vni
        self.local = local
        self.port = port
    }
}

extension NetlinkSocket {
    /// Makes a VXLAN device, down, in the namespace of a descriptor. Its UDP socket, and so its way to other machines, is in this socket's namespace.
    /// - Throws: `conflict` when the name is taken, or another device of this namespace has the number and the port.
    public func createVXLAN(_ device: VXLANDevice, inNamespace descriptor: Int32, mtu: Int) throws(ApusError) {
        try Self.checkName(device.name)
        guard let link = rtnl_link_vxlan_alloc() else { throw .outOfMemory }
        defer { rtnl_link_put(link) }
        rtnl_link_set_name(link, device.name)
        rtnl_link_set_ns_fd(link, descriptor)
        rtnl_link_set_mtu(link, UInt32(mtu))
        let local = try NetlinkAddress(device.local)
        let doing = "cannot make the VXLAN device \(device.name)"
        try check(rtnl_link_vxlan_set_id(link, device.vni), doing)
        try check(rtnl_link_vxlan_set_local(link, local.pointer), doing)
        try check(rtnl_link_vxlan_set_port(link, UInt32(device.port)), doing)
        try check(rtnl_link_vxlan_set_learning(link, 0), doing)
        try check(rtnl_link_vxlan_set_proxy(link, 1), doing)
        try check(rtnl_link_add(socket, link, NLM_F_CREATE | NLM_F_EXCL), doing)
    }

    /// The VXLAN device of this name; `nil` when there is none, or one that learns, or does not answer for others.
    public func vxlan(named name: String) throws(ApusError) -> VXLANDevice? {
        var found: OpaquePointer?
        let code = rtnl_link_get_kernel(socket, 0, name, &found)
        if code == -NLE_NODEV || code == -NLE_OBJ_NOTFOUND { return nil }
        try check(code, "cannot look at the network interface \(name)")
        guard let found else { return nil }
        defer { rtnl_link_put(found) }
        guard rtnl_link_is_vxlan(found) != 0, rtnl_link_vxlan_get_learning(found) == 0, rtnl_link_vxlan_get_proxy(found) == 1 else { return nil }
        var vni: UInt32 = 0
        var port: UInt32 = 0
        var address: OpaquePointer?
        guard rtnl_link_vxlan_get_id(found, &vni) == 0, rtnl_link_vxlan_get_port(found, &port) == 0,
            rtnl_link_vxlan_get_local(found, &address) == 0, let address
        else { return nil }
        defer { nl_addr_put(address) }
        guard let local = IPAddress(bytes: NetlinkAddress.bytes(address)) else { return nil }
        return VXLANDevice(name: name, vni: vni, local: local, port: UInt16(truncatingIfNeeded: port))
    }
}
