import CNetlink
import Glibc
import PluginAPI

/// A VXLAN device that learns nothing: where each hardware address is, is said to it.
public struct MeshDevice: Sendable, Hashable {
    public var name: String
    public var vni: UInt32
    /// UDP.
    public var port: UInt16
    /// This node's address on the underlay.
    public var local: IPAddress
    public var macAddress: MACAddress
    public var mtu: Int

    public init(name: String, vni: UInt32, port: UInt16, local: IPAddress, macAddress: MACAddress, mtu: Int) {
        self.name = name
        self.vni = vni
        self.port = port
        self.local = local
        self.macAddress = macAddress
        self.mtu = mtu
    }
}

/// Behind which node's address a hardware address is.
public struct MeshForwarding: Sendable, Hashable {
    public var macAddress: MACAddress
    public var node: IPAddress

    public init(macAddress: MACAddress, node: IPAddress) {
        self.macAddress = macAddress
        self.node = node
    }
}

extension NetlinkSocket {
    /// Makes the device, down. `conflict` when the name is taken, or the number on this port.
    public func createMeshDevice(_ device: MeshDevice) throws(ApusError) {
        try Self.checkName(device.name)
        guard let link = rtnl_link_vxlan_alloc() else { throw .outOfMemory }
        defer { rtnl_link_put(link) }
        rtnl_link_set_name(link, device.name)
        rtnl_link_set_mtu(link, UInt32(device.mtu))
        let hardware = try NetlinkAddress(device.macAddress)
        rtnl_link_set_addr(link, hardware.pointer)
        let local = try NetlinkAddress(device.local)
        try check(rtnl_link_vxlan_set_id(link, device.vni), "cannot use the VXLAN number \(device.vni)")
        try check(rtnl_link_vxlan_set_local(link, local.pointer), "cannot use the address \(device.local)")
        try check(rtnl_link_vxlan_set_port(link, UInt32(device.port)), "cannot use the port \(device.port)")
        try check(rtnl_link_vxlan_set_learning(link, 0), "cannot turn learning off")
        try check(rtnl_link_add(socket, link, NLM_F_CREATE | NLM_F_EXCL), "cannot make the VXLAN device \(device.name)")
    }

    /// The VXLAN device of this name, or `nil` when there is none, or one that learns.
    public func meshDevice(named name: String) throws(ApusError) -> MeshDevice? {
        var found: OpaquePointer?
        let code = rtnl_link_get_kernel(socket, 0, name, &found)
        if code == -NLE_NODEV || code == -NLE_OBJ_NOTFOUND { return nil }
        try check(code, "cannot look at the network interface \(name)")
        guard let found else { return nil }
        defer { rtnl_link_put(found) }
        guard rtnl_link_is_vxlan(found) != 0, rtnl_link_vxlan_get_learning(found) == 0,
            let mac = MACAddress(bytes: NetlinkAddress.bytes(rtnl_link_get_addr(found)))
        else { return nil }
        var (vni, port): (UInt32, UInt32) = (0, 0)
        var local: OpaquePointer?
        guard rtnl_link_vxlan_get_id(found, &vni) == 0, rtnl_link_vxlan_get_port(found, &port) == 0, rtnl_link_vxlan_get_local(found, &local) == 0
        else { return nil }
        defer { nl_addr_put(local) }
        guard let address = IPAddress(bytes: NetlinkAddress.bytes(local)) else { return nil }
        return MeshDevice(
            name: name, vni: vni, port: UInt16(truncatingIfNeeded: port), local: address, macAddress: mac, mtu: Int(rtnl_link_get_mtu(found)))
    }

