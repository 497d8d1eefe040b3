public import PluginAPI

/// The binary codec of `FieldCoded` values: the protobuf wire format, with the numbers of the fields.
///
/// 64-bit integers are varints (negative ones of ten bytes, as protobuf's `int64`), doubles are of eight bytes, everything else has a length. A map is a repeated message
/// of key 1 and value 2. An optional scalar that is present is written also when it is zero. Unknown fields are skipped, so that an
/// older engine reads what a newer one wrote.
///
/// Source: https://protobuf.dev/programming-guides/encoding/
public enum ProtobufFields {
    /// The value as a protobuf message; what is empty is left out, as proto3 has it.
    public static func encode(_ value: some FieldCoded) -> [UInt8] {
        var value = value
        var encoder = Encoder()
        // An encoder never throws; `code` only could because it serves decoders too.
        try? value.code(with: &encoder)
        return encoder.output
    }

    /// - Throws: `corrupt` when the bytes are not such a message.
    public static func decode<Value: FieldCoded>(_ type: Value.Type, from bytes: some Collection<UInt8>) throws(ApusError) -> Value {
        try decode(type, from: Array(bytes)[...], depth: 0)
    }

    fileprivate static func decode<Value: FieldCoded>(_ type: Value.Type, from bytes: ArraySlice<UInt8>, depth: Int) throws(ApusError) -> Value {
        guard depth < 64 else { throw ApusError(.corrupt, "a message is nested too deeply") }
        var decoder = Decoder(fields: try Decoder.split(bytes), depth: depth)
        var value = Value()
        try value.code(with: &decoder)
        return value
    }
}

