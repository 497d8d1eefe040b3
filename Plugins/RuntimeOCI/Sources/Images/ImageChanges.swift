import Coding
import PluginAPI

/// Instructions of a Dockerfile that change an image's configuration: `CMD ["nginx"]`, `ENV A=b`, `EXPOSE 80`.
package enum ImageChanges {
    /// - Throws: `invalidArgument` for an instruction that is wrong, `unimplemented` for one that is not known here.
    package static func apply(_ changes: [String], to initial: ImageConfiguration) throws(ApusError) -> ImageConfiguration {
        var configuration = initial
        for change in changes {
            // By bytes: as characters, the two of a line end are one.
            for line in change.utf8.split(separator: UInt8(ascii: "\n")) {
                let text = trimmed(Substring(line))
                guard !text.isEmpty else { continue }
                let name = text.prefix { $0 != " " && $0 != "\t" }
                try apply(name.uppercased(), trimmed(text.dropFirst(name.count)), line: text, to: &configuration)
            }
        }
        return configuration
    }

    private static func apply(_ name: String, _ value: String, line: String, to configuration: inout ImageConfiguration) throws(ApusError) {
        guard !value.isEmpty else { throw ApusError(.invalidArgument, "\"\(ImageReference.printable(line))\" needs a value") }
        switch name {
        case "CMD": configuration.command = try command(value)
        case "ENTRYPOINT": configuration.entrypoint = try command(value)
        case "ENV":
            for (key, value) in try pairs(value, line) {
                configuration.environment.removeAll { $0.utf8.starts(with: "\(key)=".utf8) }
                configuration.environment.append("\(key)=\(value)")
            }
        case "LABEL":
            for (key, value) in try pairs(value, line) { configuration.labels[key] = value }
        case "EXPOSE":
            for word in value.split(separator: " ") { configuration.exposedPorts[try port(word)] = "" }
        case "VOLUME":
            for path in value.hasPrefix("[") ? try list(value) : value.split(separator: " ").map(String.init) { configuration.volumes[path] = "" }
        case "USER": configuration.user = value
        case "WORKDIR": configuration.workingDirectory = value.hasPrefix("/") ? value : "/" + value
        case "STOPSIGNAL": configuration.stopSignal = value
        default:
            throw ApusError(
                .unimplemented,
                "the instruction \(ImageReference.printable(name)) cannot be applied to an import; known are CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR"
            )
        }
    }

    private static func command(_ value: String) throws(ApusError) -> [String] { value.hasPrefix("[") ? try list(value) : ["/bin/sh", "-c", value] }

    private static func list(_ value: String) throws(ApusError) -> [String] {
        let elements = (try? JSONValue.parse(value))?.array?.map(\.string)
        guard let elements, !elements.contains(nil) else {
            throw ApusError(.invalidArgument, "\"\(ImageReference.printable(value))\" is not a list of strings such as [\"a\", \"b\"]")
        }
        return elements.compactMap { $0 }
    }

    private static func port(_ word: Substring) throws(ApusError) -> String {
        let parts = word.split(separator: "/", omittingEmptySubsequences: false)
        let transport = parts.count == 2 ? parts[1].lowercased() : "tcp"
        guard (1...2).contains(parts.count), ImageReference.isPort(parts[0]), let number = UInt16(parts[0]), ["tcp", "udp", "sctp"].contains(transport)
        else {
            throw ApusError(.invalidArgument, "\"\(ImageReference.printable(String(word)))\" is not a port such as 80 or 53/udp")
        }
        return "\(number)/\(transport)"
    }

    /// `A=b "C=d e"`, or `A b` for a single one.
    private static func pairs(_ value: String, _ line: String) throws(ApusError) -> [(String, String)] {
        let equals = UInt8(ascii: "=")
        guard let words = words(value) else { throw ApusError(.invalidArgument, "\"\(ImageReference.printable(line))\" ends within a quote") }
        if let first = words.first, !first.utf8.contains(equals) {
            guard words.count > 1 else { throw ApusError(.invalidArgument, "\"\(ImageReference.printable(line))\" needs NAME=VALUE") }
            return [(first, trimmed(value.dropFirst(first.count)))]
        }
        var result: [(String, String)] = []
        for word in words {
            guard let place = word.utf8.firstIndex(of: equals), place > word.startIndex else {
                throw ApusError(.invalidArgument, "\"\(ImageReference.printable(line))\" needs NAME=VALUE")
            }
            result.append((String(word[..<place]), String(word[word.utf8.index(after: place)...])))
        }
        return result
    }

    /// Words as a shell has them: quotes keep spaces, a backslash takes the next character as it is. `nil` when a quote does not end.
    private static func words(_ text: String) -> [String]? {
        var words: [String] = []
        var word = String.UnicodeScalarView()
        // Quotes with nothing between them are a word too.
        var isInWord = false
        var quote: Unicode.Scalar?
        var isEscaped = false
        for scalar in text.unicodeScalars {
            if isEscaped {
                word.append(scalar)
                (isEscaped, isInWord) = (false, true)
            } else if scalar == "\\", quote != "'" {
                isEscaped = true
            } else if let open = quote {
                if scalar == open { quote = nil } else { word.append(scalar) }
            } else if scalar == "\"" || scalar == "'" {
                quote = scalar
                isInWord = true
            } else if scalar == " " || scalar == "\t" {
                if isInWord { words.append(String(word)) }
                word.removeAll()
                isInWord = false
            } else {
                word.append(scalar)
                isInWord = true
            }
        }
        if isInWord { words.append(String(word)) }
        return quote == nil ? words : nil
    }

    private static func trimmed(_ text: some StringProtocol) -> String {
        var rest = Substring(text)
        while let first = rest.first, first.isWhitespace { rest = rest.dropFirst() }
        while let last = rest.last, last.isWhitespace { rest = rest.dropLast() }
        return String(rest)
    }
}
