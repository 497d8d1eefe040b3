extension JSONValue {
    /// JSON text, on one line, or with `pretty` indented by two spaces.
    public func text(pretty: Bool = false) -> String { String(decoding: bytes(pretty: pretty), as: UTF8.self) }

    /// JSON text in UTF-8.
    public func bytes(pretty: Bool = false) -> [UInt8] {
        var output: [UInt8] = []
        write(to: &output, level: pretty ? 0 : nil)
        return output
    }

    private func write(to output: inout [UInt8], level: Int?) {
        switch self {
        case .null: output.append(contentsOf: "null".utf8)
        case .bool(let value): output.append(contentsOf: (value ? "true" : "false").utf8)
        case .integer(let value): output.append(contentsOf: String(value).utf8)
        case .unsigned(let value): output.append(contentsOf: String(value).utf8)
        case .number(let value):
            // JSON has no infinity; a whole number is written without a fraction, as JavaScript and Go do.
            let text = value.isFinite ? (Int64(exactly: value).map { String($0) } ?? "\(value)") : "null"
            output.append(contentsOf: text.utf8)
        case .string(let value): Self.write(value, to: &output)
        case .array(let elements):
            Self.list(elements, open: "[", close: "]", level: level, to: &output) { $0.write(to: &$1, level: $2) }
        case .object(let object):
            Self.list(Array(object), open: "{", close: "}", level: level, to: &output) { member, output, level in
                Self.write(member.key, to: &output)
                output.append(contentsOf: (level == nil ? ":" : ": ").utf8)
                member.value.write(to: &output, level: level)
            }
        }
    }

    private static func list<Element>(
        _ elements: [Element], open: Unicode.Scalar, close: Unicode.Scalar, level: Int?, to output: inout [UInt8],
        write: (Element, inout [UInt8], Int?) -> Void
    ) {
        func newLine(_ level: Int?) {
            guard let level else { return }
            output.append(UInt8(ascii: "\n"))
            output.append(contentsOf: repeatElement(UInt8(ascii: " "), count: level * 2))
        }
        output.append(UInt8(ascii: open))
        let inner = level.map { $0 + 1 }
        for (index, element) in elements.enumerated() {
            if index > 0 { output.append(UInt8(ascii: ",")) }
            newLine(inner)
            write(element, &output, inner)
        }
        if !elements.isEmpty { newLine(level) }
        output.append(UInt8(ascii: close))
    }

    private static func write(_ text: String, to output: inout [UInt8]) {
        output.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): output.append(contentsOf: [UInt8(ascii: "\\"), byte])
            case 0x0a: output.append(contentsOf: "\\n".utf8)
            case 0x0d: output.append(contentsOf: "\\r".utf8)
            case 0x09: output.append(contentsOf: "\\t".utf8)
            case 0..<0x20, 0x7f:
                let digits = String(byte, radix: 16)
                output.append(contentsOf: ("\\u00" + (digits.utf8.count == 1 ? "0" : "") + digits).utf8)
            default: output.append(byte)
            }
        }
        output.append(UInt8(ascii: "\""))
    }
}
