import PluginAPI
import Testing

@testable import Raft

@Suite struct RaftCoreOfOneTests {
    private func core(entries: [LogEntry] = [], hardState: HardState = HardState()) -> RaftCore {
        RaftCore(
            id: one, hardState: hardState, snapshot: SnapshotMetadata(position: LogPosition(), membership: Membership(voters: [one])),
            entries: entries, seed: 7)
    }

    /// Elected, and its first entry durable and applied.
    private func leader() -> RaftCore {
        var core = core()
        _ = core.step(.campaign)
        _ = core.step(.persisted(LogPosition(index: 1, term: 1)))
        _ = core.step(.applied(1))
        return core
    }

    @Test func itElectsItselfAndCommitsWhatIsDurable() {
        var core = core()
        var output = core.step(.campaign)
        #expect(output.persist?.hardState == HardState(term: 1, vote: one))
        #expect(output.persist?.entries == [LogEntry(index: 1, term: 1, kind: .empty)])
        #expect(output.roleChange == RaftOutput.RoleChange(role: .leader, term: 1, leader: one))
        #expect(output.send.isEmpty)
        #expect(output.apply.isEmpty)
        #expect(!core.isEstablishedLeader)

        output = core.step(.persisted(LogPosition(index: 1, term: 1)))
        #expect(output.apply == [LogEntry(index: 1, term: 1, kind: .empty)])
        #expect(output.persist == nil)
        #expect(core.isEstablishedLeader)
        #expect(!core.needsTicks)
    }

    @Test func aProposalIsAppliedOnceItIsDurableAndNotBefore() {
        var core = leader()
        var output = core.step(.propose(id: 9, payload: [1]))
        #expect(output.accepted == [RaftOutput.Accepted(id: 9, position: LogPosition(index: 2, term: 1))])
        #expect(output.persist?.entries == [LogEntry(index: 2, term: 1, kind: .command, payload: [1])])
        #expect(output.persist?.hardState == nil)
        #expect(output.apply.isEmpty)
        output = core.step(.propose(id: 10, payload: [2]))
        #expect(output.apply.isEmpty)
        // Both at once, as a group commit reports it.
        output = core.step(.persisted(LogPosition(index: 3, term: 1)))
        #expect(output.apply.map(\.payload) == [[1], [2]])
        #expect(core.step(.persisted(LogPosition(index: 3, term: 1))).apply.isEmpty)
        #expect(core.step(.tick) == RaftOutput())
    }

    @Test func aReportOfAnotherTermOrFutureCountsForNothing() {
        var core = leader()
        _ = core.step(.propose(id: 1, payload: [1]))
        #expect(core.step(.persisted(LogPosition(index: 2, term: 9))).apply.isEmpty)
        #expect(core.step(.persisted(LogPosition(index: 7, term: 1))).apply.isEmpty)
        #expect(core.committedIndex == 1)
    }

    @Test func beforeItLeadsItRefuses() {
        var core = core()
        #expect(core.step(.propose(id: 3, payload: [])).rejected == [RaftOutput.Rejected(id: 3, reason: .notLeader, leader: nil)])
        #expect(core.step(.readIndex(id: 4)).rejected == [RaftOutput.Rejected(id: 4, reason: .notLeader, leader: nil)])
    }

    @Test func readsWaitForTheFirstEntryOfTheTerm() {
        var core = core(entries: [entry(1), entry(2)], hardState: HardState(term: 1, vote: one))
        _ = core.step(.campaign)
        #expect(core.step(.readIndex(id: 5)).reads.isEmpty)
        let output = core.step(.persisted(LogPosition(index: 3, term: 2)))
        #expect(output.apply.map(\.index) == [1, 2, 3])
        #expect(output.reads == [RaftOutput.ReadReady(id: 5, index: 3)])
        #expect(core.step(.readIndex(id: 6)).reads == [RaftOutput.ReadReady(id: 6, index: 3)])
    }

    @Test func itElectsItselfWithTheClockToo() {
        var core = core()
        var ticks = 0
        while core.role != .leader, ticks < 100 {
            _ = core.step(.tick)
            ticks += 1
        }
        #expect((10..<21).contains(ticks))
    }

    @Test func limitsAreKept() {
        var settings = RaftSettings()
        settings.entryLimit = 10
        settings.uncommittedLimit = 15
        var core = RaftCore(
            id: one, settings: settings, hardState: HardState(),
            snapshot: SnapshotMetadata(position: LogPosition(), membership: Membership(voters: [one])), entries: [], seed: 1)
        _ = core.step(.campaign)
        _ = core.step(.persisted(LogPosition(index: 1, term: 1)))
        #expect(core.step(.propose(id: 1, payload: [UInt8](repeating: 0, count: 11))).rejected.first?.reason == .tooLarge)
        #expect(core.step(.propose(id: 2, payload: [UInt8](repeating: 0, count: 10))).rejected.isEmpty)
        #expect(core.step(.propose(id: 3, payload: [UInt8](repeating: 0, count: 10))).rejected.first?.reason == .busy)
        _ = core.step(.persisted(LogPosition(index: 2, term: 1)))
        #expect(core.step(.propose(id: 4, payload: [UInt8](repeating: 0, count: 10))).rejected.isEmpty)
    }

    @Test func appliedEntriesLeaveMemory() {
        var core = leader()
        for index in UInt64(2)...600 {
            _ = core.step(.propose(id: index, payload: [0]))
            _ = core.step(.persisted(LogPosition(index: index, term: 1)))
            _ = core.step(.applied(index))
        }
        #expect(core.log.entries.count < 130)
        #expect(core.lastIndex == 600)
    }

    @Test func membershipsSurviveTheirBytes() {
        let membership = Membership(voters: [MemberID(1), MemberID(.max)], learners: [MemberID(7)])
        #expect(Membership(decoding: membership.encoded()) == membership)
        #expect(Membership(decoding: membership.encoded() + [0]) == nil)
        var found = membership
        found.contacts[MemberID(.max)] = MemberContact(node: "abc", address: "[::1]:2377")
        found.contacts[MemberID(7)] = MemberContact(node: "", address: "")
        #expect(Membership(decoding: found.encoded()) == found)
        for count in 0..<found.encoded().count { #expect(Membership(decoding: Array(found.encoded().prefix(count))) != found) }
        #expect(Membership(decoding: []) == nil)
        #expect(Membership(decoding: [255, 255, 255, 255]) == nil)
    }
}
