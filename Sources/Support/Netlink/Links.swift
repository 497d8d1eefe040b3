import CNetlink
import Glibc
import PluginAPI

/// A network interface.
public struct Link: Sendable, Hashable {
    public var index: Int
    public var name: String
    /// `bridge`, `veth`, `vxlan`…; empty for hardware and the loopback interface.
    public var kind: String
    /// Whether it is set up; it may still have no carrier.
    public var isUp: Bool
    public var mtu: Int
    public var macAddress: MACAddress?
    /// The bridge that it is a port of, or `nil`.
    public var masterIndex: Int?
    /// The other end of a veth pair in its namespace, or `nil`.
    public var peerIndex: Int?
}

/// What to change of a link; `nil` leaves it as it is.
public struct LinkChange: Sendable, Hashable {
    public var isUp: Bool?
    public var mtu: Int?
    public var macAddress: MACAddress?
    /// The index of the bridge, or 0 to leave it.
    public var masterIndex: Int?
    /// The link must be down.
    public var name: String?

    public init(isUp: Bool? = nil, mtu: Int? = nil, macAddress: MACAddress? = nil, masterIndex: Int? = nil, name: String? = nil) {
        self.isUp = isUp
        self.mtu = mtu
        self.macAddress = macAddress
        self.masterIndex = masterIndex
        self.name = name
    }
}

/// A pair of connected interfaces, one of them in another namespace from the start.
public struct VethPair: Sendable {
    public var name: String
    /// The index of a bridge that the near end becomes a port of.
    public var masterIndex: Int?
    public var peerName: String
    public var peerMACAddress: MACAddress?
    /// A descriptor of the far end's namespace; `nil` is the socket's own.
    public var peerNamespace: Int32?
    public var mtu: Int
    /// Whether the near end is set up at once.
    public var isUp = true

    public init(name: String, peerName: String, mtu: Int = 1500) {
        self.name = name
        self.peerName = peerName
        self.mtu = mtu
    }
}

extension NetlinkSocket {
    /// All links of the namespace.
    public func links() throws(ApusError) -> [Link] {
        var cache: OpaquePointer?
        try check(rtnl_link_alloc_cache(socket, AF_UNSPEC, &cache), "cannot list the network interfaces")
        guard let cache else { return [] }
        defer { nl_cache_free(cache) }
        return readCache(cache, Self.read)
    }

    /// The link of this name, or `nil`.
    public func link(named name: String) throws(ApusError) -> Link? { try link(0, name) }

    /// The link of this index, or `nil`.
    public func link(at index: Int) throws(ApusError) -> Link? { try link(index, nil) }

    private func link(_ index: Int, _ name: String?) throws(ApusError) -> Link? {
        var found: OpaquePointer?
        let code = rtnl_link_get_kernel(socket, Int32(index), name, &found)
        // The kernel says ENODEV, which libnl calls by either name.
        if code == -NLE_NODEV || code == -NLE_OBJ_NOTFOUND { return nil }
        try check(code, "cannot look at the network interface \(name ?? String(index))")
        guard let found else { return nil }
        defer { rtnl_link_put(found) }
        return Self.read(found)
    }

    /// Makes a bridge, down. `conflict` when the name is taken.
    public func createBridge(named name: String, macAddress: MACAddress?, mtu: Int = 1500) throws(ApusError) {
        let link = try LinkRequest(named: name)
        try check(rtnl_link_set_type(link.pointer, "bridge"), "cannot make a bridge")
        rtnl_link_set_mtu(link.pointer, UInt32(mtu))
        try link.setAddress(macAddress)
        try check(rtnl_link_add(socket, link.pointer, NLM_F_CREATE | NLM_F_EXCL), "cannot make the bridge \(name)")
    }

    /// Makes a veth pair. `conflict` when a name is taken; then nothing is made.
    public func createVethPair(_ pair: VethPair) throws(ApusError) {
        try Self.checkName(pair.name)
        try Self.checkName(pair.peerName)
        guard let link = rtnl_link_veth_alloc() else { throw .outOfMemory }
        defer { rtnl_link_put(link) }
        rtnl_link_set_name(link, pair.name)
        rtnl_link_set_mtu(link, UInt32(pair.mtu))
        if let master = pair.masterIndex { rtnl_link_set_master(link, Int32(master)) }
        if pair.isUp { rtnl_link_set_flags(link, UInt32(IFF_UP)) }
        guard let peer = rtnl_link_veth_get_peer(link) else { throw .outOfMemory }
        defer { rtnl_link_put(peer) }
        rtnl_link_set_name(peer, pair.peerName)
        rtnl_link_set_mtu(peer, UInt32(pair.mtu))
        if let namespace = pair.peerNamespace { rtnl_link_set_ns_fd(peer, namespace) }
        if let address = pair.peerMACAddress {
            let address = try NetlinkAddress(address)
            rtnl_link_set_addr(peer, address.pointer)
        }
        try check(
            rtnl_link_add(socket, link, NLM_F_CREATE | NLM_F_EXCL), "cannot make the interfaces \(pair.name) and \(pair.peerName)")
    }

