import Coding
import PluginAPI

/// Cuts a stream of JSON texts, one after the other with or without line ends between, into its values.
struct JSONStreamReader {
    private var buffer: [UInt8] = []
    private var depth = 0
    private var isInString = false
    private var isEscaped = false

    /// The values that are whole now.
    mutating func take(_ chunk: [UInt8]) throws(ApusError) -> [JSONValue] {
        var values: [JSONValue] = []
        for byte in chunk {
            if depth == 0, byte != UInt8(ascii: "{"), byte != UInt8(ascii: "[") {
                guard byte == 0x0a || byte == 0x0d || byte == 0x20 || byte == 0x09 else {
                    throw ApusError(.corrupt, "the engine's stream has something between its JSON values")
                }
                continue
            }
            buffer.append(byte)
            if isInString {
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == UInt8(ascii: "\"") {
                    isInString = false
                }
                continue
            }
            switch byte {
            case UInt8(ascii: "\""): isInString = true
            case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                depth -= 1
                if depth == 0 {
                    values.append(try JSONValue.parse(buffer))
                    buffer.removeAll(keepingCapacity: true)
                }
            default: break
            }
        }
        return values
    }

    /// Whether the stream ended within a value.
    var isCutShort: Bool { depth > 0 }
}
