import PluginAPI

/// The log on disk: segments `<number>.log` in one folder, each a sealed file whose records hold `LogItem`s.
///
/// One record is one group commit and is durable before the next is begun. Every opening begins a new segment. Used from one thread at a time.
final class WriteAheadLog {
    struct Segment {
        var path: String
        var number: UInt64
        /// The last entry before it.
        var previousIndex: UInt64
    }

    private let directory: String
    private let dataKey: [UInt8]
    private let segmentSize: Int
    private let files: any StorageFiles
    private(set) var segments: [Segment]
    private var writer: SealedFileWriter
    private var hardState: HardState
    private(set) var last: LogPosition
    /// Bytes written since the log was opened or a snapshot was taken.
    private(set) var bytesSinceSnapshot = 0

    /// Contents of one record at most; more becomes several records, each durable before the next.
    static let recordLimit = 4 << 20

    /// Goes on after what was replayed, in a new segment.
    init(
        directory: String, dataKey: [UInt8], segmentSize: Int, files: any StorageFiles, segments: [Segment], hardState: HardState, last: LogPosition,
        bootstrap: Membership?
    ) throws(ApusError) {
        self.directory = directory
        self.dataKey = dataKey
        self.segmentSize = segmentSize
        self.files = files
        self.segments = segments
        self.hardState = hardState
        self.last = last
        let segment = Segment(
            path: Self.path(directory, (segments.last?.number ?? 0) + 1), number: (segments.last?.number ?? 0) + 1, previousIndex: last.index)
        writer = try Self.begin(segment, directory: directory, dataKey: dataKey, files: files, .start(hardState, last: last, bootstrap: bootstrap))
        self.segments.append(segment)
    }

    static func path(_ directory: String, _ number: UInt64) -> String {
        let digits = String(number, radix: 16)
        return "\(directory)/\(String(repeating: "0", count: 16 - digits.count))\(digits).log"
    }

    /// The number of a segment's file name, `nil` for another file.
    static func number(of name: String) -> UInt64? {
        guard name.hasSuffix(".log"), name.utf8.count == 20, !name.hasPrefix("+") else { return nil }
        return UInt64(name.dropLast(4), radix: 16)
    }

    private static func begin(
        _ segment: Segment, directory: String, dataKey: [UInt8], files: any StorageFiles, _ start: LogItem
    ) throws(ApusError) -> SealedFileWriter {
        // Under its final name only when it is whole: a segment without a header is always damage.
        let temporary = segment.path + ".new"
        try files.remove(temporary)
        let writer = try SealedFileWriter(kind: .segment, path: temporary, number: segment.number, dataKey: dataKey, files: files)
        do throws(ApusError) {
            var content = ByteWriter()
            start.encode(into: &content)
            try writer.append(content.bytes)
            try writer.synchronize()
            try files.rename(temporary, to: segment.path)
            try files.synchronizeDirectory(directory)
        } catch {
            writer.close()
            throw error
        }
        return writer
    }

    /// Makes items durable, together when they fit one record. After an error nothing more may be written.
    func append(_ items: [LogItem]) throws(ApusError) {
        var content = ByteWriter()
        for item in items {
            item.encode(into: &content)
            switch item {
            case .hardState(let state): hardState = state
            case .entry(let entry): last = LogPosition(index: entry.index, term: entry.term)
            case .reset(let position): last = position
            case .start, .close: break
            }
            if content.bytes.count >= Self.recordLimit {
                try write(content.bytes)
                content = ByteWriter()
            }
        }
        if !content.bytes.isEmpty { try write(content.bytes) }
        if writer.size >= segmentSize { try rotate() }
    }

    private func write(_ content: [UInt8]) throws(ApusError) {
        try writer.append(content)
        try writer.synchronize()
        bytesSinceSnapshot += content.count
    }

    private func rotate() throws(ApusError) {
        let number = (segments.last?.number ?? 0) + 1
        let segment = Segment(path: Self.path(directory, number), number: number, previousIndex: last.index)
        let next = try Self.begin(segment, directory: directory, dataKey: dataKey, files: files, .start(hardState, last: last, bootstrap: nil))
        writer.close()
        writer = next
        segments.append(segment)
    }

    /// Removes segments that hold nothing after a durable snapshot.
    func drop(upTo index: UInt64) throws(ApusError) {
        bytesSinceSnapshot = 0
        while segments.count > 1, segments[1].previousIndex <= index {
            try files.remove(segments[0].path)
            segments.removeFirst()
        }
    }

    /// Ends the log: a record of its own tells the next opening that the one before it is whole.
    func close() throws(ApusError) {
        defer { writer.close() }
        try append([.close])
    }

    /// Lets go without writing, after an error.
    func abandon() { writer.close() }
}