    /// Changes a link.
    public func change(linkAt index: Int, _ change: LinkChange) throws(ApusError) {
        let original = try LinkRequest(index: index)
        let link = try LinkRequest(index: index)
        if let isUp = change.isUp {
            if isUp { rtnl_link_set_flags(link.pointer, UInt32(IFF_UP)) } else { rtnl_link_unset_flags(link.pointer, UInt32(IFF_UP)) }
        }
        if let mtu = change.mtu { rtnl_link_set_mtu(link.pointer, UInt32(mtu)) }
        if let master = change.masterIndex { rtnl_link_set_master(link.pointer, Int32(master)) }
        if let name = change.name {
            try Self.checkName(name)
            rtnl_link_set_name(link.pointer, name)
        }
        try link.setAddress(change.macAddress)
        try check(rtnl_link_change(socket, original.pointer, link.pointer, 0), "cannot change the network interface with index \(index)")
    }

    /// Moves a link into the namespace of a descriptor. It arrives set down and without addresses.
    public func move(linkAt index: Int, toNamespace descriptor: Int32) throws(ApusError) {
        let original = try LinkRequest(index: index)
        let link = try LinkRequest(index: index)
        rtnl_link_set_ns_fd(link.pointer, descriptor)
        try check(rtnl_link_change(socket, original.pointer, link.pointer, 0), "cannot move the network interface with index \(index)")
    }

    /// Removes a link, and the other end of a veth pair with it. Succeeds when there is none.
    public func removeLink(named name: String) throws(ApusError) {
        guard try link(named: name) != nil else { return }
        let request = try LinkRequest(named: name)
        let code = rtnl_link_delete(socket, request.pointer)
        if code == -NLE_NODEV || code == -NLE_OBJ_NOTFOUND { return }
        try check(code, "cannot remove the network interface \(name)")
    }

    private static func read(_ pointer: OpaquePointer) -> Link? {
        guard let name = rtnl_link_get_name(pointer) else { return nil }
        let master = rtnl_link_get_master(pointer)
        let peer = rtnl_link_get_link(pointer)
        return Link(
            index: Int(rtnl_link_get_ifindex(pointer)), name: String(cString: name),
            kind: rtnl_link_get_type(pointer).map { String(cString: $0) } ?? "",
            isUp: rtnl_link_get_flags(pointer) & UInt32(IFF_UP) != 0, mtu: Int(rtnl_link_get_mtu(pointer)),
            macAddress: MACAddress(bytes: NetlinkAddress.bytes(rtnl_link_get_addr(pointer))),
            masterIndex: master > 0 ? Int(master) : nil, peerIndex: peer > 0 ? Int(peer) : nil)
    }

    /// The kernel takes up to 15 bytes, without slashes, spaces and colons.
    static func checkName(_ name: String) throws(ApusError) {
        let bytes = name.utf8
        guard (1...15).contains(bytes.count), name != ".", name != "..",
            bytes.allSatisfy({ $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") })
        else {
            throw ApusError(.invalidArgument, "\"\(name)\" is no name for a network interface: 1 to 15 characters without slash, colon and space")
        }
    }
}

/// A libnl link for the time of a request.
private final class LinkRequest {
    let pointer: OpaquePointer

    private init() throws(ApusError) {
        guard let link = rtnl_link_alloc() else { throw .outOfMemory }
        pointer = link
    }

    convenience init(named name: String) throws(ApusError) {
        try NetlinkSocket.checkName(name)
        try self.init()
        rtnl_link_set_name(pointer, name)
    }

    convenience init(index: Int) throws(ApusError) {
        try self.init()
        rtnl_link_set_ifindex(pointer, Int32(index))
    }

    func setAddress(_ address: MACAddress?) throws(ApusError) {
        guard let address else { return }
        let built = try NetlinkAddress(address)
        rtnl_link_set_addr(pointer, built.pointer)
    }

    deinit { rtnl_link_put(pointer) }
}

extension NetlinkSocket {
    /// Changes a port of a bridge.
    /// - Parameters:
    ///   - isHairpin: whether a frame may leave by the port by which it came.
    ///   - isIsolated: whether it exchanges no frames with other such ports; the bridge itself still talks to all of them.
    public func change(bridgePortAt index: Int, isHairpin: Bool, isIsolated: Bool) throws(ApusError) {
        guard let message = nlmsg_alloc_simple(Int32(RTM_SETLINK), 0) else { throw .outOfMemory }
        defer { nlmsg_free(message) }
        var header = ifinfomsg()
        header.ifi_family = UInt8(AF_BRIDGE)
        header.ifi_index = Int32(index)
        try check(nlmsg_append(message, &header, MemoryLayout<ifinfomsg>.size, Int32(NLMSG_ALIGNTO)), "cannot build a link message")
        let port = nla_nest_start(message, Int32(IFLA_PROTINFO) | Int32(NLA_F_NESTED))
        try check(nla_put_u8(message, Int32(IFLA_BRPORT_MODE), isHairpin ? 1 : 0), "cannot build a link message")
        try check(nla_put_u8(message, Int32(IFLA_BRPORT_ISOLATED), isIsolated ? 1 : 0), "cannot build a link message")
        nla_nest_end(message, port)
        try check(sendKeeping(message), "cannot change the bridge port with index \(index)")
    }

    /// Sends and awaits the acknowledgement. libnl frees the message afterwards; another reference keeps it for its owner.
    private func sendKeeping(_ message: OpaquePointer) -> Int32 {
        nlmsg_get(message)
        return nl_send_sync(socket, message)
    }
}
