/// A query that was received and understood.
struct Query: Hashable {
    /// Bytes; a longer one has no sensible question.
    static let lengthLimit = 4096

    var header: MessageHeader
    var question: Question
    /// What the other side says of itself, if it knows EDNS.
    var extensions: Extensions?

    /// The parts of RFC 6891 that matter here.
    struct Extensions: Hashable {
        /// The largest answer that can be received over UDP.
        var datagramSize: UInt16
        var version: UInt8
        var wantsSignatures: Bool
    }

    /// What to make of bytes that came.
    enum Reception: Hashable {
        case query(Query)
        /// It is answered by nothing but this code.
        case refused(MessageHeader, UInt16)
        /// It is not answered.
        case ignored
    }

    static func receive(_ bytes: [UInt8]) -> Reception {
        var reader = MessageReader(bytes)
        let header: MessageHeader
        do throws(MalformedMessage) { header = try MessageHeader(&reader) } catch { return .ignored }
        // To answer an answer would start an exchange without an end.
        guard !header.isResponse else { return .ignored }
        guard bytes.count <= lengthLimit else { return .refused(header, ResponseCode.formatError) }
        guard header.operation == 0 else { return .refused(header, ResponseCode.notImplemented) }
        do throws(MalformedMessage) { return .query(try Query(header, &reader)) } catch { return .refused(header, ResponseCode.formatError) }
    }

    private init(_ header: MessageHeader, _ reader: inout MessageReader) throws(MalformedMessage) {
        guard header.questions == 1 else { throw MalformedMessage() }
        self.header = header
        question = try reader.question()
        for _ in 0..<(Int(header.answers) + Int(header.authorities)) { _ = try reader.record() }
        for _ in 0..<header.additionals {
            let record = try reader.record()
            guard record.type == RecordType.extensions else { continue }
            guard extensions == nil, record.name.wire == [0] else { throw MalformedMessage() }
            extensions = Extensions(
                datagramSize: record.networkClass, version: UInt8(truncatingIfNeeded: record.lifetime >> 16),
                wantsSignatures: record.lifetime & 0x8000 != 0)
        }
        guard reader.isAtEnd else { throw MalformedMessage() }
    }

    /// The most that an answer over UDP may have: 512 bytes unless more was offered, and never more than `Response.datagramLimit`.
    var datagramLimit: Int { max(512, min(Int(extensions?.datagramSize ?? 512), Response.datagramLimit)) }
}
