import PluginAPI

/// Writes what the name server itself answers.
enum Response {
    /// Seconds. A query over loopback costs less than any cache saves, so this only bounds for how long caches of others, which are free to exist,
    /// send someone to an address that is gone. Not 0: some caches take it for an error.
    static let lifetime: UInt32 = 1
    /// Larger datagrams are neither sent nor asked for. The loopback interface does not split it.
    static let datagramLimit = 4096
    static let streamLimit = 65535

    /// What follows the question.
    enum Content: Hashable {
        case empty
        case addresses([IPAddress])
        case pointer(DomainName)
    }

    /// A whole answer of at most `limit` bytes.
    ///
    /// - Parameters:
    ///   - isOwn: the server knows it of itself.
    ///   - isDatagram: records that have no room are said to be missing. Over TCP there is nowhere else to ask for them.
    static func make(
        _ query: Query, code: UInt16 = ResponseCode.noError, _ content: Content = .empty, isOwn: Bool, limit: Int, isDatagram: Bool
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(512)
        var flags = flags(of: query.header, code: code)
        if isOwn { flags |= MessageHeader.Flag.authoritative }
        append(MessageHeader(id: query.header.id, flags: flags), to: &bytes)
        bytes += query.question.name.wire
        append(query.question.type, to: &bytes)
        append(query.question.networkClass, to: &bytes)
        let room = limit - (query.extensions == nil ? 0 : extensionsLength)
        var count = 0
        var isWhole = true
        switch content {
        case .empty: break
        case .addresses(let addresses):
            let type = query.question.type
            for address in addresses {
                guard bytes.count + recordHeaderLength + address.bytes.count <= room, count < Int(UInt16.max) else {
                    isWhole = false
                    break
                }
                append(type, address.bytes, to: &bytes)
                count += 1
            }
        case .pointer(let name):
            isWhole = bytes.count + recordHeaderLength + name.wire.count <= room
            if isWhole {
                append(RecordType.pointer, name.wire, to: &bytes)
                count = 1
            }
        }
        if !isWhole, isDatagram { bytes[2] |= UInt8(MessageHeader.Flag.truncated >> 8) }
        bytes[5] = 1
        bytes[6] = UInt8(count >> 8)
        bytes[7] = UInt8(count & 0xff)
        if let extensions = query.extensions {
            bytes[11] = 1
            append(extensions, code: code, to: &bytes)
        }
        return bytes
    }

    /// An answer to a message whose question could not be read.
    static func refusal(_ header: MessageHeader, code: UInt16) -> [UInt8] {
        var bytes: [UInt8] = []
        append(MessageHeader(id: header.id, flags: flags(of: header, code: code)), to: &bytes)
        return bytes
    }

    /// The beginning of somebody else's answer that has no room: the client asks again over TCP.
    static func truncated(_ query: Query, code: UInt16) -> [UInt8] {
        var bytes = make(query, code: code, isOwn: false, limit: 512, isDatagram: true)
        bytes[2] |= UInt8(MessageHeader.Flag.truncated >> 8)
        return bytes
    }

    private static func flags(of header: MessageHeader, code: UInt16) -> UInt16 {
        typealias Flag = MessageHeader.Flag
        let kept = header.flags & (Flag.operation | Flag.recursionDesired | Flag.checkingDisabled)
        return Flag.response | Flag.recursionAvailable | kept | code & 0xf
    }

    private static let recordHeaderLength = 12
    private static let extensionsLength = 11

    /// A record of the question's name.
    private static func append(_ type: UInt16, _ data: [UInt8], to bytes: inout [UInt8]) {
        // The question's name is always at the same place. As it was asked it is repeated, in the same case.
        append(0xc000 | UInt16(MessageHeader.length), to: &bytes)
        append(type, to: &bytes)
        append(internetClass, to: &bytes)
        append(UInt16(lifetime >> 16), to: &bytes)
        append(UInt16(lifetime & 0xffff), to: &bytes)
        append(UInt16(data.count), to: &bytes)
        bytes += data
    }

    private static func append(_ extensions: Query.Extensions, code: UInt16, to bytes: inout [UInt8]) {
        bytes.append(0)
        append(RecordType.extensions, to: &bytes)
        append(UInt16(datagramLimit), to: &bytes)
        bytes += [UInt8(truncatingIfNeeded: code >> 4), 0, extensions.wantsSignatures ? 0x80 : 0, 0, 0, 0]
    }

    private static func append(_ header: MessageHeader, to bytes: inout [UInt8]) {
        append(header.id, to: &bytes)
        append(header.flags, to: &bytes)
        bytes += [0, 0, 0, 0, 0, 0, 0, 0]
    }

    private static func append(_ number: UInt16, to bytes: inout [UInt8]) {
        bytes.append(UInt8(number >> 8))
        bytes.append(UInt8(number & 0xff))
    }
}
