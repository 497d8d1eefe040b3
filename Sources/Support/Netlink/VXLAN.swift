import CNetlink
import Glibc
import PluginAPI

/// A VXLAN device (RFC 7348) that learns nothing and floods nothing: where everybody is, is said to it.
public struct VXLANDevice: Sendable, Hashable {
    public var name: String
    /// 24 bits.
    public var vni: UInt32
    /// UDP.
    public var port: UInt16
    /// This node's address on the underlay.
    public var local: IPAddress
    public var macAddress: MACAddress?
    public var mtu: Int
    /// Whether it answers address resolution by itself, from its neighbour entries.
    public var isProxy = false

    public init(name: String, vni: UInt32, port: UInt16, local: IPAddress, macAddress: MACAddress? = nil, mtu: Int) {
        self.name = name
        self.vni = vni
        self.port = port
        self.local = local
        self.macAddress = macAddress
        self.mtu = mtu
    }
}

/// Behind which node's address a hardware address is.
public struct ForwardingEntry: Sendable, Hashable {
    public var macAddress: MACAddress
    public var node: IPAddress

    public init(macAddress: MACAddress, node: IPAddress) {
        self.macAddress = macAddress
        self.node = node
    }
}

/// The hardware address of an address, for ever.
public struct NeighbourEntry: Sendable, Hashable {
    public var address: IPAddress
    public var macAddress: MACAddress

    public init(address: IPAddress, macAddress: MACAddress) {
        self.address = address
        self.macAddress = macAddress
    }
}

extension NetlinkSocket {
    /// Makes the device, down, in this socket's namespace or in the one of a descriptor. Its packets are the socket's namespace's in either case.
    /// - Throws: `conflict` when the name is taken, or the number on this port.
    public func createVXLAN(_ device: VXLANDevice, inNamespace descriptor: Int32? = nil) throws(ApusError) {
        try Self.checkName(device.name)
        guard let link = rtnl_link_vxlan_alloc() else { throw .outOfMemory }
        defer { rtnl_link_put(link) }
        rtnl_link_set_name(link, device.name)
        rtnl_link_set_mtu(link, UInt32(device.mtu))
        if let macAddress = device.macAddress {
            let hardware = try NetlinkAddress(macAddress)
            rtnl_link_set_addr(link, hardware.pointer)
        }
        if let descriptor { rtnl_link_set_ns_fd(link, descriptor) }
        let local = try NetlinkAddress(device.local)
        try check(rtnl_link_vxlan_set_id(link, device.vni), "cannot use the VXLAN number \(device.vni)")
        try check(rtnl_link_vxlan_set_local(link, local.pointer), "cannot use the address \(device.local)")
        try check(rtnl_link_vxlan_set_port(link, UInt32(device.port)), "cannot use the port \(device.port)")
        try check(rtnl_link_vxlan_set_learning(link, 0), "cannot turn learning off")
        if device.isProxy { try check(rtnl_link_vxlan_set_proxy(link, 1), "cannot let the device answer address resolution") }
        try check(rtnl_link_add(socket, link, NLM_F_CREATE | NLM_F_EXCL), "cannot make the VXLAN device \(device.name) with the number \(device.vni)")
    }

    /// The VXLAN device of this name, or `nil` when there is none, or one that learns.
    public func vxlan(named name: String) throws(ApusError) -> VXLANDevice? {
        var found: OpaquePointer?
        let code = rtnl_link_get_kernel(socket, 0, name, &found)
        if code == -NLE_NODEV || code == -NLE_OBJ_NOTFOUND { return nil }
        try check(code, "cannot look at the network interface \(name)")
        guard let found else { return nil }
        defer { rtnl_link_put(found) }
        guard rtnl_link_is_vxlan(found) != 0, rtnl_link_vxlan_get_learning(found) == 0 else { return nil }
        var (vni, port): (UInt32, UInt32) = (0, 0)
        var local: OpaquePointer?
        guard rtnl_link_vxlan_get_id(found, &vni) == 0, rtnl_link_vxlan_get_port(found, &port) == 0, rtnl_link_vxlan_get_local(found, &local) == 0
        else { return nil }
        defer { nl_addr_put(local) }
        guard let address = IPAddress(bytes: NetlinkAddress.bytes(local)) else { return nil }
        var device = VXLANDevice(
            name: name, vni: vni, port: UInt16(truncatingIfNeeded: port), local: address,
            macAddress: MACAddress(bytes: NetlinkAddress.bytes(rtnl_link_get_addr(found))), mtu: Int(rtnl_link_get_mtu(found)))
        device.isProxy = rtnl_link_vxlan_get_proxy(found) == 1
        return device
    }

    /// What is said to a device.
    public func forwarding(ofLinkAt index: Int) throws(ApusError) -> [ForwardingEntry] {
        try neighbours(family: AF_BRIDGE, ofLinkAt: index) { entry in
            guard let mac = MACAddress(bytes: NetlinkAddress.bytes(rtnl_neigh_get_lladdr(entry))),
                let node = IPAddress(bytes: NetlinkAddress.bytes(rtnl_neigh_get_dst(entry)))
            else { return nil }
            return ForwardingEntry(macAddress: mac, node: node)
        }
    }

    /// Says where a hardware address is; replaces what was said before.
    public func setForwarding(_ entry: ForwardingEntry, ofLinkAt index: Int) throws(ApusError) {
        let request = try NeighbourRequest(entry, index)
        try check(
            rtnl_neigh_add(socket, request.pointer, NLM_F_CREATE | NLM_F_REPLACE), "cannot say that \(entry.macAddress) is behind \(entry.node)")
    }

