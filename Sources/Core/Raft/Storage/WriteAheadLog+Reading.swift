import PluginAPI

/// Damage in the log, and how much of it is good.
struct LogDamage {
    var path: String
    var offset: Int
    var reason: String
}

extension WriteAheadLog {
    /// What was found on disk.
    struct Contents {
        var replay: LogReplay
        var segments: [Segment]
        /// A write that did not finish, at the end of the last segment: the file is good up to the offset.
        var torn: (path: String, offset: Int)?
        /// Reading ended here.
        var damage: LogDamage?
    }

    /// Reads every segment in order, up to damage if there is any. Changes nothing.
    static func read(directory: String, dataKey: [UInt8], base: LogPosition, files: any StorageFiles) throws(ApusError) -> Contents {
        var contents = Contents(replay: LogReplay(base: base), segments: [])
        let numbers = try files.list(directory).compactMap { number(of: $0) }.sorted()
        for (position, number) in numbers.enumerated() {
            let path = path(directory, number)
            if let previous = contents.segments.last, previous.number + 1 != number {
                contents.damage = LogDamage(path: Self.path(directory, previous.number + 1), offset: 0, reason: "the file is missing")
                return contents
            }
            try read(path, number: number, isLast: position == numbers.count - 1, dataKey: dataKey, files: files, into: &contents)
            if contents.damage != nil { return contents }
        }
        return contents
    }

    private static func read(
        _ path: String, number: UInt64, isLast: Bool, dataKey: [UInt8], files: any StorageFiles, into contents: inout Contents
    ) throws(ApusError) {
        func damaged(_ offset: Int, _ reason: String) { contents.damage = LogDamage(path: path, offset: offset, reason: reason) }
        let bytes = try files.read(path)
        var reader: SealedFileReader
        do throws(ApusError) {
            reader = try SealedFileReader(kind: .segment, path: path, bytes: bytes, dataKey: dataKey)
        } catch {
            guard error.code == .corrupt else { throw error }
            return damaged(0, error.message)
        }
        guard reader.number == number else { return damaged(0, "it is segment \(reader.number) under another name") }
        var isFirst = true
        while true {
            let offset = reader.offset
            switch try reader.next() {
            case .record(let content):
                guard let items = LogItem.decode(content), let first = items.first else { return damaged(offset, "a record has unknown content") }
                if isFirst {
                    guard case .start(_, let last, _) = first else { return damaged(offset, "the first record is of another kind") }
                    contents.segments.append(Segment(path: path, number: number, previousIndex: last.index))
                    isFirst = false
                }
                do throws(LogReplay.Contradiction) {
                    for item in items { try contents.replay.apply(item) }
                } catch {
                    return damaged(offset, error.text)
                }
            case .end:
                return isFirst ? damaged(offset, "it is empty") : ()
            case .torn(let offset):
                // A segment is whole before it gets its name, and only the last one was being written.
                guard isLast, !isFirst else { return damaged(offset, "the file ends too early") }
                contents.torn = (path, offset)
                return
            case .damaged(let offset, let reason):
                return damaged(offset, reason)
            }
        }
    }
}
