/// CRC-32C (Castagnoli; RFC 3720, appendix B.4): finds accidents, not attacks.
enum CyclicRedundancyCheck {
    // Eight tables let eight bytes be taken at a time.
    private static let tables: [UInt32] = {
        var tables = [UInt32](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            var value = UInt32(byte)
            for _ in 0..<8 { value = value & 1 == 1 ? (value >> 1) ^ 0x82f6_3b78 : value >> 1 }
            tables[byte] = value
        }
        for table in 1..<8 {
            for byte in 0..<256 {
                let previous = tables[(table - 1) * 256 + byte]
                tables[table * 256 + byte] = tables[Int(previous & 0xff)] ^ (previous >> 8)
            }
        }
        return tables
    }()

    /// The check of `bytes`, going on from that of what came before them.
    static func castagnoli(_ bytes: UnsafeRawBufferPointer, after previous: UInt32 = 0) -> UInt32 {
        tables.withUnsafeBufferPointer { tables in
            var value = ~previous
            var offset = 0
            while bytes.count - offset >= 8 {
                let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) ^ UInt64(value)
                value = tables[1792 + Int(word & 0xff)] ^ tables[1536 + Int(word >> 8 & 0xff)]
                value ^= tables[1280 + Int(word >> 16 & 0xff)] ^ tables[1024 + Int(word >> 24 & 0xff)]
                value ^= tables[768 + Int(word >> 32 & 0xff)] ^ tables[512 + Int(word >> 40 & 0xff)]
                value ^= tables[256 + Int(word >> 48 & 0xff)] ^ tables[Int(word >> 56)]
                offset += 8
            }
            while offset < bytes.count {
                value = tables[Int((value ^ UInt32(bytes[offset])) & 0xff)] ^ (value >> 8)
                offset += 1
            }
            return ~value
        }
    }

    static func castagnoli(_ bytes: [UInt8], after previous: UInt32 = 0) -> UInt32 {
        bytes.withUnsafeBytes { castagnoli($0, after: previous) }
    }
}
