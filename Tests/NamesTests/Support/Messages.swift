import PluginAPI

@testable import Names

/// A message as clients and upstream servers see it, read whole.
struct Message {
    var header: MessageHeader
    var questions: [Question] = []
    var answers: [ResourceRecord] = []
    var additionals: [ResourceRecord] = []

    init(_ bytes: [UInt8]) throws(MalformedMessage) {
        var reader = MessageReader(bytes)
        header = try MessageHeader(&reader)
        for _ in 0..<header.questions { questions.append(try reader.question()) }
        for _ in 0..<header.answers { answers.append(try reader.record()) }
        for _ in 0..<header.authorities { _ = try reader.record() }
        for _ in 0..<header.additionals { additionals.append(try reader.record()) }
        guard reader.isAtEnd else { throw MalformedMessage() }
    }

    var addresses: Set<IPAddress> { Set(answers.compactMap { IPAddress(bytes: $0.data) }) }
    func hasFlag(_ flag: UInt16) -> Bool { header.flags & flag != 0 }

    /// The bytes of a query.
    static func query(_ name: String, _ type: UInt16 = RecordType.address, id: UInt16 = 7, datagramSize: UInt16? = nil, extraFlags: UInt16 = 0) -> [UInt8] {
        var bytes = words([id, MessageHeader.Flag.recursionDesired | extraFlags, 1, 0, 0, datagramSize == nil ? 0 : 1])
        bytes += (DomainName(name)?.wire ?? [0]) + words([type, internetClass])
        if let datagramSize { bytes += [0] + words([RecordType.extensions, datagramSize, 0, 0, 0]) }
        return bytes
    }

    /// An answer to the query in `bytes` with these addresses.
    static func answer(to bytes: [UInt8], code: UInt16 = 0, addresses: [IPAddress] = [], id: UInt16? = nil, extraFlags: UInt16 = 0) -> [UInt8] {
        guard case .query(let query) = Query.receive(bytes) else { return [] }
        var answer = words([id ?? query.header.id, 0x8180 | code | extraFlags, 1, UInt16(addresses.count), 0, 0])
        answer += query.question.name.wire + words([query.question.type, internetClass])
        for address in addresses {
            answer += words([0xc00c, address.isIPv4 ? RecordType.address : RecordType.address6, internetClass, 0, 60, UInt16(address.bytes.count)])
            answer += address.bytes
        }
        return answer
    }

    static func words(_ numbers: [UInt16]) -> [UInt8] { numbers.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xff)] } }
}

func query(_ bytes: [UInt8]) throws -> Query {
    guard case .query(let query) = Query.receive(bytes) else { throw ApusError(.invalidArgument, "no query") }
    return query
}

func address(_ text: String) throws -> IPAddress {
    guard let address = IPAddress(text) else { throw ApusError(.invalidArgument, text) }
    return address
}

/// SplitMix64 with a seed: a failure is repeated by it.
func seeded(_ seed: UInt64) -> SplitMix { SplitMix(seed: seed) }
