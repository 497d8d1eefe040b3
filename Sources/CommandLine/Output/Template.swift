import Coding
import PluginAPI

/// A small part of Go's templates for `--format`: fields, `json`, `upper`, `lower`, `len`, `join`, `index`, `if` and `range`.
struct Template: Sendable {
    fileprivate indirect enum Node: Sendable {
        case text(String)
        case value(TemplateExpression)
        case condition(TemplateExpression, then: [Node], otherwise: [Node])
        case range(TemplateExpression, body: [Node], otherwise: [Node])
    }

    private var nodes: [Node]
    /// How many `{{if}}` and `{{range}}` may stand within each other: each takes a piece of the stack.
    private static let maximumDepth = 100

    /// - Throws: `invalidArgument` with what is wrong in the template.
    init(_ text: String) throws(ApusError) {
        var pieces = try TemplatePieces.split(text)[...]
        let (nodes, end) = try Self.parse(&pieces, depth: 0)
        guard end == nil else { throw Self.problem("{{\(end ?? "")}} stands without an {{if}} or {{range}}") }
        self.nodes = nodes
    }

    /// The text for a value.
    func render(_ value: JSONValue) throws(ApusError) -> String {
        var output = ""
        try Self.render(nodes, value, into: &output)
        return output
    }

    static func problem(_ what: String) -> ApusError { ApusError(.invalidArgument, "--format: \(what)") }

    private static func parse(_ pieces: inout ArraySlice<TemplatePieces.Piece>, depth: Int) throws(ApusError) -> (nodes: [Node], end: String?) {
        guard depth <= maximumDepth else { throw problem("more than \(maximumDepth) of {{if}} and {{range}} stand within each other") }
        var nodes: [Node] = []
        while let piece = pieces.popFirst() {
            guard case .action(let action) = piece else {
                if case .text(let text) = piece { nodes.append(.text(text)) }
                continue
            }
            let (word, rest) = action.cut(at: " ")
            switch word {
            case "end", "else": return (nodes, word)
            case "if", "range":
                let expression = try TemplateExpression(rest ?? "")
                let (body, end) = try parse(&pieces, depth: depth + 1)
                var otherwise: [Node] = []
                var last = end
                if end == "else" { (otherwise, last) = try parse(&pieces, depth: depth + 1) }
                guard last == "end" else { throw problem("{{\(word)}} has no {{end}}") }
                nodes.append(
                    word == "if" ? .condition(expression, then: body, otherwise: otherwise) : .range(expression, body: body, otherwise: otherwise))
            default: nodes.append(.value(try TemplateExpression(action)))
            }
        }
        return (nodes, nil)
    }

    private static func render(_ nodes: [Node], _ value: JSONValue, into output: inout String) throws(ApusError) {
        for node in nodes {
            switch node {
            case .text(let text): output += text
            case .value(let expression): output += text(of: try expression.evaluate(value))
            case .condition(let expression, let body, let otherwise):
                try render(isTrue(try expression.evaluate(value)) ? body : otherwise, value, into: &output)
            case .range(let expression, let body, let otherwise):
                let items: [JSONValue] =
                    switch try expression.evaluate(value) {
                    case .array(let array): array
                    case .object(let object): object.keys.sorted().compactMap { object[$0] }
                    default: []
                    }
                if items.isEmpty { try render(otherwise, value, into: &output) }
                for item in items { try render(body, item, into: &output) }
            }
        }
    }

    private static func isTrue(_ value: JSONValue) -> Bool {
        switch value {
        case .null: false
        case .bool(let value): value
        case .integer(let value): value != 0
        case .unsigned(let value): value != 0
        case .number(let value): value != 0
        case .string(let value): !value.isEmpty
        case .array(let value): !value.isEmpty
        case .object(let value): !value.isEmpty
        }
    }

    static func text(of value: JSONValue) -> String {
        switch value {
        case .null: "<no value>"
        case .string(let text): text
        case .array(let items): "[" + items.map { text(of: $0) }.joined(separator: " ") + "]"
        case .object(let object): "map[" + object.keys.sorted().map { "\($0):\(text(of: object[$0] ?? .null))" }.joined(separator: " ") + "]"
        default: value.text()
        }
    }
}

/// The text of a template in pieces.
enum TemplatePieces {
    enum Piece: Hashable {
        case text(String)
        case action(String)
    }

    static func split(_ text: String) throws(ApusError) -> [Piece] {
        var pieces: [Piece] = []
        var rest = text[...]
        var trimsNext = false
        while let begin = rest.firstRange(of: "{{") {
            guard let end = rest[begin.upperBound...].firstRange(of: "}}") else { throw Template.problem("{{ has no }}") }
            var before = String(rest[..<begin.lowerBound])
            var action = String(rest[begin.upperBound..<end.lowerBound])
            if trimsNext { before = String(before.drop(while: \.isWhitespace)) }
            if action.hasPrefix("- ") {
                action.removeFirst()
                while before.last?.isWhitespace == true { before.removeLast() }
            }
            trimsNext = action.hasSuffix(" -")
            if trimsNext { action.removeLast() }
            if !before.isEmpty { pieces.append(.text(before)) }
            pieces.append(.action(action.trimmed))
            rest = rest[end.upperBound...]
        }
        let last = trimsNext ? rest.drop(while: \.isWhitespace) : rest
        if !last.isEmpty { pieces.append(.text(String(last))) }
        return pieces
    }
}
