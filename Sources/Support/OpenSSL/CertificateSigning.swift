import COpenSSL
public import PluginAPI

/// A request for a certificate (PKCS #10), signed with the key that it is for.
public final class CertificateRequest: @unchecked Sendable {
    let pointer: OpaquePointer

    deinit { X509_REQ_free(pointer) }

    /// Makes a request.
    public init(key: PrivateKey, subject: DistinguishedName) throws(ApusError) {
        guard let pointer = X509_REQ_new() else { throw OpenSSLQueue.error("no certificate request could be made") }
        self.pointer = pointer
        try subject.write(to: X509_REQ_get_subject_name(pointer))
        guard X509_REQ_set_version(pointer, 0) == 1, X509_REQ_set_pubkey(pointer, key.pointer) == 1,
            X509_REQ_sign(pointer, key.pointer, EVP_sha256()) > 0
        else { throw OpenSSLQueue.error("no certificate request could be made") }
    }

    /// Reads a request and checks its signature: who sent it has the key.
    ///
    /// Keys are ECDSA on P-256, P-384 or P-521, or RSA of 2048 to 4096 bits: a stranger must not choose what his signature costs us.
    /// - Throws: `invalidArgument`; `tooLarge` past 16 KiB.
    public init(pem: String) throws(ApusError) {
        guard pem.utf8.count <= 16 << 10 else { throw ApusError(.tooLarge, "the certificate request has \(pem.utf8.count) bytes") }
        let pointer = try PEM.read("the certificate request", pem) { PEM_read_bio_X509_REQ($0, nil, nil, nil) }
        self.pointer = pointer
        if let key = X509_REQ_get0_pubkey(pointer) {
            let (kind, bits) = (EVP_PKEY_get_base_id(key), EVP_PKEY_get_bits(key))
            guard kind == EVP_PKEY_EC && [256, 384, 521].contains(bits) || kind == EVP_PKEY_RSA && (2048...4096).contains(bits) else {
                throw ApusError(
                    .invalidArgument, "the certificate request is for a key that Apus does not take: use ECDSA on P-256, or RSA of 2048 bits")
            }
        }
        guard let key = X509_REQ_get0_pubkey(pointer), X509_REQ_verify(pointer, key) == 1 else {
            throw OpenSSLQueue.error("the certificate request is not signed with its own key", .invalidArgument)
        }
    }

    /// RFC 7468, with a line end.
    public func pem() throws(ApusError) -> String { try PEM.write("the certificate request") { PEM_write_bio_X509_REQ($0, pointer) } }

    public var subject: DistinguishedName { DistinguishedName(X509_REQ_get_subject_name(pointer)) }

    /// DER of SubjectPublicKeyInfo.
    public func publicKey() throws(ApusError) -> [UInt8] {
        try PEM.encoded("the public key") { i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(pointer), $0) }
    }
}

/// Makes certificates.
public enum CertificateSigning {
    /// Certificates begin this much before they are made, for clocks that are behind.
    public static let backdating: Duration = .seconds(3600)

    /// A root: a certificate authority that signs itself.
    public static func selfSigned(key: PrivateKey, subject: DistinguishedName, now: Timestamp, lifetime: Duration) throws(ApusError) -> Certificate {
        let certificate = try start(subject: subject, now: now, notAfter: now + lifetime)
        guard X509_set_pubkey(certificate.pointer, key.pointer) == 1 else { throw OpenSSLQueue.error("no certificate could be made") }
        try setIssuer(of: certificate, X509_get_subject_name(certificate.pointer))
        try add(
            [
                (NID_basic_constraints, "critical,CA:TRUE"), (NID_key_usage, "critical,keyCertSign,cRLSign"), (NID_subject_key_identifier, "hash"),
            ], to: certificate, issuer: certificate)
        try sign(certificate, with: key)
        return certificate
    }

