import COpenSSL
import Glibc
import OpenSSL
import PluginAPI
import Wire

/// A peer's certificate that was verified.
struct PeerCertificate: Sendable {
    var identity: PeerIdentity
    /// Whether it was over when it was verified.
    var isExpired: Bool
    var notAfter: Timestamp
    var der: [UInt8]

    enum Outcome {
        case accepted(PeerCertificate)
        /// In words for people.
        case refused(String)
    }

    /// The swarm's units of an organization (facts/peers.md, section 5.2).
    static let managerUnit = "swarm-manager"
    static let workerUnit = "swarm-worker"

    /// Verifies the chain of a store context. Times are the machine's clock.
    /// - Parameter allowsExpired: Whether a leaf that is over, and otherwise right, is accepted.
    static func verify(_ store: OpaquePointer?, allowsExpired: Bool) -> Outcome {
        if allowsExpired {
            X509_STORE_CTX_set_verify_cb(store) { verdict, store in
                let isLeaf = X509_STORE_CTX_get_error_depth(store) == 0
                return verdict == 0 && isLeaf && X509_STORE_CTX_get_error(store) == X509_V_ERR_CERT_HAS_EXPIRED ? 1 : verdict
            }
        }
        let verdict = X509_verify_cert(store)
        let error = X509_STORE_CTX_get_error(store)
        guard let leaf = X509_STORE_CTX_get0_cert(store), let certificate = copy(leaf) else { return .refused("the certificate cannot be read") }
        guard verdict == 1 else { return .refused(words(error, certificate)) }
        X509_STORE_CTX_set_error(store, X509_V_OK)
        let subject = certificate.subject
        let role: NodeRole
        switch subject.organizationalUnit {
        case managerUnit: role = .manager
        case workerUnit: role = .worker
        default:
            return .refused(
                "the certificate of \(printable(subject.commonName)) is not a node's: its unit is \"\(printable(subject.organizationalUnit))\"")
        }
        guard !subject.commonName.isEmpty, let der = try? certificate.der() else { return .refused("the certificate names no node") }
        let notAfter = certificate.notAfter
        return .accepted(
            PeerCertificate(
                identity: PeerIdentity(
                    nodeID: ID(subject.commonName), role: role, clusterID: ID(subject.organization), serial: certificate.serialNumber),
                isExpired: notAfter <= now(), notAfter: notAfter, der: der))
    }

    static func now() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    private static func copy(_ leaf: OpaquePointer) -> Certificate? {
        guard let buffer = BIO_new(BIO_s_mem()) else { return nil }
        defer { BIO_free(buffer) }
        guard PEM_write_bio_X509(buffer, leaf) == 1 else { return nil }
        var bytes: [UInt8] = []
        withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { piece in
            while true {
                let count = BIO_read(buffer, piece.baseAddress, 4096)
                guard count > 0 else { return }
                bytes.append(contentsOf: piece.prefix(Int(count)))
            }
        }
        return try? Certificate(pem: String(decoding: bytes, as: UTF8.self))
    }

    /// What a stranger wrote, fit for a log: short, and on one line.
    private static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.prefix(80).map { $0.properties.generalCategory == .control ? "?" : $0 }))
    }

    private static func words(_ error: Int32, _ certificate: Certificate) -> String {
        let name = printable(certificate.subject.commonName)
        let reason = X509_verify_cert_error_string(Int(error)).map { String(cString: $0) } ?? "error \(error)"
        switch error {
        case X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID:
            return
                "\(reason): the certificate of \(name) is for \(certificate.notBefore) to \(certificate.notAfter), and the clock of this machine"
                + " says \(now()); compare the clocks of both machines"
        default: return "\(reason) (certificate of \(name), issued by \(printable(certificate.issuer.commonName)))"
        }
    }
}
