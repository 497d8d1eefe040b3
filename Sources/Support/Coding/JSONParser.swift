public import PluginAPI

extension JSONValue {
    /// Arrays and objects inside each other.
    public static let maximumDepth = 128

    /// Reads one JSON text, strictly: RFC 8259, UTF-8, nothing after the value, at most 128 levels, no key twice.
    /// - Throws: `invalidArgument` with line and column.
    public static func parse(_ bytes: some Collection<UInt8>) throws(ApusError) -> JSONValue {
        var parser = JSONParser(bytes: Array(bytes))
        return try parser.parseText()
    }

    /// Reads one JSON text.
    public static func parse(_ text: String) throws(ApusError) -> JSONValue { try parse(text.utf8) }
}

struct JSONParser {
    private let bytes: [UInt8]
    private var position = 0
    private var depth = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func parseText() throws(ApusError) -> JSONValue {
        skipSpace()
        let value = try parseValue()
        skipSpace()
        guard position == bytes.count else { throw failure("text after the JSON value") }
        return value
    }

    private func failure(_ problem: String) -> ApusError {
        let before = bytes[..<min(position, bytes.count)]
        let line = before.count { $0 == UInt8(ascii: "\n") } + 1
        let column = before.count - (before.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0) + 1
        return ApusError(.invalidArgument, "invalid JSON at line \(line), column \(column): \(problem)")
    }

