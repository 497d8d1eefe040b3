import CNetlink
import Glibc
import PluginAPI

/// An address of a link.
public struct LinkAddress: Sendable, Hashable {
    public var linkIndex: Int
    public var prefix: IPPrefix

    public init(linkIndex: Int, prefix: IPPrefix) {
        self.linkIndex = linkIndex
        self.prefix = prefix
    }
}

extension NetlinkSocket {
    /// The addresses of all links of the namespace, or of one.
    public func addresses(ofLinkAt index: Int? = nil) throws(ApusError) -> [LinkAddress] {
        var cache: OpaquePointer?
        try check(rtnl_addr_alloc_cache(socket, &cache), "cannot list the addresses")
        guard let cache else { return [] }
        defer { nl_cache_free(cache) }
        return readCache(cache) { pointer in
            let link = Int(rtnl_addr_get_ifindex(pointer))
            guard index == nil || index == link, let address = IPAddress(bytes: NetlinkAddress.bytes(rtnl_addr_get_local(pointer))),
                let prefix = IPPrefix(address, length: Int(rtnl_addr_get_prefixlen(pointer)))
            else { return nil }
            return LinkAddress(linkIndex: link, prefix: prefix)
        }
    }

    /// Gives a link an address. Succeeds when it has it. An IPv6 address is usable at once: nobody is asked whether it is taken.
    public func addAddress(_ prefix: IPPrefix, toLinkAt index: Int) throws(ApusError) {
        let request = try AddressRequest(prefix, index)
        let code = rtnl_addr_add(socket, request.pointer, 0)
        if code == -NLE_EXIST { return }
        try check(code, "cannot give the address \(prefix) to the network interface with index \(index)")
    }

    /// Takes an address away. Succeeds when it is not there.
    public func removeAddress(_ prefix: IPPrefix, fromLinkAt index: Int) throws(ApusError) {
        let request = try AddressRequest(prefix, index)
        let code = rtnl_addr_delete(socket, request.pointer, 0)
        if code == -NLE_NOADDR || code == -NLE_NODEV || code == -NLE_OBJ_NOTFOUND { return }
        try check(code, "cannot take the address \(prefix) from the network interface with index \(index)")
    }
}

/// A libnl address of a link for the time of a request.
private final class AddressRequest {
    let pointer: OpaquePointer

    init(_ prefix: IPPrefix, _ index: Int) throws(ApusError) {
        guard let made = rtnl_addr_alloc() else { throw .outOfMemory }
        pointer = made
        rtnl_addr_set_ifindex(made, Int32(index))
        let local = try NetlinkAddress(prefix.address, length: prefix.length)
        try check(rtnl_addr_set_local(made, local.pointer), "cannot use the address \(prefix)")
        if prefix.address.isIPv4 {
            if prefix.length < 31, let last = prefix.lastAddress {
                let broadcast = try NetlinkAddress(last)
                try check(rtnl_addr_set_broadcast(made, broadcast.pointer), "cannot use the address \(prefix)")
            }
        } else {
            rtnl_addr_set_flags(made, UInt32(IFA_F_NODAD))
        }
    }

    deinit { rtnl_addr_put(pointer) }
}

extension IPPrefix {
    /// All bits past the length are one.
    var lastAddress: IPAddress? {
        let length = length
        return IPAddress(
            bytes: address.bytes.enumerated().map { index, byte in
                let bits = min(8, max(0, length - index * 8))
                return byte | UInt8(truncatingIfNeeded: 0xff >> bits)
            })
    }
}
