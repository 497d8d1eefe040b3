import PluginAPI

/// Snapshots on disk: `<index>-<term>.snapshot`, both in sixteen hexadecimal digits, sealed files.
/// A snapshot has its name only when it is whole and durable.
struct SnapshotFiles: Sendable {
    let directory: String
    let dataKey: [UInt8]
    let files: any StorageFiles

    /// What ends the name of a file that is being written.
    enum Unfinished: String, CaseIterable {
        case own = ".new"
        case received = ".received"
    }

    private static func digits(_ number: UInt64) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    func path(_ position: LogPosition) -> String {
        "\(directory)/\(Self.digits(position.index))-\(Self.digits(position.term)).snapshot"
    }

    /// Those on disk, oldest first.
    func list() throws(ApusError) -> [LogPosition] {
        try files.list(directory).compactMap { name in
            guard name.hasSuffix(".snapshot") else { return nil }
            let parts = name.dropLast(9).split(separator: "-", omittingEmptySubsequences: false)
            guard parts.count == 2, parts.allSatisfy({ $0.utf8.count == 16 }), let index = UInt64(parts[0], radix: 16),
                let term = UInt64(parts[1], radix: 16)
            else { return nil }
            return LogPosition(index: index, term: term)
        }.sorted { $0.index < $1.index }
    }

    /// Writes a snapshot durably.
    func write(_ metadata: SnapshotMetadata, _ source: any SnapshotSource) throws(ApusError) {
        let writer = try SnapshotFileWriter(metadata, .own, in: self)
        do throws(ApusError) {
            try source.write { piece throws(ApusError) in try writer.append(piece) }
            try writer.finish()
            try writer.publish()
        } catch {
            writer.abandon()
            throw error
        }
    }

    /// Reads the newest snapshot and hands its pieces to `body`; `nil` when there is none.
    func readNewest(_ body: (SnapshotMetadata, [[UInt8]]) throws(ApusError) -> Void) throws(ApusError) -> SnapshotMetadata? {
        guard let position = try list().last else { return nil }
        return try read(position, body)
    }

    /// Reads a snapshot and hands its pieces to `body`.
    @discardableResult
    func read(
        _ position: LogPosition, _ body: (SnapshotMetadata, [[UInt8]]) throws(ApusError) -> Void
    ) throws(ApusError) -> SnapshotMetadata {
        let reader = try SnapshotFileReader(position, in: self)
        var pieces: [[UInt8]] = []
        while let piece = try reader.nextPiece() { pieces.append(piece) }
        do throws(ApusError) {
            try body(reader.metadata, pieces)
        } catch {
            throw error.code == .corrupt ? reader.damaged(error.message) : error
        }
        return reader.metadata
    }

    /// Removes all but the newest.
    func removeOld() throws(ApusError) {
        for old in try list().dropLast() { try files.remove(path(old)) }
    }

    /// Removes what interrupted writes left. Nothing may be writing.
    func removeUnfinished() throws(ApusError) {
        for name in try files.list(directory) where Unfinished.allCases.contains(where: { name.hasSuffix($0.rawValue) }) {
            try files.remove("\(directory)/\(name)")
        }
    }
}

/// A snapshot that is being written. Used from one thread at a time.
///
/// Its records: the head (1, index, term, membership), pieces (2, bytes), the tail (3, bytes of all pieces).
final class SnapshotFileWriter: @unchecked Sendable {
    let metadata: SnapshotMetadata
    private let snapshots: SnapshotFiles
    private let temporary: String
    private let writer: SealedFileWriter
    private var total: UInt64 = 0
    /// The beginning of a piece that has come in part.
    private var part: [UInt8] = []
    private var isOpen = true

    init(_ metadata: SnapshotMetadata, _ kind: SnapshotFiles.Unfinished, in snapshots: SnapshotFiles) throws(ApusError) {
        self.metadata = metadata
        self.snapshots = snapshots
        try snapshots.files.makeDirectory(snapshots.directory)
        temporary = snapshots.path(metadata.position) + kind.rawValue
        try snapshots.files.remove(temporary)
        writer = try SealedFileWriter(
            kind: .snapshot, path: temporary, number: metadata.position.index, dataKey: snapshots.dataKey, files: snapshots.files)
        var head = ByteWriter()
        head.append(UInt8(1))
        head.append(metadata.position.index)
        head.append(metadata.position.term)
        head.append(metadata.membership.encoded())
        do throws(ApusError) {
            try writer.append(head.bytes)
        } catch {
            abandon()
            throw error
        }
    }

