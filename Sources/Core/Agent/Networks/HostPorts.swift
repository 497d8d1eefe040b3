import Glibc
public import PluginAPI

/// Ports of the host itself.
public enum HostPorts {
    /// Whether this machine has the address, or may use it as if it had; told by binding to it for a moment.
    public static func hasAddress(_ address: IPAddress) -> Bool {
        let descriptor = socket(address.isIPv4 ? AF_INET : AF_INET6, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return true }
        defer { close(descriptor) }
        return bound(descriptor, address, 0) { $0 != EADDRNOTAVAIL }
    }

    /// Whether no program listens there; told by binding for a moment. SCTP is taken to be free.
    public static func isFree(_ transport: TransportProtocol, _ address: IPAddress?, _ port: UInt16) -> Bool {
        let type: Int32
        switch transport {
        case .tcp: type = Int32(SOCK_STREAM.rawValue)
        case .udp: type = Int32(SOCK_DGRAM.rawValue)
        case .sctp: return true
        @unknown default: return true
        }
        let isIPv6 = address.map { !$0.isIPv4 } ?? false
        let descriptor = socket(isIPv6 ? AF_INET6 : AF_INET, type | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return true }
        defer { close(descriptor) }
        if transport == .tcp {
            // Connections of a listener that has gone must not count.
            var on: Int32 = 1
            setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        }
        return bound(descriptor, address ?? IPAddress(v4: 0, 0, 0, 0), port) { $0 != EADDRINUSE }
    }

    /// Whether a socket can be bound, or cannot for a reason that does not count.
    private static func bound(_ descriptor: Int32, _ address: IPAddress, _ port: UInt16, orFailsHarmlessly: (Int32) -> Bool) -> Bool {
        if !address.isIPv4 {
            var name = sockaddr_in6()
            name.sin6_family = sa_family_t(AF_INET6)
            name.sin6_port = port.bigEndian
            withUnsafeMutableBytes(of: &name.sin6_addr) { $0.copyBytes(from: address.bytes) }
            return bind(descriptor, name) || orFailsHarmlessly(errno)
        }
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        withUnsafeMutableBytes(of: &name.sin_addr) { $0.copyBytes(from: address.bytes) }
        return bind(descriptor, name) || orFailsHarmlessly(errno)
    }

    private static func bind<Name>(_ descriptor: Int32, _ name: Name) -> Bool {
        withUnsafePointer(to: name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.bind(descriptor, $0, socklen_t(MemoryLayout<Name>.size)) == 0 }
        }
    }
}
