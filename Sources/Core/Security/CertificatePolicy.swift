import OpenSSL
public import PluginAPI
import Wire

/// Who asks a certificate service.
public struct CertificateCaller: Sendable, Hashable {
    /// By the certificate that it showed, verified and not expired; `nil`: none.
    public var nodeID: ID?
    public var role: NodeRole?
    public var clusterID: ID?
    /// Where it asks from, for records; a follower that forwards gives the address of the node that it forwards for.
    public var address: String

    public init(nodeID: ID? = nil, role: NodeRole? = nil, clusterID: ID? = nil, address: String) {
        self.nodeID = nodeID
        self.role = role
        self.clusterID = clusterID
        self.address = address
    }

    /// The address without its port, which is another with every connection.
    var host: String {
        guard let colon = address.lastIndex(of: ":") else { return address }
        return String(address[..<colon])
    }
}

/// What a certificate service decides, from what it is asked and what the store has. Without effects.
enum CertificatePolicy {
    /// Bytes of a chain that a stranger may send.
    static let chainLimit = 32 << 10

    /// The role that a join token gives.
    /// - Throws: `permissionDenied` when it gives none.
    static func role(ofToken token: String, requested: UInt64, cluster: Cluster) throws(ApusError) -> NodeRole {
        let tokens = cluster.joinTokens ?? JoinTokens()
        // Both are compared, always, so that the time does not tell which was nearer.
        let isWorker = JoinToken.matches(token, tokens.worker)
        let isManager = JoinToken.matches(token, tokens.manager)
        guard isWorker || isManager else {
            if let parsed = try? JoinToken(parsing: token), parsed.digest != cluster.root.digest {
                throw ApusError(.permissionDenied, "the join token is of another swarm, or of a root that was rotated since: \(askAgain)")
            }
            throw ApusError(.permissionDenied, "the join token is wrong, or was rotated: \(askAgain)")
        }
        guard isManager || requested != 1 else {
            throw ApusError(.permissionDenied, "this join token is for workers: \"apus swarm join-token manager\" on a manager shows the other")
        }
        return isManager ? .manager : .worker
    }

    private static var askAgain: String { "\"apus swarm join-token worker\" on a manager shows the present one" }

    /// The node of a renewal over a client certificate.
    static func renewing(_ caller: CertificateCaller, cluster: Cluster, node: (ID) -> Node?) throws(ApusError) -> Node {
        guard let id = caller.nodeID else {
            throw ApusError(.unauthenticated, "neither a join token nor a certificate of the swarm was shown")
        }
        guard caller.clusterID == cluster.id else {
            throw ApusError(.permissionDenied, "the certificate of node \(id) is of another swarm")
        }
        return try present(id, node(id))
    }

    private static func present(_ id: ID, _ node: Node?) throws(ApusError) -> Node {
        guard let node else { throw ApusError(.permissionDenied, "node \(id) is not part of this swarm, or was removed from it: join again") }
        guard node.certificate.membership == .accepted else { throw ApusError(.permissionDenied, "node \(id) was not accepted yet") }
        return node
    }

    /// What an expired certificate says of itself, as far as no store is needed: its chain, and that who shows it has its key.
    static func expired(
        chain: [UInt8], signature: [UInt8], signedBytes: [UInt8], cluster: Cluster
    ) throws(ApusError) -> (nodeID: ID, keyDigest: String, expiresAt: Timestamp) {
        guard chain.count <= chainLimit, signature.count <= 1024 else { throw ApusError(.tooLarge, "the certificate or the signature is too large") }
        guard let text = String(validating: chain, as: UTF8.self) else { throw ApusError(.invalidArgument, "the certificate is not PEM") }
        let certificates = try CertificateChain.certificates(pem: text)
        let certificate = certificates[0]
        guard certificate.subject.organization == cluster.id.text, !certificate.subject.commonName.isEmpty else {
            throw ApusError(.permissionDenied, "the expired certificate is of another swarm")
        }
        try CertificateChain.verify(
            certificate, intermediates: Array(certificates.dropFirst()), roots: try CertificateChain.certificates(pem: cluster.trustBundle), at: nil)
        guard certificate.verifies(signature: signature, of: signedBytes) else {
            throw ApusError(.permissionDenied, "the request is not signed with the key of the expired certificate")
        }
        return (ID(certificate.subject.commonName), try certificate.publicKeyDigest(), certificate.notAfter)
    }

    enum ExpiredDecision: Equatable {
        /// The certificate has not ended by the manager's clock, so it is as good as one that was shown to TLS.
        case renew
        case heal
        case refuse(ApusError)
        /// Refused, and somebody must know.
        case alarm(ApusError)
    }

    /// Whether a node whose certificate has expired may have another.
    /// - Parameters:
    ///   - keyDigest: Of the key that it has.
    ///   - expiresAt: Of the certificate that it showed.
    static func expiredRenewal(
        _ id: ID, node candidate: Node?, keyDigest: String, expiresAt: Timestamp, grace: Duration, hasSession: Bool, now: Timestamp
    ) -> ExpiredDecision {
        let node: Node
        do throws(ApusError) {
            node = try present(id, candidate)
        } catch {
            return .refuse(error)
        }
        guard node.certificate.publicKeyDigest == keyDigest else {
            return .refuse(
                ApusError(.permissionDenied, "node \(id) has a newer certificate than the one that was shown: only the last key counts"))
        }
        guard expiresAt <= now else { return .renew }
        guard !hasSession else {
            return .alarm(
                ApusError(.permissionDenied, "node \(id) is connected, and somebody showed its expired certificate: somebody may have a copy of its key"))
        }
        guard grace > .zero else {
            return .refuse(
                ApusError(.permissionDenied, "the certificate of node \(id) ended at \(expiresAt), and this swarm renews none that has: join again"))
        }
        guard now <= expiresAt + grace else {
            return .refuse(
                ApusError(
                    .permissionDenied,
                    "the certificate of node \(id) ended at \(expiresAt), more than \(grace.components.seconds / 3600) hours before "
                        + "\(now), this manager's clock: join again"))
        }
        return .heal
    }

    /// How far a node's certificate is, as SwarmKit says it.
    static func status(_ node: Node) -> IssuanceStatus {
        switch node.certificate.state {
        case .none: IssuanceStatus(.unknown)
        case .pending:
            IssuanceStatus(
                .pending,
                node.certificate.membership == .pending
                    ? "waits for \"apus node accept \(node.id)\" on a manager" : node.certificate.lastRefusal?.reason ?? "")
        case .issued: IssuanceStatus(.issued)
        case .renew: IssuanceStatus(.rotate)
        case .failed: IssuanceStatus(.failed, node.certificate.failure)
        @unknown default: IssuanceStatus(.unknown)
        }
    }
}
