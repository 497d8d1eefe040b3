/// The part of the log that is kept in memory, and the marks in it.
///
/// Entries before the window are in the state machine and in the shell's storage; a follower that needs them gets a snapshot.
struct RaftLog: Sendable, Hashable {
    /// The entry before the first of the window.
    private(set) var base: LogPosition
    private(set) var entries: [LogEntry]
    /// Everything up to here is decided.
    private(set) var committed: UInt64
    /// Everything up to here was handed out to be applied.
    private(set) var handedOut: UInt64
    /// Everything up to here is in the state machine.
    private(set) var applied: UInt64
    /// Everything up to here is durable on this member.
    private(set) var persisted: UInt64

    /// A log whose state machine holds everything up to `base`, and whose entries are all durable.
    init(base: LogPosition, entries: [LogEntry]) {
        self.base = base
        self.entries = entries
        committed = base.index
        handedOut = base.index
        applied = base.index
        persisted = base.index + UInt64(entries.count)
    }

    var lastIndex: UInt64 { base.index + UInt64(entries.count) }

    var last: LogPosition { entries.last.map { LogPosition(index: $0.index, term: $0.term) } ?? base }

    /// `nil` when the entry is not in the window.
    func term(at index: UInt64) -> UInt64? {
        if index == base.index { return base.term }
        guard index > base.index, index <= lastIndex else { return nil }
        return entries[Int(index - base.index) - 1].term
    }

    /// Entries from `first` on, at least one and at most as many as have `byteLimit` bytes. `nil` when `first` is before the window.
    func entries(from first: UInt64, byteLimit: Int) -> [LogEntry]? {
        guard first > base.index else { return nil }
        var result: [LogEntry] = []
        var bytes = 0
        for entry in entries.dropFirst(Int(clamping: first - base.index - 1)) {
            bytes += entry.payload.count + 32
            if !result.isEmpty, bytes > byteLimit { break }
            result.append(entry)
        }
        return result
    }

    /// 0 when the entry is not in the window.
    func payloadCount(at index: UInt64) -> Int {
        index > base.index && index <= lastIndex ? entries[Int(index - base.index) - 1].payload.count : 0
    }

    mutating func append(_ entry: LogEntry) { entries.append(entry) }

    /// Takes a leader's entries that follow `previous`; `nil` when `previous` is not here, else those that are new.
    mutating func merge(_ newEntries: [LogEntry], after previous: LogPosition) -> [LogEntry]? {
        var rest = newEntries[...]
        // What is before the window is committed, so that it is the same.
        while let first = rest.first, first.index <= base.index { rest.removeFirst() }
        if previous.index >= base.index {
            guard term(at: previous.index) == previous.term else { return nil }
        }
        while let first = rest.first, let term = term(at: first.index), term == first.term { rest.removeFirst() }
        guard let first = rest.first else { return [] }
        guard first.index > committed else { return nil }
        if first.index <= lastIndex {
            entries.removeLast(Int(lastIndex - first.index) + 1)
            persisted = min(persisted, first.index - 1)
        }
        entries += rest
        return Array(rest)
    }

    /// The last place at or before `position.index` whose term is not newer than `position.term`.
    func agreement(with position: LogPosition) -> LogPosition {
        var index = min(position.index, lastIndex)
        while index > base.index, let term = term(at: index), term > position.term { index -= 1 }
        return LogPosition(index: index, term: term(at: index) ?? 0)
    }

    /// False when nothing is new.
    mutating func commit(_ index: UInt64) -> Bool {
        let index = min(index, lastIndex)
        guard index > committed else { return false }
        committed = index
        return true
    }

    /// Committed entries that were not handed out before.
    mutating func takeCommitted() -> [LogEntry] {
        guard committed > handedOut else { return [] }
        let taken = entries[Int(handedOut - base.index)..<Int(committed - base.index)]
        handedOut = committed
        return Array(taken)
    }

    /// False when that entry is not here any more.
    mutating func markPersisted(_ position: LogPosition) -> Bool {
        guard position.index > persisted, term(at: position.index) == position.term else { return false }
        persisted = position.index
        return true
    }

    mutating func markApplied(_ index: UInt64) { applied = max(applied, min(index, handedOut)) }

    /// Lets go of entries that are applied and durable, but for the last `keeping`; in steps, since an array moves what remains.
    mutating func release(keeping: UInt64) {
        let safe = min(applied, persisted)
        guard safe > base.index + keeping else { return }
        let count = safe - keeping - base.index
        guard count >= min(128, max(1, keeping)) || count == entries.count else { return }
        let last = entries[Int(count) - 1]
        base = LogPosition(index: last.index, term: last.term)
        entries.removeFirst(Int(count))
    }

    /// For a mistake of the simulation only.
    mutating func truncate(after index: UInt64) {
        guard index >= base.index, index < lastIndex else { return }
        entries.removeLast(Int(lastIndex - index))
        persisted = min(persisted, index)
    }

    /// Begins anew after a leader's snapshot.
    mutating func reset(to position: LogPosition) {
        self = RaftLog(base: position, entries: [])
    }
}
