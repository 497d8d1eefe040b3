import OpenSSL
public import PluginAPI

/// A node's certificate and key, and the roots that it trusts.
public struct NodeCertificate: Sendable, Hashable {
    public var nodeID: ID
    public var role: NodeRole
    public var clusterID: ID
    /// PEM, the node's own first.
    public var certificateChain: String
    /// PEM, PKCS #8.
    public var key: String
    /// PEM; two while the swarm's root is rotated.
    public var root: String
    public var notBefore: Timestamp
    public var expiresAt: Timestamp
    /// Lower-case hexadecimal.
    public var serial: String
    /// When this node received it, by its own clock. The certificate's own beginning is an hour before, or whatever the authority chose.
    public var issuedAt: Timestamp
    /// For how long it was issued, by the managers' clock.
    public var lifetime: Duration

    /// Checks that key, certificate and roots belong together, whatever the time is, and reads who the node is.
    /// - Parameters:
    ///   - issuedAt: `nil`: the certificate's beginning without the backdating of the internal authority.
    ///   - lifetime: `nil`: what is left of the certificate from there.
    public init(
        certificateChain: String, key: String, root: String, issuedAt: Timestamp? = nil, lifetime: Duration? = nil
    ) throws(ApusError) {
        let certificates: [Certificate]
        let roots: [Certificate]
        do throws(ApusError) {
            certificates = try CertificateChain.certificates(pem: certificateChain)
            roots = try CertificateChain.certificates(pem: root)
        } catch {
            throw ApusError(.corrupt, "the node's certificate or the swarm's root is damaged: \(error.message)")
        }
        let certificate = certificates[0]
        guard certificate.belongs(to: try PrivateKey(pem: key)) else {
            throw ApusError(.corrupt, "the node's certificate and its key do not belong together")
        }
        do throws(ApusError) {
            try CertificateChain.verify(certificate, intermediates: Array(certificates.dropFirst()), roots: roots, at: nil)
        } catch {
            throw ApusError(.corrupt, "the node's certificate was not issued by the swarm's root: \(error.message)")
        }
        let subject = certificate.subject
        guard let role = NodeRole(organizationalUnit: subject.organizationalUnit) else {
            throw ApusError(.corrupt, "the node's certificate has the unknown role \"\(subject.organizationalUnit)\"")
        }
        guard !subject.commonName.isEmpty, !subject.organization.isEmpty else {
            throw ApusError(.corrupt, "the node's certificate names no node or no swarm")
        }
        self.role = role
        nodeID = ID(subject.commonName)
        clusterID = ID(subject.organization)
        self.certificateChain = certificateChain
        self.key = key
        self.root = root
        notBefore = certificate.notBefore
        expiresAt = certificate.notAfter
        serial = certificate.serialNumber
        let begin = min(certificate.notBefore + CertificateSigning.backdating, certificate.notAfter)
        self.issuedAt = issuedAt ?? begin
        self.lifetime = lifetime.map { min($0, certificate.notAfter - certificate.notBefore) } ?? (certificate.notAfter - begin)
    }

    /// Whether it has ended, by the clock that says `now`.
    public func isExpired(now: Timestamp) -> Bool { expiresAt <= now }

    /// SHA-256 of the public key, lower-case hexadecimal.
    public func publicKeyDigest() throws(ApusError) -> String { try PrivateKey(pem: key).publicKeyDigest() }

    /// The certificate whose key signed this one.
    func issuer() throws(ApusError) -> Certificate {
        let certificates = try CertificateChain.certificates(pem: certificateChain)
        let path = try CertificateChain.verify(
            certificates[0], intermediates: Array(certificates.dropFirst()), roots: try CertificateChain.certificates(pem: root), at: nil)
        guard path.count > 1 else { throw ApusError(.corrupt, "the node's certificate signed itself") }
        return path[1]
    }
}
