import PluginAPI

@testable import Raft

/// A group in memory: cores, disks that survive a crash, and a network that loses, repeats and delays. All of it follows from one seed.
struct GroupSimulation {
    struct Member {
        var core: RaftCore
        /// What is durable.
        var hardState = HardState()
        var entries: [LogEntry] = []
        /// Outputs that are not carried out yet: a slow disk.
        var queue: [RaftOutput] = []
        var applied: [LogEntry] = []
        var isUp = true
    }

    var members: [MemberID: Member] = [:]
    var network: [RaftMessage] = []
    var generator: SeededGenerator
    /// Members whose messages do not arrive.
    var isolated: Set<MemberID> = []
    var lossPercent = 0
    private var leaders: [UInt64: MemberID] = [:]
    /// What was applied anywhere, by index.
    private(set) var decided: [UInt64: LogEntry] = [:]
    private(set) var reads: [(id: UInt64, index: UInt64)] = []
    /// What was decided when a read was asked for: it must see that.
    private var readFloors: [UInt64: UInt64] = [:]
    private(set) var violations: [String] = []
    private let initial: Membership
    /// What snapshots hold: all that was applied up to them.
    private var snapshots: [LogPosition: [LogEntry]] = [:]
    private(set) var restores = 0
    private let settings: RaftSettings
    private let seed: UInt64

    init(voters: Int, learners: Int = 0, keptEntries: Int = 500, seed: UInt64) {
        self.seed = seed
        var settings = RaftSettings()
        settings.keptEntries = keptEntries
        self.settings = settings
        generator = SeededGenerator(seed: seed)
        let ids = (1...UInt64(voters + learners)).map { MemberID($0) }
        initial = Membership(voters: Set(ids.prefix(voters)), learners: Set(ids.dropFirst(voters)))
        for id in ids { members[id] = Member(core: fresh(id, HardState(), [])) }
    }

    private func fresh(_ id: MemberID, _ hardState: HardState, _ entries: [LogEntry]) -> RaftCore {
        RaftCore(
            id: id, settings: settings, hardState: hardState, snapshot: SnapshotMetadata(position: LogPosition(), membership: initial),
            entries: entries,
            seed: seed &+ UInt64(entries.count))
    }

    var ids: [MemberID] { members.keys.sorted() }
    var leader: MemberID? {
        ids.filter { members[$0]?.isUp == true && members[$0]?.core.role == .leader }.max {
            (members[$0]?.core.term ?? 0) < (members[$1]?.core.term ?? 0)
        }
    }

    /// A member that joins with nothing.
    mutating func add(_ id: MemberID) {
        members[id] = Member(
            core: RaftCore(
                id: id, settings: settings, hardState: HardState(), snapshot: SnapshotMetadata(position: LogPosition(), membership: Membership()),
                entries: [], seed: seed))
    }

    @discardableResult
    mutating func step(_ id: MemberID, _ input: RaftInput) -> RaftOutput {
        guard members[id]?.isUp == true, let output = members[id]?.core.step(input) else { return RaftOutput() }
        members[id]?.queue.append(output)
        if case .readIndex(let read) = input { readFloors[read] = max(readFloors[read] ?? 0, decided.keys.max() ?? 0) }
        for read in output.reads {
            reads.append((read.id, read.index))
            if read.index < readFloors[read.id] ?? .max { violations.append("read \(read.id) misses what was decided before it") }
        }
        if let change = output.roleChange, change.role == .leader {
            if let other = leaders[change.term], other != id { violations.append("two leaders of term \(change.term)") }
            leaders[change.term] = id
        }
        return output
    }

