import Files
import PluginAPI
import Testing

@testable import Raft

/// A leader's snapshot on its way to the disk.
@Suite struct InstallTests {
    private func snapshots(_ directory: TemporaryDirectory) throws -> SnapshotFiles {
        let files = SystemStorageFiles()
        return SnapshotFiles(
            directory: directory.path + "/snapshots", dataKey: try DataKey.load(directory: directory.path + "/keys", mayCreate: true, files: files),
            files: files)
    }

    private struct Pieces: SnapshotSource {
        let pieces: [[UInt8]]
        func write(_ sink: ([UInt8]) throws(ApusError) -> Void) throws(ApusError) {
            for piece in pieces { try sink(piece) }
        }
    }

    @Test func piecesSurviveBeingCutIntoChunks() async throws {
        let directory = try TemporaryDirectory()
        let here = try snapshots(directory)
        let metadata = SnapshotMetadata(position: LogPosition(index: 9, term: 2), membership: Membership(voters: [one]))
        let pieces: [[UInt8]] = [[1, 2, 3], [], [UInt8](repeating: 7, count: 3 * SnapshotChunk.sizeLimit + 5), [4]]
        try here.write(metadata, Pieces(pieces: pieces))
        let other = try TemporaryDirectory()
        let there = try snapshots(other)
        let chunks = SnapshotChunks(try SnapshotFileReader(metadata.position, in: here))
        // It can be read even when a newer one has replaced it.
        try SystemStorageFiles().remove(here.path(metadata.position))
        let writer = try SnapshotFileWriter(metadata, .received, in: there)
        for try await chunk in chunks {
            #expect(chunk.bytes.count <= SnapshotChunk.sizeLimit)
            try writer.append(chunk)
        }
        #expect(try there.list().isEmpty)
        try writer.finish()
        try writer.publish()
        var found: [[UInt8]] = []
        #expect(try there.readNewest { _, pieces in found = pieces } == metadata)
        #expect(found == pieces)
    }

    @Test func chunksAreBounded() throws {
        let directory = try TemporaryDirectory()
        let metadata = SnapshotMetadata(position: LogPosition(index: 9, term: 2), membership: Membership(voters: [one]))
        let writer = try SnapshotFileWriter(metadata, .received, in: try snapshots(directory))
        #expect(throws: ApusError.self) {
            try writer.append(SnapshotChunk(bytes: [UInt8](repeating: 0, count: SnapshotChunk.sizeLimit + 1), endsPiece: true))
        }
        #expect(throws: ApusError.self) {
            for _ in 0..<40 { try writer.append(SnapshotChunk(bytes: [UInt8](repeating: 0, count: SnapshotChunk.sizeLimit), endsPiece: false)) }
        }
        #expect(throws: ApusError.self) { try writer.finish() }
        writer.abandon()
        #expect(try Files.list(directory.path + "/snapshots").isEmpty)
    }

    /// The engine ended after the snapshot had its name and before the log knew. The log there is of another history.
    @Test(arguments: [3, 8] as [UInt64]) func aLogOfAnotherHistoryIsNotGluedToASnapshot(_ index: UInt64) throws {
        let directory = try TemporaryDirectory()
        let opened = try open(directory.path)
        try opened.log.append([.hardState(HardState(term: 2))] + (1...6).map { .entry(entry($0, term: 2)) })
        try opened.log.close()
        let metadata = SnapshotMetadata(position: LogPosition(index: index, term: 3), membership: Membership(voters: [one, MemberID(2)]))
        try snapshots(directory).write(metadata, Pieces(pieces: [[1]]))
        for _ in 0..<2 {
            let again = try open(directory.path)
            #expect(again.entries.isEmpty)
            #expect(again.snapshot == metadata)
            #expect(again.log.last == metadata.position)
            try again.log.close()
        }
        let log = try open(directory.path).log
        try log.append([.entry(entry(index + 1, term: 3))])
        try log.close()
        #expect(try open(directory.path).entries == [entry(index + 1, term: 3)])
    }

    @Test func anOwnSnapshotKeepsWhatFollows() throws {
        let directory = try TemporaryDirectory()
        let opened = try open(directory.path)
        try opened.log.append((1...6).map { .entry(entry($0, term: 2)) })
        try opened.log.close()
        let metadata = SnapshotMetadata(position: LogPosition(index: 4, term: 2), membership: Membership(voters: [one]))
        try snapshots(directory).write(metadata, Pieces(pieces: []))
        #expect(try open(directory.path).entries.map(\.index) == [5, 6])
    }
}
