import Glibc
import PluginAPI

/// The sockets that hold the published ports, so that no other program can take one and would then never get a connection.
public struct PortHolder: ~Copyable {
    public private(set) var sockets: [PortKey: Int32] = [:]

    public init() {}

    /// Takes the ports that are not held yet. Must be called in the host's namespace.
    /// - Returns: why a port could not be taken, by port.
    public mutating func take(_ keys: some Sequence<PortKey>) -> [PortKey: ApusError] {
        var failures: [PortKey: ApusError] = [:]
        // The widest first: a socket on all addresses holds the port on each of them.
        let missing = keys.filter { sockets[$0] == nil }
        for key in missing.sorted(by: { ($0.address == nil ? 0 : 1) < ($1.address == nil ? 0 : 1) }) {
            var wide = key
            wide.address = nil
            if key.transport == .sctp || key.address != nil && sockets[wide] != nil { continue }
            do throws(ApusError) {
                sockets[key] = try Self.open(key)
            } catch {
                failures[key] = error
            }
        }
        return failures
    }

    /// The sockets of a port that is to be held by another socket, on more addresses or on others, out of the holder's hands. The caller closes them.
    public mutating func release(replacedBy wanted: [PortKey: [Backend]]) -> [Int32] {
        var replaced: [Int32] = []
        for (key, socket) in sockets {
            var wide = key
            wide.address = nil
            let isCovered = key.address != nil && wanted[wide] != nil
            let isNarrowed = key.address == nil && wanted[key] == nil && wanted.keys.contains { $0.transport == key.transport && $0.port == key.port }
            guard isCovered || isNarrowed else { continue }
            sockets[key] = nil
            replaced.append(socket)
        }
        return replaced
    }

    /// The ports that are no longer wanted, out of the holder's hands. The caller closes them.
    public mutating func release(allBut keys: Set<PortKey>) -> [Int32] {
        let gone = sockets.filter { !keys.contains($0.key) }
        for key in gone.keys { sockets[key] = nil }
        return Array(gone.values)
    }

    deinit { for socket in sockets.values { close(socket) } }

    private static func open(_ key: PortKey) throws(ApusError) -> Int32 {
        if let address = key.address { return try open(key, on: address) }
        if let any = IPAddress("::") {
            do throws(ApusError) { return try open(key, on: any) } catch {
                // Without IPv6, IPv4 alone; in all other cases the reason counts.
                guard error.code == .unavailable else { throw error }
            }
        }
        return try open(key, on: IPAddress(v4: 0, 0, 0, 0))
    }

    private static func open(_ key: PortKey, on address: IPAddress) throws(ApusError) -> Int32 {
        let target = SocketAddress(address, key.port)
        let kind = key.transport == .tcp ? SOCK_STREAM : SOCK_DGRAM
        let descriptor = socket(target.family, Int32(kind.rawValue) | Sockets.nonBlocking, 0)
        guard descriptor >= 0 else { throw failure(key, errno) }
        if !address.isIPv4 { Sockets.set(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, key.address == nil ? 0 : 1) }
        if key.transport == .tcp {
            // Connections of an earlier engine that linger must not keep the port from this one.
            Sockets.set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        } else {
            Sockets.set(descriptor, SOL_SOCKET, SO_RCVBUF, 0)
        }
        guard target.with({ bind(descriptor, $0, $1) }) == 0, key.transport != .tcp || listen(descriptor, 128) == 0 else {
            let number = errno
            close(descriptor)
            throw failure(key, number)
        }
        return descriptor
    }

    private static func failure(_ key: PortKey, _ number: Int32) -> ApusError {
        let reason = String(cString: strerror(number))
        return switch number {
        case EADDRINUSE: ApusError(.conflict, "port \(key) is held by another program on this node; end that program or publish another port")
        case EADDRNOTAVAIL where key.address != nil:
            ApusError(.conflict, "port \(key) cannot be published: the address is none of this node's")
        case EAFNOSUPPORT, EADDRNOTAVAIL: ApusError(.unavailable, "port \(key): \(reason)")
        default: ApusError(.failed, "port \(key) cannot be taken: \(reason)")
        }
    }
}
