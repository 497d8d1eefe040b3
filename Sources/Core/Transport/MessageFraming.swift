import GRPCCore

/// The frame of a message in a gRPC stream: a byte that says whether it is compressed, four bytes of length, big endian, the message.
enum MessageFraming {
    static let prefixLength = 5

    static func prefix(length: Int) -> [UInt8] {
        let number = UInt32(truncatingIfNeeded: length)
        return [0, UInt8(number >> 24), UInt8(number >> 16 & 255), UInt8(number >> 8 & 255), UInt8(number & 255)]
    }
}

/// Takes messages out of a stream of bytes that comes in any pieces. A value.
///
/// Memory grows with what has arrived, never with what a prefix promises.
struct MessageDecoder {
    let maximumLength: Int
    private var prefix: (UInt8, UInt8, UInt8, UInt8, UInt8) = (0, 0, 0, 0, 0)
    private var prefixCount = 0
    private var length = 0
    private var message: [UInt8] = []

    init(maximumLength: Int) { self.maximumLength = maximumLength }

    /// Whether a message has begun and not ended.
    var isInsideMessage: Bool { prefixCount > 0 }

    /// Hands every message that ends in `bytes` to `body`.
    /// - Throws: `resourceExhausted` for a message above the limit, `internalError` for a compressed one, since no compression was agreed.
    mutating func decode(_ bytes: UnsafeRawBufferPointer, _ body: ([UInt8]) -> Void) throws(RPCError) {
        var position = 0
        while true {
            if prefixCount < MessageFraming.prefixLength {
                guard position < bytes.count else { return }
                withUnsafeMutableBytes(of: &prefix) { $0[prefixCount] = bytes[position] }
                prefixCount += 1
                position += 1
                if prefixCount == MessageFraming.prefixLength { try begin() }
                continue
            }
            let count = min(length - message.count, bytes.count - position)
            if count > 0 {
                message.append(contentsOf: UnsafeRawBufferPointer(rebasing: bytes[position..<position + count]))
                position += count
            }
            guard message.count == length else { return }
            prefixCount = 0
            let complete = message
            message = []
            body(complete)
        }
    }

    private mutating func begin() throws(RPCError) {
        guard prefix.0 == 0 else {
            throw RPCError(code: .internalError, message: "a message is marked as compressed, and no compression was agreed")
        }
        length = Int(prefix.1) << 24 | Int(prefix.2) << 16 | Int(prefix.3) << 8 | Int(prefix.4)
        guard length <= maximumLength else {
            throw RPCError(code: .resourceExhausted, message: "a message of \(length) bytes is larger than the limit of \(maximumLength)")
        }
        message.reserveCapacity(min(length, 16 << 10))
    }
}
