import PluginAPI

/// A command line in one string, split into words as a POSIX shell does it, without any expansion.
enum ShellWords {
    static func split(_ text: String) throws(ApusError) -> [String] {
        var words: [String] = []
        var word: String?
        var quote: Character?
        var characters = text[...]
        while let character = characters.popFirst() {
            switch (character, quote) {
            case (_, "'") where character != "'": word = (word ?? "") + String(character)
            case ("'", "'"), ("\"", "\""): quote = nil
            case ("\\", "\""):
                guard let next = characters.popFirst() else { throw unfinished(text) }
                word = (word ?? "") + ("\"\\$`".contains(next) ? String(next) : "\\" + String(next))
            case (_, "\""): word = (word ?? "") + String(character)
            case ("'", nil), ("\"", nil):
                quote = character
                word = word ?? ""
            case ("\\", nil):
                guard let next = characters.popFirst() else { throw unfinished(text) }
                word = (word ?? "") + String(next)
            case (_, nil) where character.isWhitespace:
                if let done = word { words.append(done) }
                word = nil
            default: word = (word ?? "") + String(character)
            }
        }
        guard quote == nil else { throw unfinished(text) }
        if let done = word { words.append(done) }
        return words
    }

    private static func unfinished(_ text: String) -> ApusError {
        ApusError(.invalidArgument, "\"\(text)\" ends within a quote or after a backslash")
    }
}
