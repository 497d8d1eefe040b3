/// A message that does not follow RFC 1035.
struct MalformedMessage: Error, Hashable {}

/// Reads a message from its beginning. Never past its end, and never for longer than its length allows.
struct MessageReader {
    let bytes: [UInt8]
    private(set) var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { position == bytes.count }

    mutating func byte() throws(MalformedMessage) -> UInt8 {
        guard position < bytes.count else { throw MalformedMessage() }
        defer { position += 1 }
        return bytes[position]
    }

    mutating func number16() throws(MalformedMessage) -> UInt16 {
        let high = try byte()
        return UInt16(high) << 8 | UInt16(try byte())
    }

    mutating func number32() throws(MalformedMessage) -> UInt32 {
        let high = try number16()
        return UInt32(high) << 16 | UInt32(try number16())
    }

    mutating func take(_ count: Int) throws(MalformedMessage) -> [UInt8] {
        guard count <= bytes.count - position else { throw MalformedMessage() }
        defer { position += count }
        return Array(bytes[position..<(position + count)])
    }

    /// A name, put together when it is compressed (RFC 1035, 4.1.4).
    ///
    /// A pointer must lead to before everything that was read of this name so far: it cannot lead in circles then.
    mutating func name() throws(MalformedMessage) -> DomainName {
        var wire: [UInt8] = []
        var place = position
        var earliest = position
        var end: Int?
        while true {
            guard place < bytes.count else { throw MalformedMessage() }
            let length = Int(bytes[place])
            switch length & 0xc0 {
            case 0:
                guard place + length < bytes.count, wire.count + 1 + length <= DomainName.limit else { throw MalformedMessage() }
                wire += bytes[place...(place + length)]
                place += 1 + length
                guard length > 0 else {
                    position = end ?? place
                    return DomainName(wire: wire)
                }
            case 0xc0:
                guard place + 1 < bytes.count else { throw MalformedMessage() }
                let target = (length & 0x3f) << 8 | Int(bytes[place + 1])
                guard target < earliest else { throw MalformedMessage() }
                if end == nil { end = place + 2 }
                earliest = target
                place = target
            default: throw MalformedMessage()
            }
        }
    }

    mutating func question() throws(MalformedMessage) -> Question {
        let name = try name()
        let type = try number16()
        return Question(name: name, type: type, networkClass: try number16())
    }

    mutating func record() throws(MalformedMessage) -> ResourceRecord {
        let name = try name()
        let type = try number16()
        let networkClass = try number16()
        let lifetime = try number32()
        return ResourceRecord(name: name, type: type, networkClass: networkClass, lifetime: lifetime, data: try take(Int(try number16())))
    }
}
