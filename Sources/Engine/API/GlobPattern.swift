import PluginAPI

/// Patterns of the filter `reference`: `*` stands for any characters and `?` for one, and neither for a slash.
enum GlobPattern {
    /// The longest pattern, in bytes of UTF-8. No reference is longer.
    static let maximumLength = 1024

    /// - Throws: `invalidArgument` for a pattern of more than `maximumLength` bytes.
    static func check(_ pattern: String) throws(ApusError) {
        guard pattern.utf8.count <= maximumLength else {
            throw ApusError(.invalidArgument, "a pattern for names of images has \(pattern.utf8.count) bytes; it may have \(maximumLength)")
        }
    }

    /// Fits `name:tag`, or `name` alone when the pattern has no tag.
    static func matches(_ pattern: String, reference: String) -> Bool {
        let wanted = Array(pattern.unicodeScalars)
        if matches(wanted, Array(reference.unicodeScalars)) { return true }
        guard let colon = reference.lastIndex(of: ":"), !reference[colon...].contains("/") else { return false }
        return matches(wanted, Array(reference[..<colon].unicodeScalars))
    }

    /// Goes back to the last star only: what an earlier one could take more, the last one can take instead. So the time is at most the product of both
    /// lengths, whatever the pattern is.
    private static func matches(_ pattern: [Unicode.Scalar], _ text: [Unicode.Scalar]) -> Bool {
        var place = 0
        var index = 0
        var star: (place: Int, index: Int)?
        while index < text.count {
            if place < pattern.count, pattern[place] == "*" {
                star = (place, index)
                place += 1
            } else if place < pattern.count, pattern[place] == text[index] || pattern[place] == "?" && text[index] != "/" {
                // Slashes fit slashes alone, so what lies before one is settled.
                if text[index] == "/" { star = nil }
                place += 1
                index += 1
            } else if let last = star, text[last.index] != "/" {
                star = (last.place, last.index + 1)
                place = last.place + 1
                index = last.index + 1
            } else {
                return false
            }
        }
        return pattern[place...].allSatisfy { $0 == "*" }
    }
}
