import COpenSSL
public import PluginAPI

/// Certificates that are verified together.
public enum CertificateChain {
    /// Certificates that one text may hold.
    public static let limit = 16

    /// Every certificate of the text, in its order; text around them is skipped.
    /// - Throws: `invalidArgument` when there is none, one is damaged, or there are more than `limit`; `tooLarge` past 1 MiB.
    public static func certificates(pem: String) throws(ApusError) -> [Certificate] {
        let bytes = Array(pem.utf8)
        guard bytes.count <= 1 << 20 else { throw ApusError(.tooLarge, "certificates of \(bytes.count) bytes") }
        guard !bytes.isEmpty else { throw ApusError(.invalidArgument, "there is no certificate") }
        let certificates = PEM.withBuffer(bytes) { buffer in
            var certificates: [Certificate] = []
            while certificates.count <= limit, let pointer = PEM_read_bio_X509(buffer, nil, nil, nil) { certificates.append(Certificate(pointer)) }
            return certificates
        }
        guard certificates.count <= limit else { throw ApusError(.invalidArgument, "more than \(limit) certificates in one text") }
        // The end of the text is "no start line"; anything else is a certificate that cannot be read.
        let error = ERR_peek_last_error()
        let isEnd = error & 0x7f_ffff == UInt(PEM_R_NO_START_LINE) && (error >> 23) & 0xff == UInt(ERR_LIB_PEM)
        guard isEnd || error == 0 else { throw OpenSSLQueue.error("a certificate is not valid PEM", .invalidArgument) }
        ERR_clear_error()
        guard !certificates.isEmpty else { throw ApusError(.invalidArgument, "there is no certificate in PEM") }
        return certificates
    }

    /// The first certificate of a text of PEM, as it stands there, with its line end; `nil` when there is none.
    public static func firstText(pem: String) -> String? {
        var lines: [Substring] = []
        for line in pem.split(separator: "\n", omittingEmptySubsequences: false) {
            if line == "-----BEGIN CERTIFICATE-----" { lines = [line] } else if !lines.isEmpty { lines.append(line) }
            if line == "-----END CERTIFICATE-----", !lines.isEmpty { return lines.joined(separator: "\n") + "\n" }
        }
        return nil
    }

    /// Verifies a certificate up to one of the roots, as RFC 5280 has it.
    /// - Parameters:
    ///   - intermediates: Certificates that may stand between.
    ///   - time: When it must be valid; `nil` leaves times out of it.
    /// - Returns: The chain from the certificate to the root.
    /// - Throws: `permissionDenied` with OpenSSL's reason.
    @discardableResult
    public static func verify(
        _ certificate: Certificate, intermediates: [Certificate], roots: [Certificate], at time: Timestamp?
    ) throws(ApusError) -> [Certificate] {
        guard let store = X509_STORE_new() else { throw OpenSSLQueue.error("no store of certificates could be made") }
        defer { X509_STORE_free(store) }
        for root in roots {
            guard X509_STORE_add_cert(store, root.pointer) == 1 else { throw OpenSSLQueue.error("a root certificate cannot be trusted") }
        }
        guard let untrusted = OPENSSL_sk_new_null() else { throw OpenSSLQueue.error("no list of certificates could be made") }
        defer { OPENSSL_sk_free(untrusted) }
        for intermediate in intermediates { OPENSSL_sk_push(untrusted, UnsafeRawPointer(intermediate.pointer)) }
        guard let context = X509_STORE_CTX_new() else { throw OpenSSLQueue.error("certificates cannot be verified") }
        defer { X509_STORE_CTX_free(context) }
        guard X509_STORE_CTX_init(context, store, certificate.pointer, untrusted) == 1, let parameters = X509_STORE_CTX_get0_param(context) else {
            throw OpenSSLQueue.error("certificates cannot be verified")
        }
        X509_VERIFY_PARAM_set_depth(parameters, 4)
        if let time {
            X509_VERIFY_PARAM_set_time(parameters, time_t(time.nanoseconds / 1_000_000_000))
        } else {
            X509_VERIFY_PARAM_set_flags(parameters, UInt(X509_V_FLAG_NO_CHECK_TIME))
        }
        defer { ERR_clear_error() }
        guard X509_verify_cert(context) == 1 else {
            let reason = X509_verify_cert_error_string(Int(X509_STORE_CTX_get_error(context))).map { String(cString: $0) } ?? "unknown reason"
            throw ApusError(.permissionDenied, "the certificate cannot be verified: \(reason)")
        }
        guard let chain = X509_STORE_CTX_get0_chain(context) else { return [certificate] }
        return (0..<OPENSSL_sk_num(chain)).compactMap { index in
            guard let pointer = OPENSSL_sk_value(chain, index).map({ OpaquePointer($0) }), X509_up_ref(pointer) == 1 else { return nil }
            return Certificate(pointer)
        }
    }
}

