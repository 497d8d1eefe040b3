import PluginAPI

/// Snapshots on disk: `<index>-<term>.snapshot`, both in sixteen hexadecimal digits, sealed files.
/// A snapshot has its name only when it is whole and durable.
struct SnapshotFiles: Sendable {
    let directory: String
    let dataKey: [UInt8]
    let files: any StorageFiles

    private static func digits(_ number: UInt64) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    private func path(_ position: LogPosition) -> String {
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
        try files.makeDirectory(directory)
        let path = path(metadata.position)
        let temporary = path + ".new"
        try files.remove(temporary)
        let writer = try SealedFileWriter(kind: .snapshot, path: temporary, number: metadata.position.index, dataKey: dataKey, files: files)
        defer { writer.close() }
        var head = ByteWriter()
        head.append(UInt8(1))
        head.append(metadata.position.index)
        head.append(metadata.position.term)
        head.append(metadata.membership.encoded())
        try writer.append(head.bytes)
        var total: UInt64 = 0
        try source.write { chunk throws(ApusError) in
            guard chunk.count < SealedFile.bodyLimit / 2 else { throw ApusError(.tooLarge, "a piece of a snapshot has \(chunk.count) bytes") }
            total += UInt64(chunk.count)
            try writer.append([2] + chunk)
        }
        var tail = ByteWriter()
        tail.append(UInt8(3))
        tail.append(total)
        try writer.append(tail.bytes)
        try writer.synchronize()
        try files.rename(temporary, to: path)
        try files.synchronizeDirectory(directory)
    }

    /// Reads the newest snapshot and hands its pieces to `body`; `nil` when there is none.
    func readNewest(_ body: (SnapshotMetadata, [[UInt8]]) throws(ApusError) -> Void) throws(ApusError) -> SnapshotMetadata? {
        guard let position = try list().last else { return nil }
        let path = path(position)
        func damaged(_ reason: String) -> ApusError {
            ApusError(.corrupt, "\(path) is damaged (\(reason)): restore it from a copy, or remove the swarm's state and join again")
        }
        do throws(ApusError) {
            var reader = try SealedFileReader(kind: .snapshot, path: path, bytes: try files.read(path), dataKey: dataKey)
            guard case .record(let head) = try reader.next() else { throw damaged("its first record is wrong") }
            var headReader = ByteReader(head, from: 0, to: head.count)
            guard headReader.readUInt8() == 1, headReader.readUInt64() == position.index, headReader.readUInt64() == position.term,
                let encoded = headReader.readBytes(headReader.remaining), let membership = Membership(decoding: encoded)
            else { throw damaged("its first record is wrong") }
            var chunks: [[UInt8]] = []
            var total: UInt64 = 0
            while true {
                guard case .record(let content) = try reader.next() else { throw damaged("a record at byte \(reader.offset) is wrong or missing") }
                if content.first == 2 {
                    chunks.append(Array(content.dropFirst()))
                    total += UInt64(content.count - 1)
                    continue
                }
                var tail = ByteReader(content)
                guard tail.readUInt8() == 3, tail.readUInt64() == total, case .end = try reader.next() else { throw damaged("its end is wrong") }
                break
            }
            let metadata = SnapshotMetadata(position: position, membership: membership)
            try body(metadata, chunks)
            return metadata
        } catch {
            throw error.code == .corrupt && !error.message.contains(path) ? damaged(error.message) : error
        }
    }

    /// Removes all but the newest, and what an interrupted write left.
    func clean() throws(ApusError) {
        for old in try list().dropLast() { try files.remove(path(old)) }
        for name in try files.list(directory) where name.hasSuffix(".new") { try files.remove("\(directory)/\(name)") }
    }
}