    /// A certificate of a node, for both ends of TLS. Of the request only the key counts.
    /// - Parameters:
    ///   - alternativeNames: DNS names: letters, digits, `-`, `.`, `_`.
    ///   - lifetime: From `now`; it ends with the authority's at the latest.
    public static func sign(
        _ request: CertificateRequest, subject: DistinguishedName, alternativeNames: [String], authority: Certificate, authorityKey: PrivateKey,
        now: Timestamp, lifetime: Duration
    ) throws(ApusError) -> Certificate {
        guard authority.belongs(to: authorityKey) else {
            throw ApusError(.invalidArgument, "the key of the certificate authority does not belong to its certificate")
        }
        for name in alternativeNames {
            // The names become one text with commas and colons.
            let allowed = name.utf8.allSatisfy { byte in
                (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || [45, 46, 95].contains(byte)
            }
            guard allowed, (1...253).contains(name.utf8.count) else {
                throw ApusError(.invalidArgument, "\"\(name)\" is not a DNS name that a certificate can be for")
            }
        }
        let certificate = try start(subject: subject, now: now, notAfter: min(now + lifetime, authority.notAfter))
        guard let key = X509_REQ_get0_pubkey(request.pointer), X509_set_pubkey(certificate.pointer, key) == 1 else {
            throw OpenSSLQueue.error("no certificate could be made")
        }
        try setIssuer(of: certificate, X509_get_subject_name(authority.pointer))
        var extensions = [
            (NID_basic_constraints, "critical,CA:FALSE"), (NID_key_usage, "critical,digitalSignature,keyEncipherment"),
            (NID_ext_key_usage, "serverAuth,clientAuth"), (NID_subject_key_identifier, "hash"), (NID_authority_key_identifier, "keyid"),
        ]
        if !alternativeNames.isEmpty {
            extensions.append((NID_subject_alt_name, alternativeNames.map { "DNS:\($0)" }.joined(separator: ",")))
        }
        try add(extensions, to: certificate, issuer: authority)
        try sign(certificate, with: authorityKey)
        return certificate
    }

    /// The name and key of another root, signed by this authority: who trusts only this one verifies the other's certificates by it.
    ///
    /// It ends with the earlier of the two.
    public static func crossSign(
        _ other: Certificate, authority: Certificate, authorityKey: PrivateKey, now: Timestamp
    ) throws(ApusError) -> Certificate {
        guard authority.belongs(to: authorityKey) else {
            throw ApusError(.invalidArgument, "the key of the certificate authority does not belong to its certificate")
        }
        guard other.isAuthority else { throw ApusError(.invalidArgument, "the new root is not the certificate of a certificate authority") }
        let certificate = try start(subject: DistinguishedName(commonName: ""), now: now, notAfter: min(other.notAfter, authority.notAfter))
        guard X509_set_subject_name(certificate.pointer, X509_get_subject_name(other.pointer)) == 1, let key = X509_get0_pubkey(other.pointer),
            X509_set_pubkey(certificate.pointer, key) == 1
        else { throw OpenSSLQueue.error("no certificate could be made") }
        try setIssuer(of: certificate, X509_get_subject_name(authority.pointer))
        try add(
            [
                (NID_basic_constraints, "critical,CA:TRUE"), (NID_key_usage, "critical,keyCertSign,cRLSign"), (NID_authority_key_identifier, "keyid"),
            ], to: certificate, issuer: authority)
        // Its key identifier must be the one that the other root's certificates name, however that root made it.
        let index = X509_get_ext_by_NID(other.pointer, NID_subject_key_identifier, -1)
        if index >= 0, let identifier = X509_get_ext(other.pointer, index) {
            guard X509_add_ext(certificate.pointer, identifier, -1) == 1 else { throw OpenSSLQueue.error("no certificate could be made") }
        } else {
            try add([(NID_subject_key_identifier, "hash")], to: certificate, issuer: authority)
        }
        try sign(certificate, with: authorityKey)
        return certificate
    }

    private static func start(subject: DistinguishedName, now: Timestamp, notAfter: Timestamp) throws(ApusError) -> Certificate {
        guard let pointer = X509_new() else { throw OpenSSLQueue.error("no certificate could be made") }
        let certificate = Certificate(pointer)
        // Twenty bytes with the first bit clear: RFC 5280 wants positive numbers of twenty bytes at most.
        var serial = try SecureRandom.bytes(20)
        serial[0] = serial[0] & 0x7f | 0x40
        guard let number = BN_bin2bn(serial, Int32(serial.count), nil) else { throw OpenSSLQueue.error("no serial number could be made") }
        defer { BN_free(number) }
        let start = now.nanoseconds / 1_000_000_000 - backdating.components.seconds
        guard BN_to_ASN1_INTEGER(number, X509_get_serialNumber(pointer)) != nil, X509_set_version(pointer, 2) == 1,
            ASN1_TIME_set(X509_getm_notBefore(pointer), Int(start)) != nil,
            ASN1_TIME_set(X509_getm_notAfter(pointer), Int(notAfter.nanoseconds / 1_000_000_000)) != nil
        else { throw OpenSSLQueue.error("no certificate could be made") }
        try subject.write(to: X509_get_subject_name(pointer))
        return certificate
    }

    private static func setIssuer(of certificate: Certificate, _ name: OpaquePointer?) throws(ApusError) {
        guard X509_set_issuer_name(certificate.pointer, name) == 1 else { throw OpenSSLQueue.error("no certificate could be made") }
    }

    private static func add(_ extensions: [(Int32, String)], to certificate: Certificate, issuer: Certificate) throws(ApusError) {
        var context = X509V3_CTX()
        X509V3_set_ctx(&context, issuer.pointer, certificate.pointer, nil, nil, 0)
        for (kind, value) in extensions {
            guard let made = X509V3_EXT_nconf_nid(nil, &context, kind, value) else {
                throw OpenSSLQueue.error("\"\(value)\" cannot stand in a certificate", .invalidArgument)
            }
            defer { X509_EXTENSION_free(made) }
            guard X509_add_ext(certificate.pointer, made, -1) == 1 else { throw OpenSSLQueue.error("no certificate could be made") }
        }
    }

    private static func sign(_ certificate: Certificate, with key: PrivateKey) throws(ApusError) {
        guard X509_sign(certificate.pointer, key.pointer, EVP_sha256()) > 0 else { throw OpenSSLQueue.error("the certificate could not be signed") }
    }
}
