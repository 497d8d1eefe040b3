import OpenSSL
public import PluginAPI

/// How a swarm begins, and how a manager helps itself when nobody else can.
public enum SwarmIdentity {
    /// What a new swarm's cluster object needs, and this manager's certificate.
    public struct Bootstrap: Sendable {
        public var root: RootMaterial
        public var tokens: JoinTokens
        public var tls: TLSInfo
        public var certificate: NodeCertificate
        /// For the first node's object.
        public var record: NodeCertificateRecord
    }

    /// The lifetime of node certificates unless the swarm says otherwise: 90 days.
    public static let defaultLifetime: Duration = .seconds(90 * 86400)
    /// The shortest that is allowed: 30 minutes.
    public static let shortestLifetime: Duration = .seconds(1800)
    /// How long after its expiry a certificate may be renewed unless the swarm says otherwise: 30 days.
    public static let defaultExpiredRenewalGrace: Duration = .seconds(30 * 86400)

    /// Whether a manager's files in `<data root>/swarm` need the unlock key.
    public static func isLocked(directory: String) -> Bool { AutoLock(directory: directory).isLocked }

    /// Makes the root through the authority, join tokens, and the certificate of the first manager, whose files it writes into `directory`
    /// (`<data root>/swarm/certificates`).
    /// - Parameters:
    ///   - lifetime: Of the node's certificate.
    ///   - external: The signers, for an external authority; the first's `caCertificate` is the root.
    public static func bootstrap(
        clusterID: ID, nodeID: ID, authority: any CertificateAuthority, directory: String, now: Timestamp, lifetime: Duration = defaultLifetime,
        external: [ExternalCA] = []
    ) async throws(ApusError) -> Bootstrap {
        guard lifetime >= shortestLifetime else { throw ApusError(.invalidArgument, "certificates must be valid for 30 minutes at least") }
        var root = RootMaterial()
        if authority.isExternal {
            root.certificate = try externalRoot(external)
        } else {
            root = try await authority.createRoot(CreateRootRequest(clusterID: clusterID, now: now))
        }
        // An authority of a third party is not trusted to count.
        root.digest = JoinToken.digest(ofCertificate: root.certificate)
        let certificate = try await issue(
            nodeID: nodeID, role: .manager, clusterID: clusterID, root: root, authority: authority, now: now, lifetime: lifetime, external: external)
        try certificate.write(directory: directory)
        return Bootstrap(
            root: root, tokens: try JoinTokens.generate(rootDigest: root.digest), tls: try TLSInfo(root: root.certificate), certificate: certificate,
            record: try NodeCertificateRecord(certificate, occasion: "bootstrap"))
    }

    /// The root certificate of external signers, PEM, one.
    static func externalRoot(_ external: [ExternalCA]) throws(ApusError) -> String {
        guard let text = external.first(where: { !$0.caCertificate.isEmpty })?.caCertificate, let first = CertificateChain.firstText(pem: text) else {
            throw ApusError(.invalidArgument, "an external certificate authority needs its root certificate: --external-ca …,cacert=FILE")
        }
        guard try Certificate(pem: first).isAuthority else {
            throw ApusError(.invalidArgument, "the certificate of the external authority is not that of a certificate authority")
        }
        return first
    }

    /// A new key for a node, and a certificate for it. The answer is checked: it must be for this key, node, role and swarm, from this root.
    public static func issue(
        nodeID: ID, role: NodeRole, clusterID: ID, root: RootMaterial, authority: any CertificateAuthority, now: Timestamp, lifetime: Duration,
        external: [ExternalCA] = [], intermediate: String = "", trust: String = ""
    ) async throws(ApusError) -> NodeCertificate {
        let key = try PrivateKey.generate()
        let request = try CertificateRequest(key: key, subject: DistinguishedName(commonName: nodeID.text))
        let answer = try await authority.issue(
            IssueRequest(
                signingRequest: try request.pem(), nodeID: nodeID, role: role, clusterID: clusterID, now: now, lifetime: lifetime, root: root,
                externalAuthorities: external))
        var check = IssuedCertificateCheck(
            publicKey: try key.publicKey(), nodeID: nodeID, role: role, clusterID: clusterID, roots: root.certificate, now: now)
        check.lifetime = lifetime
        do throws(ApusError) {
            try check.check(chain: answer.certificateChain)
        } catch {
            throw error.during("the answer of the certificate authority is not believed")
        }
        return try NodeCertificate(
            certificateChain: Cluster.joined([answer.certificateChain, intermediate]), key: try key.pem(), root: trust.isEmpty ? root.certificate : trust,
            issuedAt: now, lifetime: lifetime)
    }

    /// A new certificate for a manager whose own has expired, signed with the root key in its store: when all managers slept past their expiry,
    /// there is nobody to ask. Its files are written.
    /// - Parameters:
    ///   - old: What it has.
    ///   - node: Its object in its store.
    ///   - authority: An authority of this machine, such as the internal one.
    /// - Throws: `unavailable` when it cannot help itself: no manager, or no root key; the message says what can be done.
    public static func resignSelf(
        _ old: NodeCertificate, cluster: Cluster, node: Node?, authority: any CertificateAuthority, directory: String, lock: LocalLock? = nil,
        now: Timestamp
    ) async throws(ApusError) -> NodeCertificate {
        guard old.isExpired(now: now) else { throw ApusError(.conflict, "the certificate of this node is valid until \(old.expiresAt)") }
        guard now > old.issuedAt else {
            throw ApusError(.unavailable, "the clock of this machine says \(now), and its certificate was issued at \(old.issuedAt): set the clock")
        }
        guard cluster.id == old.clusterID, let node, node.id == old.nodeID, node.spec.role == .manager, old.role == .manager else {
            throw ApusError(.unavailable, "the certificate of this node ended at \(old.expiresAt), and only a manager can sign itself another one")
        }
        guard !cluster.signingRoot.key.isEmpty, !authority.isExternal else {
            throw ApusError(
                .unavailable,
                "the certificate of this node ended at \(old.expiresAt), and the swarm's root key is not in its store: "
                    + "the external authority must sign a new one")
        }
        let certificate = try await issue(
            nodeID: old.nodeID, role: .manager, clusterID: cluster.id, root: cluster.signingRoot, authority: authority, now: now,
            lifetime: cluster.certificateLifetime, intermediate: cluster.intermediate, trust: cluster.trustBundle)
        try certificate.write(directory: directory, lock: lock)
        return certificate
    }
}

extension NodeCertificateRecord {
    /// The record of a certificate that was issued here.
    init(_ certificate: NodeCertificate, occasion: String) throws(ApusError) {
        self.init()
        state = .issued
        serial = certificate.serial
        publicKeyDigest = try certificate.publicKeyDigest()
        issuerKeyDigest = try certificate.issuer().publicKeyDigest()
        role = certificate.role
        issuedAt = certificate.issuedAt
        expiresAt = certificate.expiresAt
        self.occasion = occasion
        certificateChain = certificate.certificateChain
    }
}
