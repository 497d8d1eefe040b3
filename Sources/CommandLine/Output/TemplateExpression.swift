import Coding
import PluginAPI

/// What stands between `{{` and `}}`: a field, a function with its arguments, or a chain of them with `|`.
struct TemplateExpression: Sendable {
    private enum Word: Hashable, Sendable {
        case field([String])
        case literal(JSONValue)
        case function(String)
        case pipe
    }

    private static let functions: Set<String> = ["json", "upper", "lower", "len", "join", "index", "println", "print", "title", "not"]
    private var stages: [[Word]]

    init(_ text: String) throws(ApusError) {
        let words = try Self.words(text)
        stages = words.split(separator: .pipe, omittingEmptySubsequences: false).map { Array($0) }
        for (index, stage) in stages.enumerated() {
            guard let first = stage.first else { throw Template.problem("{{\(text)}} is empty or ends with |") }
            if case .function = first { continue }
            guard stage.count == 1, index == 0 else { throw Template.problem("{{\(text)}} has a value where a function is needed") }
        }
    }

    func evaluate(_ root: JSONValue) throws(ApusError) -> JSONValue {
        var result: JSONValue?
        for stage in stages {
            var arguments: [JSONValue] = []
            var function: String?
            for word in stage {
                switch word {
                case .field(let path): arguments.append(try Self.member(root, path))
                case .literal(let value): arguments.append(value)
                case .function(let name): function = name
                case .pipe: break
                }
            }
            if let result { arguments.append(result) }
            result = try function.map { name throws(ApusError) in try Self.apply(name, arguments) } ?? arguments.first ?? .null
        }
        return result ?? .null
    }

    /// A field that an object lacks is a mistake in the template when no field has its name; below it, there is just nothing.
    private static func member(_ root: JSONValue, _ path: [String]) throws(ApusError) -> JSONValue {
        var value = root
        for (depth, name) in path.enumerated() {
            guard case .object(let object) = value else { return .null }
            if let next = object[name] {
                value = next
            } else if depth == 0, !object.isEmpty {
                throw Template.problem("there is no field .\(name); the fields are \(object.keys.map { "." + $0 }.joined(separator: " "))")
            } else {
                return .null
            }
        }
        return value
    }

    private static func apply(_ name: String, _ arguments: [JSONValue]) throws(ApusError) -> JSONValue {
        guard let first = arguments.first else { throw Template.problem("\(name) needs a value, as in {{\(name) .Name}}") }
        switch name {
        case "json": return .string(first.text())
        case "upper": return .string(Template.text(of: first).uppercased())
        case "lower": return .string(Template.text(of: first).lowercased())
        case "title": return .string(HumanText.capitalized(Template.text(of: first)))
        case "print", "println":
            return .string(arguments.map { Template.text(of: $0) }.joined(separator: " ") + (name == "println" ? "\n" : ""))
        case "not": return .bool(first == .null || first == .bool(false) || first == .string(""))
        case "len":
            switch first {
            case .array(let items): return .integer(Int64(items.count))
            case .object(let object): return .integer(Int64(object.count))
            case .string(let text): return .integer(Int64(text.utf8.count))
            default: return .integer(0)
            }
        case "join":
            guard arguments.count == 2, case .array(let items) = first, case .string(let separator) = arguments[1] else {
                throw Template.problem("join takes a list and a text, as in {{join .Args \",\"}}")
            }
            return .string(items.map { Template.text(of: $0) }.joined(separator: separator))
        default:
            var value = first
            for key in arguments.dropFirst() {
                switch key {
                case .integer(let index): value = value[Int(clamping: index)] ?? .null
                case .string(let name): value = value[name] ?? .null
                default: value = .null
                }
            }
            return value
        }
    }

    private static func words(_ text: String) throws(ApusError) -> [Word] {
        var words: [Word] = []
        var rest = text[...]
        while let first = rest.first {
            if first.isWhitespace || first == "(" || first == ")" {
                rest.removeFirst()
            } else if first == "|" {
                rest.removeFirst()
                words.append(.pipe)
            } else if first == "\"" {
                guard let end = rest.dropFirst().firstIndex(of: "\"") else { throw Template.problem("{{\(text)}} has a quote that does not end") }
                words.append(.literal(.string(FormatText.unescaped(String(rest[rest.index(after: rest.startIndex)..<end])))))
                rest = rest[rest.index(after: end)...]
            } else {
                let token = rest.prefix { !$0.isWhitespace && !"|()".contains($0) }
                rest = rest.dropFirst(token.count)
                if token.first == "." {
                    words.append(.field(token.split(separator: ".").map { String($0) }))
                } else if let number = Int64(token) {
                    words.append(.literal(.integer(number)))
                } else if functions.contains(String(token)) {
                    words.append(.function(String(token)))
                } else {
                    throw Template.problem(
                        "\"\(token)\" is not known; there are fields such as .Name, and \(functions.sorted().joined(separator: ", "))")
                }
            }
        }
        return words
    }
}

/// What a shell leaves to the program in a format.
enum FormatText {
    /// `\t` and `\n` as the characters they stand for.
    static func unescaped(_ text: String) -> String {
        var output = ""
        var characters = text[...]
        while let character = characters.popFirst() {
            guard character == "\\", let next = characters.first else {
                output.append(character)
                continue
            }
            switch next {
            case "t": output.append("\t")
            case "n": output.append("\n")
            case "\\", "\"": output.append(next)
            default: output.append("\\\(next)")
            }
            characters.removeFirst()
        }
        return output
    }
}
