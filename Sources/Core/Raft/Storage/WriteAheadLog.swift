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
    /// The newest segment ended for want of space, with a whole record.
    private var isCut = false

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
            if error.code == .unavailable { try files.remove(temporary) }
            throw error
        }
        return writer
    }

    /// Makes items durable, together when they fit one record.
    ///
    /// For want of space it throws `unavailable`: then the log is as it was, but for whole records of these items, and the same items,
    /// or none, may be appended later. After any other error nothing more may be written.
    func append(_ items: [LogItem]) throws(ApusError) {
        if isCut { try begin() }
        var content = ByteWriter()
        var state = hardState
        var position = last
        for item in items {
            item.encode(into: &content)
            switch item {
            case .hardState(let new): state = new
            case .entry(let entry): position = LogPosition(index: entry.index, term: entry.term)
            case .reset(let new): position = new
            case .start, .close: break
            }
            if content.bytes.count >= Self.recordLimit {
                try write(content.bytes, state, position)
                content = ByteWriter()
            }
        }
        if !content.bytes.isEmpty { try write(content.bytes, state, position) }
        guard writer.size >= segmentSize else { return }
        do throws(ApusError) {
            try begin()
        } catch {
            // What was written is durable; this segment becomes longer until there is space again.
            guard error.code == .unavailable else { throw error }
        }
    }

    private func write(_ content: [UInt8], _ state: HardState, _ position: LogPosition) throws(ApusError) {
        let size = writer.size
        do throws(ApusError) {
            try writer.append(content)
        } catch {
            guard error.code == .unavailable, let path = segments.last?.path else { throw error }
            // Nothing of the record was ever said to be durable. The file ends with the record before it; since that record's number and
            // nonce are spent, what comes next goes into a segment of its own.
            try cut(path, to: size)
            isCut = true
            throw error
        }
        do throws(ApusError) {
            try writer.synchronize()
        } catch {
            // Here even a want of space is final: the kernel may have dropped the pages.
            throw error.code == .unavailable ? ApusError(.failed, error.message) : error
        }
        hardState = state
        last = position
        bytesSinceSnapshot += content.count
    }

    private func cut(_ path: String, to size: Int) throws(ApusError) {
        do throws(ApusError) {
            try files.truncate(path, to: size)
        } catch {
            throw ApusError(.failed, error.message)
        }
    }

    /// Goes on in a new segment.
    private func begin() throws(ApusError) {
        let number = (segments.last?.number ?? 0) + 1
        let segment = Segment(path: Self.path(directory, number), number: number, previousIndex: last.index)
        let next = try Self.begin(segment, directory: directory, dataKey: dataKey, files: files, .start(hardState, last: last, bootstrap: nil))
        writer.close()
        writer = next
        segments.append(segment)
        isCut = false
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
        do throws(ApusError) {
            try append([.close])
        } catch {
            // Without space the end looks like that of a crash, which a log survives.
            guard error.code == .unavailable else { throw error }
        }
    }

    /// Lets go without writing, after an error.
    func abandon() { writer.close() }
}
