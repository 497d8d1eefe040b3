import COpenSSL
import PluginAPI

/// One set of roots and one identity, as libssl wants them. Immutable; connections keep the one that they began with.
final class TLSContext: @unchecked Sendable {
    let pointer: OpaquePointer
    let hasIdentity: Bool

    // Constants that <openssl/ssl.h> has only as macros.
    private enum Constant {
        static let setMode: Int32 = 33, setSessionCacheMode: Int32 = 44, setMinimumProtocol: Int32 = 123, chainCertificate: Int32 = 89
        // ENABLE_PARTIAL_WRITE, ACCEPT_MOVING_WRITE_BUFFER, AUTO_RETRY, NO_AUTO_CHAIN, RELEASE_BUFFERS
        static let modes = 0x1 | 0x2 | 0x4 | 0x8 | 0x10
        static let noTicket: UInt64 = 1 << 14, noCompression: UInt64 = 1 << 17, serverPreference: UInt64 = 1 << 22, noRenegotiation: UInt64 = 1 << 30
        static let tls12 = 0x0303
    }

    /// - Parameters:
    ///   - roots: Certificates in PEM, any number.
    ///   - certificateChain: In PEM, the own certificate first; with `privateKey`, or neither.
    init(roots: String, certificateChain: String?, privateKey: String?) throws(ApusError) {
        ERR_clear_error()
        guard let pointer = SSL_CTX_new(TLS_method()) else { throw TLSErrors.error("TLS could not be set up") }
        self.pointer = pointer
        hasIdentity = certificateChain != nil && privateKey != nil
        // TLS 1.3 without tickets resumes nothing; 1.2 would through the cache: resumption would skip the verification.
        SSL_CTX_set_options(
            pointer, Constant.noTicket | Constant.noCompression | Constant.serverPreference | Constant.noRenegotiation)
        _ = SSL_CTX_ctrl(pointer, Constant.setSessionCacheMode, 0, nil)
        _ = SSL_CTX_ctrl(pointer, Constant.setMode, Constant.modes, nil)
        guard SSL_CTX_set_num_tickets(pointer, 0) == 1, SSL_CTX_ctrl(pointer, Constant.setMinimumProtocol, Constant.tls12, nil) == 1,
            SSL_CTX_set_cipher_list(pointer, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1
        else { throw TLSErrors.error("TLS could not be set up") }
        SSL_CTX_set_cert_verify_callback(pointer, { context, _ in TLSSession.verify(context) }, nil)
        SSL_CTX_set_alpn_select_cb(
            pointer, { _, out, outLength, offered, offeredLength, _ in TLSContext.selectProtocol(out, outLength, offered, offeredLength) }, nil)
        try addRoots(roots)
        if let certificateChain, let privateKey { try addIdentity(certificateChain, privateKey) }
    }

    deinit { SSL_CTX_free(pointer) }

    private func addRoots(_ text: String) throws(ApusError) {
        let store = SSL_CTX_get_cert_store(pointer)
        let certificates = try Self.certificates(text, "the roots")
        defer { certificates.forEach { X509_free($0) } }
        for certificate in certificates {
            guard X509_STORE_add_cert(store, certificate) == 1 else { throw TLSErrors.error("a root certificate could not be used") }
        }
    }

    private func addIdentity(_ chain: String, _ key: String) throws(ApusError) {
        let certificates = try Self.certificates(chain, "the certificate chain")
        defer { certificates.forEach { X509_free($0) } }
        guard let own = certificates.first else { throw ApusError(.invalidArgument, "the certificate chain is empty") }
        guard SSL_CTX_use_certificate(pointer, own) == 1 else { throw TLSErrors.error("the node's certificate cannot be used") }
        for certificate in certificates.dropFirst() {
            guard SSL_CTX_ctrl(pointer, Constant.chainCertificate, 1, UnsafeMutableRawPointer(certificate)) == 1 else {
                throw TLSErrors.error("the node's certificate chain cannot be used")
            }
        }
        // Without a callback of ours libcrypto would ask on the terminal.
        guard let parsed = Self.read(Array(key.utf8), { PEM_read_bio_PrivateKey($0, nil, { _, _, _, _ in -1 }, nil) }) else {
            throw TLSErrors.error("the node's key is not a private key in PEM", .invalidArgument)
        }
        defer { EVP_PKEY_free(parsed) }
        guard SSL_CTX_use_PrivateKey(pointer, parsed) == 1, SSL_CTX_check_private_key(pointer) == 1 else {
            throw TLSErrors.error("the node's key does not belong to its certificate", .invalidArgument)
        }
    }

    /// Lends the bytes to libcrypto. Its buffer reads from them for as long as it lives, so they must stay where they are until it is freed.
    private static func read<Result>(_ bytes: [UInt8], _ body: (OpaquePointer?) -> Result) -> Result {
        bytes.withUnsafeBytes { bytes in
            let buffer = BIO_new_mem_buf(bytes.baseAddress, Int32(clamping: bytes.count))
            defer { BIO_free(buffer) }
            return body(buffer)
        }
    }

    /// The certificates of a PEM text, at most 64; the caller frees them.
    private static func certificates(_ text: String, _ what: String) throws(ApusError) -> [OpaquePointer] {
        let bytes = Array(text.utf8)
        guard bytes.count <= 1 << 20 else { throw ApusError(.tooLarge, "\(what): \(bytes.count) bytes are too many") }
        guard !bytes.isEmpty else { return [] }
        let certificates = read(bytes) { buffer in
            var certificates: [OpaquePointer] = []
            while certificates.count < 64, let certificate = PEM_read_bio_X509(buffer, nil, nil, nil) { certificates.append(certificate) }
            return certificates
        }
        ERR_clear_error()
        guard !certificates.isEmpty else { throw ApusError(.invalidArgument, "\(what): there is no certificate in PEM") }
        return certificates
    }

    /// Only `h2` will do (RFC 7301).
    private static func selectProtocol(
        _ out: UnsafeMutablePointer<UnsafePointer<UInt8>?>?, _ outLength: UnsafeMutablePointer<UInt8>?, _ offered: UnsafePointer<UInt8>?,
        _ offeredLength: UInt32
    ) -> Int32 {
        guard let out, let outLength, let offered else { return SSL_TLSEXT_ERR_ALERT_FATAL }
        var position = 0
        while position < Int(offeredLength) {
            let length = Int(offered[position])
            guard position + 1 + length <= Int(offeredLength) else { break }
            if length == 2, offered[position + 1] == UInt8(ascii: "h"), offered[position + 2] == UInt8(ascii: "2") {
                out.pointee = offered + position + 1
                outLength.pointee = 2
                return SSL_TLSEXT_ERR_OK
            }
            position += 1 + length
        }
        return SSL_TLSEXT_ERR_ALERT_FATAL
    }
}

/// What libssl complains of, in words.
enum TLSErrors {
    /// Empties the thread's queue; the first reason, which is the cause.
    static func reason() -> String {
        var first: String?
        while true {
            let number = ERR_get_error()
            guard number != 0 else { break }
            if first == nil { first = ERR_reason_error_string(number).map { String(cString: $0) } ?? "error \(number)" }
        }
        return first ?? "no reason given"
    }

    static func error(_ what: String, _ code: ApusError.Code = .failed) -> ApusError { ApusError(code, "\(what): \(reason())") }
}