extension Certificate {
    /// Reads one certificate.
    public convenience init(der: [UInt8]) throws(ApusError) {
        let pointer = der.withUnsafeBufferPointer { bytes -> OpaquePointer? in
            var position = bytes.baseAddress
            return d2i_X509(nil, &position, bytes.count)
        }
        guard let pointer else { throw OpenSSLQueue.error("the certificate is not valid DER", .invalidArgument) }
        self.init(pointer)
    }

    /// Whether both have the same subject, however it is encoded.
    public func hasSubject(of other: Certificate) -> Bool {
        X509_NAME_cmp(X509_get_subject_name(pointer), X509_get_subject_name(other.pointer)) == 0
    }

    /// Whether its extensions let it stand at both ends of TLS.
    public var isForBothEnds: Bool {
        defer { ERR_clear_error() }
        return X509_check_purpose(pointer, X509_PURPOSE_SSL_SERVER, 0) == 1 && X509_check_purpose(pointer, X509_PURPOSE_SSL_CLIENT, 0) == 1
    }

    /// SHA-256 of `publicKey()`, lower-case hexadecimal.
    public func publicKeyDigest() throws(ApusError) -> String { Digest.hexadecimal(Digest.sha256(try publicKey())) }

    /// Whether its key made this signature with SHA-256.
    public func verifies(signature: [UInt8], of bytes: [UInt8]) -> Bool {
        defer { ERR_clear_error() }
        guard let context = EVP_MD_CTX_new() else { return false }
        defer { EVP_MD_CTX_free(context) }
        guard let key = X509_get0_pubkey(pointer), EVP_DigestVerifyInit(context, nil, EVP_sha256(), nil, key) == 1 else { return false }
        return EVP_DigestVerify(context, signature, signature.count, bytes, bytes.count) == 1
    }
}

extension CertificateRequest {
    /// SHA-256 of `publicKey()`, lower-case hexadecimal.
    public func publicKeyDigest() throws(ApusError) -> String { Digest.hexadecimal(Digest.sha256(try publicKey())) }
}

extension PrivateKey {
    /// SHA-256 of `publicKey()`, lower-case hexadecimal.
    public func publicKeyDigest() throws(ApusError) -> String { Digest.hexadecimal(Digest.sha256(try publicKey())) }

    /// A signature with SHA-256: ECDSA in DER, or RSA with PKCS #1 padding.
    public func signature(of bytes: [UInt8]) throws(ApusError) -> [UInt8] {
        guard let context = EVP_MD_CTX_new() else { throw OpenSSLQueue.error("nothing could be signed") }
        defer { EVP_MD_CTX_free(context) }
        var length = 0
        guard EVP_DigestSignInit(context, nil, EVP_sha256(), nil, pointer) == 1, EVP_DigestSign(context, nil, &length, bytes, bytes.count) == 1
        else { throw OpenSSLQueue.error("nothing could be signed") }
        var signature = [UInt8](repeating: 0, count: length)
        guard EVP_DigestSign(context, &signature, &length, bytes, bytes.count) == 1 else { throw OpenSSLQueue.error("nothing could be signed") }
        return Array(signature.prefix(length))
    }
}
