public import PluginAPI

// The messages of Identity.proto, package apus.v1.

/// A node asks what it is to trust, and what time it is.
public struct GetTrustRequest: FieldCoded {
    public init() {}
    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}

/// What a node of the swarm is to trust.
public struct GetTrustResponse: FieldCoded {
    /// PEM; two roots while one is rotated.
    public var roots: [UInt8] = []
    /// Of node certificates.
    public var certificateLifetime: Duration = .zero
    /// The manager's clock.
    public var time: Timestamp = .never

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "roots", &roots)
        try coder.field(2, "certificate_lifetime", &certificateLifetime)
        try coder.field(3, "time", &time)
    }
}

/// A node's wish to renew a certificate that has expired.
public struct RenewExpiredCertificateRequest: FieldCoded {
    /// PKCS #10, PEM, with a new key.
    public var signingRequest: [UInt8] = []
    /// The expired certificate, then its intermediates, PEM.
    public var certificateChain: [UInt8] = []
    /// By the expired certificate's key, over `signedBytes`.
    public var signature: [UInt8] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "csr", &signingRequest)
        try coder.field(2, "certificate", &certificateChain)
        try coder.field(3, "signature", &signature)
    }

    /// What the signature is over. Seen by somebody else it is of no use to him: it names the new key, and works only until that is issued.
    public var signedBytes: [UInt8] { Array("apus.v1.RenewExpiredCertificate".utf8) + [0] + signingRequest }
}

/// The wish is taken: the certificate is asked for by this id, as after `IssueNodeCertificateResponse`.
public struct RenewExpiredCertificateResponse: FieldCoded {
    /// The one that the expired certificate names.
    public var nodeID: ID = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "node_id", &nodeID)
    }
}
