import PluginAPI

/// The name of an image in a registry: `nginx`, `localhost:5000/team/app:1.2`, `nginx@sha256:…`.
package struct ImageReference: Hashable, Sendable, CustomStringConvertible {
    /// `docker.io`, `localhost:5000`.
    package let domain: String
    /// `library/nginx`.
    package let path: String
    /// Without one and without a digest it is `latest`.
    package let tag: String?
    package let digest: ContentDigest?

    private static let maximumLength = 255
    private static let maximumTag = 128
    private static let hub = "docker.io"

    /// - Throws: `invalidArgument`, saying which part is wrong.
    package init(_ text: String) throws(ApusError) {
        func refuse(_ reason: String) -> ApusError {
            ApusError(.invalidArgument, "\"\(Self.printable(text))\" is not an image reference: \(reason)")
        }
        guard !text.isEmpty else { throw ApusError(.invalidArgument, "the image reference is empty") }
        guard text.utf8.count <= 1024 else { throw refuse("it is too long") }
        guard text.utf8.allSatisfy({ (33...126).contains($0) }) else { throw refuse("it has spaces, control characters or letters outside ASCII") }
        var rest = Substring(text)
        var digest: ContentDigest?
        if let at = rest.firstIndex(of: "@") {
            let written = rest[rest.index(after: at)...]
            guard let parsed = ContentDigest(written) else {
                throw refuse("\"\(written)\" is no digest; it must be sha256: and 64 hexadecimal digits in lower case")
            }
            digest = parsed
            rest = rest[..<at]
        }
        var tag: String?
        if let colon = rest.lastIndex(of: ":"), !rest[colon...].contains("/") {
            let written = rest[rest.index(after: colon)...]
            guard Self.isTag(written) else {
                throw refuse(
                    "the tag \"\(written)\" must have 1 to \(Self.maximumTag) letters, digits, \"_\", \".\" or \"-\", and begin with neither \".\" nor \"-\""
                )
            }
            tag = String(written)
            rest = rest[..<colon]
        }
        guard !rest.isEmpty else { throw refuse("the name is missing") }
        var domain = Self.hub
        var path = String(rest)
        if let slash = rest.firstIndex(of: "/"), Self.looksLikeDomain(rest[..<slash]) {
            domain = String(rest[..<slash])
            path = String(rest[rest.index(after: slash)...])
            guard Self.isDomain(domain) else { throw refuse("\"\(domain)\" is no host name with an optional port") }
            if domain == "index.docker.io" || domain == "registry-1.docker.io" { domain = Self.hub }
        }
        guard !path.isEmpty else { throw refuse("the name is missing") }
        for part in path.split(separator: "/", omittingEmptySubsequences: false) {
            guard !part.isEmpty else { throw refuse("it has an empty part between slashes") }
            guard !part.contains(where: \.isUppercase) else { throw refuse("the name must be lower case") }
            guard Self.isPathPart(part) else {
                throw refuse("\"\(part)\" may have lower-case letters and digits, separated by \".\", \"_\", \"__\" or dashes")
            }
        }
        if domain == Self.hub, !path.contains("/") {
            guard ContentDigest("sha256:\(path)") == nil else { throw refuse("64 hexadecimal digits are an image id") }
            path = "library/" + path
        }
        guard domain.utf8.count + 1 + path.utf8.count <= Self.maximumLength else {
            throw refuse("the name is longer than \(Self.maximumLength) characters")
        }
        self.domain = domain
        self.path = path
        self.tag = tag ?? (digest == nil ? "latest" : nil)
        self.digest = digest
    }

    private init(domain: String, path: String, tag: String?, digest: ContentDigest?) {
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest
    }

    /// The same repository with a digest in place of the tag.
    package func with(digest: ContentDigest) -> ImageReference { ImageReference(domain: domain, path: path, tag: nil, digest: digest) }

    /// The digest decides when there are both, as Docker has it.
    package var withoutRedundantTag: ImageReference { digest == nil ? self : ImageReference(domain: domain, path: path, tag: nil, digest: digest) }

    package var isOnHub: Bool { domain == Self.hub }

    private var suffix: String { (tag.map { ":\($0)" } ?? "") + (digest.map { "@\($0)" } ?? "") }

    /// In full: `docker.io/library/nginx:latest`.
    package var canonical: String { "\(domain)/\(path)\(suffix)" }

    /// The name without tag and digest, as users type it.
    package var familiarName: String {
        guard isOnHub else { return "\(domain)/\(path)" }
        let prefix = "library/"
        return path.hasPrefix(prefix) && !path.dropFirst(prefix.count).contains("/") ? String(path.dropFirst(prefix.count)) : path
    }

    /// As users type it: `nginx:latest`.
    package var description: String { familiarName + suffix }

    // MARK: Grammar (github.com/distribution/reference)

    private static func looksLikeDomain(_ text: Substring) -> Bool {
        text == "localhost" || text.contains(".") || text.contains(":") || text.contains(where: \.isUppercase)
    }

    static func isDomain(_ text: String) -> Bool {
        var host = Substring(text)
        if let colon = host.lastIndex(of: ":"), !host[colon...].contains("]") {
            guard isPort(host[host.index(after: colon)...]) else { return false }
            host = host[..<colon]
        }
        if host.hasPrefix("["), host.hasSuffix("]") { return IPAddress(String(host.dropFirst().dropLast()))?.isIPv4 == false }
        return host.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
            guard let first = label.utf8.first, let last = label.utf8.last else { return false }
            return isAlphanumeric(first) && isAlphanumeric(last) && label.utf8.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "-") }
        }
    }

    /// 1 to 65535, digits without leading zeros.
    static func isPort(_ text: Substring) -> Bool {
        text.utf8.allSatisfy { (48...57).contains($0) } && text.utf8.first != UInt8(ascii: "0") && UInt16(text) != nil
    }

    private static func isPathPart(_ text: Substring) -> Bool {
        func isLetter(_ byte: UInt8) -> Bool { (48...57).contains(byte) || (97...122).contains(byte) }
        let bytes = Array(text.utf8)
        guard let first = bytes.first, let last = bytes.last, isLetter(first), isLetter(last) else { return false }
        var index = 0
        while index < bytes.count {
            if isLetter(bytes[index]) {
                index += 1
                continue
            }
            let start = index
            while index < bytes.count, !isLetter(bytes[index]) { index += 1 }
            let separator = String(decoding: bytes[start..<index], as: UTF8.self)
            guard separator == "." || separator == "_" || separator == "__" || separator.allSatisfy({ $0 == "-" }) else { return false }
        }
        return true
    }

    private static func isTag(_ text: Substring) -> Bool {
        guard (1...maximumTag).contains(text.utf8.count), let first = text.utf8.first else { return false }
        let underscore = UInt8(ascii: "_")
        return (isAlphanumeric(first) || first == underscore)
            && text.utf8.allSatisfy { isAlphanumeric($0) || $0 == underscore || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") }
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool { (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) }

    /// With a `?` for control characters, and not without end.
    static func printable(_ text: String) -> String {
        var scalars = String.UnicodeScalarView()
        for scalar in text.unicodeScalars.prefix(300) {
            scalars.append(scalar.value < 32 || (127..<160).contains(scalar.value) ? "?" : scalar)
        }
        return String(scalars)
    }
}
