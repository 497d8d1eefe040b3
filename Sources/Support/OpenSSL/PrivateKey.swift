import COpenSSL
public import PluginAPI

/// A private key with its public half. Immutable.
public final class PrivateKey: @unchecked Sendable {
    let pointer: OpaquePointer

    private init(_ pointer: OpaquePointer) { self.pointer = pointer }

    deinit { EVP_PKEY_free(pointer) }

    /// A new key for ECDSA on the curve P-256.
    public static func generate() throws(ApusError) -> PrivateKey {
        guard let context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, nil) else { throw OpenSSLQueue.error("no key could be made") }
        defer { EVP_PKEY_CTX_free(context) }
        var key: OpaquePointer?
        guard EVP_PKEY_keygen_init(context) == 1, EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) == 1,
            EVP_PKEY_keygen(context, &key) == 1, let key
        else { throw OpenSSLQueue.error("no key could be made") }
        return PrivateKey(key)
    }

    /// Reads a key without a passphrase: PKCS #8, or the older forms that OpenSSL knows.
    public init(pem: String) throws(ApusError) {
        // Without a callback of ours libcrypto would ask on the terminal.
        pointer = try PEM.read("the private key", pem) { PEM_read_bio_PrivateKey($0, nil, { _, _, _, _ in -1 }, nil) }
    }

    /// PKCS #8, not encrypted.
    public func pem() throws(ApusError) -> String {
        try PEM.write("the private key") { PEM_write_bio_PKCS8PrivateKey($0, pointer, nil, nil, 0, nil, nil) }
    }

    /// The public half, DER of SubjectPublicKeyInfo.
    public func publicKey() throws(ApusError) -> [UInt8] {
        try PEM.encoded("the public key") { i2d_PUBKEY(pointer, $0) }
    }
}
