import COpenSSL
import NIOCore
import OpenSSL
import PluginAPI

/// One TLS connection by libssl: bytes in, bytes out. No input or output of its own.
///
/// Not thread-safe: its owner keeps it on one event loop. It holds no buffers while nothing moves.
final class TLSSession {
    enum Role { case client, server }

    /// How the peer's certificate is treated.
    enum Verification {
        /// A certificate that chains to the roots is a must.
        case required
        /// No certificate is fine, a wrong one is not; with `allowsExpired` one that was right until it expired will do.
        case optional(allowsExpired: Bool)
        /// Any will do: what is fetched is checked otherwise.
        case none
    }

    enum Progress {
        case done
        case needsInput
        /// The peer ended it in order.
        case ended
        case failed(String)
    }

    let role: Role
    let verification: Verification
    /// What a verified certificate's holder is refused for.
    let policy: (PeerCertificate) -> String?
    private let ssl: OpaquePointer
    /// Kept while the connection lives: libssl refers to it.
    private let context: TLSContext
    private var input = UnsafeRawBufferPointer(start: nil, count: 0)
    private var output: ByteBuffer
    /// Why the peer's certificate was refused, for people.
    private(set) var refusal: String?
    /// Set once the handshake has shown a certificate that is good.
    private(set) var peer: PeerCertificate?

    /// `nil` when memory is short.
    init?(context: TLSContext, role: Role, verification: Verification, policy: @escaping (PeerCertificate) -> String?) {
        guard let method = MemoryBIO.method, let ssl = SSL_new(context.pointer) else { return nil }
        guard let bio = BIO_new(method) else {
            SSL_free(ssl)
            return nil
        }
        self.ssl = ssl
        self.context = context
        self.role = role
        self.verification = verification
        self.policy = policy
        output = ByteBuffer()
        let this = Unmanaged.passUnretained(self).toOpaque()
        BIO_set_data(bio, this)
        BIO_set_init(bio, 1)
        SSL_set_bio(ssl, bio, bio)
        SSL_set_ex_data(ssl, 0, this)
        switch (role, verification) {
        case (.server, .none), (.client, .none): SSL_set_verify(ssl, SSL_VERIFY_NONE, nil)
        default: SSL_set_verify(ssl, SSL_VERIFY_PEER, nil)
        }
        if role == .server {
            SSL_set_accept_state(ssl)
        } else {
            SSL_set_connect_state(ssl)
            SSL_set_alpn_protos(ssl, [2, UInt8(ascii: "h"), UInt8(ascii: "2")], 3)
        }
    }

    deinit { SSL_free(ssl) }

    // MARK: bytes

    /// Makes `bytes` what the calls in `body` read.
    func feed(_ bytes: UnsafeRawBufferPointer, _ body: () -> Void) {
        input = bytes
        body()
        input = UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// What is to be sent; it is the caller's then.
    func takeOutput() -> ByteBuffer? {
        guard output.readableBytes > 0 else { return nil }
        defer { output = ByteBuffer() }
        return output
    }

    func handshake() -> Progress {
        ERR_clear_error()
        let result = SSL_do_handshake(ssl)
        guard result == 1 else { return progress(result) }
        var name: UnsafePointer<UInt8>?
        var length: UInt32 = 0
        SSL_get0_alpn_selected(ssl, &name, &length)
        guard length == 2, let name, name[0] == UInt8(ascii: "h"), name[1] == UInt8(ascii: "2") else {
            return .failed("it did not ask for HTTP/2 (ALPN h2)")
        }
        return .done
    }

    /// Decrypts into the buffer; `done` with the count in `count`.
    func read(into buffer: UnsafeMutableRawBufferPointer, count: inout Int) -> Progress {
        ERR_clear_error()
        count = 0
        let result = SSL_read_ex(ssl, buffer.baseAddress, buffer.count, &count)
        return result == 1 ? .done : progress(result)
    }

    /// Encrypts all of it.
    func write(_ bytes: UnsafeRawBufferPointer) -> Progress {
        var rest = bytes
        while !rest.isEmpty {
            ERR_clear_error()
            var count = 0
            let result = SSL_write_ex(ssl, rest.baseAddress, rest.count, &count)
            guard result == 1 else { return progress(result) }
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
        }
        return .done
    }

    /// Says goodbye to the peer; the answer is not waited for.
    func sayGoodbye() {
        ERR_clear_error()
        _ = SSL_shutdown(ssl)
        ERR_clear_error()
    }

    private func progress(_ result: Int32) -> Progress {
        switch SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .needsInput
        case SSL_ERROR_ZERO_RETURN: return .ended
        default:
            let reason = TLSErrors.reason()
            return .failed(refusal ?? reason)
        }
    }

