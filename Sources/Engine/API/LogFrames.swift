/// Cuts a framed log at the boundaries of frames, so that what comes from several tasks can be mixed: stream, three zero bytes, the length as
/// four bytes with the highest first, and so many bytes.
struct LogFrames {
    private var rest: [UInt8] = []

    static var headerSize: Int { 8 }

    /// A frame.
    static func frame(_ stream: UInt8, _ bytes: some Collection<UInt8>) -> [UInt8] {
        let length = UInt32(truncatingIfNeeded: bytes.count)
        return [stream, 0, 0, 0] + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) } + bytes
    }

    /// The frames that are whole with these bytes; what is left waits for the next.
    mutating func whole(_ bytes: [UInt8]) -> [UInt8] {
        rest += bytes
        var end = 0
        while rest.count - end >= Self.headerSize {
            let length = rest[(end + 4)..<(end + 8)].reduce(0) { $0 << 8 | Int($1) }
            guard rest.count - end - Self.headerSize >= length else { break }
            end += Self.headerSize + length
        }
        defer { rest.removeFirst(end) }
        return Array(rest[..<end])
    }
}
