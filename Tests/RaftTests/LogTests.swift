import Files
import PluginAPI
import Testing

@testable import Raft

/// A log on disk with three group commits of which the last holds entry 4; not closed cleanly.
private struct Written {
    let directory: TemporaryDirectory
    let segment: String
    /// Ends of the records, from the file's header on.
    var ends: [Int] = []

    init() throws {
        directory = try TemporaryDirectory()
        let opened = try open(directory.path)
        let names = try Files.list(directory.path + "/wal")
        segment = try #require(names.first)
        ends.append(try size())
        for items in [
            [LogItem.hardState(HardState(term: 1, vote: one)), .entry(entry(1, "first"))], [.entry(entry(2, "second")), .entry(entry(3, "third"))],
            [.entry(entry(4, "fourth"))],
        ] {
            try opened.log.append(items)
            ends.append(try size())
        }
        opened.log.abandon()
    }

    var path: String { "\(directory.path)/wal/\(segment)" }
    func size() throws -> Int { try Files.read(path).count }
}

@Suite struct LogTests {
    @Test func whatIsWrittenIsReadAgain() throws {
        let directory = try TemporaryDirectory()
        var opened = try open(directory.path)
        #expect(opened.entries.isEmpty)
        #expect(opened.snapshot.membership == Membership(voters: [one]))
        var expected: [LogEntry] = []
        // Every opening goes on in a new segment.
        for round in 0..<4 as Range<UInt64> {
            let state = HardState(term: round + 1, vote: one)
            let entries = (1...3 as ClosedRange<UInt64>).map { entry(round * 3 + $0, term: round + 1, "entry \($0) of \(round)") }
            try opened.log.append([.hardState(state)] + entries.map { .entry($0) })
            expected += entries
            if round % 2 == 0 { try opened.log.close() } else { opened.log.abandon() }
            opened = try open(directory.path)
            #expect(opened.hardState == state)
            #expect(opened.entries == expected)
            #expect(opened.cutBytes == 0)
            #expect(opened.snapshot.membership == Membership(voters: [one]))
        }
        #expect(opened.log.segments.count == 5)
        // A new leader's entries replace those that come later.
        try opened.log.append([.entry(entry(5, term: 9, "new"))])
        opened.log.abandon()
        opened = try open(directory.path)
        #expect(opened.entries == Array(expected.prefix(4)) + [entry(5, term: 9, "new")])
        opened.log.abandon()
    }

    @Test func segmentsAreClosedWhenTheyAreFullAndDroppedAfterASnapshot() throws {
        let directory = try TemporaryDirectory()
        let configuration = configuration(directory.path) { $0.segmentSize = 2000 }
        let opened = try RaftStorage.open(configuration) { _, _ in }
        let entries = (1...40 as ClosedRange<UInt64>).map { entry($0, String(repeating: "x", count: 200)) }
        for entry in entries { try opened.log.append([.entry(entry)]) }
        #expect(opened.log.segments.count > 4)
        let before = opened.log.segments.count
        try opened.snapshots.write(
            SnapshotMetadata(position: LogPosition(index: 30, term: 1), membership: Membership(voters: [one])), Pieces([[1], [2, 3]]))
        try opened.log.drop(upTo: 30)
        #expect(opened.log.segments.count < before)
        opened.log.abandon()
        var pieces: [[UInt8]] = []
        let again = try RaftStorage.open(configuration) { _, chunks in pieces = chunks }
        #expect(pieces == [[1], [2, 3]])
        #expect(again.snapshot.position == LogPosition(index: 30, term: 1))
        #expect(again.entries == Array(entries.suffix(10)))
        again.log.abandon()
    }

