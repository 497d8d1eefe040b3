/// Netlink attributes as bytes: a length and a type of 16 bits each, in the machine's order, then the value, padded to 4 bytes.
enum Attributes {
    private static let headerSize = 4
    /// The upper two bits of a type are flags.
    private static let typeMask: UInt16 = 0x3fff

    /// - Parameter value: at most 65,531 bytes, what fits into one attribute; more is cut.
    static func put(_ type: UInt16, _ value: some Collection<UInt8>, into bytes: inout [UInt8]) {
        let value = value.prefix(Int(UInt16.max) - headerSize)
        append(UInt16(headerSize + value.count), to: &bytes)
        append(type, to: &bytes)
        bytes += value
        bytes += [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
    }

    static func put(_ type: UInt16, _ value: some FixedWidthInteger, into bytes: inout [UInt8]) {
        var encoded: [UInt8] = []
        append(value, to: &encoded)
        put(type, encoded, into: &bytes)
    }

    /// Ends with a zero byte, as the kernel's strings do.
    static func put(_ type: UInt16, _ value: String, into bytes: inout [UInt8]) { put(type, Array(value.utf8) + [0], into: &bytes) }

    private static func append(_ value: some FixedWidthInteger, to bytes: inout [UInt8]) { withUnsafeBytes(of: value) { bytes += $0 } }

    /// The values by type, of two of the same type the last. Ends where the bytes make no sense any more.
    static func parse(_ bytes: some Collection<UInt8>) -> [UInt16: [UInt8]] {
        let bytes = Array(bytes)
        var found: [UInt16: [UInt8]] = [:]
        var position = 0
        while position + headerSize <= bytes.count {
            guard let length = integer(bytes[position..<position + 2], as: UInt16.self).map(Int.init), length >= headerSize,
                position + length <= bytes.count, let type = integer(bytes[position + 2..<position + 4], as: UInt16.self)
            else { break }
            found[type & typeMask] = Array(bytes[position + headerSize..<position + length])
            position += (length + 3) / 4 * 4
        }
        return found
    }

    /// In the machine's order; `nil` when there are too few bytes.
    static func integer<Value: FixedWidthInteger>(_ bytes: some Collection<UInt8>, as type: Value.Type) -> Value? {
        guard bytes.count >= MemoryLayout<Value>.size else { return nil }
        var value: Value = 0
        withUnsafeMutableBytes(of: &value) { for (index, byte) in bytes.prefix($0.count).enumerated() { $0[index] = byte } }
        return value
    }
}
