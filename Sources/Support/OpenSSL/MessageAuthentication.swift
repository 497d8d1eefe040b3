import COpenSSL
public import PluginAPI

/// HMAC with SHA-256 (RFC 2104).
public enum HMAC {
    /// 32 bytes.
    public static func sha256(key: [UInt8], _ message: [UInt8]) throws(ApusError) -> [UInt8] {
        var code = [UInt8](repeating: 0, count: 32)
        var length: UInt32 = 0
        // libcrypto takes a null key for "the key of before"; an empty one needs an address.
        let filled = key.isEmpty ? [0] : key
        guard COpenSSL.HMAC(EVP_sha256(), filled, Int32(clamping: key.count), message, message.count, &code, &length) != nil, length == 32
        else { throw OpenSSLQueue.error("HMAC failed") }
        return code
    }
}

/// Key derivation with HMAC-SHA-256 (RFC 5869).
public enum HKDF {
    /// `count` bytes, at most 8160, from a secret, a salt that need not be secret, and a text that says what the key is for.
    public static func sha256(secret: [UInt8], salt: [UInt8], information: [UInt8], count: Int) throws(ApusError) -> [UInt8] {
        guard count > 0, count <= 255 * 32 else { throw ApusError(.invalidArgument, "HKDF gives 1 to 8160 bytes, not \(count)") }
        let pseudorandomKey = try HMAC.sha256(key: salt.isEmpty ? [UInt8](repeating: 0, count: 32) : salt, secret)
        var output: [UInt8] = []
        var block: [UInt8] = []
        var number: UInt8 = 1
        while output.count < count {
            block = try HMAC.sha256(key: pseudorandomKey, block + information + [number])
            output += block
            number &+= 1
        }
        return Array(output.prefix(count))
    }
}
