import OpenSSL
public import PluginAPI

/// Secrets at rest under a key: AES-256-GCM with a key for each message, derived by HKDF from the wrapping key and 32 random bytes.
///
/// Format: `APUSLOCK` (8), version (1), salt (32), sealed bytes with their tag. What a message is for is part of what it is authenticated with.
public enum KeyEncryption {
    static let magic = Array("APUSLOCK".utf8)
    private static let version: UInt8 = 1
    private static let saltLength = 32

    /// - Parameters:
    ///   - key: 32 bytes.
    ///   - purpose: Whoever unwraps must name the same.
    public static func wrap(_ secret: [UInt8], key: [UInt8], purpose: String) throws(ApusError) -> [UInt8] {
        let salt = try SecureRandom.bytes(saltLength)
        let head = magic + [version] + salt
        return head + (try cipher(key, salt, purpose).seal(secret, nonce: nonce, authenticated: head + Array(purpose.utf8)))
    }

    /// - Throws: `corrupt` when the bytes were changed, or the key or the purpose is another.
    public static func unwrap(_ wrapped: [UInt8], key: [UInt8], purpose: String) throws(ApusError) -> [UInt8] {
        let length = magic.count + 1 + saltLength
        guard wrapped.count >= length + AuthenticatedCipher.tagLength, isWrapped(wrapped) else {
            throw ApusError(.corrupt, "these bytes are no locked key")
        }
        guard wrapped[magic.count] == version else {
            throw ApusError(.failed, "a key is locked in format \(wrapped[magic.count]), and this version of Apus reads format \(version)")
        }
        let head = Array(wrapped.prefix(length))
        let salt = Array(head.suffix(saltLength))
        return try cipher(key, salt, purpose).open(
            Array(wrapped.dropFirst(length)), nonce: nonce, authenticated: head + Array(purpose.utf8))
    }

    static func isWrapped(_ bytes: [UInt8]) -> Bool { bytes.starts(with: magic) }

    // The derived key seals one message, so one nonce is enough.
    private static var nonce: [UInt8] { [UInt8](repeating: 0, count: AuthenticatedCipher.nonceLength) }

    private static func cipher(_ key: [UInt8], _ salt: [UInt8], _ purpose: String) throws(ApusError) -> AuthenticatedCipher {
        guard key.count == 32 else { throw ApusError(.invalidArgument, "a wrapping key has 32 bytes, not \(key.count)") }
        return try AuthenticatedCipher(
            key: try HKDF.sha256(secret: key, salt: salt, information: Array("apus key encryption: \(purpose)".utf8), count: 32))
    }
}
