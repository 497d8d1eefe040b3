import Coding
import PluginAPI

/// Reads an object of the Engine API field by field: wrong types are refused, and at the end every key that nobody asked for.
///
/// For bodies whose parts go to different places; what is one value of the API is read by `JSONFields`.
struct JSONReader {
    let object: JSONObject
    let path: String
    private var known: Set<String> = []

    init(_ json: JSONValue?, path: String) throws(ApusError) {
        self.path = path
        guard let json, !json.isNull else {
            object = JSONObject()
            return
        }
        guard let object = json.object else { throw ApusError(.invalidArgument, "\(path.isEmpty ? "the body" : path) is \(json.kind), not an object") }
        self.object = object
    }

    private func location(_ name: String) -> String { path.isEmpty ? name : "\(path).\(name)" }

    /// The value, unless it is absent or null.
    mutating func value(_ name: String) -> JSONValue? {
        known.insert(name)
        guard let value = object[name], !value.isNull else { return nil }
        return value
    }

    func wrong(_ name: String, _ expected: String) -> ApusError {
        ApusError(.invalidArgument, "\(location(name)) is \(object[name]?.kind ?? "absent"), not \(expected)")
    }

    mutating func string(_ name: String) throws(ApusError) -> String {
        guard let value = value(name) else { return "" }
        guard let string = value.string else { throw wrong(name, "a string") }
        return string
    }

    mutating func bool(_ name: String) throws(ApusError) -> Bool {
        guard let value = value(name) else { return false }
        guard let bool = value.bool else { throw wrong(name, "true or false") }
        return bool
    }

    mutating func optionalInteger(_ name: String) throws(ApusError) -> Int64? {
        guard let value = value(name) else { return nil }
        guard let integer = value.integer else { throw wrong(name, "a whole number") }
        return integer
    }

    mutating func integer(_ name: String) throws(ApusError) -> Int64 { try optionalInteger(name) ?? 0 }

    /// An array of strings; `nil` when absent.
    mutating func optionalStrings(_ name: String) throws(ApusError) -> [String]? {
        guard let value = value(name) else { return nil }
        guard let array = value.array else { throw wrong(name, "an array of strings") }
        var strings: [String] = []
        for element in array {
            guard let string = element.string else { throw wrong(name, "an array of strings") }
            strings.append(string)
        }
        return strings
    }

    mutating func strings(_ name: String) throws(ApusError) -> [String] { try optionalStrings(name) ?? [] }

    /// A command line: an array of strings, or one string.
    mutating func commandLine(_ name: String) throws(ApusError) -> [String]? {
        if let word = object[name]?.string {
            known.insert(name)
            return [word]
        }
        return try optionalStrings(name)
    }

    mutating func map(_ name: String) throws(ApusError) -> [String: String] {
        guard let value = value(name) else { return [:] }
        guard let members = value.object else { throw wrong(name, "an object of strings") }
        var map: [String: String] = [:]
        for (key, member) in members {
            guard let string = member.string else { throw wrong(name, "an object of strings") }
            map[key] = string
        }
        return map
    }

    /// The keys of an object of empty objects.
    mutating func set(_ name: String) throws(ApusError) -> [String] {
        guard let value = value(name) else { return [] }
        guard let members = value.object else { throw wrong(name, "an object") }
        for (key, member) in members where !member.isNull && member.object?.isEmpty != true {
            throw ApusError(
                .invalidArgument, "\(location(name)).\(key) is \(member.object == nil ? member.kind : "an object with members"), not an empty object")
        }
        return members.keys
    }

    mutating func object<Value: FieldCoded>(_ name: String, _ type: Value.Type) throws(ApusError) -> Value? {
        guard let value = value(name) else { return nil }
        do throws(ApusError) {
            return try JSONFields.decode(type, from: value)
        } catch {
            throw error.during(location(name))
        }
    }

    mutating func objects<Value: FieldCoded>(_ name: String, _ type: Value.Type) throws(ApusError) -> [Value] {
        guard let value = value(name) else { return [] }
        guard let array = value.array else { throw wrong(name, "an array") }
        var result: [Value] = []
        for (index, element) in array.enumerated() {
            do throws(ApusError) {
                result.append(try JSONFields.decode(type, from: element))
            } catch {
                throw error.during("\(location(name))[\(index)]")
            }
        }
        return result
    }

    /// A field that Apus knows and has nothing for: anything but nothing is refused, never silently dropped.
    mutating func unsupported(_ name: String, except allowed: [JSONValue] = []) throws(ApusError) {
        guard let value = value(name), !allowed.contains(value) else { return }
        switch value {
        case .null, .bool(false), .integer(0), .string(""): return
        case .array(let array) where array.isEmpty: return
        case .object(let object) where object.isEmpty: return
        default: throw ApusError(.unimplemented, "\(location(name)) is not in this version of Apus")
        }
    }

    /// A field that means nothing here.
    mutating func ignored(_ name: String) { known.insert(name) }

    func finish() throws(ApusError) {
        for key in object.keys where !known.contains(key) { throw ApusError(.invalidArgument, "unknown field \(location(key))") }
    }
}
