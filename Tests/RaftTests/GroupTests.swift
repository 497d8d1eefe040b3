import PluginAPI
import Testing

@testable import Raft

@Suite struct GroupTests {
    @Test func threeElectOneAndFollowIt() throws {
        var group = GroupSimulation(voters: 3, seed: 1)
        for _ in 0..<40 { group.calmTick() }
        let leader = try #require(group.leader)
        #expect(group.ids.allSatisfy { group.members[$0]?.core.leader == leader })
        for number in UInt8(0)..<5 { group.step(leader, .propose(id: UInt64(number), payload: [number])) }
        group.settle()
        group.calmTick()
        for id in group.ids { #expect(group.members[id]?.applied.filter { $0.kind == .command }.map(\.payload) == [[0], [1], [2], [3], [4]]) }
        #expect(group.violations == [])
    }

    @Test func aMinorityDecidesNothingAndTheOldLeaderStepsDown() throws {
        var group = GroupSimulation(voters: 3, seed: 2)
        for _ in 0..<40 { group.calmTick() }
        let old = try #require(group.leader)
        group.isolated = [old]
        group.step(old, .propose(id: 1, payload: [1]))
        group.step(old, .readIndex(id: 77))
        for _ in 0..<60 { group.calmTick() }
        #expect(group.members[old]?.core.role != .leader)
        #expect(!group.reads.contains { $0.id == 77 })
        let new = try #require(group.leader)
        #expect(new != old)
        group.step(new, .propose(id: 2, payload: [2]))
        group.settle()
        group.heal()
        #expect(group.ids.allSatisfy { group.members[$0]?.applied.filter { $0.kind == .command }.map(\.payload) == [[2]] })
        #expect(group.violations == [])
    }

    @Test func aMemberThatWasAwayDoesNotDisturb() throws {
        var group = GroupSimulation(voters: 3, seed: 3)
        for _ in 0..<40 { group.calmTick() }
        let leader = try #require(group.leader)
        let term = group.members[leader]?.core.term
        let away = try #require(group.ids.first { $0 != leader })
        group.isolated = [away]
        for _ in 0..<100 { group.calmTick() }
        group.isolated = []
        for _ in 0..<60 { group.calmTick() }
        // Without the pre-vote its term would be far ahead, and depose the leader.
        #expect(group.leader == leader)
        #expect(group.members[leader]?.core.term == term)
        #expect(group.members[away]?.core.term == term)
    }

    @Test func leadershipIsHandedOverAtOnce() throws {
        var group = GroupSimulation(voters: 3, seed: 4)
        for _ in 0..<40 { group.calmTick() }
        let old = try #require(group.leader)
        let target = try #require(group.ids.first { $0 != old })
        group.step(old, .transferLeadership(to: target))
        #expect(group.step(old, .propose(id: 1, payload: [])).rejected.first?.reason == .transferring)
        group.settle()
        #expect(group.leader == target)
        #expect(group.violations == [])
    }

    @Test func membersComeAndGo() throws {
        var group = GroupSimulation(voters: 1, seed: 5)
        group.step(one, .campaign)
        group.settle()
        for number in UInt64(2)...3 {
            let member = MemberID(number)
            group.add(member)
            #expect(group.step(one, .changeMembers(id: 1, .promote(member))).rejected.first?.reason == .badChange)
            #expect(group.step(one, .changeMembers(id: 1, .addLearner(member))).accepted.count == 1)
            for _ in 0..<5 { group.calmTick() }
            #expect(group.members[member]?.core.committedIndex == group.members[one]?.core.committedIndex)
            #expect(group.step(one, .changeMembers(id: 2, .promote(member))).accepted.count == 1)
            #expect(group.step(one, .changeMembers(id: 3, .remove(member))).rejected.first?.reason == .changePending)
            for _ in 0..<5 { group.calmTick() }
        }
        #expect(group.members[MemberID(3)]?.core.membership == Membership(voters: [one, MemberID(2), MemberID(3)]))
        // The leader removes itself; the others go on.
        #expect(group.step(one, .changeMembers(id: 4, .remove(one))).accepted.count == 1)
        for _ in 0..<60 { group.calmTick() }
        let leader = try #require(group.leader)
        #expect(leader != one)
        group.step(leader, .propose(id: 9, payload: [9]))
        group.calmTick()
        #expect(group.members[MemberID(2)]?.applied.last?.payload == [9])
        #expect(group.members[MemberID(3)]?.applied.last?.payload == [9])
        #expect(group.violations == [])
    }

    @Test func aReadIsConfirmedByAMajority() throws {
        var group = GroupSimulation(voters: 3, seed: 6)
        for _ in 0..<40 { group.calmTick() }
        let leader = try #require(group.leader)
        let follower = try #require(group.ids.first { $0 != leader })
        group.step(leader, .propose(id: 1, payload: [1]))
        group.settle()
        let committed = group.members[leader]?.core.committedIndex
        #expect(group.step(leader, .readIndex(id: 50)).reads.isEmpty)
        group.step(follower, .readIndex(id: 51))
        group.settle()
        for id in [UInt64(50), 51] { #expect(group.reads.first { $0.id == id }?.index == committed) }
    }

    /// A leader that stood still, as with SIGSTOP, does not know that another one leads. It may not answer reads from what it remembers.
    @Test func aLeaderThatStoodStillAnswersNoReads() throws {
        var group = GroupSimulation(voters: 3, seed: 8)
        for _ in 0..<40 { group.calmTick() }
        let old = try #require(group.leader)
        group.step(old, .propose(id: 1, payload: [1]))
        group.settle()
        group.calmTick()
        // It neither ticks nor hears anything; what is sent to it waits.
        let stalled = group.pause(old)
        for _ in 0..<60 { group.calmTick() }
        let new = try #require(group.leader)
        #expect(new != old)
        group.step(new, .propose(id: 2, payload: [2]))
        group.calmTick()
        group.resume(old, stalled)
        #expect(group.members[old]?.core.role == .leader)
        let output = group.step(old, .readIndex(id: 60))
        #expect(output.reads.isEmpty)
        group.settle()
        #expect(!group.reads.contains { $0.id == 60 })
        #expect(group.members[old]?.core.role == .follower)
        // Alone it steps down too, because nobody answers.
        group.heal()
        let leader = try #require(group.leader)
        group.isolated = [leader]
        for _ in 0..<21 { group.step(leader, .tick) }
        #expect(group.members[leader]?.core.role != .leader)
        #expect(group.violations == [])
    }

    @Test func aBrokenConnectionToTheLeaderShortensTheElection() throws {
        for seed in 10..<30 as Range<UInt64> {
            var group = GroupSimulation(voters: 3, seed: seed)
            for _ in 0..<40 { group.calmTick() }
            let old = try #require(group.leader)
            group.crash(old)
            for id in group.ids where id != old { group.step(id, .unreachable(old)) }
            var ticks = 0
            while group.leader == nil, ticks < 100 {
                group.calmTick()
                ticks += 1
            }
            // One campaign each may end in a draw.
            #expect(ticks <= 30, "seed \(seed)")
            if seed < 20 { continue }
            // One whose connection alone broke disturbs nobody.
            let leader = try #require(group.leader)
            let term = group.members[leader]?.core.term
            let follower = try #require(group.ids.first { $0 != leader && $0 != old })
            group.restart(old)
            for _ in 0..<20 { group.calmTick() }
            group.step(follower, .unreachable(leader))
            for _ in 0..<20 { group.calmTick() }
            #expect(group.leader == leader)
            #expect(group.members[leader]?.core.term == term)
        }
    }

    @Test func aLeaderOfAnEarlierTermChangesNothing() throws {
        var core = RaftCore(
            id: one, hardState: HardState(term: 3),
            snapshot: SnapshotMetadata(position: LogPosition(), membership: Membership(voters: [one, MemberID(2), MemberID(3)])),
            entries: [entry(1), entry(2, term: 3)], seed: 1)
        let content = RaftMessage.Content.append(previous: LogPosition(index: 1, term: 1), entries: [entry(2, term: 2)], commit: 2, round: 1)
        let output = core.step(.received(RaftMessage(from: MemberID(2), to: one, term: 2, content: content)))
        #expect(output.persist == nil)
        #expect(output.apply.isEmpty)
        #expect(core.leader == nil)
        #expect(output.send.map(\.term) == [3])
    }

    @Test func aSnapshotThatComesLateTakesNothingAway() throws {
        // What this member acknowledged may be committed because of it.
        let membership = Membership(voters: [one, MemberID(2), MemberID(3)])
        var core = RaftCore(
            id: one, hardState: HardState(term: 1), snapshot: SnapshotMetadata(position: LogPosition(), membership: membership),
            entries: [entry(1), entry(2), entry(3)], seed: 1)
        let metadata = SnapshotMetadata(position: LogPosition(index: 2, term: 1), membership: membership)
        let output = core.step(.received(RaftMessage(from: MemberID(2), to: one, term: 1, content: .installSnapshot(metadata))))
        #expect(output.restore == nil)
        #expect(core.lastIndex == 3)
        #expect(output.apply.map(\.index) == [1, 2])
        #expect(output.send.map(\.content) == [.appendAccepted(match: 2, round: 0)])
    }

    /// All that may be in flight to it was lost, and the log has moved on past what it needs: it must still hear from the leader.
    @Test func aMemberThatWasAwayLongComesBack() throws {
        var group = GroupSimulation(voters: 3, keptEntries: 2, seed: 9)
        for _ in 0..<40 { group.calmTick() }
        let leader = try #require(group.leader)
        let away = try #require(group.ids.first { $0 != leader })
        group.isolated = [away]
        for number in 0..<200 as Range<UInt64> {
            group.step(leader, .propose(id: number, payload: [1]))
            group.settle()
            if number % 20 == 0 { group.calmTick() }
        }
        for _ in 0..<30 { group.calmTick() }
        group.isolated = []
        for _ in 0..<30 { group.calmTick() }
        #expect(group.members[away]?.applied == group.members[leader]?.applied)
        #expect(group.restores > 0)
        #expect(group.violations == [])
    }

    /// Its removal is in its log alone, and it has to win once more so that it can be decided (the thesis, section 4.2.2).
    @Test func aMemberMayCampaignUntilItsRemovalIsDecided() throws {
        let two = MemberID(2)
        let removal = LogEntry(index: 2, term: 1, kind: .membership, payload: Membership(voters: [two]).encoded())
        var core = RaftCore(
            id: one, hardState: HardState(term: 1), snapshot: SnapshotMetadata(position: LogPosition(), membership: Membership(voters: [one, two])),
            entries: [entry(1), removal], seed: 1)
        var asked: [MemberID] = []
        for _ in 0..<30 { asked += core.step(.tick).send.map(\.to) }
        #expect(asked.contains(two))
        // Once it is decided, it stays quiet.
        var decided = RaftCore(
            id: one, hardState: HardState(term: 1),
            snapshot: SnapshotMetadata(position: LogPosition(index: 2, term: 1), membership: Membership(voters: [two])), entries: [], seed: 1)
        for _ in 0..<30 { #expect(decided.step(.tick).send.isEmpty) }
    }

    /// A leader commits nothing of an earlier term by counting copies (the thesis, figure 3.7).
    @Test func anOlderTermIsNotCommittedByCountingCopies() throws {
        func commit(_ mistakes: RaftMistakes) -> UInt64 {
            let membership = Membership(voters: [one, MemberID(2), MemberID(3)])
            var core = RaftCore(
                id: one, hardState: HardState(term: 2), snapshot: SnapshotMetadata(position: LogPosition(), membership: membership),
                entries: [entry(1), entry(2)], seed: 1)
            core.mistakes = mistakes
            _ = core.step(.received(RaftMessage(from: MemberID(2), to: one, term: 2, content: .timeoutNow)))
            _ = core.step(.received(RaftMessage(from: MemberID(2), to: one, term: 3, content: .voteResponse(granted: true, isPreVote: false))))
            #expect(core.role == .leader)
            _ = core.step(.received(RaftMessage(from: MemberID(2), to: one, term: 3, content: .appendAccepted(match: 2, round: 0))))
            return core.committedIndex
        }
        #expect(commit([]) == 0)
        #expect(commit(.commitOlderTerm) == 2)
    }

    /// A follower knows of no more than it has compared with the leader.
    @Test func aFollowerCommitsOnlyWhatItHasCompared() throws {
        func commit(_ mistakes: RaftMistakes) -> UInt64 {
            let membership = Membership(voters: [one, MemberID(2), MemberID(3)])
            var core = RaftCore(
                id: one, hardState: HardState(term: 2), snapshot: SnapshotMetadata(position: LogPosition(), membership: membership),
                entries: [entry(1), entry(2), entry(3)], seed: 1)
            core.mistakes = mistakes
            let content = RaftMessage.Content.append(previous: LogPosition(index: 1, term: 1), entries: [], commit: 3, round: 1)
            _ = core.step(.received(RaftMessage(from: MemberID(2), to: one, term: 2, content: content)))
            return core.committedIndex
        }
        #expect(commit([]) == 1)
        #expect(commit(.commitBeyondMatch) == 3)
    }

    @Test func garbageEntriesAreRefused() throws {
        var core = RaftCore(
            id: one, hardState: HardState(term: 2),
            snapshot: SnapshotMetadata(position: LogPosition(), membership: Membership(voters: [one, MemberID(2)])), entries: [], seed: 1)
        func append(_ entries: [LogEntry]) -> RaftOutput {
            core.step(
                .received(
                    RaftMessage(
                        from: MemberID(2), to: one, term: 2, content: .append(previous: LogPosition(), entries: entries, commit: 0, round: 1))))
        }
        for entries in [[entry(2)], [entry(1), entry(3)], [entry(1, term: 2), entry(2, term: 1)], [entry(1, term: 3)], [entry(0)]] {
            #expect(append(entries).persist?.entries.isEmpty != false)
            #expect(core.lastIndex == 0)
        }
        #expect(append([entry(1), entry(2, term: 2)]).persist?.entries.count == 2)
    }

    /// Bad days: loss, delay, repetition, crashes, partitions, slow disks. What was decided stays decided, and afterwards all agree.
    @Test(arguments: 0..<80 as Range<UInt64>)
    func randomDays(_ seed: UInt64) throws {
        var group = GroupSimulation(voters: seed % 3 == 0 ? 5 : 3, keptEntries: seed % 2 == 0 ? 500 : 3, seed: seed)
        group.lossPercent = Int(seed % 4) * 10
        for proposal in 0..<4000 as Range<UInt64> {
            group.chaos(proposal: proposal)
            if group.network.count > 2000 { group.network.removeFirst(1000) }
        }
        let decided = group.decided
        group.heal()
        #expect(group.violations == [], "seed \(seed)")
        let leader = try #require(group.leader, "seed \(seed)")
        group.step(leader, .propose(id: 1, payload: Array("end".utf8)))
        for _ in 0..<5 { group.calmTick() }
        // A day on which nothing is decided would prove nothing.
        if seed % 4 == 0 { #expect(decided.count > 3, "seed \(seed)") }
        let log = try #require(group.members[leader]?.applied)
        #expect(log.last?.payload == Array("end".utf8), "seed \(seed)")
        for id in group.ids { #expect(group.members[id]?.applied == log, "seed \(seed), member \(id)") }
        for (index, entry) in decided { #expect(log[Int(index) - 1] == entry, "seed \(seed)") }
        #expect(group.violations == [], "seed \(seed)")
    }
}