    /// Takes that back. Succeeds when it was not said.
    public func removeForwarding(_ entry: ForwardingEntry, ofLinkAt index: Int) throws(ApusError) {
        let request = try NeighbourRequest(entry, index)
        let code = rtnl_neigh_delete(socket, request.pointer, 0)
        if code == -NLE_OBJ_NOTFOUND || code == -NLE_NODEV { return }
        try check(code, "cannot take back that \(entry.macAddress) is behind \(entry.node)")
    }

    /// The permanent neighbours of a device.
    public func neighbours(ofLinkAt index: Int) throws(ApusError) -> [NeighbourEntry] {
        try neighbours(family: AF_UNSPEC, ofLinkAt: index) { entry in
            guard rtnl_neigh_get_state(entry) & Int32(NUD_PERMANENT) != 0,
                let mac = MACAddress(bytes: NetlinkAddress.bytes(rtnl_neigh_get_lladdr(entry))),
                let address = IPAddress(bytes: NetlinkAddress.bytes(rtnl_neigh_get_dst(entry)))
            else { return nil }
            return NeighbourEntry(address: address, macAddress: mac)
        }
    }

    /// Says whose a hardware address is; replaces what was said before.
    public func setNeighbour(_ entry: NeighbourEntry, ofLinkAt index: Int) throws(ApusError) {
        let request = try NeighbourRequest(entry, index)
        try check(rtnl_neigh_add(socket, request.pointer, NLM_F_CREATE | NLM_F_REPLACE), "cannot say that \(entry.address) is \(entry.macAddress)")
    }

    /// Takes that back. Succeeds when it was not said.
    public func removeNeighbour(_ entry: NeighbourEntry, ofLinkAt index: Int) throws(ApusError) {
        let request = try NeighbourRequest(entry, index)
        let code = rtnl_neigh_delete(socket, request.pointer, 0)
        if code == -NLE_OBJ_NOTFOUND || code == -NLE_NODEV { return }
        try check(code, "cannot take back that \(entry.address) is \(entry.macAddress)")
    }

    /// libnl's cache leaves out what bridges forward, so the kernel is asked by hand.
    private func neighbours<Value>(family: Int32, ofLinkAt index: Int, _ read: @escaping (OpaquePointer) -> Value?) throws(ApusError) -> [Value] {
        guard let message = nlmsg_alloc_simple(Int32(RTM_GETNEIGH), NLM_F_DUMP) else { throw .outOfMemory }
        defer { nlmsg_free(message) }
        var header = ndmsg()
        header.ndm_family = UInt8(family)
        try check(nlmsg_append(message, &header, MemoryLayout<ndmsg>.size, Int32(NLMSG_ALIGNTO)), "cannot build a neighbour message")
        var values: [Value] = []
        let collector = NeighbourCollector { entry in
            guard rtnl_neigh_get_ifindex(entry) == Int32(index), let value = read(entry) else { return }
            values.append(value)
        }
        let context = Unmanaged.passUnretained(collector).toOpaque()
        let code = withExtendedLifetime(collector) { () -> Int32 in
            nl_socket_modify_cb(
                socket, NL_CB_VALID, NL_CB_CUSTOM,
                { message, context in
                    if let context, let message, let header = nlmsg_hdr(message) {
                        Unmanaged<NeighbourCollector>.fromOpaque(context).takeUnretainedValue().take(header)
                    }
                    return Int32(NL_OK.rawValue)
                }, context)
            defer { nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_DEFAULT, nil, nil) }
            let sent = nl_send_auto(socket, message)
            return sent < 0 ? sent : nl_recvmsgs_default(socket)
        }
        try check(code, "cannot list the neighbours")
        return values
    }
}

private final class NeighbourCollector {
    private let use: (OpaquePointer) -> Void

    init(_ use: @escaping (OpaquePointer) -> Void) { self.use = use }

    func take(_ header: UnsafeMutablePointer<nlmsghdr>) {
        var parsed: OpaquePointer?
        guard rtnl_neigh_parse(header, &parsed) >= 0, let parsed else { return }
        defer { rtnl_neigh_put(parsed) }
        use(parsed)
    }
}

/// A libnl neighbour for the time of a request.
private final class NeighbourRequest {
    let pointer: OpaquePointer

    private init(_ index: Int, _ destination: IPAddress, _ mac: MACAddress) throws(ApusError) {
        guard let made = rtnl_neigh_alloc() else { throw .outOfMemory }
        pointer = made
        rtnl_neigh_set_ifindex(made, Int32(index))
        let address = try NetlinkAddress(destination)
        // The destination first: with the family of bridges libnl would refuse an IP address.
        try check(rtnl_neigh_set_dst(made, address.pointer), "cannot use the address \(destination)")
        let hardware = try NetlinkAddress(mac)
        rtnl_neigh_set_lladdr(made, hardware.pointer)
    }

    convenience init(_ entry: ForwardingEntry, _ index: Int) throws(ApusError) {
        try self.init(index, entry.node, entry.macAddress)
        rtnl_neigh_set_family(pointer, AF_BRIDGE)
        rtnl_neigh_set_flags(pointer, UInt32(NTF_SELF))
        rtnl_neigh_set_state(pointer, Int32(NUD_PERMANENT | NUD_NOARP))
    }

    convenience init(_ entry: NeighbourEntry, _ index: Int) throws(ApusError) {
        try self.init(index, entry.address, entry.macAddress)
        rtnl_neigh_set_state(pointer, Int32(NUD_PERMANENT))
    }

    deinit { rtnl_neigh_put(pointer) }
}
