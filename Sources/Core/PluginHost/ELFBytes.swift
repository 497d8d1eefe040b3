import PluginAPI

/// Numbers and texts of a file, each checked against its end.
struct ELFBytes: Sendable {
    private let content: [UInt8]

    init(_ content: [UInt8]) { self.content = content }

    static let truncated = ApusError(.invalidArgument, "a truncated ELF file: it refers to bytes past its end")

    /// A 64-bit offset or size as an index. No file is as large as what does not fit.
    static func index(_ value: UInt64) throws(ApusError) -> Int {
        guard value < 1 << 40 else { throw truncated }
        return Int(value)
    }

    /// - Throws: when the range is not wholly inside of the file. Neither number may exceed 2^48, so that sums do not overflow.
    func check(_ offset: Int, _ size: Int) throws(ApusError) {
        guard offset >= 0, size >= 0, offset <= content.count, size <= content.count - offset else { throw Self.truncated }
    }

    func slice(_ offset: Int, _ size: Int) throws(ApusError) -> ArraySlice<UInt8> {
        try check(offset, size)
        return content[offset..<offset + size]
    }

    func number8(_ offset: Int) throws(ApusError) -> UInt8 {
        try check(offset, 1)
        return content[offset]
    }

    func number16(_ offset: Int) throws(ApusError) -> UInt16 { try number(offset) }
    func number32(_ offset: Int) throws(ApusError) -> UInt32 { try number(offset) }
    func number64(_ offset: Int) throws(ApusError) -> UInt64 { try number(offset) }
    func offset64(_ offset: Int) throws(ApusError) -> Int { try Self.index(try number(offset)) }

    private func number<Number: FixedWidthInteger>(_ offset: Int) throws(ApusError) -> Number {
        let size = Number.bitWidth / 8
        try check(offset, size)
        return content.withUnsafeBytes { Number(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Number.self)) }
    }

    /// A text that a zero ends, in a table of texts. The limit, by default more than mangled Swift names need, keeps a table without zeros
    /// from making every name as long as the file.
    func text(at index: Int, inTable table: Int, _ size: Int, limit: Int = 16 << 10) throws(ApusError) -> String {
        guard index >= 0, index <= size else { throw Self.truncated }
        try check(table, size)
        let tail = content[table + index..<table + size]
        guard let end = tail.prefix(limit).firstIndex(of: 0) else {
            if tail.isEmpty { return "" }
            throw ApusError(.invalidArgument, "a damaged ELF file: a name without an end")
        }
        return String(decoding: content[table + index..<end], as: UTF8.self)
    }
}
