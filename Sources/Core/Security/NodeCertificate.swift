import Files
import OpenSSL
public import PluginAPI

/// A node's certificate and key, as they are on its disk, 0600: `swarm-root-ca.crt`, `swarm-node.crt`, `swarm-node.key`.
public struct NodeCertificate: Sendable {
    public var nodeID: ID
    public var role: NodeRole
    public var clusterID: ID
    /// PEM, the node's own first.
    public var certificateChain: String
    /// PEM, PKCS #8.
    public var key: String
    /// PEM.
    public var root: String
    public var notBefore: Timestamp
    public var expiresAt: Timestamp

    /// Checks that key, certificate and root belong together, and reads who the node is.
    public init(certificateChain: String, key: String, root: String) throws(ApusError) {
        let certificate = try Certificate(pem: certificateChain)
        let authority = try Certificate(pem: root)
        guard certificate.belongs(to: try PrivateKey(pem: key)) else {
            throw ApusError(.corrupt, "the node's certificate and its key do not belong together")
        }
        guard certificate.isIssued(by: authority) else {
            throw ApusError(.corrupt, "the node's certificate was not issued by the swarm's root")
        }
        let subject = certificate.subject
        switch subject.organizationalUnit {
        case "swarm-manager": role = .manager
        case "swarm-worker": role = .worker
        default: throw ApusError(.corrupt, "the node's certificate has the unknown role \"\(subject.organizationalUnit)\"")
        }
        guard !subject.commonName.isEmpty, !subject.organization.isEmpty else {
            throw ApusError(.corrupt, "the node's certificate names no node or no swarm")
        }
        nodeID = ID(subject.commonName)
        clusterID = ID(subject.organization)
        self.certificateChain = certificateChain
        self.key = key
        self.root = root
        notBefore = certificate.notBefore
        expiresAt = certificate.notAfter
    }

    /// Reads what `write` wrote; `nil` when this node is in no swarm.
    public static func read(directory: String) throws(ApusError) -> NodeCertificate? {
        let path = "\(directory)/swarm-node.crt"
        guard Files.exists(path) else { return nil }
        do throws(ApusError) {
            return try NodeCertificate(
                certificateChain: try Files.readText(path), key: try Files.readText("\(directory)/swarm-node.key"),
                root: try Files.readText("\(directory)/swarm-root-ca.crt"))
        } catch {
            throw error.during(directory)
        }
    }

    /// Writes all three durably. The certificate comes last: while it is missing, the node is in no swarm.
    public func write(directory: String) throws(ApusError) {
        try Files.makeDirectory(directory)
        try Files.writeAtomically(Array(root.utf8), to: "\(directory)/swarm-root-ca.crt")
        try Files.writeAtomically(Array(key.utf8), to: "\(directory)/swarm-node.key")
        try Files.writeAtomically(Array(certificateChain.utf8), to: "\(directory)/swarm-node.crt")
    }
}