    func append(_ piece: [UInt8]) throws(ApusError) {
        guard piece.count < SealedFile.bodyLimit / 2 else { throw ApusError(.tooLarge, "a piece of a snapshot has \(piece.count) bytes") }
        total += UInt64(piece.count)
        try writer.append([2] + piece)
    }

    func append(_ chunk: SnapshotChunk) throws(ApusError) {
        guard chunk.bytes.count <= SnapshotChunk.sizeLimit, part.count + chunk.bytes.count < SealedFile.bodyLimit / 2 else {
            throw ApusError(.tooLarge, "a piece of a snapshot has more than \(part.count + chunk.bytes.count) bytes")
        }
        guard chunk.endsPiece else {
            part += chunk.bytes
            return
        }
        try append(part + chunk.bytes)
        part = []
    }

    /// Makes it whole and durable, still without its name.
    func finish() throws(ApusError) {
        guard part.isEmpty else { throw ApusError(.corrupt, "a snapshot ended inside of a piece") }
        var tail = ByteWriter()
        tail.append(UInt8(3))
        tail.append(total)
        try writer.append(tail.bytes)
        try writer.synchronize()
    }

    /// Gives it its name, durably.
    func publish() throws(ApusError) {
        close()
        try snapshots.files.rename(temporary, to: snapshots.path(metadata.position))
        try snapshots.files.synchronizeDirectory(snapshots.directory)
    }

    /// Removes it.
    func abandon() {
        close()
        // What cannot be removed now is removed at the next start.
        try? snapshots.files.remove(temporary)
    }

    private func close() {
        if isOpen { writer.close() }
        isOpen = false
    }
}

/// A snapshot that is being read, also after its name is gone. Used from one thread at a time.
final class SnapshotFileReader {
    let metadata: SnapshotMetadata
    private let path: String
    private let stream: SealedStream
    private var total: UInt64 = 0
    private var isAtEnd = false

    init(_ position: LogPosition, in snapshots: SnapshotFiles) throws(ApusError) {
        path = snapshots.path(position)
        let path = path
        do throws(ApusError) {
            stream = try SealedStream(kind: .snapshot, path: path, dataKey: snapshots.dataKey, files: snapshots.files)
            guard let head = try stream.next() else { throw Self.damaged(path, "its first record is missing") }
            var reader = ByteReader(head)
            guard reader.readUInt8() == 1, reader.readUInt64() == position.index, reader.readUInt64() == position.term,
                let encoded = reader.readBytes(reader.remaining), let membership = Membership(decoding: encoded)
            else { throw Self.damaged(path, "its first record is wrong") }
            metadata = SnapshotMetadata(position: position, membership: membership)
        } catch {
            throw error.code == .corrupt ? Self.damaged(path, error.message) : error
        }
    }

    /// The next piece, `nil` at the end.
    /// - Throws: `corrupt`, naming the file.
    func nextPiece() throws(ApusError) -> [UInt8]? {
        if isAtEnd { return nil }
        do throws(ApusError) {
            guard let record = try stream.next() else { throw damaged("its end is missing") }
            if record.first == 2 {
                total += UInt64(record.count - 1)
                return Array(record.dropFirst())
            }
            var tail = ByteReader(record)
            guard tail.readUInt8() == 3, tail.readUInt64() == total, try stream.next() == nil else { throw damaged("its end is wrong") }
            isAtEnd = true
            return nil
        } catch {
            throw error.code == .corrupt ? damaged(error.message) : error
        }
    }

    func damaged(_ reason: String) -> ApusError { Self.damaged(path, reason) }

    private static func damaged(_ path: String, _ reason: String) -> ApusError {
        if reason.contains(path) { return ApusError(.corrupt, reason) }
        return ApusError(.corrupt, "\(path) is damaged (\(reason)): restore it from a copy, or remove the swarm's state and join again")
    }
}
