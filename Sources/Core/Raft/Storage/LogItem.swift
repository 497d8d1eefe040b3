import PluginAPI

/// What records of a segment hold, one or many in each.
enum LogItem: Hashable {
    /// The first of every segment: what held when it was begun, so that segments before it may go.
    /// `bootstrap` is the first membership of all, in the first segment only.
    case start(HardState, last: LogPosition, bootstrap: Membership?)
    case hardState(HardState)
    case entry(LogEntry)
    /// The log was replaced by a leader's snapshot.
    case reset(LogPosition)
    /// The engine ended cleanly.
    case close

    func encode(into writer: inout ByteWriter) {
        switch self {
        case .start(let state, let last, let bootstrap):
            writer.append(UInt8(1))
            Self.encode(state, &writer)
            writer.append(last.index)
            writer.append(last.term)
            let membership = bootstrap?.encoded() ?? []
            writer.append(UInt32(clamping: membership.count))
            writer.append(membership)
        case .hardState(let state):
            writer.append(UInt8(2))
            Self.encode(state, &writer)
        case .entry(let entry):
            writer.append(UInt8(3))
            writer.append(entry.index)
            writer.append(entry.term)
            writer.append(entry.kind.rawValue)
            writer.append(UInt32(clamping: entry.payload.count))
            writer.append(entry.payload)
        case .reset(let position):
            writer.append(UInt8(4))
            writer.append(position.index)
            writer.append(position.term)
        case .close:
            writer.append(UInt8(5))
        }
    }

    private static func encode(_ state: HardState, _ writer: inout ByteWriter) {
        writer.append(state.term)
        writer.append(state.vote?.number ?? 0)
    }

    /// All items of a record; `nil` when it is not made of items.
    static func decode(_ bytes: [UInt8]) -> [LogItem]? {
        var reader = ByteReader(bytes)
        var items: [LogItem] = []
        while !reader.isAtEnd {
            guard let item = decodeOne(&reader) else { return nil }
            items.append(item)
        }
        return items
    }

    private static func decodeOne(_ reader: inout ByteReader) -> LogItem? {
        switch reader.readUInt8() {
        case 1:
            guard let state = decodeState(&reader), let last = decodePosition(&reader), let count = reader.readUInt32(),
                let bytes = reader.readBytes(Int(count))
            else { return nil }
            guard !bytes.isEmpty else { return .start(state, last: last, bootstrap: nil) }
            guard let membership = Membership(decoding: bytes) else { return nil }
            return .start(state, last: last, bootstrap: membership)
        case 2:
            return decodeState(&reader).map { .hardState($0) }
        case 3:
            guard let position = decodePosition(&reader), let number = reader.readUInt8(), let kind = LogEntry.Kind(rawValue: number),
                let count = reader.readUInt32(), let payload = reader.readBytes(Int(count))
            else { return nil }
            return .entry(LogEntry(index: position.index, term: position.term, kind: kind, payload: payload))
        case 4:
            return decodePosition(&reader).map { .reset($0) }
        case 5:
            return .close
        default:
            return nil
        }
    }

    private static func decodeState(_ reader: inout ByteReader) -> HardState? {
        guard let term = reader.readUInt64(), let vote = reader.readUInt64() else { return nil }
        return HardState(term: term, vote: vote == 0 ? nil : MemberID(vote))
    }

    private static func decodePosition(_ reader: inout ByteReader) -> LogPosition? {
        guard let index = reader.readUInt64(), let term = reader.readUInt64() else { return nil }
        return LogPosition(index: index, term: term)
    }
}
