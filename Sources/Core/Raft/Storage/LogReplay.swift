import PluginAPI

/// What the segments on disk add up to.
struct LogReplay {
    private(set) var hardState = HardState()
    /// The first membership of the group, while the first segment is still there.
    private(set) var bootstrap: Membership?
    /// The end of the log.
    private(set) var last = LogPosition()
    /// Entries after `base`, without a gap.
    private(set) var entries: [LogEntry] = []
    /// What the snapshot covers; entries up to here are skipped.
    let base: LogPosition
    private var hasStarted = false
    /// The term that the log has where the snapshot ends; `nil` when it has nothing there.
    private var termAtBase: UInt64?

    init(base: LogPosition) { self.base = base }

    /// Whether the log has another entry than the snapshot where that ends: then nothing of the log follows the snapshot.
    var conflictsWithBase: Bool { last.index >= base.index && termAtBase != nil && termAtBase != base.term }

    mutating func discardEntries() { entries = [] }

    private mutating func reach(_ position: LogPosition) {
        last = position
        if position.index == base.index { termAtBase = position.term }
        if position.index < base.index { termAtBase = nil }
    }

    /// Takes one item in. The text says what is wrong with it.
    mutating func apply(_ item: LogItem) throws(Contradiction) {
        switch item {
        case .start(let state, let position, let bootstrap):
            if hasStarted {
                guard position == last, state == hardState else {
                    throw Contradiction("a segment begins at entry \(position.index), and the one before ends at \(last.index)")
                }
            } else {
                guard position.index <= base.index else {
                    throw Contradiction("the log begins after entry \(position.index), and the snapshot ends at \(base.index)")
                }
                hasStarted = true
                reach(position)
                hardState = state
            }
            if let bootstrap { self.bootstrap = bootstrap }
        case .hardState(let state):
            guard state.term >= hardState.term else { throw Contradiction("term \(state.term) comes after term \(hardState.term)") }
            hardState = state
        case .entry(let entry):
            guard hasStarted, entry.index > 0, entry.index <= last.index + 1 else {
                throw Contradiction("entry \(entry.index) comes after entry \(last.index)")
            }
            guard entry.index > base.index else {
                reach(LogPosition(index: entry.index, term: entry.term))
                entries = []
                return
            }
            let kept = Int(entry.index - base.index) - 1
            guard kept <= entries.count else { throw Contradiction("entry \(entry.index) comes after entry \(last.index)") }
            entries.removeLast(entries.count - kept)
            entries.append(entry)
            last = LogPosition(index: entry.index, term: entry.term)
        case .reset(let position):
            guard position.index <= base.index else {
                throw Contradiction("the log goes on from a snapshot at entry \(position.index), and there is none")
            }
            entries = []
            reach(position)
        case .close:
            break
        }
    }

    /// Why an item cannot follow those before it.
    struct Contradiction: Error {
        let text: String
        init(_ text: String) { self.text = text }
    }
}
