import COpenSSL
public import PluginAPI

/// AES-256-GCM (NIST SP 800-38D) with one key and nonces of 12 bytes; a nonce must never be used twice with one key.
///
/// Not thread-safe: it keeps a cipher context for reuse. Owners serialize.
public final class AuthenticatedCipher {
    /// Bytes that sealing adds.
    public static let tagLength = 16
    public static let keyLength = 32
    public static let nonceLength = 12

    private let sealing: OpaquePointer
    private let opening: OpaquePointer

    /// A key of 32 bytes.
    public init(key: [UInt8]) throws(ApusError) {
        guard key.count == Self.keyLength else { throw ApusError(.invalidArgument, "an AES-256 key has 32 bytes, not \(key.count)") }
        guard let sealing = EVP_CIPHER_CTX_new() else { throw OpenSSLQueue.error("a cipher could not be allocated") }
        guard let opening = EVP_CIPHER_CTX_new() else {
            EVP_CIPHER_CTX_free(sealing)
            throw OpenSSLQueue.error("a cipher could not be allocated")
        }
        self.sealing = sealing
        self.opening = opening
        guard EVP_EncryptInit_ex(sealing, EVP_aes_256_gcm(), nil, key, nil) == 1, EVP_DecryptInit_ex(opening, EVP_aes_256_gcm(), nil, key, nil) == 1
        else { throw OpenSSLQueue.error("AES-256-GCM could not be started") }
    }

    deinit {
        EVP_CIPHER_CTX_free(sealing)
        EVP_CIPHER_CTX_free(opening)
    }

    /// The cipher text and its tag. `authenticated` is protected from change and not part of the result.
    public func seal(_ plain: [UInt8], nonce: [UInt8], authenticated: [UInt8] = []) throws(ApusError) -> [UInt8] {
        try check(nonce, plain.count)
        var length: Int32 = 0
        var result = [UInt8](repeating: 0, count: plain.count + Self.tagLength)
        let count = plain.count
        let sealed = result.withUnsafeMutableBufferPointer { buffer -> Bool in
            guard let base = buffer.baseAddress, EVP_EncryptInit_ex(sealing, nil, nil, nil, nonce) == 1 else { return false }
            if !authenticated.isEmpty, EVP_EncryptUpdate(sealing, nil, &length, authenticated, Int32(authenticated.count)) != 1 { return false }
            if count > 0, EVP_EncryptUpdate(sealing, base, &length, plain, Int32(count)) != 1 { return false }
            guard EVP_EncryptFinal_ex(sealing, base + count, &length) == 1 else { return false }
            return EVP_CIPHER_CTX_ctrl(sealing, EVP_CTRL_AEAD_GET_TAG, Int32(Self.tagLength), base + count) == 1
        }
        guard sealed else { throw OpenSSLQueue.error("encryption failed") }
        return result
    }

    /// The plain text; `corrupt` when the bytes, the nonce, the key or `authenticated` are not those of `seal`.
    public func open(_ sealed: [UInt8], nonce: [UInt8], authenticated: [UInt8] = []) throws(ApusError) -> [UInt8] {
        try check(nonce, sealed.count)
        guard sealed.count >= Self.tagLength else { throw ApusError(.corrupt, "\(sealed.count) bytes are too few for a sealed message") }
        let count = sealed.count - Self.tagLength
        var tag = Array(sealed[count...])
        var length: Int32 = 0
        // One byte more, so that an empty text has an address too.
        var result = [UInt8](repeating: 0, count: count + 1)
        guard EVP_DecryptInit_ex(opening, nil, nil, nil, nonce) == 1 else { throw OpenSSLQueue.error("decryption failed") }
        if !authenticated.isEmpty {
            guard EVP_DecryptUpdate(opening, nil, &length, authenticated, Int32(authenticated.count)) == 1 else {
                throw OpenSSLQueue.error("decryption failed")
            }
        }
        if count > 0 {
            guard EVP_DecryptUpdate(opening, &result, &length, sealed, Int32(count)) == 1 else { throw OpenSSLQueue.error("decryption failed") }
        }
        guard EVP_CIPHER_CTX_ctrl(opening, EVP_CTRL_AEAD_SET_TAG, Int32(Self.tagLength), &tag) == 1 else {
            throw OpenSSLQueue.error("decryption failed")
        }
        var last = [UInt8](repeating: 0, count: 16)
        guard EVP_DecryptFinal_ex(opening, &last, &length) == 1 else {
            throw OpenSSLQueue.error("the sealed message was changed, or the key is another one", .corrupt)
        }
        result.removeLast()
        return result
    }

    private func check(_ nonce: [UInt8], _ count: Int) throws(ApusError) {
        guard nonce.count == Self.nonceLength else { throw ApusError(.invalidArgument, "a nonce has 12 bytes, not \(nonce.count)") }
        guard count < Int(Int32.max) - 64 else { throw ApusError(.tooLarge, "\(count) bytes are too many to seal at once") }
    }
}