    /// What is said to a device.
    public func meshForwarding(ofLinkAt index: Int) throws(ApusError) -> [MeshForwarding] {
        guard let message = nlmsg_alloc_simple(Int32(RTM_GETNEIGH), NLM_F_DUMP) else { throw .outOfMemory }
        defer { nlmsg_free(message) }
        var header = ndmsg()
        header.ndm_family = UInt8(AF_BRIDGE)
        try check(nlmsg_append(message, &header, MemoryLayout<ndmsg>.size, Int32(NLMSG_ALIGNTO)), "cannot build a neighbour message")
        let collector = ForwardingCollector(linkIndex: Int32(index))
        let context = Unmanaged.passUnretained(collector).toOpaque()
        let code = withExtendedLifetime(collector) { () -> Int32 in
            nl_socket_modify_cb(
                socket, NL_CB_VALID, NL_CB_CUSTOM,
                { message, context in
                    if let context, let message, let header = nlmsg_hdr(message) {
                        Unmanaged<ForwardingCollector>.fromOpaque(context).takeUnretainedValue().take(header)
                    }
                    return Int32(NL_OK.rawValue)
                }, context)
            defer { nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_DEFAULT, nil, nil) }
            let sent = nl_send_auto(socket, message)
            return sent < 0 ? sent : nl_recvmsgs_default(socket)
        }
        try check(code, "cannot list the forwarding entries")
        return collector.found
    }

    /// Says where a hardware address is; replaces what was said before.
    public func setMeshForwarding(_ entry: MeshForwarding, ofLinkAt index: Int) throws(ApusError) {
        let request = try ForwardingRequest(entry, index)
        try check(
            rtnl_neigh_add(socket, request.pointer, NLM_F_CREATE | NLM_F_REPLACE), "cannot say that \(entry.macAddress) is behind \(entry.node)")
    }

    /// Takes that back. Succeeds when it was not said.
    public func removeMeshForwarding(_ entry: MeshForwarding, ofLinkAt index: Int) throws(ApusError) {
        let request = try ForwardingRequest(entry, index)
        let code = rtnl_neigh_delete(socket, request.pointer, 0)
        if code == -NLE_OBJ_NOTFOUND || code == -NLE_NODEV { return }
        try check(code, "cannot take back that \(entry.macAddress) is behind \(entry.node)")
    }
}

private final class ForwardingCollector {
    let linkIndex: Int32
    private(set) var found: [MeshForwarding] = []

    init(linkIndex: Int32) { self.linkIndex = linkIndex }

    func take(_ header: UnsafeMutablePointer<nlmsghdr>) {
        var parsed: OpaquePointer?
        guard rtnl_neigh_parse(header, &parsed) >= 0, let parsed else { return }
        defer { rtnl_neigh_put(parsed) }
        guard rtnl_neigh_get_ifindex(parsed) == linkIndex, let mac = MACAddress(bytes: NetlinkAddress.bytes(rtnl_neigh_get_lladdr(parsed))),
            let node = IPAddress(bytes: NetlinkAddress.bytes(rtnl_neigh_get_dst(parsed)))
        else { return }
        found.append(MeshForwarding(macAddress: mac, node: node))
    }
}

/// A libnl forwarding entry for the time of a request.
private final class ForwardingRequest {
    let pointer: OpaquePointer

    init(_ entry: MeshForwarding, _ index: Int) throws(ApusError) {
        guard let made = rtnl_neigh_alloc() else { throw .outOfMemory }
        pointer = made
        rtnl_neigh_set_ifindex(made, Int32(index))
        let node = try NetlinkAddress(entry.node)
        // The destination first: with the family of bridges libnl would refuse an IP address.
        try check(rtnl_neigh_set_dst(made, node.pointer), "cannot use the address \(entry.node)")
        rtnl_neigh_set_family(made, AF_BRIDGE)
        let hardware = try NetlinkAddress(entry.macAddress)
        rtnl_neigh_set_lladdr(made, hardware.pointer)
        rtnl_neigh_set_flags(made, UInt32(NTF_SELF))
        rtnl_neigh_set_state(made, Int32(NUD_PERMANENT | NUD_NOARP))
    }

    deinit { rtnl_neigh_put(pointer) }
}
