/// Signs the certificates of the swarm's nodes.
public protocol CertificateAuthority: Plugin {
    /// Whether the authority keeps its key outside of the swarm; then `createRoot` is never called.
    var isExternal: Bool { get }
    /// Makes a root certificate and its key.
    func createRoot(_ request: CreateRootRequest) async throws(ApusError) -> RootMaterial
    /// Signs a node's request. Of the request only the key counts: names and lifetime are those given here.
    func issue(_ request: IssueRequest) async throws(ApusError) -> IssueAnswer
}

/// What a new root is to be.
public struct CreateRootRequest: Sendable {
    /// The organization, that is the id of the swarm.
    public var clusterID: ID
    public var now: Timestamp
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
    public var nodeID: ID
    public var role: NodeRole
    public var clusterID: ID
    public var now: Timestamp
    public var lifetime: Duration
    /// The root to sign with, from the store.
    public var root: RootMaterial

    public init(signingRequest: String, nodeID: ID, role: NodeRole, clusterID: ID, now: Timestamp, lifetime: Duration, root: RootMaterial) {
        self.signingRequest = signingRequest
        self.nodeID = nodeID
        self.role = role
        self.clusterID = clusterID
        self.now = now
        self.lifetime = lifetime
        self.root = root
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
