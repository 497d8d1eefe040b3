/// What the managers know of a node's certificate: the last that was issued, who asked for it, and the last refusal.
public struct NodeCertificateRecord: FieldCoded {
    public var state: CertificateState = .none
    public var membership: NodeMembership = .accepted
    /// Lower-case hexadecimal.
    public var serial: String = ""
    /// SHA-256 of the certificate's public key (DER of SubjectPublicKeyInfo), lower-case hexadecimal.
    public var publicKeyDigest: String = ""
    /// The same of the key that signed it.
    public var issuerKeyDigest: String = ""
    /// The role in the certificate; the node's spec has the one that the next is for.
    public var role: NodeRole = .worker
    public var issuedAt: Timestamp = .never
    public var expiresAt: Timestamp = .never
    /// How the last certificate came about: `bootstrap`, `join`, `renewal`, `expired-renewal`, `self-signed`.
    public var occasion: String = ""
    /// The address that asked for it.
    public var requestedBy: String = ""
    public var lastRefusal: CertificateRefusal?
    /// The request that is to be signed (PKCS #10, PEM), while the state is `pending`.
    public var signingRequest: String = ""
    /// PEM, the node's own first.
    public var certificateChain: String = ""
    /// Why the state is `failed`.
    public var failure: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "State", &state)
        try coder.field(2, "Membership", &membership, .always)
        try coder.field(3, "Serial", &serial)
        try coder.field(4, "PublicKeyDigest", &publicKeyDigest)
        try coder.field(5, "IssuerKeyDigest", &issuerKeyDigest)
        try coder.field(6, "Role", &role, .always)
        try coder.field(7, "IssuedAt", &issuedAt)
        try coder.field(8, "ExpiresAt", &expiresAt)
        try coder.field(9, "Occasion", &occasion)
        try coder.field(10, "RequestedBy", &requestedBy)
        try coder.field(11, "LastRefusal", &lastRefusal)
        try coder.field(12, "SigningRequest", &signingRequest, .internalOnly)
        try coder.field(13, "CertificateChain", &certificateChain, .internalOnly)
        try coder.field(14, "Failure", &failure)
    }
}

/// What is being done about a node's certificate.
public enum CertificateState: String, Sendable, Hashable, CaseIterable {
    /// Nothing is known of it.
    case none = ""
    /// A request waits to be signed, or for `node accept`.
    case pending
    case issued
    /// The node is to renew it now: its role or the root has changed.
    case renew
    /// The authority refused for good.
    case failed
}

/// Whether a node may be part of the swarm.
public enum NodeMembership: String, Sendable, Hashable, CaseIterable {
    case accepted
    /// It waits for `node accept`, without a certificate.
    case pending
}

/// A certificate that was not issued.
public struct CertificateRefusal: FieldCoded {
    public var time: Timestamp = .never
    public var reason: String = ""
    /// The address that asked.
    public var requestedBy: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Time", &time)
        try coder.field(2, "Reason", &reason)
        try coder.field(3, "RequestedBy", &requestedBy)
    }
}
