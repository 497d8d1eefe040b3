@testable import Raft

/// What must hold after each step, whatever happens.
struct Invariants {
    struct Committed: Hashable {
        var term: UInt64
        /// The term of the leader that committed it.
        var decidedIn: UInt64
    }

    struct Entry: Hashable {
        var previousTerm: UInt64
        var kind: LogEntry.Kind
        var payload: [UInt8]
    }

    private(set) var violation: String?
    /// By term.
    private(set) var leaders: [UInt64: MemberID] = [:]
    /// By index, from 1 on.
    private(set) var committed: [Committed] = []
    private var applied: [LogEntry] = []
    /// Every entry that ever was in a log, by index and term.
    private var seen: [LogPosition: Entry] = [:]

    mutating func fail(_ text: String) { violation = violation ?? text }

    mutating func check(_ member: inout SimulatedMember, becameLeader: Bool) {
        let core = member.core
        if core.role == .leader {
            if let other = leaders[core.term], other != core.id { fail("two leaders of term \(core.term): \(other) and \(core.id)") }
            leaders[core.term] = core.id
        }
        if becameLeader { checkCompleteness(core) }
        if core.committedIndex > member.checkedCommit {
            // The rule that keeps what is counted from being overwritten (the thesis, section 3.6.2).
            if core.role == .leader, core.log.term(at: core.committedIndex) != core.term {
                fail("\(core.id) commits entry \(core.committedIndex) of an earlier term by counting")
            }
            checkCommit(core, from: member.checkedCommit)
            member.checkedCommit = core.committedIndex
        } else if core.committedIndex < member.checkedCommit {
            fail("\(core.id) takes back what it knew to be committed")
        }
    }

    /// Log matching: a durable entry of the same index and term is the same everywhere, and so is the one before it, and so on.
    mutating func wrote(_ entry: LogEntry, after previousTerm: UInt64) {
        let found = Entry(previousTerm: previousTerm, kind: entry.kind, payload: entry.payload)
        let position = LogPosition(index: entry.index, term: entry.term)
        if let known = seen[position] {
            if known != found { fail("entry \(entry.index) of term \(entry.term) is not the same everywhere") }
        } else {
            seen[position] = found
        }
    }

    /// Leader completeness: what was committed in an earlier term is in the log of every later leader.
    private mutating func checkCompleteness(_ core: RaftCore) {
        for (offset, entry) in committed.enumerated() where entry.decidedIn < core.term {
            let index = UInt64(offset) + 1
            if index < core.log.base.index { continue }
            if core.log.term(at: index) != entry.term { return fail("\(core.id) leads term \(core.term) without committed entry \(index)") }
        }
    }

    /// State machine safety: what is committed is the same everywhere and for ever.
    private mutating func checkCommit(_ core: RaftCore, from first: UInt64) {
        for index in first + 1...core.committedIndex {
            guard let term = core.log.term(at: index) else { continue }
            if index <= UInt64(committed.count) {
                if committed[Int(index) - 1].term != term { return fail("entry \(index) was committed twice, differently: now by \(core.id)") }
            } else if index == UInt64(committed.count) + 1 {
                committed.append(Committed(term: term, decidedIn: core.term))
            } else {
                return fail("\(core.id) commits entry \(index) before those before it")
            }
        }
    }

    mutating func applied(_ member: MemberID, _ entry: LogEntry, after: LogPosition) {
        guard entry.index == after.index + 1 else { return fail("\(member) applies entry \(entry.index) after entry \(after.index)") }
        if entry.index <= UInt64(applied.count) {
            if applied[Int(entry.index) - 1] != entry { fail("entry \(entry.index) was applied twice, differently: now by \(member)") }
        } else {
            applied.append(entry)
        }
    }
}
