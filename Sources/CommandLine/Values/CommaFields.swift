import PluginAPI

/// The fields of a long flag value, `type=volume,source=data,target=/data`; a field with a comma is written in quotes.
enum CommaFields {
    static func split(_ text: String) throws(ApusError) -> [String] {
        var fields: [String] = []
        var field = ""
        var quoted = false
        var wasQuoted = false
        var characters = text[...]
        while let character = characters.popFirst() {
            if quoted {
                if character != "\"" {
                    field.append(character)
                } else if characters.first == "\"" {
                    characters.removeFirst()
                    field.append("\"")
                } else {
                    quoted = false
                }
            } else if character == "," {
                fields.append(field)
                field = ""
                wasQuoted = false
            } else if character == "\"" {
                guard field.isEmpty, !wasQuoted else {
                    throw ApusError(.invalidArgument, "\"\(text)\" has a quote within a field; quote the whole field")
                }
                quoted = true
                wasQuoted = true
            } else if wasQuoted {
                throw ApusError(.invalidArgument, "\"\(text)\" goes on after a quoted field; a comma is missing")
            } else {
                field.append(character)
            }
        }
        guard !quoted else { throw ApusError(.invalidArgument, "\"\(text)\" has a quote that does not end") }
        fields.append(field)
        return fields
    }

    /// Key and value of every field; the value is `nil` without a `=`.
    static func pairs(_ text: String) throws(ApusError) -> [(key: String, value: String?)] {
        try split(text).map { field in
            let parts = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            return (parts[0].lowercased().trimmed, parts.count > 1 ? String(parts[1]) : nil)
        }
    }

    /// A truth value as flags write it; a key alone is true.
    static func boolean(_ key: String, _ value: String?) throws(ApusError) -> Bool {
        switch value?.lowercased() {
        case nil, "1", "t", "true": return true
        case "0", "f", "false": return false
        case let other: throw ApusError(.invalidArgument, "\(key)=\(other ?? ""): not true or false")
        }
    }
}

extension StringProtocol {
    /// Without the space at both ends.
    var trimmed: String {
        var rest = self[...]
        while let first = rest.first, first.isWhitespace { rest = rest.dropFirst() }
        while let last = rest.last, last.isWhitespace { rest = rest.dropLast() }
        return String(rest)
    }

    /// The part before the first separator, and the part after it, or `nil` when there is none.
    func cut(at separator: Character) -> (head: String, tail: String?) {
        guard let index = firstIndex(of: separator) else { return (String(self), nil) }
        return (String(self[..<index]), String(self[self.index(after: index)...]))
    }
}
