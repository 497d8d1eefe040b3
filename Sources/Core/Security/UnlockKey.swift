import Coding
import OpenSSL
public import PluginAPI

/// The key that a locked swarm's managers ask their user for: `SWMKEY-1-` and 32 bytes in base 64 without padding.
public struct UnlockKey: Sendable, Hashable, CustomStringConvertible {
    public let bytes: [UInt8]

    public static let prefix = "SWMKEY-1-"

    /// A new one, at random.
    public static func generate() throws(ApusError) -> UnlockKey { UnlockKey(try SecureRandom.bytes(32)) }

    private init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// - Throws: `invalidArgument` when there are not 32 bytes.
    public init(bytes: [UInt8]) throws(ApusError) {
        guard bytes.count == 32 else { throw ApusError(.invalidArgument, "an unlock key has 32 bytes, not \(bytes.count)") }
        self.bytes = bytes
    }

    /// Reads a key.
    public init(parsing text: String) throws(ApusError) {
        guard text.hasPrefix(Self.prefix), text.utf8.count <= 128, let bytes = Base64.decode(text.dropFirst(Self.prefix.utf8.count)), bytes.count == 32
        else {
            throw ApusError(.invalidArgument, "this is not an unlock key: a manager that is not locked shows it with \"apus swarm unlock-key\"")
        }
        self.bytes = bytes
    }

    public var description: String {
        let text = Base64.encode(bytes)
        return Self.prefix + text.prefix { $0 != "=" }
    }
}
