import CNetlink
import Glibc
import Namespaces
import PluginAPI

/// A route netlink socket: the links, addresses, routes and neighbours of one network namespace, by libnl.
///
/// The socket stays in the namespace in which it was opened, whatever the thread that uses it. Its calls block for as long as the kernel needs,
/// and it is used by one thread at a time.
public final class NetlinkSocket {
    let socket: OpaquePointer

    /// Opens a socket in the calling thread's namespace.
    public init() throws(ApusError) { socket = try Self.open() }

    /// Opens a socket in the namespace at `path`; `nil` is the calling thread's.
    public init(inNamespace path: String?) throws(ApusError) {
        guard let path else {
            socket = try Self.open()
            return
        }
        nonisolated(unsafe) var opened: OpaquePointer?
        try NetworkNamespaces.runBlocking(in: path) { () throws(ApusError) in opened = try Self.open() }
        guard let opened else { throw ApusError(.failed, "no netlink socket was opened in \(path)") }
        socket = opened
    }

    deinit { nl_socket_free(socket) }

    private static func open() throws(ApusError) -> OpaquePointer {
        guard let socket = nl_socket_alloc() else { throw .outOfMemory }
        let code = nl_connect(socket, NETLINK_ROUTE)
        guard code >= 0 else {
            nl_socket_free(socket)
            throw .netlink("cannot open a route netlink socket", code)
        }
        return socket
    }
}

extension ApusError {
    /// What libnl says, behind what was being done. The code follows libnl's.
    static func netlink(_ doing: String, _ number: Int32) -> ApusError {
        let code: Code =
            switch abs(number) {
            case NLE_OBJ_NOTFOUND, NLE_NODEV, NLE_NOADDR: .notFound
            case NLE_EXIST, NLE_BUSY: .conflict
            case NLE_PERM, NLE_NOACCESS: .permissionDenied
            case NLE_OPNOTSUPP, NLE_AF_NOSUPPORT, NLE_PROTO_MISMATCH: .unavailable
            default: .failed
            }
        return ApusError(code, "\(doing): \(String(cString: nl_geterror(number)))")
    }

    static var outOfMemory: ApusError { ApusError(.failed, "out of memory") }
}

/// Throws when libnl's answer is an error.
func check(_ code: Int32, _ doing: @autoclosure () -> String) throws(ApusError) {
    guard code >= 0 else { throw .netlink(doing(), code) }
}

/// A libnl address for the time of a call.
final class NetlinkAddress {
    let pointer: OpaquePointer

    convenience init(_ address: IPAddress, length: Int? = nil) throws(ApusError) {
        try self.init(family: address.isIPv4 ? AF_INET : AF_INET6, address.bytes)
        nl_addr_set_prefixlen(pointer, Int32(length ?? address.bytes.count * 8))
    }

    convenience init(_ address: MACAddress) throws(ApusError) { try self.init(family: AF_LLC, address.bytes) }

    private init(family: Int32, _ bytes: [UInt8]) throws(ApusError) {
        let built = bytes.withUnsafeBytes { nl_addr_build(family, $0.baseAddress, $0.count) }
        guard let built else { throw .outOfMemory }
        pointer = built
    }

    deinit { nl_addr_put(pointer) }

    /// The bytes of an address that libnl owns.
    static func bytes(_ pointer: OpaquePointer?) -> [UInt8] {
        guard let pointer, let start = nl_addr_get_binary_addr(pointer) else { return [] }
        return [UInt8](UnsafeRawBufferPointer(start: start, count: Int(nl_addr_get_len(pointer))))
    }
}

/// The objects of a libnl cache, read into values.
func readCache<Value>(_ cache: OpaquePointer, _ read: (OpaquePointer) -> Value?) -> [Value] {
    var values: [Value] = []
    var object = nl_cache_get_first(cache)
    while let current = object {
        if let value = read(current) { values.append(value) }
        object = nl_cache_get_next(current)
    }
    return values
}
