@testable import Raft

/// What the state machine of the simulation is: registers.
struct Registers: Hashable {
    static let count = 4

    var values = [UInt32](repeating: 0, count: Registers.count)
    var position = LogPosition()

    /// A command sets one register.
    static func command(_ key: Int, _ value: UInt32) -> [UInt8] {
        [UInt8(key)] + (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    mutating func apply(_ entry: LogEntry) {
        position = LogPosition(index: entry.index, term: entry.term)
        guard entry.kind == .command, entry.payload.count == 5 else { return }
        let value = (0..<4).reduce(UInt32(0)) { $0 | UInt32(entry.payload[$1 + 1]) << (8 * UInt32($1)) }
        values[Int(entry.payload[0]) % Registers.count] = value
    }
}

/// What is durable, and survives a crash.
struct SimulatedDisk {
    var hardState = HardState()
    var snapshot: SnapshotMetadata
    var registers = Registers()
    /// Those after `start`.
    var entries: [LogEntry] = []
    /// The entry before the first of `entries`: the snapshot's end, or earlier after a crash while one was installed.
    var start: LogPosition

    init(membership: Membership) {
        snapshot = SnapshotMetadata(position: LogPosition(), membership: membership)
        start = LogPosition()
    }

    /// Returns the term of the entry before it; `nil` when there is none.
    mutating func append(_ entry: LogEntry) -> UInt64? {
        guard entry.index > start.index else { return nil }
        let kept = Int(entry.index - start.index) - 1
        guard kept <= entries.count else { return nil }
        entries.removeLast(entries.count - kept)
        entries.append(entry)
        return kept == 0 ? start.term : entries[kept - 1].term
    }

    /// A snapshot of this member, or a leader's whose place the log has: the log goes on behind it.
    mutating func trim() {
        let count = min(entries.count, Int(snapshot.position.index - start.index))
        entries.removeFirst(count)
        start = snapshot.position
    }

    /// A leader's snapshot replaces the log.
    mutating func reset() {
        entries = []
        start = snapshot.position
    }

    /// What opening the folder makes of it, as `RaftStorage.open`: a log of another history than the snapshot's is dropped.
    mutating func recover() {
        let offset = Int(snapshot.position.index) - Int(start.index)
        guard offset > 0 else { return }
        if offset <= entries.count, entries[offset - 1].term == snapshot.position.term { trim() } else { reset() }
    }
}
