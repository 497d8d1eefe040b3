import CNetlink
import Glibc
import Namespaces
import PluginAPI

/// A netfilter netlink socket: what connection tracking remembers in one network namespace, and whether an nftables table exists.
///
/// It stays in the namespace in which it was opened and is used by one thread at a time.
public final class NetfilterSocket {
    /// NFPROTO_INET of the kernel: tables of both IP families.
    public static let inetFamily: UInt8 = 1

    private let socket: OpaquePointer

    /// Opens a socket in the calling thread's namespace.
    public init() throws(ApusError) { socket = try Self.open() }

    /// Opens a socket in the namespace at `path`.
    public init(inNamespace path: String) throws(ApusError) {
        nonisolated(unsafe) var opened: OpaquePointer?
        try NetworkNamespaces.runBlocking(in: path) { () throws(ApusError) in opened = try Self.open() }
        guard let opened else { throw ApusError(.failed, "no netfilter socket was opened in \(path)") }
        socket = opened
    }

    private static func open() throws(ApusError) -> OpaquePointer {
        guard let socket = nl_socket_alloc() else { throw .outOfMemory }
        let code = nl_connect(socket, NETLINK_NETFILTER)
        guard code >= 0 else {
            nl_socket_free(socket)
            throw .netlink("cannot open a netfilter netlink socket", code)
        }
        // A dump that other changes interleave with is marked as such; what it has is right all the same.
        nl_socket_disable_seq_check(socket)
        return socket
    }

    deinit { nl_socket_free(socket) }

    /// Whether the table is there. Costs one round trip, whatever the table's size.
    public func hasTable(_ name: String, family: UInt8 = NetfilterSocket.inetFamily) throws(ApusError) -> Bool {
        let message = try message(subsystem: NFNL_SUBSYS_NFTABLES, type: Int32(NFT_MSG_GETTABLE.rawValue), flags: 0, family: family)
        defer { nlmsg_free(message) }
        try check(nla_put_string(message, Int32(NFTA_TABLE_NAME.rawValue), name), "cannot ask for the nftables table \(name)")
        let (code, answers) = exchange(message) { _ in true }
        if code == -NLE_OBJ_NOTFOUND { return false }
        try check(code, "cannot ask for the nftables table \(name)")
        return !answers.isEmpty
    }

    /// The tracked connections that `isIncluded` wants. Reads all of them: milliseconds for ten thousand.
    public func connections(where isIncluded: (TrackedConnection) -> Bool) throws(ApusError) -> [TrackedConnection] {
        let message = try message(
            subsystem: NFNL_SUBSYS_CTNETLINK, type: Int32(IPCTNL_MSG_CT_GET.rawValue), flags: NLM_F_DUMP, family: UInt8(AF_UNSPEC))
        defer { nlmsg_free(message) }
        let (code, answers) = exchange(message) { header -> TrackedConnection? in
            guard let connection = TrackedConnection(header), isIncluded(connection) else { return nil }
            return connection
        }
        try check(code, "cannot list the tracked connections")
        return answers
    }

    /// Forgets a connection: its next packet is looked at as a new one. Succeeds when it is forgotten already.
    public func forget(_ connection: TrackedConnection) throws(ApusError) {
        let message = try message(
            subsystem: NFNL_SUBSYS_CTNETLINK, type: Int32(IPCTNL_MSG_CT_DELETE.rawValue), flags: NLM_F_ACK,
            family: UInt8(connection.original.source.isIPv4 ? AF_INET : AF_INET6))
        defer { nlmsg_free(message) }
        // By its answers: requests that came by different ways may be alike, and are then told apart by a zone.
        connection.reply.putReply(into: message)
        let identity = connection.identity
        _ = withUnsafeBytes(of: identity) { nla_put(message, Int32(CTA_ID.rawValue), Int32($0.count), $0.baseAddress) }
        let (code, _) = exchange(message) { _ in true }
        if code == -NLE_OBJ_NOTFOUND { return }
        try check(code, "cannot forget a tracked connection")
    }

    private func message(subsystem: Int32, type: Int32, flags: Int32, family: UInt8) throws(ApusError) -> OpaquePointer {
        guard let message = nlmsg_alloc_simple(subsystem << 8 | type, flags) else { throw .outOfMemory }
        // struct nfgenmsg: family, version, resource.
        var header: [UInt8] = [family, UInt8(NFNETLINK_V0), 0, 0]
        let code = nlmsg_append(message, &header, header.count, Int32(NLMSG_ALIGNTO))
        guard code >= 0 else {
            nlmsg_free(message)
            throw .netlink("cannot build a netfilter message", code)
        }
        return message
    }

    /// Sends a message and reads its answers up to the acknowledgement, the end of the dump or the error, which is returned.
    private func exchange<Answer>(
        _ message: OpaquePointer, _ read: (UnsafeMutablePointer<nlmsghdr>) -> Answer?
    ) -> (code: Int32, answers: [Answer]) {
        var answers: [Answer] = []
        let code = withoutActuallyEscaping(read) { read -> Int32 in
            let collector = Collector { header in if let answer = read(header) { answers.append(answer) } }
            let context = Unmanaged.passUnretained(collector).toOpaque()
            return withExtendedLifetime(collector) {
                nl_socket_modify_cb(
                    socket, NL_CB_VALID, NL_CB_CUSTOM,
                    { message, context in
                        if let context, let message, let header = nlmsg_hdr(message) {
                            Unmanaged<Collector>.fromOpaque(context).takeUnretainedValue().take(header)
                        }
                        return Int32(NL_OK.rawValue)
                    }, context)
                defer { nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_DEFAULT, nil, nil) }
                let sent = nl_send_auto(socket, message)
                guard sent >= 0 else { return sent }
                let isDump = nlmsg_hdr(message).map { Int32($0.pointee.nlmsg_flags) & NLM_F_DUMP == NLM_F_DUMP } ?? false
                let received = nl_recvmsgs_default(socket)
                guard received >= 0, !isDump else { return received }
                return collector.isEmpty ? received : nl_wait_for_ack(socket)
            }
        }
        return (code, answers)
    }

    private final class Collector {
        private let body: (UnsafeMutablePointer<nlmsghdr>) -> Void
        private(set) var isEmpty = true
        init(_ body: @escaping (UnsafeMutablePointer<nlmsghdr>) -> Void) { self.body = body }
        func take(_ header: UnsafeMutablePointer<nlmsghdr>) {
            isEmpty = false
            body(header)
        }
    }
}
