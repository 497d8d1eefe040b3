@testable import Raft

/// One bad day of a group, all of it from one seed: cores, disks that survive a crash as far as they were written, a network that
/// loses, repeats, delays and splits, clients that write and read. After each step it is checked that the group is right.
final class Simulation {
    let seed: UInt64
    let profile: SimulationProfile
    let mistakes: RaftMistakes
    let settings: RaftSettings
    var generator: SeededGenerator
    var members: [SimulatedMember] = []
    var network: [SimulatedMessage] = []
    /// Pairs whose messages do not arrive, one way: from × count + to.
    var blocked: Set<Int> = []
    var checks = Invariants()
    var clients = Clients()
    var counts = SimulationCounts()
    var lossPercent: Int
    var reorderPercent: Int
    /// Set for a run that is looked at.
    var trace: [String]?
    private let initial: Membership

    init(seed: UInt64, mistakes: RaftMistakes = [], isStorm: Bool = false, isTraced: Bool = false) {
        self.seed = seed
        self.mistakes = mistakes
        var generator = SeededGenerator(seed: seed &* 0x2545_f491_4f6c_dd1d &+ 1)
        profile = SimulationProfile(isStorm: isStorm, using: &generator)
        var settings = RaftSettings()
        settings.electionTicks = [3, 5, 10].randomElement(using: &generator) ?? 10
        settings.keptEntries = [2, 5, 500].randomElement(using: &generator) ?? 500
        settings.appendLimit = [40, 40, 150, 1 << 20].randomElement(using: &generator) ?? 1 << 20
        settings.inFlightLimit = [1, 3, 64].randomElement(using: &generator) ?? 64
        settings.promotionLag = [3, 100].randomElement(using: &generator) ?? 100
        self.settings = settings
        self.generator = generator
        lossPercent = profile.lossPercent
        reorderPercent = profile.reorderPercent
        initial = Membership(voters: Set((1...UInt64(profile.voters)).map { MemberID($0) }))
        trace = isTraced ? [] : nil
        for number in 1...UInt64(profile.voters + profile.spares) {
            let disk = SimulatedDisk(membership: number <= profile.voters ? initial : Membership())
            members.append(SimulatedMember(id: MemberID(number), core: core(MemberID(number), disk), disk: disk))
        }
    }

    func core(_ id: MemberID, _ disk: SimulatedDisk) -> RaftCore {
        var core = RaftCore(
            id: id, settings: settings, hardState: disk.hardState, snapshot: disk.snapshot, entries: disk.entries,
            seed: seed &+ UInt64(counts.restarts))
        core.mistakes = mistakes
        return core
    }

    /// Runs the day and the evening after it.
    /// - Returns: What is wrong, if anything.
    func run() -> String? {
        counts.runs = 1
        // A group that has begun is more interesting than one that has not.
        for _ in 0..<3 * settings.electionTicks { calmTick() }
        var step = 0
        while step < profile.steps, checks.violation == nil {
            step += 1
            chaos()
        }
        counts.steps += step
        if checks.violation == nil { heal() }
        counts.committed = checks.committed.count
        counts.elections = checks.leaders.count
        counts.writes = clients.writes
        counts.reads = clients.reads
        return checks.violation ?? clients.verdict()
    }

    func note(_ text: @autoclosure () -> String) {
        if trace != nil { trace?.append(text()) }
    }

    func chance(_ percent: Int) -> Bool { percent > 0 && Int.random(in: 0..<100, using: &generator) < percent }

    func random(_ count: Int) -> Int { Int.random(in: 0..<count, using: &generator) }

    // MARK: Members

    func index(_ id: MemberID) -> Int? { members.indices.contains(Int(id.number) - 1) ? Int(id.number) - 1 : nil }

    @discardableResult
    func step(_ index: Int, _ input: RaftInput, restored: Registers? = nil) -> RaftOutput {
        guard members[index].isUp else { return RaftOutput() }
        let wasLeader = members[index].core.role == .leader
        var output = members[index].core.step(input)
        if trace != nil, input != .tick || output != RaftOutput() { note("\(members[index].id) \(input) -> \(output)") }
        checks.check(&members[index], becameLeader: !wasLeader && members[index].core.role == .leader)
        for read in output.reads { members[index].confirmed.append((read.id, read.index)) }
        for rejected in output.rejected { clients.rejected(rejected.id) }
        if mistakes.contains(.sendBeforePersisting) {
            transmit(index, output.send)
            output.send = []
        }
        if output != RaftOutput() { members[index].queue.append(SimulatedMember.Work(output: output, restored: restored)) }
        answerReads(index)
        return output
    }

