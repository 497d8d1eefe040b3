public import GRPCCore
public import Wire

/// The connection of the call that is being handled. Also in `ServerContext.transportSpecific`.
public struct PeerConnection: Sendable, ServerContext.TransportSpecific {
    /// Who it is, when a certificate was shown: valid, or expired and let in for a method that allows it.
    public var identity: PeerIdentity?
    /// Whether the certificate was over at the handshake. Then `PeerIdentity.current` is set too: only methods in
    /// `expiredCertificateMethods` get this far, and they decide.
    public var isExpired: Bool
    /// The certificate, DER; empty without one.
    public var certificate: [UInt8]
    /// `ipv4:192.0.2.1:4242`, as gRPC writes addresses.
    public var remoteAddress: String

    public init(identity: PeerIdentity? = nil, isExpired: Bool = false, certificate: [UInt8] = [], remoteAddress: String = "") {
        self.identity = identity
        self.isExpired = isExpired
        self.certificate = certificate
        self.remoteAddress = remoteAddress
    }

    /// `nil` outside of a call.
    @TaskLocal public static var current: PeerConnection?
}
