import OpenSSL
public import PluginAPI

/// The swarm's own certificate authority: its key is in the swarm's store, and every manager can sign.
public final class InternalAuthority: CertificateAuthority {
    private let host: any HostServices

    public init(host: any HostServices) { self.host = host }

    public var isExternal: Bool { false }

    /// A key on P-256 and a root that signs itself, both PEM. The digest is of the PEM text, as SwarmKit's join tokens have it, in base 36.
    public func createRoot(_ request: CreateRootRequest) async throws(ApusError) -> RootMaterial {
        let key = try PrivateKey.generate()
        let certificate = try CertificateSigning.selfSigned(
            key: key, subject: DistinguishedName(commonName: "swarm-ca"), now: request.now, lifetime: request.lifetime)
        var root = RootMaterial()
        root.certificate = try certificate.pem()
        root.key = try key.pem()
        root.digest = Base36.text(Digest.sha256(Array(root.certificate.utf8)), digits: 50)
        host.log(.info, "made a root certificate, valid until \(certificate.notAfter)")
        host.count("roots", by: 1)
        return root
    }

    /// A certificate for both ends of TLS: CN node, OU role, O cluster; DNS names of the role and the node, and of the CA for managers.
    public func issue(_ request: IssueRequest) async throws(ApusError) -> IssueAnswer {
        guard !request.root.key.isEmpty else {
            throw ApusError(.unavailable, "the swarm has no root key: its certificates come from an external authority")
        }
        guard request.lifetime > .zero else { throw ApusError(.invalidArgument, "a certificate needs a lifetime") }
        guard !request.nodeID.isEmpty, !request.clusterID.isEmpty else {
            throw ApusError(.invalidArgument, "a certificate needs a node and a swarm")
        }
        let signingRequest = try CertificateRequest(pem: request.signingRequest)
        let authority = try Certificate(pem: request.root.certificate)
        guard authority.notAfter > request.now else {
            throw ApusError(.unavailable, "the root certificate ended at \(authority.notAfter): rotate it")
        }
        let unit = request.role == .manager ? "swarm-manager" : "swarm-worker"
        let names = [unit, request.nodeID.text] + (request.role == .manager ? ["swarm-ca"] : [])
        let certificate = try CertificateSigning.sign(
            signingRequest,
            subject: DistinguishedName(commonName: request.nodeID.text, organizationalUnit: unit, organization: request.clusterID.text),
            alternativeNames: names, authority: authority, authorityKey: try PrivateKey(pem: request.root.key), now: request.now,
            lifetime: request.lifetime)
        host.count("certificates", by: 1)
        return IssueAnswer(certificateChain: try certificate.pem(), expiresAt: certificate.notAfter)
    }

    /// The other root's name and key under this root's signature.
    public func crossSign(_ request: CrossSignRequest) async throws(ApusError) -> String {
        guard !request.root.key.isEmpty else { throw ApusError(.unavailable, "the swarm does not have the key of its root") }
        let certificate = try CertificateSigning.crossSign(
            try Certificate(pem: request.certificate), authority: try Certificate(pem: request.root.certificate),
            authorityKey: try PrivateKey(pem: request.root.key), now: request.now)
        host.count("cross_signatures", by: 1)
        return try certificate.pem()
    }
}
