import CNetlink
import Glibc
import PluginAPI

/// Hears when nftables tables of one network namespace are removed, such as by `nft flush ruleset`.
public final class RulesetWatcher {
    private let socket: OpaquePointer
    /// To be polled for reading; belongs to the watcher.
    public var descriptor: Int32 { nl_socket_get_fd(socket) }

    /// Watches the calling thread's namespace.
    public init() throws(ApusError) {
        guard let socket = nl_socket_alloc() else { throw .outOfMemory }
        nl_socket_disable_seq_check(socket)
        var code = nl_connect(socket, NETLINK_NETFILTER)
        if code >= 0 { code = nl_socket_add_membership(socket, Int32(NFNLGRP_NFTABLES.rawValue)) }
        if code >= 0 { code = nl_socket_set_nonblocking(socket) }
        guard code >= 0 else {
            nl_socket_free(socket)
            throw .netlink("cannot watch the nftables ruleset", code)
        }
        self.socket = socket
    }

    deinit { nl_socket_free(socket) }

    /// Takes in what has happened. Whether a table was removed, or so much happened that one may have been.
    public func tableWasRemoved() -> Bool {
        var isRemoved = false
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count < 0 {
                if errno == EINTR { continue }
                if errno == ENOBUFS {
                    isRemoved = true
                    continue
                }
                return isRemoved
            }
            if Self.removesTable(buffer[..<count]) { isRemoved = true }
        }
    }

    /// Whether one of the messages is about the removal of a table. Reads whatever there is: what is cut off or makes no sense is skipped.
    static func removesTable(_ messages: ArraySlice<UInt8>) -> Bool {
        let removal = UInt16(NFNL_SUBSYS_NFTABLES) << 8 | UInt16(NFT_MSG_DELTABLE.rawValue)
        var rest = messages
        while rest.count >= MemoryLayout<nlmsghdr>.size {
            let header = rest.withUnsafeBytes { $0.loadUnaligned(as: nlmsghdr.self) }
            if header.nlmsg_type == removal { return true }
            // Messages begin at multiples of four.
            let length = (Int(header.nlmsg_len) + 3) & ~3
            guard length >= MemoryLayout<nlmsghdr>.size, length <= rest.count else { return false }
            rest = rest.dropFirst(length)
        }
        return false
    }
}
