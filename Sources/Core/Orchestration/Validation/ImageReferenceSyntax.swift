import PluginAPI

/// The grammar of image references: `[host[:port]/]path[:tag][@digest]`, or 64 hexadecimal digits (the distribution project's reference grammar).
///
/// It takes what the runtime's `ImageReference` takes, and ids.
enum ImageReferenceSyntax {
    static func isValid(_ text: String) -> Bool {
        guard text.utf8.count <= 1024, text.utf8.allSatisfy({ (33...126).contains($0) }) else { return false }
        if isID(text[...]) { return true }
        var rest = text[...]
        if let at = rest.firstIndex(of: "@") {
            guard isDigest(rest[rest.index(after: at)...]) else { return false }
            rest = rest[..<at]
        }
        if let colon = rest.lastIndex(of: ":"), !rest[colon...].contains("/") {
            guard isTag(rest[rest.index(after: colon)...]) else { return false }
            rest = rest[..<colon]
        }
        var parts = rest.split(separator: "/", omittingEmptySubsequences: false)
        var host = hub
        if parts.count > 1, let first = parts.first, first.contains(".") || first.contains(":") || first == "localhost" || first != first.lowercased() {
            guard isHost(first) else { return false }
            host = ["index.docker.io", "registry-1.docker.io"].contains(first) ? hub : first
            parts.removeFirst()
        }
        if host == hub, parts.count == 1 {
            guard !isID(parts[0]) else { return false }
            parts.insert("library", at: 0)
        }
        guard host.utf8.count + parts.reduce(0, { $0 + 1 + $1.utf8.count }) <= 255 else { return false }
        return parts.allSatisfy { isPathComponent($0) }
    }

    private static let hub: Substring = "docker.io"

    private static func isID(_ text: Substring) -> Bool { text.utf8.count == 64 && text.utf8.allSatisfy { isHexadecimal($0) } }

    private static func isHexadecimal(_ byte: UInt8) -> Bool { (48...57).contains(byte) || (97...102).contains(byte) }

    private static func isLowerOrDigit(_ byte: UInt8) -> Bool { (97...122).contains(byte) || (48...57).contains(byte) }

    /// Lower-case letters and digits, with `.`, one or two `_`, or any number of `-` between them.
    private static func isPathComponent(_ text: Substring) -> Bool {
        guard let first = text.utf8.first, let last = text.utf8.last, isLowerOrDigit(first), isLowerOrDigit(last) else { return false }
        var separators: [UInt8] = []
        for byte in text.utf8 {
            if isLowerOrDigit(byte) {
                guard separators.isEmpty || separators == [46] || separators == [95] || separators == [95, 95] || separators.allSatisfy({ $0 == 45 })
                else { return false }
                separators = []
            } else {
                guard byte == 46 || byte == 95 || byte == 45 else { return false }
                separators.append(byte)
            }
        }
        return true
    }

    private static func isHost(_ text: Substring) -> Bool {
        var name = text
        if let colon = text.lastIndex(of: ":"), !text[colon...].contains("]") {
            let digits = text[text.index(after: colon)...]
            guard digits.utf8.allSatisfy({ (48...57).contains($0) }), digits.utf8.first != 48, UInt16(digits) != nil else { return false }
            name = text[..<colon]
        }
        if name.hasPrefix("["), name.hasSuffix("]") { return IPAddress(String(name.dropFirst().dropLast()))?.isIPv4 == false }
        return name.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { part in
            guard let first = part.utf8.first, let last = part.utf8.last else { return false }
            return ServiceValidation.isAlphanumeric(first) && ServiceValidation.isAlphanumeric(last)
                && part.utf8.allSatisfy { ServiceValidation.isAlphanumeric($0) || $0 == UInt8(ascii: "-") }
        }
    }

    private static func isTag(_ text: Substring) -> Bool {
        guard let first = text.utf8.first, text.utf8.count <= 128, ServiceValidation.isAlphanumeric(first) || first == UInt8(ascii: "_") else {
            return false
        }
        return text.utf8.allSatisfy { ServiceValidation.isAlphanumeric($0) || "_.-".utf8.contains($0) }
    }

    private static func isDigest(_ text: Substring) -> Bool {
        guard text.hasPrefix("sha256:") else { return false }
        let digits = text.dropFirst(7).utf8
        return digits.count == 64 && digits.allSatisfy { isHexadecimal($0) }
    }
}
