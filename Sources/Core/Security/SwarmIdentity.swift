import OpenSSL
public import PluginAPI

/// How a swarm begins.
public enum SwarmIdentity {
    /// What a new swarm's cluster object needs, and this manager's certificate.
    public struct Bootstrap: Sendable {
        public var root: RootMaterial
        public var tokens: JoinTokens
        public var tls: TLSInfo
        public var certificate: NodeCertificate
    }

    /// The lifetime of node certificates unless the swarm says otherwise: 90 days.
    public static let defaultLifetime: Duration = .seconds(90 * 86400)
    /// The shortest that is allowed: 30 minutes.
    public static let shortestLifetime: Duration = .seconds(1800)

    /// Makes the root through the authority, join tokens, and the certificate of the first manager, whose files it writes into `directory`
    /// (`<data root>/swarm/certificates`).
    /// - Parameter lifetime: Of the node's certificate.
    public static func bootstrap(
        clusterID: ID, nodeID: ID, authority: any CertificateAuthority, directory: String, now: Timestamp, lifetime: Duration = defaultLifetime
    ) async throws(ApusError) -> Bootstrap {
        guard !authority.isExternal else {
            throw ApusError(.unimplemented, "a swarm cannot begin with an external certificate authority yet: begin with \"internal\"")
        }
        guard lifetime >= shortestLifetime else { throw ApusError(.invalidArgument, "certificates must be valid for 30 minutes at least") }
        var root = try await authority.createRoot(CreateRootRequest(clusterID: clusterID, now: now))
        // An authority of a third party is not trusted to count.
        root.digest = JoinToken.digest(ofCertificate: root.certificate)
        let certificate = try await issue(
            nodeID: nodeID, role: .manager, clusterID: clusterID, root: root, authority: authority, now: now, lifetime: lifetime)
        try certificate.write(directory: directory)
        return Bootstrap(
            root: root, tokens: try JoinTokens.generate(rootDigest: root.digest), tls: try TLSInfo(root: root.certificate), certificate: certificate)
    }

    /// A new key for a node, and a certificate for it. The answer is checked: it must be for this key, node, role and swarm, from this root.
    public static func issue(
        nodeID: ID, role: NodeRole, clusterID: ID, root: RootMaterial, authority: any CertificateAuthority, now: Timestamp, lifetime: Duration
    ) async throws(ApusError) -> NodeCertificate {
        let key = try PrivateKey.generate()
        let request = try CertificateRequest(key: key, subject: DistinguishedName(commonName: nodeID.text))
        let answer = try await authority.issue(
            IssueRequest(
                signingRequest: try request.pem(), nodeID: nodeID, role: role, clusterID: clusterID, now: now, lifetime: lifetime, root: root))
        let certificate = try NodeCertificate(certificateChain: answer.certificateChain, key: try key.pem(), root: root.certificate)
        guard certificate.nodeID == nodeID, certificate.role == role, certificate.clusterID == clusterID else {
            throw ApusError(
                .failed,
                "the certificate authority answered with a certificate for \(certificate.nodeID) (\(certificate.role.rawValue)) "
                    + "of \(certificate.clusterID)"
            )
        }
        return certificate
    }
}

extension TLSInfo {
    /// What `swarm inspect` and `node inspect` show of a root certificate.
    public init(root pem: String) throws(ApusError) {
        self.init()
        let certificate = try Certificate(pem: pem)
        trustRoot = pem
        issuerSubject = try certificate.subjectDER()
        issuerPublicKey = try certificate.publicKey()
    }
}