extension ProtobufFields {
    fileprivate struct Encoder: FieldCoder {
        var output: [UInt8] = []
        var isDecoding: Bool { false }

        private mutating func varint(_ value: UInt64) {
            var value = value
            while value >= 0x80 {
                output.append(UInt8(value & 0x7f) | 0x80)
                value >>= 7
            }
            output.append(UInt8(value))
        }

        private mutating func scalar(_ number: Int, _ value: UInt64) {
            varint(UInt64(number) << 3)
            varint(value)
        }

        private mutating func block(_ number: Int, _ bytes: some Collection<UInt8>) {
            varint(UInt64(number) << 3 | 2)
            varint(UInt64(bytes.count))
            output.append(contentsOf: bytes)
        }

        private mutating func entry(_ number: Int, _ key: String, _ value: some Collection<UInt8>) {
            var entry = Encoder()
            entry.block(1, key.utf8)
            entry.block(2, value)
            block(number, entry.output)
        }

        mutating func field(_ number: Int, _ name: String, _ value: inout Bool, _ presence: FieldPresence) {
            if value { scalar(number, 1) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Int64, _ presence: FieldPresence) {
            if value != 0 { scalar(number, UInt64(bitPattern: value)) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout UInt64, _ presence: FieldPresence) {
            if value != 0 { scalar(number, value) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Double, _ presence: FieldPresence) {
            guard value != 0 else { return }
            varint(UInt64(number) << 3 | 1)
            for shift in stride(from: UInt64(0), to: 64, by: 8) { output.append(UInt8(truncatingIfNeeded: value.bitPattern >> shift)) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout String, _ presence: FieldPresence) {
            if !value.isEmpty { block(number, value.utf8) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [UInt8], _ presence: FieldPresence) {
            if !value.isEmpty { block(number, value) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [String], _ presence: FieldPresence) {
            for element in value { block(number, element.utf8) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [String: String], _ presence: FieldPresence) {
            // Sorted, so that equal values are equal bytes.
            for (key, element) in value.sorted(by: { $0.key < $1.key }) { entry(number, key, element.utf8) }
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value, _ presence: FieldPresence) {
            let bytes = ProtobufFields.encode(value)
            if !bytes.isEmpty { block(number, bytes) }
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value?, _ presence: FieldPresence) {
            if let present = value { block(number, ProtobufFields.encode(present)) }
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [Value], _ presence: FieldPresence) {
            for element in value { block(number, ProtobufFields.encode(element)) }
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [String: Value], _ presence: FieldPresence) {
            for (key, element) in value.sorted(by: { $0.key < $1.key }) { entry(number, key, ProtobufFields.encode(element)) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Bool?, _ presence: FieldPresence) {
            if let present = value { scalar(number, present ? 1 : 0) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Int64?, _ presence: FieldPresence) {
            if let present = value { scalar(number, UInt64(bitPattern: present)) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout UInt64?, _ presence: FieldPresence) {
            if let present = value { scalar(number, present) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [String]?, _ presence: FieldPresence) {
            // Protobuf has no optional list: it is a message with the list as field 1.
            guard let present = value else { return }
            var list = Encoder()
            for element in present { list.block(1, element.utf8) }
            block(number, list.output)
        }
    }

    fileprivate struct Decoder: FieldCoder {
        enum Content {
            case scalar(UInt64)
            case block(ArraySlice<UInt8>)
        }

        let fields: [Int: [Content]]
        let depth: Int
        var isDecoding: Bool { true }

        static func damaged(_ problem: String) -> ApusError { ApusError(.corrupt, "a stored message is damaged: \(problem)") }

        static func varint(_ bytes: inout ArraySlice<UInt8>) throws(ApusError) -> UInt64 {
            var value: UInt64 = 0
            for shift in stride(from: UInt64(0), to: 70, by: 7) {
                guard let byte = bytes.popFirst() else { throw damaged("it ends inside a number") }
                if shift == 63, byte > 1 { break }
                value |= UInt64(byte & 0x7f) << shift
                if byte < 0x80 { return value }
            }
            throw damaged("a number of more than 64 bits")
        }

        static func split(_ bytes: ArraySlice<UInt8>) throws(ApusError) -> [Int: [Content]] {
            var fields: [Int: [Content]] = [:]
            var rest = bytes
            while !rest.isEmpty {
                let key = try varint(&rest)
                guard let number = Int(exactly: key >> 3), number > 0 else { throw damaged("a field without a number") }
                switch key & 7 {
                case 0:
                    fields[number, default: []].append(.scalar(try varint(&rest)))
                case 1, 5:
                    let size = key & 7 == 1 ? 8 : 4
                    guard rest.count >= size else { throw damaged("it ends inside a number") }
                    var value: UInt64 = 0
                    for (index, byte) in rest.prefix(size).enumerated() { value |= UInt64(byte) << UInt64(index * 8) }
                    rest = rest.dropFirst(size)
                    fields[number, default: []].append(.scalar(value))
                case 2:
                    let length = try varint(&rest)
                    guard length <= UInt64(rest.count) else { throw damaged("it ends inside a field") }
                    fields[number, default: []].append(.block(rest.prefix(Int(length))))
                    rest = rest.dropFirst(Int(length))
                default:
                    throw damaged("an unknown kind of field")
                }
            }
            return fields
        }

        private func scalar(_ number: Int) throws(ApusError) -> UInt64? {
            guard let content = fields[number]?.last else { return nil }
            guard case .scalar(let value) = content else { throw Self.damaged("field \(number) is not a number") }
            return value
        }

        private func blocks(_ number: Int) throws(ApusError) -> [ArraySlice<UInt8>]? {
            guard let contents = fields[number] else { return nil }
            var blocks: [ArraySlice<UInt8>] = []
            for content in contents {
                guard case .block(let bytes) = content else { throw Self.damaged("field \(number) is a number") }
                blocks.append(bytes)
            }
            return blocks
        }

        private func text(_ bytes: ArraySlice<UInt8>) throws(ApusError) -> String {
            guard let text = String(validating: bytes, as: UTF8.self) else { throw Self.damaged("text that is not UTF-8") }
            return text
        }

        private func entries(_ number: Int) throws(ApusError) -> [(String, ArraySlice<UInt8>)]? {
            guard let blocks = try blocks(number) else { return nil }
            var entries: [(String, ArraySlice<UInt8>)] = []
            for block in blocks {
                let entry = Decoder(fields: try Self.split(block), depth: depth + 1)
                let key = try entry.blocks(1)?.last ?? []
                entries.append((try text(key), try entry.blocks(2)?.last ?? []))
            }
            return entries
        }

        mutating func field(_ number: Int, _ name: String, _ value: inout Bool, _ presence: FieldPresence) throws(ApusError) {
            if let scalar = try scalar(number) { value = scalar != 0 }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Int64, _ presence: FieldPresence) throws(ApusError) {
            if let scalar = try scalar(number) { value = Int64(bitPattern: scalar) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout UInt64, _ presence: FieldPresence) throws(ApusError) {
            if let scalar = try scalar(number) { value = scalar }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Double, _ presence: FieldPresence) throws(ApusError) {
            if let scalar = try scalar(number) { value = Double(bitPattern: scalar) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout String, _ presence: FieldPresence) throws(ApusError) {
            if let block = try blocks(number)?.last { value = try text(block) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [UInt8], _ presence: FieldPresence) throws(ApusError) {
            if let block = try blocks(number)?.last { value = Array(block) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [String], _ presence: FieldPresence) throws(ApusError) {
            guard let blocks = try blocks(number) else { return }
            var result: [String] = []
            for block in blocks { result.append(try text(block)) }
            value = result
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [String: String], _ presence: FieldPresence) throws(ApusError) {
            guard let entries = try entries(number) else { return }
            var result: [String: String] = [:]
            for (key, block) in entries { result[key] = try text(block) }
            value = result
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value, _ presence: FieldPresence) throws(ApusError) {
            if let block = try blocks(number)?.last { value = try ProtobufFields.decode(Value.self, from: block, depth: depth + 1) }
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout Value?, _ presence: FieldPresence) throws(ApusError) {
            if let block = try blocks(number)?.last { value = try ProtobufFields.decode(Value.self, from: block, depth: depth + 1) }
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [Value], _ presence: FieldPresence) throws(ApusError) {
            guard let blocks = try blocks(number) else { return }
            var result: [Value] = []
            for block in blocks { result.append(try ProtobufFields.decode(Value.self, from: block, depth: depth + 1)) }
            value = result
        }
        mutating func field<Value: FieldCoded>(_ number: Int, _ name: String, _ value: inout [String: Value], _ presence: FieldPresence) throws(ApusError) {
            guard let entries = try entries(number) else { return }
            var result: [String: Value] = [:]
            for (key, block) in entries { result[key] = try ProtobufFields.decode(Value.self, from: block, depth: depth + 1) }
            value = result
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Bool?, _ presence: FieldPresence) throws(ApusError) {
            if let scalar = try scalar(number) { value = scalar != 0 }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout Int64?, _ presence: FieldPresence) throws(ApusError) {
            if let scalar = try scalar(number) { value = Int64(bitPattern: scalar) }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout UInt64?, _ presence: FieldPresence) throws(ApusError) {
            if let scalar = try scalar(number) { value = scalar }
        }
        mutating func field(_ number: Int, _ name: String, _ value: inout [String]?, _ presence: FieldPresence) throws(ApusError) {
            guard let block = try blocks(number)?.last else { return }
            let list = Decoder(fields: try Self.split(block), depth: depth + 1)
            var result: [String] = []
            for element in try list.blocks(1) ?? [] { result.append(try text(element)) }
            value = result
        }
    }
}
