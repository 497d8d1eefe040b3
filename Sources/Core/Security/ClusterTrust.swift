import OpenSSL
public import PluginAPI
public import Wire

extension Cluster {
    /// What nodes trust, PEM: the root, and the new one while it is rotated.
    public var trustBundle: String {
        guard let rotation = rootRotation else { return root.certificate }
        return Self.joined([root.certificate, rotation.root.certificate])
    }

    /// The root that signs now: the new one while it is rotated.
    public var signingRoot: RootMaterial { rootRotation?.root ?? root }

    /// What nodes show behind their certificates, so that those who know only the old root verify them; PEM, or empty.
    public var intermediate: String { rootRotation?.crossSignedCertificate ?? "" }

    /// The plugin that signs now.
    public var signingAuthority: String {
        if let name = rootRotation?.certificateAuthority, !name.isEmpty { return name }
        return plugins.certificateAuthority
    }

    /// Of node certificates.
    public var certificateLifetime: Duration {
        spec.ca.nodeCertificateExpiry > .zero ? spec.ca.nodeCertificateExpiry : SwarmIdentity.defaultLifetime
    }

    /// How long after its expiry a certificate may be renewed; zero: never.
    public var expiredRenewalGrace: Duration { spec.ca.expiredRenewalGrace ?? SwarmIdentity.defaultExpiredRenewalGrace }

    /// Takes over what an update by a client leaves out that does not know it, such as Docker's.
    public static func keepingUnknown(_ spec: ClusterSpec, from old: ClusterSpec) -> ClusterSpec {
        var spec = spec
        spec.ca.joiningWaits = spec.ca.joiningWaits ?? old.ca.joiningWaits
        spec.ca.expiredRenewalGrace = spec.ca.expiredRenewalGrace ?? old.ca.expiredRenewalGrace
        return spec
    }

    static func joined(_ texts: [String]) -> String {
        texts.filter { !$0.isEmpty }.map { $0.hasSuffix("\n") ? $0 : $0 + "\n" }.joined()
    }
}

extension TLSInfo {
    /// What `swarm inspect` shows of a root certificate.
    public init(root pem: String) throws(ApusError) {
        self.init()
        let certificate = try Certificate(pem: pem)
        trustRoot = pem
        issuerSubject = try certificate.subjectDER()
        issuerPublicKey = try certificate.publicKey()
    }

    /// What a node says of itself: what it trusts, and who signed its certificate.
    public init(of node: NodeCertificate) throws(ApusError) {
        self.init()
        let issuer = try node.issuer()
        trustRoot = node.root
        issuerSubject = try issuer.subjectDER()
        issuerPublicKey = try issuer.publicKey()
    }
}

extension NodeRole {
    /// The organizational unit of certificates.
    public var organizationalUnit: String { self == .manager ? "swarm-manager" : "swarm-worker" }

    init?(organizationalUnit: String) {
        switch organizationalUnit {
        case "swarm-manager": self = .manager
        case "swarm-worker": self = .worker
        default: return nil
        }
    }
}

/// Whether a peer with a certificate may speak: the certificate alone does not say whether its node was removed since.
public enum PeerAuthorization {
    /// Why a peer may not call a method that is for these roles, or `nil` when he may.
    /// - Parameter node: The peer's node in the store; `nil` when it is not there.
    public static func refusal(of peer: PeerIdentity?, roles: Set<NodeRole>, cluster: ID, node: Node?) -> ApusError? {
        guard let peer else { return ApusError(.unauthenticated, "this is for nodes with a certificate of the swarm") }
        return refusal(nodeID: peer.nodeID, role: peer.role, clusterID: peer.clusterID, of: cluster, roles: roles, node: node)
    }

    /// Why a peer may not call a method, or `nil` when he may.
    /// - Parameters:
    ///   - roles: That the method is for.
    ///   - node: The peer's node in the store; `nil` when it is not there.
    public static func refusal(
        nodeID: ID, role: NodeRole, clusterID: ID, of cluster: ID, roles: Set<NodeRole>, node: Node?
    ) -> ApusError? {
        guard clusterID == cluster else {
            return ApusError(.permissionDenied, "the certificate of node \(nodeID) is of another swarm, \(clusterID)")
        }
        guard let node else { return ApusError(.permissionDenied, "node \(nodeID) is not part of this swarm, or was removed from it") }
        guard node.certificate.membership == .accepted else { return ApusError(.permissionDenied, "node \(nodeID) was not accepted yet") }
        guard roles.contains(role) else {
            return ApusError(.permissionDenied, "this is for \(roles.contains(.manager) ? "managers" : "workers"), and node \(nodeID) is a \(role.rawValue)")
        }
        return nil
    }
}
