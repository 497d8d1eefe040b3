/// The first twelve bytes of a message (RFC 1035, 4.1.1).
struct MessageHeader: Hashable {
    static let length = 12

    var id: UInt16 = 0
    /// All bits of the second word.
    var flags: UInt16 = 0
    var questions: UInt16 = 0
    var answers: UInt16 = 0
    var authorities: UInt16 = 0
    var additionals: UInt16 = 0

    init(id: UInt16, flags: UInt16) {
        self.id = id
        self.flags = flags
    }

    init(_ reader: inout MessageReader) throws(MalformedMessage) {
        id = try reader.number16()
        flags = try reader.number16()
        questions = try reader.number16()
        answers = try reader.number16()
        authorities = try reader.number16()
        additionals = try reader.number16()
    }

    var isResponse: Bool { flags & Flag.response != 0 }
    /// 0 is the plain query.
    var operation: UInt16 { flags >> 11 & 0xf }
    /// The lower four bits; EDNS has the upper ones.
    var code: UInt16 { flags & 0xf }
    var isTruncated: Bool { flags & Flag.truncated != 0 }

    /// Bits of the second word.
    enum Flag {
        static let response: UInt16 = 0x8000
        static let operation: UInt16 = 0x7800
        static let authoritative: UInt16 = 0x0400
        static let truncated: UInt16 = 0x0200
        static let recursionDesired: UInt16 = 0x0100
        static let recursionAvailable: UInt16 = 0x0080
        static let checkingDisabled: UInt16 = 0x0010
    }
}

/// How a query ended (RFC 1035, 4.1.1 and RFC 6891, 9).
enum ResponseCode {
    static let noError: UInt16 = 0
    static let formatError: UInt16 = 1
    static let serverFailure: UInt16 = 2
    static let nameError: UInt16 = 3
    static let notImplemented: UInt16 = 4
    static let refused: UInt16 = 5
    static let badVersion: UInt16 = 16
}

/// Types of records that something here depends on.
enum RecordType {
    static let address: UInt16 = 1
    static let pointer: UInt16 = 12
    static let address6: UInt16 = 28
    static let extensions: UInt16 = 41
    static let incrementalTransfer: UInt16 = 251
    static let transfer: UInt16 = 252
    static let any: UInt16 = 255
}

/// The Internet's class, the only one with known names.
let internetClass: UInt16 = 1

struct Question: Hashable {
    var name: DomainName
    var type: UInt16
    var networkClass: UInt16

    /// The same question, but for the case of letters.
    func matches(_ other: Question) -> Bool { type == other.type && networkClass == other.networkClass && name.matches(other.name) }
}

struct ResourceRecord: Hashable {
    var name: DomainName
    var type: UInt16
    var networkClass: UInt16
    /// In seconds; EDNS has bits of its own there.
    var lifetime: UInt32
    var data: [UInt8]
}
