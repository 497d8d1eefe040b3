import PluginAPI

/// A command line in one string, split into words as a POSIX shell does it, without any expansion.
enum ShellWords {
    static func split(_ text: String) throws(ApusError) -> [String] {
        var words: [String] = []
        var word = String.UnicodeScalarView()
        // Quotes with nothing between them are a word too.
        var isInWord = false
        var quote: Unicode.Scalar?
        // By scalars: as characters, a quote and a mark that combines with it are one.
        var scalars = text.unicodeScalars[...]
        while let scalar = scalars.popFirst() {
            switch (scalar, quote) {
            case ("'", "'"), ("\"", "\""): quote = nil
            case (_, "'"): word.append(scalar)
            case ("\\", _):
                guard let next = scalars.popFirst() else { throw unfinished(text) }
                if quote != nil, !"\"\\$`".unicodeScalars.contains(next) { word.append(scalar) }
                word.append(next)
                isInWord = true
            case (_, "\""): word.append(scalar)
            case ("'", nil), ("\"", nil):
                quote = scalar
                isInWord = true
            case (" ", nil), ("\t", nil), ("\n", nil), ("\r", nil):
                if isInWord { words.append(String(word)) }
                word.removeAll()
                isInWord = false
            default:
                word.append(scalar)
                isInWord = true
            }
        }
        guard quote == nil else { throw unfinished(text) }
        if isInWord { words.append(String(word)) }
        return words
    }

    private static func unfinished(_ text: String) -> ApusError {
        ApusError(.invalidArgument, "\"\(text)\" ends within a quote or after a backslash")
    }
}
