public import PluginAPI

/// The JSON codec of `FieldCoded` values: the Engine API's form.
public enum JSONFields {
    /// What a decoder does with a key that the type does not have.
    public enum UnknownFields: Sendable {
        /// `invalidArgument`, naming the key.
        case refuse
        /// Leaves it out: for what other programs wrote.
        case ignore
    }

    /// The value as a JSON object.
    /// - Parameter includeInternal: Also the fields that the Engine API does not show, such as the data of a secret.
    public static func encode(_ value: some FieldCoded, includeInternal: Bool = false) -> JSONValue {
        var value = value
        var encoder = Encoder(includeInternal: includeInternal)
        // An encoder never throws; `code` only could because it serves decoders too.
        try? value.code(with: &encoder)
        return .object(encoder.object)
    }

    /// - Throws: `invalidArgument` with the path of the field that is unknown or of another type.
    public static func decode<Value: FieldCoded>(
        _ type: Value.Type, from json: JSONValue, unknownFields: UnknownFields = .refuse, includeInternal: Bool = false
    ) throws(ApusError) -> Value {
        try decode(type, from: json, path: "", unknownFields: unknownFields, includeInternal: includeInternal)
    }

    fileprivate static func decode<Value: FieldCoded>(
        _ type: Value.Type, from json: JSONValue, path: String, unknownFields: UnknownFields, includeInternal: Bool
    ) throws(ApusError) -> Value {
        guard let object = json.object else {
            throw ApusError(.invalidArgument, "\(path.isEmpty ? "the body" : path) is \(json.kind), not an object")
        }
        var decoder = Decoder(object: object, path: path, unknownFields: unknownFields, includeInternal: includeInternal)
        var value = Value()
        try value.code(with: &decoder)
        try decoder.finish()
        return value
    }
}

