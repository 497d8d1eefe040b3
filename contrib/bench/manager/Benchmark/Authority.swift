import Files
import OpenSSL
import Orchestration
import PluginAPI
import Transport

/// The swarm's root with its key, which the manager and the nodes of a measurement share: whoever is simulated needs a certificate too.
struct Authority {
    let cluster: ID
    private let root: String
    private let certificate: Certificate
    private let key: PrivateKey

    /// Makes one, and leaves it in the folder for `load`.
    static func make(cluster: ID, in folder: String) throws -> Authority {
        let key = try PrivateKey.generate()
        let root = try CertificateSigning.selfSigned(
            key: key, subject: DistinguishedName(commonName: "swarm-ca"), now: SystemClock().now(), lifetime: .seconds(86_400))
        try Files.writeAtomically(Array(try root.pem().utf8), to: "\(folder)/root.pem")
        try Files.writeAtomically(Array(try key.pem().utf8), to: "\(folder)/root.key")
        try Files.writeAtomically(Array(cluster.text.utf8), to: "\(folder)/cluster")
        return try load(folder)
    }

    static func load(_ folder: String) throws -> Authority {
        let root = try Files.readText("\(folder)/root.pem")
        return Authority(
            cluster: ID(try Files.readText("\(folder)/cluster")), root: root, certificate: try Certificate(pem: root),
            key: try PrivateKey(pem: try Files.readText("\(folder)/root.key")))
    }

    /// A new key and certificate.
    func credentials(_ node: ID, unit: String) throws -> TransportCredentials {
        let own = try PrivateKey.generate()
        let subject = DistinguishedName(commonName: node.text, organizationalUnit: unit, organization: cluster.text)
        let chain = try CertificateSigning.sign(
            CertificateRequest(key: own, subject: subject), subject: subject, alternativeNames: [unit], authority: certificate, authorityKey: key,
            now: SystemClock().now(), lifetime: .seconds(80_000))
        return try TransportCredentials(roots: root, identity: .init(certificateChain: try chain.pem(), privateKey: try own.pem()))
    }
}