    @Test func nothingOfTheContentIsReadableOnDisk() throws {
        let written = try Written()
        for (name, bytes) in try written.directory.contents() {
            for word in ["first", "second", "fourth"] { #expect(!contains(bytes, Array(word.utf8)), "\(name)") }
        }
        // Two logs of the same content have no segment key in common.
        let other = try Written()
        #expect(try Files.read(written.path).dropFirst(64) != Files.read(other.path).dropFirst(64))
    }

    private func contains(_ bytes: [UInt8], _ part: [UInt8]) -> Bool {
        bytes.indices.contains { bytes[$0...].starts(with: part) }
    }

    @Test func aTornTailIsCutAtEveryOffset() throws {
        let written = try Written()
        let (start, end) = (written.ends[2], written.ends[3])
        for length in start...end {
            let copy = try TemporaryDirectory.copy(of: written.directory.path)
            let path = "\(copy.path)/wal/\(written.segment)"
            try SystemStorageFiles().truncate(path, to: length)
            let opened = try open(copy.path)
            #expect(opened.entries.map(\.index) == (length == end ? [1, 2, 3, 4] : [1, 2, 3]), "\(length)")
            #expect(opened.hardState == HardState(term: 1, vote: one))
            #expect(opened.cutBytes == (length == end ? 0 : length - start))
            #expect(try Files.read(path).count == (length == end ? end : start))
            // What comes after the cut is read the next time.
            let next = UInt64(opened.entries.count) + 1
            try opened.log.append([.entry(entry(next, "next"))])
            opened.log.abandon()
            let again = try open(copy.path)
            #expect(again.entries.last == entry(next, "next"))
            again.log.abandon()
        }
    }

    @Test func aLastRecordWithAWrongByteIsTakenForTorn() throws {
        let written = try Written()
        for offset in written.ends[2]..<written.ends[3] {
            let copy = try TemporaryDirectory.copy(of: written.directory.path)
            try flip(offset, "\(copy.path)/wal/\(written.segment)")
            let opened = try open(copy.path)
            #expect(opened.entries.map(\.index) == [1, 2, 3])
            opened.log.abandon()
        }
    }

    @Test func afterACleanEndAWrongByteAnywhereIsRefused() throws {
        let directory = try TemporaryDirectory()
        let opened = try open(directory.path)
        try opened.log.append([.entry(entry(1, "only"))])
        let path = opened.log.segments[0].path
        let end = try Files.read(path).count
        try opened.log.close()
        for offset in 0..<end {
            let copy = try TemporaryDirectory.copy(of: directory.path)
            try flip(offset, copy.path + "/wal/" + (path.split(separator: "/").last ?? ""))
            let error = #expect(throws: ApusError.self) { try open(copy.path) }
            #expect(error?.code == .corrupt)
        }
    }

    @Test func aFlippedByteInAnEarlierRecordIsRefusedAndNothingChanges() throws {
        let written = try Written()
        for offset in 0..<written.ends[2] {
            let copy = try TemporaryDirectory.copy(of: written.directory.path)
            let path = "\(copy.path)/wal/\(written.segment)"
            try flip(offset, path)
            let before = try copy.contents()
            let error = #expect(throws: ApusError.self, "offset \(offset)") { try open(copy.path) }
            #expect(error?.code == .corrupt)
            #expect(error?.message.contains(path) == true)
            let good = offset < written.ends[1] ? 0 : 1
            // Without its first record nobody knows who is in the group.
            let expected = offset < written.ends[0] ? "Nothing of the log can be read" : "--discard-after \(good)"
            #expect(error?.message.contains(expected) == true, "\(error?.message ?? "")")
            if offset < written.ends[0] {
                #expect(throws: ApusError.self) { try RaftRecovery.discard(after: 0, directory: copy.path, name: "now") }
            }
            #expect(try copy.contents() == before)
        }
    }

    @Test func damageInASegmentThatIsNotTheLastIsRefused() throws {
        let written = try Written()
        let opened = try open(written.directory.path)
        opened.log.abandon()
        // Shortened anywhere, also between records.
        for length in [written.ends[3] - 1, written.ends[2], written.ends[1], 64, 10, 0] {
            let copy = try TemporaryDirectory.copy(of: written.directory.path)
            try SystemStorageFiles().truncate("\(copy.path)/wal/\(written.segment)", to: length)
            let error = #expect(throws: ApusError.self, "\(length)") { try open(copy.path) }
            #expect(error?.code == .corrupt)
        }
        // Missing in the middle, or at the beginning.
        let third = try open(written.directory.path)
        third.log.abandon()
        for missing in 0..<2 {
            let copy = try TemporaryDirectory.copy(of: written.directory.path)
            let names = try Files.list(copy.path + "/wal").sorted()
            try SystemStorageFiles().remove("\(copy.path)/wal/\(names[missing])")
            let error = #expect(throws: ApusError.self, "\(missing)") { try open(copy.path) }
            #expect(error?.code == .corrupt)
        }
    }

    @Test func recoveryKeepsWhatIsGoodAndTheDamagedFiles() throws {
        let written = try Written()
        try flip(written.ends[1] + 20, written.path)
        let damaged = try Files.read(written.path)
        #expect(throws: ApusError.self) { try open(written.directory.path) }
        let tooLate = #expect(throws: ApusError.self) { try RaftRecovery.discard(after: 2, directory: written.directory.path, name: "now") }
        #expect(tooLate?.code == .invalidArgument)
        #expect(try RaftRecovery.discard(after: 1, directory: written.directory.path, name: "now") == 1)
        #expect(try Files.read("\(written.directory.path)/damaged-now/wal/\(written.segment)") == damaged)
        var opened = try open(written.directory.path)
        #expect(opened.entries == [entry(1, "first")])
        #expect(opened.hardState == HardState(term: 1, vote: one))
        try opened.log.append([.entry(entry(2, "anew"))])
        opened.log.abandon()
        opened = try open(written.directory.path)
        #expect(opened.entries == [entry(1, "first"), entry(2, "anew")])
        opened.log.abandon()
    }

    @Test func anInterruptedRecoveryIsFinished() throws {
        let written = try Written()
        _ = try RaftRecovery.discard(after: 2, directory: written.directory.path, name: "now")
        // As if the engine had ended before the last rename.
        try SystemStorageFiles().rename("\(written.directory.path)/wal", to: "\(written.directory.path)/wal.recovered")
        let opened = try open(written.directory.path)
        #expect(opened.entries.map(\.index) == [1, 2])
        opened.log.abandon()
    }

    @Test func anotherOrMissingKeyIsNamed() throws {
        let written = try Written()
        let path = written.directory.path + "/keys/raft.key"
        let key = try Files.read(path)
        try flip(20, path)
        #expect(throws: ApusError.self) { try open(written.directory.path) }
        try SystemStorageFiles().remove(path)
        let missing = #expect(throws: ApusError.self) { try open(written.directory.path) }
        #expect(missing?.message.contains(path) == true)
        let other = try TemporaryDirectory()
        try open(other.path).log.abandon()
        try Files.writeAtomically(try Files.read(other.path + "/keys/raft.key"), to: path)
        #expect(throws: ApusError.self) { try open(written.directory.path) }
        try Files.writeAtomically(key, to: path)
        let opened = try open(written.directory.path)
        #expect(opened.entries.count == 4)
        opened.log.abandon()
    }

    @Test func aDamagedSnapshotIsRefused() throws {
        let directory = try TemporaryDirectory()
        let opened = try open(directory.path)
        try opened.log.append([.entry(entry(1))])
        try opened.snapshots.write(
            SnapshotMetadata(position: LogPosition(index: 1, term: 1), membership: Membership(voters: [one])), Pieces([[1, 2, 3]]))
        try opened.log.close()
        let name = try #require(try Files.list(directory.path + "/snapshots").first)
        let size = try Files.read("\(directory.path)/snapshots/\(name)").count
        for offset in 0..<size {
            let copy = try TemporaryDirectory.copy(of: directory.path)
            try flip(offset, "\(copy.path)/snapshots/\(name)")
            let error = #expect(throws: ApusError.self) { try open(copy.path) }
            #expect(error?.code == .corrupt)
            #expect(error?.message.contains(name) == true)
        }
        for length in 0..<size {
            let copy = try TemporaryDirectory.copy(of: directory.path)
            try SystemStorageFiles().truncate("\(copy.path)/snapshots/\(name)", to: length)
            #expect(throws: ApusError.self) { try open(copy.path) }
        }
    }

    /// Random changes of a good log: it opens with what was written, or it says that it is corrupt; it never crashes and never invents.
    @Test func randomDamageNeverInventsEntries() throws {
        let written = try Written()
        let good = try Files.read(written.path)
        let entries = [entry(1, "first"), entry(2, "second"), entry(3, "third"), entry(4, "fourth")]
        var generator = SeededGenerator(seed: 42)
        for round in 0..<300 {
            var bytes = good
            switch round % 4 {
            case 0: bytes = (0..<Int.random(in: 0...400, using: &generator)).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
            case 1:
                for _ in 0..<Int.random(in: 1...8, using: &generator) {
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: .min ... .max, using: &generator)
                }
            case 2: bytes.removeSubrange(0..<Int.random(in: 0...bytes.count, using: &generator))
            default:
                let tail = (0..<Int.random(in: 1...200, using: &generator)).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
                bytes = Array(bytes.prefix(Int.random(in: 64...bytes.count, using: &generator))) + tail
            }
            let key = try Files.read(written.directory.path + "/keys/raft.key")
            let copy = try TemporaryDirectory()
            try Files.makeDirectory(copy.path + "/wal")
            try Files.makeDirectory(copy.path + "/keys")
            try Files.writeAtomically(key, to: copy.path + "/keys/raft.key", sync: false)
            try Files.writeAtomically(bytes, to: "\(copy.path)/wal/\(written.segment)", sync: false)
            do {
                let opened = try open(copy.path)
                #expect(opened.entries == Array(entries.prefix(opened.entries.count)), "round \(round)")
                opened.log.abandon()
            } catch {
                #expect((error as? ApusError)?.code == .corrupt, "round \(round): \(error)")
            }
        }
    }

    // RFC 3720, B.4.
    @Test func knownChecks() {
        #expect(CyclicRedundancyCheck.castagnoli([UInt8](repeating: 0, count: 32)) == 0x8a91_36aa)
        #expect(CyclicRedundancyCheck.castagnoli([UInt8](repeating: 0xff, count: 32)) == 0x62a8_ab43)
        #expect(CyclicRedundancyCheck.castagnoli(Array(0..<32)) == 0x46dd_794e)
        #expect(CyclicRedundancyCheck.castagnoli(Array(7..<32), after: CyclicRedundancyCheck.castagnoli(Array(0..<7))) == 0x46dd_794e)
    }

    private func flip(_ offset: Int, _ path: String) throws {
        var bytes = try Files.read(path)
        bytes[offset] ^= 0x10
        try Files.writeAtomically(bytes, to: path, sync: false)
    }
}

/// A snapshot of given pieces.
struct Pieces: SnapshotSource {
    let pieces: [[UInt8]]

    init(_ pieces: [[UInt8]]) { self.pieces = pieces }

    func write(_ sink: ([UInt8]) throws(ApusError) -> Void) throws(ApusError) {
        for piece in pieces { try sink(piece) }
    }
}
