import COpenSSL
public import PluginAPI

/// Random bytes for keys, from OpenSSL's generator.
public enum SecureRandom {
    /// So many bytes that nobody can guess.
    /// - Throws: When OpenSSL's generator has none.
    public static func bytes(_ count: Int) throws(ApusError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        guard count > 0 else { return bytes }
        guard RAND_bytes(&bytes, Int32(clamping: count)) == 1 else { throw OpenSSLQueue.error("no random bytes could be had") }
        return bytes
    }
}
