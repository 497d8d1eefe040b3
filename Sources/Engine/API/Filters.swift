import Coding
import PluginAPI

/// The `filters` of a list: per key the values of which one must fit (labels: all).
struct Filters: Sendable, Hashable {
    private(set) var values: [String: [String]] = [:]

    /// Reads both forms of the Engine API, `{"name":["a"]}` and `{"name":{"a":true}}`.
    /// - Throws: `invalidArgument` for a key that is not one of `known`.
    init(_ text: String?, known: Set<String>) throws(ApusError) {
        guard let text, !text.isEmpty else { return }
        guard let object = try JSONValue.parse(text).object else {
            throw ApusError(.invalidArgument, "filters: a JSON object is expected, such as {\"name\":[\"web\"]}")
        }
        for (key, value) in object {
            guard known.contains(key) else {
                throw ApusError(.invalidArgument, "invalid filter '\(key)'; known are \(known.sorted().joined(separator: ", "))")
            }
            if let array = value.array {
                var strings: [String] = []
                for element in array {
                    guard let string = element.string else { throw ApusError(.invalidArgument, "filters: \(key) has \(element.kind) among its values") }
                    strings.append(string)
                }
                values[key] = strings
            } else if let members = value.object {
                var strings: [String] = []
                for (string, isWanted) in members {
                    guard let isWanted = isWanted.bool else {
                        throw ApusError(.invalidArgument, "filters: \(key) has \(isWanted.kind) where true or false is expected")
                    }
                    if isWanted { strings.append(string) }
                }
                values[key] = strings
            } else {
                throw ApusError(.invalidArgument, "filters: \(key) is \(value.kind), not an array")
            }
        }
    }

    subscript(key: String) -> [String] { values[key] ?? [] }

    /// Whether one of the values fits, or none was asked for.
    func any(_ key: String, _ fits: (String) -> Bool) -> Bool {
        guard let wanted = values[key], !wanted.isEmpty else { return true }
        return wanted.contains(where: fits)
    }

    /// Exactly one of the values.
    func exact(_ key: String, _ actual: String) -> Bool { any(key) { $0 == actual } }

    /// The beginning of an identity.
    func prefix(_ key: String, _ actual: String) -> Bool { any(key) { actual.hasPrefix($0) } }

    /// A part of a name, as Docker's lists of containers match it; a leading slash or `^` and a closing `$` bind it to the ends.
    func name(_ key: String, _ actual: String) -> Bool {
        any(key) { wanted in
            var pattern = Substring(wanted)
            var fromStart = false
            if pattern.hasPrefix("^") {
                pattern = pattern.dropFirst()
                fromStart = true
            }
            if pattern.hasPrefix("/") {
                pattern = pattern.dropFirst()
                fromStart = fromStart || wanted.hasPrefix("/")
            }
            let toEnd = pattern.hasSuffix("$")
            if toEnd { pattern = pattern.dropLast() }
            switch (fromStart, toEnd) {
            case (true, true): return actual == pattern
            case (true, false): return actual.hasPrefix(pattern)
            case (false, true): return actual.hasSuffix(pattern)
            case (false, false): return pattern.isEmpty || Self.contains(actual, pattern)
            }
        }
    }

    /// All of the labels: `key` or `key=value`.
    func labels(_ key: String, _ actual: [String: String]) -> Bool {
        (values[key] ?? []).allSatisfy { wanted in
            let halves = wanted.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let value = actual[String(halves[0])] else { return false }
            return halves.count == 1 || value == halves[1]
        }
    }

    private static func contains(_ text: String, _ part: Substring) -> Bool {
        var rest = Substring(text)
        while !rest.isEmpty {
            if rest.hasPrefix(part) { return true }
            rest = rest.dropFirst()
        }
        return false
    }
}
