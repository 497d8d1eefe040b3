import Glibc
public import PluginAPI

/// Ports of the host itself.
public enum HostPorts {
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
        if isIPv6, let address {
            var name = sockaddr_in6()
            name.sin6_family = sa_family_t(AF_INET6)
            name.sin6_port = port.bigEndian
            withUnsafeMutableBytes(of: &name.sin6_addr) { $0.copyBytes(from: address.bytes) }
            return bound(descriptor, name)
        }
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        if let address { withUnsafeMutableBytes(of: &name.sin_addr) { $0.copyBytes(from: address.bytes) } }
        return bound(descriptor, name)
    }

    private static func bound<Name>(_ descriptor: Int32, _ name: Name) -> Bool {
        let result = withUnsafePointer(to: name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<Name>.size)) }
        }
        return result == 0 || errno != EADDRINUSE
    }
}