    func answerReads(_ index: Int) {
        guard !members[index].confirmed.isEmpty else { return }
        let applied = members[index].registers.position.index
        for read in members[index].confirmed where read.index <= applied { clients.answered(read.id, members[index].registers) }
        members[index].confirmed.removeAll { $0.index <= applied }
    }

    /// Carries out outputs in the order of the contract, one or many together as the real loop does.
    func work(_ index: Int) {
        guard members[index].isUp, !members[index].queue.isEmpty else { return }
        var batch = chance(50) ? 1 : members[index].queue.count
        if let restore = members[index].queue.dropFirst().prefix(batch).firstIndex(where: { $0.output.restore != nil }) { batch = restore }
        let works = Array(members[index].queue.prefix(batch))
        members[index].queue.removeFirst(batch)
        var persisted: LogPosition?
        for work in works {
            persist(index, work, entryLimit: .max)
            persisted = work.output.persist?.position ?? persisted
        }
        for work in works { transmit(index, work.output.send) }
        for work in works {
            if work.output.restore != nil, let registers = work.restored {
                members[index].registers = registers
                counts.snapshotsInstalled += 1
                clients.lostTrack(of: index)
            }
            for entry in work.output.apply { apply(index, entry) }
        }
        answerReads(index)
        if let persisted { step(index, .persisted(persisted)) }
        if let last = works.last(where: { !$0.output.apply.isEmpty })?.output.apply.last { step(index, .applied(last.index)) }
        if works.contains(where: { $0.output.wantsSnapshot }) { takeSnapshot(index) }
    }

    private func apply(_ index: Int, _ entry: LogEntry) {
        checks.applied(members[index].id, entry, after: members[index].registers.position)
        members[index].registers.apply(entry)
        clients.applied(index, entry)
    }

    /// Makes an output durable; less than all of it when the power goes.
    private func persist(_ index: Int, _ work: SimulatedMember.Work, entryLimit: Int) {
        guard let persist = work.output.persist else { return }
        if let snapshot = persist.snapshot, let registers = work.restored {
            // The file has its name before the log knows of it.
            members[index].disk.snapshot = snapshot
            members[index].disk.registers = registers
            if entryLimit == 0 { return }
            members[index].disk.reset()
        }
        if let hardState = persist.hardState { members[index].disk.hardState = hardState }
        for entry in persist.entries.prefix(entryLimit) {
            guard let previousTerm = members[index].disk.append(entry) else { return checks.fail("a gap in the log of \(members[index].id)") }
            checks.wrote(entry, after: previousTerm)
        }
    }

    func takeSnapshot(_ index: Int) {
        let position = members[index].registers.position
        guard members[index].isUp, position.index > members[index].disk.snapshot.position.index else { return }
        let metadata = SnapshotMetadata(position: position, membership: members[index].core.membership(at: position.index))
        members[index].disk.snapshot = metadata
        members[index].disk.registers = members[index].registers
        members[index].disk.trim()
        step(index, .snapshotTaken(metadata))
    }

    /// The power goes: of what was not reported durable, some is there, and the last of it may be torn.
    func crash(_ index: Int) {
        guard members[index].isUp else { return }
        note("\(members[index].id) crashes")
        let queue = members[index].queue
        let whole = random(queue.count + 1)
        // What is sent before it is durable may have left all the same.
        if (queue.count + whole).isMultiple(of: 2) { transmit(index, RaftOutput.sendOrder(of: queue.prefix(whole + 1).map(\.output)).early) }
        for work in queue.prefix(whole) { persist(index, work, entryLimit: .max) }
        if whole < queue.count, chance(50) {
            let work = queue[whole]
            let count = work.output.persist?.entries.count ?? 0
            if work.output.restore != nil || count > 0 { persist(index, work, entryLimit: random(count + 1)) }
        }
        members[index].isUp = false
        members[index].queue = []
        members[index].confirmed = []
        clients.lostTrack(of: index)
    }

    func restart(_ index: Int) {
        guard !members[index].isUp else { return }
        note("\(members[index].id) restarts")
        counts.restarts += 1
        members[index].disk.recover()
        members[index].core = core(members[index].id, members[index].disk)
        members[index].registers = members[index].disk.registers
        members[index].checkedCommit = members[index].core.committedIndex
        members[index].isUp = true
        if members[index].core.membership.voters == [members[index].id] { step(index, .campaign) }
    }
}
