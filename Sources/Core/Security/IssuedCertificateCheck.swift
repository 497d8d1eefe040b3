import OpenSSL
public import PluginAPI

/// What a certificate must be to be believed, whoever made it.
public struct IssuedCertificateCheck: Sendable {
    /// DER of SubjectPublicKeyInfo.
    public var publicKey: [UInt8]
    public var nodeID: ID
    /// `nil`: either.
    public var role: NodeRole?
    /// `nil`: any, as for a node that joins and does not know it yet.
    public var clusterID: ID?
    /// PEM, one or more.
    public var roots: String
    /// PEM, besides those behind the certificate itself; may be empty.
    public var intermediates: String = ""
    /// That was asked for; `nil`: not checked.
    public var lifetime: Duration?
    public var now: Timestamp

    public init(publicKey: [UInt8], nodeID: ID, role: NodeRole?, clusterID: ID?, roots: String, now: Timestamp) {
        self.publicKey = publicKey
        self.nodeID = nodeID
        self.role = role
        self.clusterID = clusterID
        self.roots = roots
        self.now = now
    }

    /// Checks a chain.
    /// - Returns: The node's certificate, and the one that signed it.
    /// - Throws: `permissionDenied` with what is wrong; `invalidArgument` for what is no certificate.
    @discardableResult
    public func check(chain: String) throws(ApusError) -> (certificate: Certificate, issuer: Certificate) {
        let certificates = try CertificateChain.certificates(pem: chain)
        let certificate = certificates[0]
        guard try certificate.publicKey() == publicKey else { throw refusal("is for another key than the one that was asked for") }
        let subject = certificate.subject
        guard subject.commonName == nodeID.text else { throw refusal("is for \"\(subject.commonName)\" and not for node \(nodeID)") }
        guard let actual = NodeRole(organizationalUnit: subject.organizationalUnit) else {
            throw refusal("has the unknown role \"\(subject.organizationalUnit)\"")
        }
        if let role, role != actual { throw refusal("is for a \(actual.rawValue) and not for a \(role.rawValue)") }
        if let clusterID, subject.organization != clusterID.text { throw refusal("is for the swarm \"\(subject.organization)\" and not for \(clusterID)") }
        guard !subject.organization.isEmpty else { throw refusal("names no swarm") }
        try checkExtensions(of: certificate, unit: actual)
        try checkTimes(of: certificate)
        var between = Array(certificates.dropFirst())
        if !intermediates.isEmpty { between += try CertificateChain.certificates(pem: intermediates) }
        let path = try CertificateChain.verify(
            certificate, intermediates: between, roots: try CertificateChain.certificates(pem: roots), at: now)
        guard path.count > 1 else { throw refusal("signed itself") }
        return (certificate, path[1])
    }

    private func checkExtensions(of certificate: Certificate, unit: NodeRole) throws(ApusError) {
        guard !certificate.isAuthority else { throw refusal("may sign others, which no node's may") }
        guard certificate.isForBothEnds else { throw refusal("cannot be used for both ends of TLS") }
        let allowed = [unit.organizationalUnit, nodeID.text] + (unit == .manager ? ["swarm-ca"] : [])
        for name in certificate.alternativeNames where !allowed.contains(name) { throw refusal("is also for \"\(name)\"") }
    }

    private func checkTimes(of certificate: Certificate) throws(ApusError) {
        guard certificate.notBefore <= now else {
            throw refusal("is valid from \(certificate.notBefore), and the clock of this machine says \(now): set the clock that is wrong")
        }
        guard certificate.notAfter > now else {
            throw refusal("ended at \(certificate.notAfter), and the clock of this machine says \(now): set the clock that is wrong")
        }
        guard let lifetime else { return }
        // A tenth and an hour: authorities count in their own way, and backdate.
        let latest = now + lifetime + lifetime / 10 + .seconds(3600)
        guard certificate.notAfter <= latest else {
            throw refusal(
                "is valid until \(certificate.notAfter), and the swarm's certificates are for \(lifetime.components.seconds / 60) minutes: "
                    + "set the expiry of the authority, or that of the swarm with \"apus swarm update --cert-expiry\"")
        }
    }

    private func refusal(_ what: String) -> ApusError { ApusError(.permissionDenied, "the certificate \(what)") }
}
