/// Signs the certificates of the swarm's nodes.
public protocol CertificateAuthority: Plugin {
    /// Whether the authority keeps its key outside of the swarm; then `createRoot` is never called.
    var isExternal: Bool { get }
    /// Makes a root certificate and its key.
    func createRoot(_ request: CreateRootRequest) async throws(ApusError) -> RootMaterial
    /// Signs a node's request. Of the request only the key counts: names and lifetime are those given here.
    ///
    /// The manager believes no answer: key, names, role, swarm, root and lifetime of the certificate are checked before it is used.
    /// - Throws: `unavailable` or `timedOut` when another try may succeed; the node tries again. Anything else fails the node's request.
    func issue(_ request: IssueRequest) async throws(ApusError) -> IssueAnswer
    /// Signs the name and key of another root, so that who trusts only this authority's root believes the other's certificates too.
    ///
    /// Asked of the outgoing authority when the root is rotated. The default throws `unimplemented`: then the swarm cannot leave this root.
    /// - Returns: A certificate authority's certificate, PEM.
    func crossSign(_ request: CrossSignRequest) async throws(ApusError) -> String
}

extension CertificateAuthority {
    /// Throws `unimplemented`: the root of this authority cannot be rotated from.
    public func crossSign(_ request: CrossSignRequest) async throws(ApusError) -> String {
        throw ApusError(.unimplemented, "this certificate authority cannot sign another root, so the root cannot be rotated away from it")
    }
}

/// What a new root is to be.
public struct CreateRootRequest: Sendable {
    /// The organization, that is the id of the swarm.
    public var clusterID: ID
    /// By the manager's clock.
    public var now: Timestamp
    /// From `now` on.
    public var lifetime: Duration

    public init(clusterID: ID, now: Timestamp, lifetime: Duration = .seconds(630_720_000)) {
        self.clusterID = clusterID
        self.now = now
        self.lifetime = lifetime
    }
}

/// A certificate that a node asks for: CN node id, OU role, O cluster id.
public struct IssueRequest: Sendable {
    /// PKCS #10, PEM.
    public var signingRequest: String
    /// The certificate's common name.
    public var nodeID: ID
    /// The certificate's organizational unit.
    public var role: NodeRole
    /// The certificate's organization.
    public var clusterID: ID
    public var now: Timestamp
    public var lifetime: Duration
    /// The root to sign with, from the store; its key is empty when the authority is external.
    public var root: RootMaterial
    /// The swarm's external signers, as its user gave them.
    public var externalAuthorities: [ExternalCA]

    public init(
        signingRequest: String, nodeID: ID, role: NodeRole, clusterID: ID, now: Timestamp, lifetime: Duration, root: RootMaterial,
        externalAuthorities: [ExternalCA] = []
    ) {
        self.signingRequest = signingRequest
        self.nodeID = nodeID
        self.role = role
        self.clusterID = clusterID
        self.now = now
        self.lifetime = lifetime
        self.root = root
        self.externalAuthorities = externalAuthorities
    }
}

/// Another root that is to be believed for this root's sake.
public struct CrossSignRequest: Sendable {
    /// The other root's certificate, PEM.
    public var certificate: String
    /// A request by the other root for its own name and key (PKCS #10, PEM); empty when the swarm does not have its key.
    public var signingRequest: String
    public var now: Timestamp
    /// The root to sign with; its key is empty when the authority is external.
    public var root: RootMaterial
    /// The swarm's external signers.
    public var externalAuthorities: [ExternalCA]

    public init(
        certificate: String, signingRequest: String = "", now: Timestamp, root: RootMaterial, externalAuthorities: [ExternalCA] = []
    ) {
        self.certificate = certificate
        self.signingRequest = signingRequest
        self.now = now
        self.root = root
        self.externalAuthorities = externalAuthorities
    }
}

/// A signed certificate.
public struct IssueAnswer: Sendable {
    /// PEM, the node's first, then intermediates.
    public var certificateChain: String
    public var expiresAt: Timestamp

    public init(certificateChain: String, expiresAt: Timestamp) {
        self.certificateChain = certificateChain
        self.expiresAt = expiresAt
    }
}
