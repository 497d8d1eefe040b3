import OpenSSL
public import PluginAPI

/// What lets a node join: it names the root certificate that the node must find, and proves that the node may come.
///
/// `SWMTKN-1-<digest>-<secret>`: SHA-256 of the root certificate's PEM text in 50 digits of base 36, and 128 random bits in 25.
public struct JoinToken: Sendable, Hashable, CustomStringConvertible {
    public let digest: String
    public let secret: String

    /// A token with a new secret for the root with this digest.
    public static func generate(rootDigest: String) throws(ApusError) -> JoinToken {
        JoinToken(digest: rootDigest, secret: Base36.text(try SecureRandom.bytes(16), digits: 25))
    }

    private init(digest: String, secret: String) {
        self.digest = digest
        self.secret = secret
    }

    /// Reads a token.
    public init(parsing text: String) throws(ApusError) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        func isBase36(_ part: Substring) -> Bool { part.utf8.allSatisfy { (48...57).contains($0) || (97...122).contains($0) } }
        guard parts.count == 4, parts[0] == "SWMTKN", parts[1] == "1", parts[2].utf8.count == 50, parts[3].utf8.count == 25, isBase36(parts[2]),
            isBase36(parts[3])
        else {
            throw ApusError(.invalidArgument, "this is not a join token: a manager shows it with \"apus swarm join-token worker\"")
        }
        digest = String(parts[2])
        secret = String(parts[3])
    }

    public var description: String { "SWMTKN-1-\(digest)-\(secret)" }

    /// The digest of a root certificate, as tokens carry it.
    public static func digest(ofCertificate pem: String) -> String { Base36.text(Digest.sha256(Array(pem.utf8)), digits: 50) }

    /// Whether two tokens are the same, in a time that does not tell where they differ.
    public static func matches(_ left: String, _ right: String) -> Bool {
        let (left, right) = (Array(left.utf8), Array(right.utf8))
        guard left.count == right.count, !left.isEmpty else { return false }
        return zip(left, right).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }
}

extension JoinTokens {
    /// New tokens for both roles.
    public static func generate(rootDigest: String) throws(ApusError) -> JoinTokens {
        var tokens = JoinTokens()
        tokens.worker = try JoinToken.generate(rootDigest: rootDigest).description
        tokens.manager = try JoinToken.generate(rootDigest: rootDigest).description
        return tokens
    }

    /// Makes the token of one role useless, and puts a new one in its place.
    public mutating func rotate(_ role: NodeRole, rootDigest: String) throws(ApusError) {
        let token = try JoinToken.generate(rootDigest: rootDigest).description
        switch role {
        case .worker: worker = token
        case .manager: manager = token
        @unknown default: throw ApusError(.unimplemented, "there are no join tokens for the role \(role.rawValue)")
        }
    }
}