    // MARK: verification

    /// libssl's question whether a chain is good. 1 for yes.
    static func verify(_ store: OpaquePointer?) -> Int32 {
        guard let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()),
            let data = SSL_get_ex_data(OpaquePointer(ssl), 0)
        else { return 0 }
        let session = Unmanaged<TLSSession>.fromOpaque(data).takeUnretainedValue()
        return session.verifyPeer(store) ? 1 : 0
    }

    private func verifyPeer(_ store: OpaquePointer?) -> Bool {
        var allowsExpired = false
        switch verification {
        case .none: return true
        case .required: break
        case .optional(let allows): allowsExpired = allows
        }
        switch PeerCertificate.verify(store, allowsExpired: allowsExpired) {
        case .refused(let reason):
            refusal = reason
            return false
        case .accepted(let certificate):
            if let reason = policy(certificate) {
                refusal = reason
                X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION)
                return false
            }
            peer = certificate
            return true
        }
    }

    /// What is wrong with a peer that was right.
    enum Finding {
        /// It must go now.
        case refused(String)
        /// There is nothing against the peer itself, but its certificate is of a root that counts no more.
        case outdated(String)
    }

    /// Verifies the peer's certificate once more, against other roots. `nil` when it is good, or the peer showed none.
    func reverify(with other: TLSContext) -> Finding? {
        guard let peer, let certificate = SSL_get0_peer_certificate(ssl) else { return nil }
        guard let store = X509_STORE_CTX_new() else { return .refused("memory is short") }
        defer {
            X509_STORE_CTX_free(store)
            ERR_clear_error()
        }
        guard X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(other.pointer), certificate, SSL_get_peer_cert_chain(ssl)) == 1,
            X509_STORE_CTX_set_default(store, role == .server ? "ssl_client" : "ssl_server") == 1
        else { return .refused("memory is short") }
        // Expiry has its own timer; here the question is who vouches for it.
        switch PeerCertificate.verify(store, allowsExpired: true) {
        case .refused(let reason): return policy(peer).map { .refused($0) } ?? .outdated(reason)
        case .accepted(let certificate): return policy(certificate).map { .refused($0) }
        }
    }
}

extension TLSSession {
    /// libssl's source and sink: the bytes that are at hand now, and a buffer that grows.
    fileprivate enum MemoryBIO {
        nonisolated(unsafe) static let method: OpaquePointer? = {
            // BIO_TYPE_SOURCE_SINK is 0x0400.
            guard let method = BIO_meth_new(BIO_get_new_index() | 0x0400, "apus") else { return nil }
            BIO_meth_set_read(method) { bio, buffer, count in
                guard let session = MemoryBIO.session(bio), let buffer, count > 0 else { return -1 }
                return session.take(UnsafeMutableRawBufferPointer(start: buffer, count: Int(count)), bio)
            }
            BIO_meth_set_write(method) { bio, bytes, count in
                guard let session = MemoryBIO.session(bio), let bytes, count > 0 else { return -1 }
                session.output.writeBytes(UnsafeRawBufferPointer(start: bytes, count: Int(count)))
                return count
            }
            BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
            return method
        }()

        static func session(_ bio: OpaquePointer?) -> TLSSession? {
            BIO_get_data(bio).map { Unmanaged<TLSSession>.fromOpaque($0).takeUnretainedValue() }
        }
    }

    fileprivate func take(_ buffer: UnsafeMutableRawBufferPointer, _ bio: OpaquePointer?) -> Int32 {
        BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY)
        guard !input.isEmpty else {
            BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
            return -1
        }
        let count = min(buffer.count, input.count)
        buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: input.prefix(count)))
        input = UnsafeRawBufferPointer(rebasing: input.dropFirst(count))
        return Int32(count)
    }
}
