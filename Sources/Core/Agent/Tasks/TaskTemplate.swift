import PluginAPI

/// Fills in the placeholders of a service's template: `{{.Service.Name}}`, `{{.Node.Hostname}}`, `{{.Task.Slot}}` and so on, in environment,
/// host name and mounts.
struct TaskTemplate: Sendable {
    let task: Task
    let node: ID
    let hostname: String
    let platform: Platform

    /// The text with values; `invalidArgument` for a placeholder that does not exist.
    func expand(_ text: String) throws(ApusError) -> String {
        guard text.contains("{{") else { return text }
        var answer = ""
        var rest = text[...]
        while let opening = rest.range(of: "{{") {
            answer += rest[..<opening.lowerBound]
            let inside = rest[opening.upperBound...]
            guard let closing = inside.range(of: "}}") else {
                throw ApusError(.invalidArgument, "the placeholder in \"\(text)\" does not end: }} is missing")
            }
            answer += try value(String(inside[..<closing.lowerBound]), in: text)
            rest = inside[closing.upperBound...]
        }
        return answer + rest
    }

    private func value(_ expression: String, in text: String) throws(ApusError) -> String {
        let words = expression.split(separator: " ").map(String.init)
        switch words.first {
        case ".Service.ID" where words.count == 1: return task.serviceID.text
        case ".Service.Name" where words.count == 1: return task.serviceName
        case ".Node.ID" where words.count == 1: return node.text
        case ".Node.Hostname" where words.count == 1: return hostname
        case ".Node.Platform.Architecture" where words.count == 1: return platform.architecture
        case ".Node.Platform.OS" where words.count == 1: return platform.os
        case ".Task.ID" where words.count == 1: return task.id.text
        case ".Task.Name" where words.count == 1: return task.name
        case ".Task.Slot" where words.count == 1: return task.slot == 0 ? node.text : String(task.slot)
        case "index" where words.count == 3 && words[1] == ".Service.Labels":
            let key = words[2].filter { $0 != "\"" && $0 != "`" }
            return task.labels[key] ?? ""
        default:
            let known = ".Service.ID, .Service.Name, .Service.Labels, .Node.ID, .Node.Hostname, .Task.ID, .Task.Name and .Task.Slot"
            throw ApusError(.invalidArgument, "unknown placeholder {{\(expression)}} in \"\(text)\"; there are \(known)")
        }
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
