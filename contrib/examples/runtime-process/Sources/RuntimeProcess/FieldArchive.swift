import PluginAPI

/// PluginAPI's objects as bytes and back, so that they outlive the engine. `FieldCoded` says of every object which fields it has, in one
/// description for both directions; this is the least that makes use of it.
struct FieldArchive: FieldCoder {
    let isDecoding: Bool
    private var fields: [Int: [UInt8]] = [:]

    static func bytes<Value: FieldCoded>(_ value: Value) throws(ApusError) -> [UInt8] {
        var archive = FieldArchive(isDecoding: false)
        var value = value
        try value.code(with: &archive)
        return archive.fields.sorted { $0.key < $1.key }.flatMap { framed(UInt64($0.key), $0.value) }
    }

    /// - Throws: `corrupt` when these are not the bytes of such a value.
    static func value<Value: FieldCoded>(_ type: Value.Type, _ bytes: [UInt8]) throws(ApusError) -> Value {
        var archive = FieldArchive(isDecoding: true)
        for (number, payload) in try frames(bytes) { archive.fields[Int(truncatingIfNeeded: number)] = payload }
        var value = Value()
        try value.code(with: &archive)
        return value
    }

    private init(isDecoding: Bool) { self.isDecoding = isDecoding }

    // MARK: Both directions

    private mutating func exchange<Value>(
        _ number: Int, _ value: inout Value, _ bytes: (Value) throws(ApusError) -> [UInt8]?, _ read: ([UInt8]) throws(ApusError) -> Value
    ) throws(ApusError) {
        if isDecoding {
            if let found = fields[number] { value = try read(found) }
        } else {
            fields[number] = try bytes(value)
        }
    }

    mutating func field(_ number: Int, _ name: String, _ value: inout Bool, _ presence: FieldPresence) throws(ApusError) {
        try exchange(number, &value, { $0 ? [1] : nil }, { $0 == [1] })
    }

    mutating func field(_ number: Int, _ name: String, _ value: inout Int64, _ presence: FieldPresence) throws(ApusError) {
        try exchange(number, &value, { Self.word(UInt64(bitPattern: $0)) }, Self.signed)
    }

    mutating func field(_ number: Int, _ name: String, _ value: inout UInt64, _ presence: FieldPresence) throws(ApusError) {
        try exchange(number, &value, { Self.word($0) }, Self.unsigned)
    }

    mutating func field(_ number: Int, _ name: String, _ value: inout Double, _ presence: FieldPresence) throws(ApusError) {
        try exchange(number, &value, { Self.word($0.bitPattern) }, { bytes throws(ApusError) in Double(bitPattern: try Self.unsigned(bytes)) })
    }

    mutating func field(_ number: Int, _ name: String, _ value: inout String, _ presence: FieldPresence) throws(ApusError) {
        try exchange(number, &value, { Array($0.utf8) }, { String(decoding: $0, as: UTF8.self) })
    }

    mutating func field(_ number: Int, _ name: String, _ value: inout [UInt8], _ presence: FieldPresence) throws(ApusError) {
        try exchange(number, &value, { $0 }, { $0 })
    }

    mutating func field(_ number: Int, _ name: String, _ value: inout [String], _ presence: FieldPresence) throws(ApusError) {
        try exchange(number, &value, { Self.list($0) }, Self.strings)
    }

    mutating func field(_ number: Int, _ name: String, _ value: inout [String: String], _ presence: FieldPresence) throws(ApusError) {
        try exchange(
            number, &value, { Self.list($0.sorted { $0.key < $1.key }.flatMap { [$0.key, $0.value] }) },
            { bytes throws(ApusError) in
                let words = try Self.strings(bytes)
                let pairs = stride(from: 0, to: words.count - words.count % 2, by: 2).map { (words[$0], words[$0 + 1]) }
                return Dictionary(pairs) { _, last in last }
            })
    }

    mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value, _ presence: FieldPresence) throws(ApusError) {
        try exchange(
            number, &value, { value throws(ApusError) in try Self.bytes(value) }, { bytes throws(ApusError) in try Self.value(Value.self, bytes) })
    }

    mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value?, _ presence: FieldPresence) throws(ApusError) {
        try exchange(
            number, &value,
            { value throws(ApusError) in
                guard let value else { return nil }
                return try Self.bytes(value)
            },
            { bytes throws(ApusError) in try Self.value(Value.self, bytes) })
    }

    mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [Value], _ presence: FieldPresence) throws(ApusError) {
        try exchange(
            number, &value,
            { values throws(ApusError) in
                try values.map { value throws(ApusError) in Self.framed(0, try Self.bytes(value)) }.flatMap { $0 }
            },
            { bytes throws(ApusError) in
                try Self.frames(bytes).map { frame throws(ApusError) in try Self.value(Value.self, frame.payload) }
            })
    }

    mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [String: Value], _ presence: FieldPresence) throws(ApusError) {
        var keys = value.keys.sorted()
        var values = keys.compactMap { value[$0] }
        try field(number * 2 + 1_000_000, name, &keys, presence)
        try field(number * 2 + 1_000_001, name, &values, presence)
        if isDecoding { value = Dictionary(zip(keys, values)) { _, last in last } }
    }

    mutating func field(_ number: Int, _ name: String, _ value: inout Bool?, _ presence: FieldPresence) throws(ApusError) {
        try exchange(number, &value, { $0.map { $0 ? [1] : [0] } }, { $0 == [1] })
    }

    mutating func field(_ number: Int, _ name: String, _ value: inout Int64?, _ presence: FieldPresence) throws(ApusError) {
        try exchange(number, &value, { $0.map { Self.word(UInt64(bitPattern: $0)) } }, Self.signed)
    }

    mutating func field(_ number: Int, _ name: String, _ value: inout UInt64?, _ presence: FieldPresence) throws(ApusError) {
        try exchange(number, &value, { $0.map { Self.word($0) } }, Self.unsigned)
    }

    mutating func field(_ number: Int, _ name: String, _ value: inout [String]?, _ presence: FieldPresence) throws(ApusError) {
        try exchange(number, &value, { $0.map { Self.list($0) } }, Self.strings)
    }

    // MARK: Bytes

    private static func word(_ value: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }

    private static func unsigned(_ bytes: [UInt8]) throws(ApusError) -> UInt64 {
        guard bytes.count == 8 else { throw damaged }
        return bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func signed(_ bytes: [UInt8]) throws(ApusError) -> Int64 { Int64(bitPattern: try unsigned(bytes)) }

    private static func list(_ texts: [String]) -> [UInt8] { texts.flatMap { framed(0, Array($0.utf8)) } }

    private static func strings(_ bytes: [UInt8]) throws(ApusError) -> [String] { try frames(bytes).map { String(decoding: $0.payload, as: UTF8.self) } }

    /// A number, a length, the bytes.
    private static func framed(_ number: UInt64, _ payload: [UInt8]) -> [UInt8] { word(number) + word(UInt64(payload.count)) + payload }

    private static func frames(_ bytes: [UInt8]) throws(ApusError) -> [(number: UInt64, payload: [UInt8])] {
        var frames: [(UInt64, [UInt8])] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            guard rest.count >= 16 else { throw damaged }
            let number = try unsigned(Array(rest.prefix(8)))
            let length = try unsigned(Array(rest.dropFirst(8).prefix(8)))
            rest = rest.dropFirst(16)
            guard length <= UInt64(rest.count) else { throw damaged }
            frames.append((number, Array(rest.prefix(Int(length)))))
            rest = rest.dropFirst(Int(length))
        }
        return frames
    }

    private static var damaged: ApusError { ApusError(.corrupt, "the bytes are not of such a value") }
}