extension JSONFields {
    fileprivate struct Encoder: FieldCoder {
        let includeInternal: Bool
        var object = JSONObject()
        var isDecoding: Bool { false }

        init(includeInternal: Bool) { self.includeInternal = includeInternal }

        private mutating func put(_ name: String, _ presence: FieldPresence, isEmpty: Bool, _ json: JSONValue) {
            if presence == .internalOnly, !includeInternal { return }
            if isEmpty, presence != .always { return }
            object[name] = json
        }

        private func encoded(_ value: some FieldCoded) -> JSONValue { JSONFields.encode(value, includeInternal: includeInternal) }

        mutating func field(_ number: Int, _ name: String, _ value: inout Bool, _ presence: FieldPresence) {
            put(name, presence, isEmpty: !value, .bool(value))
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Int64, _ presence: FieldPresence) {
            put(name, presence, isEmpty: value == 0, .integer(value))
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout UInt64, _ presence: FieldPresence) {
            put(name, presence, isEmpty: value == 0, JSONValue(value))
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Double, _ presence: FieldPresence) {
            put(name, presence, isEmpty: value == 0, .number(value))
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout String, _ presence: FieldPresence) {
            put(name, presence, isEmpty: value.isEmpty, .string(value))
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [UInt8], _ presence: FieldPresence) {
            put(name, presence, isEmpty: value.isEmpty, .string(Base64.encode(value)))
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [String], _ presence: FieldPresence) {
            put(name, presence, isEmpty: value.isEmpty, JSONValue(value))
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [String: String], _ presence: FieldPresence) {
            put(name, presence, isEmpty: value.isEmpty, JSONValue(value))
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value, _ presence: FieldPresence) {
            put(name, presence, isEmpty: value == Value(), encoded(value))
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value?, _ presence: FieldPresence) {
            guard let present = value else { return }
            put(name, presence, isEmpty: false, encoded(present))
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [Value], _ presence: FieldPresence) {
            put(name, presence, isEmpty: value.isEmpty, .array(value.map(encoded)))
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [String: Value], _ presence: FieldPresence) {
            put(name, presence, isEmpty: value.isEmpty, .object(JSONObject(value.mapValues(encoded))))
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Bool?, _ presence: FieldPresence) {
            if let present = value { put(name, presence, isEmpty: false, .bool(present)) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Int64?, _ presence: FieldPresence) {
            if let present = value { put(name, presence, isEmpty: false, .integer(present)) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout UInt64?, _ presence: FieldPresence) {
            if let present = value { put(name, presence, isEmpty: false, JSONValue(present)) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [String]?, _ presence: FieldPresence) {
            if let present = value { put(name, presence, isEmpty: false, JSONValue(present)) }
        }
    }

    fileprivate struct Decoder: FieldCoder {
        let object: JSONObject
        let path: String
        let unknownFields: UnknownFields
        let includeInternal: Bool
        var known: Set<String> = []
        var isDecoding: Bool { true }

        init(object: JSONObject, path: String, unknownFields: UnknownFields, includeInternal: Bool) {
            self.object = object
            self.path = path
            self.unknownFields = unknownFields
            self.includeInternal = includeInternal
        }

        func finish() throws(ApusError) {
            guard unknownFields == .refuse else { return }
            for key in object.keys where !known.contains(key) {
                throw ApusError(.invalidArgument, "unknown field \(location(key))")
            }
        }

        private func location(_ name: String) -> String { path.isEmpty ? name : "\(path).\(name)" }

        private mutating func get(_ name: String, _ presence: FieldPresence) -> JSONValue? {
            if presence == .internalOnly, !includeInternal { return nil }
            known.insert(name)
            guard let json = object[name], json != .null else { return nil }
            return json
        }

        private func wrong(_ name: String, _ json: JSONValue, _ expected: String) -> ApusError {
            ApusError(.invalidArgument, "\(location(name)) is \(json.kind), not \(expected)")
        }

        private func signed(_ name: String, _ json: JSONValue) throws(ApusError) -> Int64 {
            guard let integer = json.integer else { throw wrong(name, json, "a whole number of 64 bits") }
            return integer
        }

        private func unsigned(_ name: String, _ json: JSONValue) throws(ApusError) -> UInt64 {
            if case .unsigned(let value) = json { return value }
            // As some clients write it, and as this program once did.
            if case .number(let number) = json, let value = UInt64(exactly: number) { return value }
            guard let integer = json.integer else { throw wrong(name, json, "a whole number of 64 bits") }
            guard let value = UInt64(exactly: integer) else { throw ApusError(.invalidArgument, "\(location(name)) is \(integer); it cannot be negative") }
            return value
        }

        private func strings(_ name: String, _ json: JSONValue) throws(ApusError) -> [String] {
            guard let array = json.array else { throw wrong(name, json, "an array of strings") }
            var strings: [String] = []
            for (index, element) in array.enumerated() {
                guard let string = element.string else { throw wrong("\(name)[\(index)]", element, "a string") }
                strings.append(string)
            }
            return strings
        }

        private func nested<Value: FieldCoded>(_ name: String, _ json: JSONValue) throws(ApusError) -> Value {
            try JSONFields.decode(Value.self, from: json, path: location(name), unknownFields: unknownFields, includeInternal: includeInternal)
        }

        mutating func field(_ number: Int, _ name: String, _ value: inout Bool, _ presence: FieldPresence) throws(ApusError) {
            guard let json = get(name, presence) else { return }
            guard let bool = json.bool else { throw wrong(name, json, "true or false") }
            value = bool
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Int64, _ presence: FieldPresence) throws(ApusError) {
            if let json = get(name, presence) { value = try signed(name, json) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout UInt64, _ presence: FieldPresence) throws(ApusError) {
            if let json = get(name, presence) { value = try unsigned(name, json) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Double, _ presence: FieldPresence) throws(ApusError) {
            guard let json = get(name, presence) else { return }
            guard let double = json.number else { throw wrong(name, json, "a number") }
            value = double
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout String, _ presence: FieldPresence) throws(ApusError) {
            guard let json = get(name, presence) else { return }
            guard let string = json.string else { throw wrong(name, json, "a string") }
            value = string
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [UInt8], _ presence: FieldPresence) throws(ApusError) {
            guard let json = get(name, presence) else { return }
            guard let string = json.string, let bytes = Base64.decode(string) else { throw wrong(name, json, "bytes in base 64") }
            value = bytes
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [String], _ presence: FieldPresence) throws(ApusError) {
            if let json = get(name, presence) { value = try strings(name, json) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [String: String], _ presence: FieldPresence) throws(ApusError) {
            guard let json = get(name, presence) else { return }
            guard let members = json.object else { throw wrong(name, json, "an object of strings") }
            var result: [String: String] = [:]
            for (key, member) in members {
                // A set, written as an object of empty objects, is read as a map to empty strings (`ExposedPorts`, `Volumes`).
                if let object = member.object, object.isEmpty {
                    result[key] = ""
                } else if let string = member.string {
                    result[key] = string
                } else {
                    throw wrong("\(name).\(key)", member, "a string")
                }
            }
            value = result
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value, _ presence: FieldPresence) throws(ApusError) {
            if let json = get(name, presence) { value = try nested(name, json) }
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value?, _ presence: FieldPresence) throws(ApusError) {
            if let json = get(name, presence) { value = try nested(name, json) as Value }
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [Value], _ presence: FieldPresence) throws(ApusError) {
            guard let json = get(name, presence) else { return }
            guard let array = json.array else { throw wrong(name, json, "an array") }
            var result: [Value] = []
            for (index, element) in array.enumerated() { result.append(try nested("\(name)[\(index)]", element)) }
            value = result
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [String: Value], _ presence: FieldPresence) throws(ApusError) {
            guard let json = get(name, presence) else { return }
            guard let members = json.object else { throw wrong(name, json, "an object") }
            var result: [String: Value] = [:]
            for (key, member) in members { result[key] = try nested("\(name).\(key)", member) as Value }
            value = result
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Bool?, _ presence: FieldPresence) throws(ApusError) {
            guard let json = get(name, presence) else { return }
            guard let bool = json.bool else { throw wrong(name, json, "true or false") }
            value = bool
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Int64?, _ presence: FieldPresence) throws(ApusError) {
            if let json = get(name, presence) { value = try signed(name, json) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout UInt64?, _ presence: FieldPresence) throws(ApusError) {
            if let json = get(name, presence) { value = try unsigned(name, json) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [String]?, _ presence: FieldPresence) throws(ApusError) {
            if let json = get(name, presence) { value = try strings(name, json) }
        }
    }
}
