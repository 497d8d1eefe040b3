public import PluginAPI

/// What a service's template may ask for: `{{.Service.Name}}`, `{{.Node.Hostname}}`, `{{.Task.Slot}}` and so on.
public enum Placeholder: Sendable, Hashable {
    case serviceID, serviceName
    /// `{{index .Service.Labels "key"}}`.
    case serviceLabel(String)
    case nodeID, nodeHostname, nodeArchitecture, nodeOperatingSystem
    case taskID, taskName, taskSlot
}

/// A text with placeholders: the value of an environment variable, a host name, the source or target of a mount.
public struct PlaceholderText: Sendable, Hashable {
    public enum Part: Sendable, Hashable {
        case text(String)
        case placeholder(Placeholder)
    }

    public private(set) var parts: [Part] = []

    /// - Throws: `invalidArgument` for a placeholder that does not exist or does not end.
    public init(_ text: String) throws(ApusError) {
        var rest = text[...]
        while let opening = rest.range(of: "{{") {
            append(rest[..<opening.lowerBound])
            let inside = rest[opening.upperBound...]
            guard let closing = inside.range(of: "}}") else {
                throw ApusError(.invalidArgument, "the placeholder in \"\(ServiceValidation.printable(text))\" does not end: }} is missing")
            }
            parts.append(.placeholder(try Self.placeholder(inside[..<closing.lowerBound], in: text)))
            rest = inside[closing.upperBound...]
        }
        append(rest)
    }

    private mutating func append(_ text: Substring) {
        if !text.isEmpty { parts.append(.text(String(text))) }
    }

    private static let words: [Substring: Placeholder] = [
        ".Service.ID": .serviceID, ".Service.Name": .serviceName, ".Node.ID": .nodeID, ".Node.Hostname": .nodeHostname,
        ".Node.Platform.Architecture": .nodeArchitecture, ".Node.Platform.OS": .nodeOperatingSystem, ".Task.ID": .taskID, ".Task.Name": .taskName,
        ".Task.Slot": .taskSlot,
    ]

    private static func placeholder(_ expression: Substring, in text: String) throws(ApusError) -> Placeholder {
        let words = expression.split(separator: " ")
        if words.count == 1, let known = Self.words[words[0]] { return known }
        if words.count == 3, words[0] == "index", words[1] == ".Service.Labels" { return .serviceLabel(words[2].filter { $0 != "\"" && $0 != "`" }) }
        let known = ".Service.ID, .Service.Name, .Service.Labels, .Node.ID, .Node.Hostname, .Task.ID, .Task.Name and .Task.Slot"
        throw ApusError(
            .invalidArgument,
            "unknown placeholder {{\(ServiceValidation.printable(String(expression)))}} in \"\(ServiceValidation.printable(text))\"; there are \(known)")
    }
}

extension Substring {
    /// The first place of a short text.
    fileprivate func range(of text: String) -> Range<Index>? {
        var position = startIndex
        while position < endIndex {
            if self[position...].hasPrefix(text) { return position..<index(position, offsetBy: text.count) }
            position = index(after: position)
        }
        return nil
    }
}
