import OpenSSL
import PluginAPI

/// `sha256:` and 64 lower-case hexadecimal digits: the name of bytes.
package struct ContentDigest: Hashable, Sendable, CustomStringConvertible {
    /// The 64 digits.
    package let hexadecimal: String

    /// `nil` for anything else, other algorithms included.
    package init?(_ text: some StringProtocol) {
        let bytes = text.utf8
        guard bytes.count == 71, text.hasPrefix("sha256:") else { return nil }
        let digits = bytes.dropFirst(7)
        guard digits.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }) else { return nil }
        hexadecimal = String(decoding: digits, as: UTF8.self)
    }

    package init(of bytes: [UInt8]) {
        hexadecimal = Digest.hexadecimal(Digest.sha256(bytes))
    }

    init(finishing stream: inout SHA256Stream) {
        hexadecimal = Digest.hexadecimal(stream.finish())
    }

    package var description: String { "sha256:\(hexadecimal)" }
    /// Twelve digits, as tables and progress lines show them.
    package var short: String { String(hexadecimal.prefix(12)) }
}
