import COpenSSL
public import PluginAPI

/// A SHA-256 that is fed piece by piece. A value: a copy goes on alone from where the original was.
///
/// Only the start can fail (a libcrypto without SHA-256). After that libcrypto has all it needs, and a failure would mean that the
/// process's memory is damaged or exhausted: it stops the process, since a wrong digest must never be taken for a right one.
public struct SHA256Stream: @unchecked Sendable {
    // Copy on write makes the shared context safe to hand between threads.
    private final class Context {
        let pointer: OpaquePointer

        init?() {
            guard let pointer = EVP_MD_CTX_new() else { return nil }
            self.pointer = pointer
        }

        deinit { EVP_MD_CTX_free(pointer) }
    }

    private var context: Context

    public init() throws(ApusError) {
        guard let context = Context(), EVP_DigestInit_ex(context.pointer, EVP_sha256(), nil) == 1 else {
            throw OpenSSLQueue.error("SHA-256 could not be started")
        }
        self.context = context
    }

    private mutating func makeUnique() {
        guard !isKnownUniquelyReferenced(&context) else { return }
        guard let copy = Context(), EVP_MD_CTX_copy_ex(copy.pointer, context.pointer) == 1 else {
            preconditionFailure("SHA-256: the state could not be copied")
        }
        context = copy
    }

    /// Adds bytes to what is digested.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard !bytes.isEmpty else { return }
        makeUnique()
        let result = EVP_DigestUpdate(context.pointer, bytes.baseAddress, bytes.count)
        precondition(result == 1, "SHA-256: libcrypto refused an update")
    }

    /// Adds bytes to what is digested.
    public mutating func update(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { update($0) }
    }

    /// Adds bytes to what is digested.
    public mutating func update(_ bytes: ArraySlice<UInt8>) {
        bytes.withUnsafeBytes { update($0) }
    }

    /// The 32 bytes of everything so far; the stream then begins anew.
    public mutating func finish() -> [UInt8] {
        makeUnique()
        var digest = [UInt8](repeating: 0, count: 32)
        var length: UInt32 = 0
        let finished = EVP_DigestFinal_ex(context.pointer, &digest, &length)
        let restarted = EVP_DigestInit_ex(context.pointer, EVP_sha256(), nil)
        precondition(finished == 1 && restarted == 1 && length == 32, "SHA-256: libcrypto refused to finish")
        return digest
    }
}

/// Digests of bytes in memory.
public enum Digest {
    /// 32 bytes.
    public static func sha256(_ bytes: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        var length: UInt32 = 0
        let result = EVP_Digest(bytes, bytes.count, &digest, &length, EVP_sha256(), nil)
        precondition(result == 1 && length == 32, "SHA-256: libcrypto does not have it")
        return digest
    }

    /// Two lower-case digits a byte.
    public static func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}