    /// Carries out the oldest output of a member, in the order of the contract. Returns false when there is none.
    @discardableResult
    mutating func work(_ id: MemberID) -> Bool {
        guard var member = members[id], member.isUp, !member.queue.isEmpty else { return false }
        let output = member.queue.removeFirst()
        if let persist = output.persist {
            if let hardState = persist.hardState { member.hardState = hardState }
            if let snapshot = persist.snapshot { member.entries = snapshots[snapshot.position] ?? [] }
            for entry in persist.entries {
                member.entries.removeAll { $0.index >= entry.index }
                if entry.index != UInt64(member.entries.count) + 1 { violations.append("a gap in the log of \(id)") }
                member.entries.append(entry)
            }
        }
        network += output.send
        if let snapshot = output.restore {
            member.applied = snapshots[snapshot.position] ?? []
            restores += 1
        }
        for entry in output.apply {
            if entry.index != UInt64(member.applied.count) + 1 { violations.append("\(id) applies out of order") }
            if !member.entries.contains(entry) { violations.append("\(id) applies what is not durable") }
            if let other = decided[entry.index], other != entry { violations.append("entry \(entry.index) was decided twice") }
            decided[entry.index] = entry
            member.applied.append(entry)
        }
        members[id] = member
        if let position = output.persist?.position { step(id, .persisted(position)) }
        if let last = output.apply.last { step(id, .applied(last.index)) }
        if output.wantsSnapshot { takeSnapshot(id) }
        return true
    }

    mutating func takeSnapshot(_ id: MemberID) {
        guard let member = members[id], member.isUp, let last = member.applied.last else { return }
        let position = LogPosition(index: last.index, term: last.term)
        snapshots[position] = member.applied
        step(id, .snapshotTaken(SnapshotMetadata(position: position, membership: member.core.membership(at: position.index))))
    }

    /// Power off: what was not durable is gone, and so is the state machine, which here has no snapshot.
    mutating func crash(_ id: MemberID) {
        members[id]?.isUp = false
        members[id]?.queue = []
    }

    /// A process that does not run.
    mutating func pause(_ id: MemberID) -> Member? {
        defer { members[id]?.isUp = false }
        return members[id]
    }

    mutating func resume(_ id: MemberID, _ member: Member?) { members[id] = member }

    mutating func restart(_ id: MemberID) {
        guard var member = members[id], !member.isUp else { return }
        member.core = fresh(id, member.hardState, member.entries)
        member.applied = []
        member.isUp = true
        members[id] = member
    }

    mutating func deliver(at index: Int) {
        let message = network.remove(at: index)
        guard Int.random(in: 0..<100, using: &generator) >= lossPercent, !isolated.contains(message.from), !isolated.contains(message.to) else {
            return
        }
        if members[message.to]?.isUp == true { step(message.to, .received(message)) }
    }

    /// Everybody ticks once, everything arrives, every disk keeps up.
    mutating func calmTick() {
        for id in ids { step(id, .tick) }
        settle()
    }

    mutating func settle() {
        var rounds = 0
        while rounds < 100_000 {
            rounds += 1
            var isIdle = true
            for id in ids { while work(id) { isIdle = false } }
            if !network.isEmpty {
                deliver(at: 0)
                isIdle = false
            }
            if isIdle { return }
        }
        violations.append("the group does not come to rest")
    }

    /// One random event of a bad day.
    mutating func chaos(proposal: UInt64) {
        guard let id = ids.randomElement(using: &generator) else { return }
        switch Int.random(in: 0..<1000, using: &generator) {
        case 0..<100: step(id, .tick)
        case 100..<500: work(id)
        case 500..<900:
            guard !network.isEmpty else { return }
            // Mostly in order, sometimes not.
            let index = Int.random(in: 0..<3, using: &generator) == 0 ? Int.random(in: 0..<network.count, using: &generator) : 0
            // Sometimes a message comes twice.
            if Int.random(in: 0..<20, using: &generator) == 0 { network.append(network[index]) }
            deliver(at: index)
        case 900..<960: step(leader ?? id, .propose(id: proposal, payload: Array("\(proposal)".utf8)))
        case 960..<975: step(id, .readIndex(id: proposal))
        case 975..<980: takeSnapshot(id)
        case 980..<984: crash(id)
        case 984..<995: restart(id)
        case 995..<998: isolated = isolated.isEmpty ? [id] : []
        default: step(leader ?? id, .transferLeadership(to: id))
        }
    }

    /// Everybody comes back, and the group gets time.
    mutating func heal() {
        isolated = []
        lossPercent = 0
        for id in ids { restart(id) }
        // The transport tells of what it lost; here it is told in the end.
        for id in ids { for other in ids where other != id { step(id, .unreachable(other)) } }
        for _ in 0..<60 { calmTick() }
    }
}