    private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while let byte = current, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { position += 1 }
    }

    private mutating func parseValue() throws(ApusError) -> JSONValue {
        guard let byte = current else { throw failure("the text ends where a value is expected") }
        switch byte {
        case UInt8(ascii: "{"): return try nested { parser throws(ApusError) in try parser.parseObject() }
        case UInt8(ascii: "["): return try nested { parser throws(ApusError) in try parser.parseArray() }
        case UInt8(ascii: "\""): return .string(try parseString())
        case UInt8(ascii: "t"): return try parseWord("true", .bool(true))
        case UInt8(ascii: "f"): return try parseWord("false", .bool(false))
        case UInt8(ascii: "n"): return try parseWord("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try parseNumber()
        default: throw failure("a value is expected")
        }
    }

    private mutating func nested(_ body: (inout JSONParser) throws(ApusError) -> JSONValue) throws(ApusError) -> JSONValue {
        guard depth < JSONValue.maximumDepth else { throw failure("more than \(JSONValue.maximumDepth) levels") }
        depth += 1
        let value = try body(&self)
        depth -= 1
        return value
    }

    private mutating func parseWord(_ word: StaticString, _ value: JSONValue) throws(ApusError) -> JSONValue {
        let matches = word.withUTF8Buffer { bytes[position...].starts(with: $0) }
        guard matches else { throw failure("a value is expected") }
        position += word.utf8CodeUnitCount
        return value
    }

    private mutating func parseObject() throws(ApusError) -> JSONValue {
        var object = JSONObject()
        position += 1
        skipSpace()
        if current == UInt8(ascii: "}") {
            position += 1
            return .object(object)
        }
        while true {
            guard current == UInt8(ascii: "\"") else { throw failure("a key in quotes is expected") }
            let start = position
            let key = try parseString()
            skipSpace()
            guard current == UInt8(ascii: ":") else { throw failure("\":\" is expected") }
            position += 1
            skipSpace()
            let value = try parseValue()
            guard object[key] == nil else {
                position = start
                throw failure("the key \"\(key)\" is there twice")
            }
            object[key] = value
            skipSpace()
            if current == UInt8(ascii: ",") {
                position += 1
                skipSpace()
            } else if current == UInt8(ascii: "}") {
                position += 1
                return .object(object)
            } else {
                throw failure(current == nil ? "the text ends inside an object" : "\",\" or \"}\" is expected")
            }
        }
    }

    private mutating func parseArray() throws(ApusError) -> JSONValue {
        var array: [JSONValue] = []
        position += 1
        skipSpace()
        if current == UInt8(ascii: "]") {
            position += 1
            return .array(array)
        }
        while true {
            array.append(try parseValue())
            skipSpace()
            if current == UInt8(ascii: ",") {
                position += 1
                skipSpace()
            } else if current == UInt8(ascii: "]") {
                position += 1
                return .array(array)
            } else {
                throw failure(current == nil ? "the text ends inside an array" : "\",\" or \"]\" is expected")
            }
        }
    }

    private mutating func parseNumber() throws(ApusError) -> JSONValue {
        let start = position
        if current == UInt8(ascii: "-") { position += 1 }
        func isDigit(_ byte: UInt8?) -> Bool { byte.map { $0 >= 48 && $0 <= 57 } ?? false }
        guard isDigit(current) else { throw failure("a digit is expected") }
        if current == UInt8(ascii: "0") {
            position += 1
            guard !isDigit(current) else { throw failure("a number has no leading zero") }
        } else {
            while isDigit(current) { position += 1 }
        }
        var isWhole = true
        if current == UInt8(ascii: ".") {
            isWhole = false
            position += 1
            guard isDigit(current) else { throw failure("a digit is expected") }
            while isDigit(current) { position += 1 }
        }
        if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
            isWhole = false
            position += 1
            if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { position += 1 }
            guard isDigit(current) else { throw failure("a digit is expected") }
            while isDigit(current) { position += 1 }
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isWhole, let integer = Int64(text) { return .integer(integer) }
        if isWhole, let integer = UInt64(text) { return .unsigned(integer) }
        guard let number = Double(text), number.isFinite else {
            position = start
            throw failure("the number is out of range")
        }
        // One form for one number: what is whole is an integer, however it is written.
        return Int64(exactly: number).map { .integer($0) } ?? .number(number)
    }

    private mutating func parseString() throws(ApusError) -> String {
        position += 1
        let start = position
        while let byte = current, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { position += 1 }
        if current == UInt8(ascii: "\"") {
            defer { position += 1 }
            return try validated(bytes[start..<position], from: start)
        }
        var scalars = Array(bytes[start..<position])
        while let byte = current {
            switch byte {
            case UInt8(ascii: "\""):
                let text = try validated(scalars[...], from: start)
                position += 1
                return text
            case UInt8(ascii: "\\"):
                position += 1
                try parseEscape(into: &scalars)
            case 0..<0x20:
                throw failure("a control character in a string")
            default:
                scalars.append(byte)
                position += 1
            }
        }
        throw failure("the text ends inside a string")
    }

    private mutating func validated(_ bytes: ArraySlice<UInt8>, from start: Int) throws(ApusError) -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            position = start
            throw failure("the string is not UTF-8")
        }
        return text
    }

    private mutating func parseEscape(into output: inout [UInt8]) throws(ApusError) {
        guard let byte = current else { throw failure("the text ends inside a string") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): output.append(byte)
        case UInt8(ascii: "b"): output.append(0x08)
        case UInt8(ascii: "f"): output.append(0x0c)
        case UInt8(ascii: "n"): output.append(0x0a)
        case UInt8(ascii: "r"): output.append(0x0d)
        case UInt8(ascii: "t"): output.append(0x09)
        case UInt8(ascii: "u"):
            var code = UInt32(try parseHexadecimal())
            if (0xd800..<0xdc00).contains(code), bytes[position...].starts(with: [UInt8(ascii: "\\"), UInt8(ascii: "u")]) {
                position += 2
                let low = UInt32(try parseHexadecimal())
                guard (0xdc00..<0xe000).contains(low) else { throw failure("half of a surrogate pair") }
                code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw failure("half of a surrogate pair") }
            output.append(contentsOf: String(Character(scalar)).utf8)
        default:
            position -= 1
            throw failure("an unknown escape")
        }
    }

    private mutating func parseHexadecimal() throws(ApusError) -> UInt16 {
        guard position + 4 <= bytes.count else { throw failure("the text ends inside a string") }
        var code: UInt16 = 0
        for byte in bytes[position..<position + 4] {
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
            default: throw failure("four hexadecimal digits are expected")
            }
            code = code << 4 | UInt16(digit)
        }
        position += 4
        return code
    }
}
