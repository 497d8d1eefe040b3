import Glibc
import NIOCore
import PluginAPI
import Wire

/// What a connection does about TLS and about who the peer is.
struct ConnectionSecurity: Sendable {
    /// `nil`: no TLS.
    var credentials: TransportCredentials?
    var verification: TLSSession.Verification
    /// A reason to refuse a peer, beside the credentials' policy.
    var expectation: (@Sendable (PeerIdentity) -> String?)?

    func refusal(of peer: PeerCertificate) -> String? {
        credentials?.refusal(of: peer.identity) ?? expectation?(peer.identity)
    }
}

/// Addresses as gRPC writes them.
enum Addresses {
    static func text(_ address: SocketAddress?) -> String {
        guard let address, let host = host(address) else { return "unknown" }
        switch address {
        case .v4: return "ipv4:\(host):\(address.port ?? 0)"
        case .v6: return "ipv6:[\(host)]:\(address.port ?? 0)"
        case .unixDomainSocket: return "unix:\(address.pathname ?? "")"
        }
    }

    static func host(_ address: SocketAddress?) -> String? {
        guard let address else { return nil }
        if case .unixDomainSocket = address { return "unix" }
        return address.ipAddress
    }
}

extension TimeAmount {
    init(_ duration: Duration) { self = .nanoseconds(duration.nanoseconds) }
}

extension Channel {
    /// Keeps the socket from the programs that this process starts: swift-nio opens sockets without SOCK_CLOEXEC, and a child that holds a
    /// listening socket keeps its port taken. To be called on the event loop.
    func closeOnExec() throws {
        try pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { descriptor in
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        }
    }
}
