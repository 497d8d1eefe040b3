import Coding
import GRPCCore

/// Metadata as HTTP/2 header fields, and back (gRPC over HTTP2, "Requests" and "Custom-Metadata").
enum MetadataCoding {
    /// Fields that the transport writes and reads itself.
    static func isReserved(_ name: String) -> Bool {
        switch name {
        case "content-type", "te", "grpc-encoding", "grpc-accept-encoding", "grpc-status", "grpc-message", "connection", "keep-alive",
            "proxy-connection", "transfer-encoding", "upgrade", "host", "content-length":
            return true
        default: return name.hasPrefix(":")
        }
    }

    /// Adds what can stand in a header; the first key that cannot, or `nil`.
    static func add(_ metadata: Metadata, to block: inout HeaderBlock) -> String? {
        var refused: String?
        for (key, value) in metadata {
            let name = key.lowercased()
            guard !isReserved(name) else { continue }
            let text: String
            switch value {
            case .string(let string): text = string
            case .binary(let bytes): text = unpadded(Base64.encode(bytes))
            }
            guard isName(name), isValue(text) else {
                refused = refused ?? key
                continue
            }
            block.add(name: name.utf8, text)
        }
        return refused
    }

    /// Adds a received field. A value of a `-bin` key is Base64, several may stand in one field, with commas between them.
    /// - Returns: `false` for a `-bin` value that is not Base64.
    static func add(name: String, value: String, to metadata: inout Metadata) -> Bool {
        guard name.hasSuffix("-bin") else {
            metadata.addString(value, forKey: name)
            return true
        }
        for part in value.split(separator: ",", omittingEmptySubsequences: false) {
            let text = part.drop { $0 == " " }
            guard let bytes = Base64.decode(text) else { return false }
            metadata.addBinary(bytes, forKey: name)
        }
        return true
    }

    private static func unpadded(_ text: String) -> String {
        guard text.utf8.last == UInt8(ascii: "=") else { return text }
        var text = text
        while text.utf8.last == UInt8(ascii: "=") { text.removeLast() }
        return text
    }

    private static func isName(_ name: String) -> Bool {
        !name.isEmpty
            && name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"),
                    UInt8(ascii: "."):
                    true
                default: false
                }
            }
    }

    private static func isValue(_ value: String) -> Bool { value.utf8.allSatisfy { $0 >= 0x20 && $0 <= 0x7e } }

    // MARK: grpc-message

    /// Percent-encoding of all but printable ASCII, and of the percent sign.
    static func encodeMessage(_ message: String) -> String {
        guard !isValue(message) || message.utf8.contains(UInt8(ascii: "%")) else { return message }
        let digits = Array("0123456789ABCDEF".utf8)
        var output: [UInt8] = []
        for byte in message.utf8 {
            if byte >= 0x20, byte <= 0x7e, byte != UInt8(ascii: "%") {
                output.append(byte)
            } else {
                output += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// Never fails: what is not an escape stays as it is, as the specification asks.
    static func decodeMessage(_ text: String) -> String {
        guard text.utf8.contains(UInt8(ascii: "%")) else { return text }
        func digit(_ byte: UInt8) -> UInt8? {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - 48
            case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - 87
            case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - 55
            default: nil
            }
        }
        let bytes = Array(text.utf8)
        var output: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count, let high = digit(bytes[index + 1]), let low = digit(bytes[index + 2]) {
                output.append(high << 4 | low)
                index += 3
            } else {
                output.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    // MARK: grpc-timeout

    /// Whether a timeout is worth arming: at most eight digits and a unit, and less than a year. GRPCCore ignores what it cannot read.
    static func isUsefulTimeout(_ text: String) -> Bool {
        guard let unit = text.utf8.last, let amount = Int64(text.dropLast()), amount >= 0, amount <= 99_999_999 else { return false }
        switch unit {
        case UInt8(ascii: "H"): return amount < 8_760
        case UInt8(ascii: "M"): return amount < 525_600
        case UInt8(ascii: "S"): return amount < 31_536_000
        case UInt8(ascii: "m"), UInt8(ascii: "u"), UInt8(ascii: "n"): return true
        default: return false
        }
    }
}
