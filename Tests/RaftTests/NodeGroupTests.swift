import Files
import PluginAPI
import Synchronization
import Testing

@testable import Raft

@Suite(.serialized) struct NodeGroupTests {
    private func command(_ number: Int) -> [UInt8] { Array("command \(number)".utf8) }

    private func three(_ change: @escaping @Sendable (inout RaftConfiguration) -> Void = { _ in }) async throws -> NodeGroup {
        let group = try NodeGroup(change)
        for number in 1...3 as ClosedRange<UInt64> { try await group.open(number, bootstrap: [1, 2, 3]) }
        return group
    }

    @Test func threeReplicateAndOneMayDie() async throws {
        let group = try await three()
        for number in 0..<20 { try await group.propose(command(number)) }
        let leader = try await group.leader().status.id.number
        try await group.node(leader).readBarrier()
        // A follower's read sees what was decided before it.
        let follower = leader % 3 + 1
        try await group.node(follower).readBarrier()
        #expect(group.commands(follower).count == 20)
        let status = try group.node(leader).status
        #expect(status.members.map(\.id.number) == [1, 2, 3])
        try await group.wait("reachable members") { try group.node(leader).status.members.allSatisfy { $0.isReachable == true } }
        await group.close(leader)
        let next = try await group.leader()
        for number in 20..<30 { try await group.propose(command(number)) }
        try await group.wait("the loss to be seen") { next.status.members.first { $0.id.number == leader }?.isReachable == false }
        try await group.open(leader, bootstrap: [1, 2, 3])
        try await group.wait("all to be equal") { (1...3).allSatisfy { group.commands($0).count >= 30 } }
        for number in 1...3 as ClosedRange<UInt64> { #expect(group.commands(number) == group.commands(1)) }
        await group.closeAll()
    }

    @Test(arguments: [0, 2]) func aMemberJoinsFarBehindAndGetsASnapshot(_ broken: Int) async throws {
        let group = try NodeGroup {
            $0.snapshotInterval = 20
            $0.settings.keptEntries = 5
            $0.settings.promotionLag = 3
        }
        let first = try await group.open(1, bootstrap: [1])
        for number in 0..<200 { try await group.propose(command(number)) }
        group.state.withLock { $0.brokenSnapshots = broken }
        let second = try await group.open(2, bootstrap: nil)
        #expect(second.status.role == .follower)
        #expect(second.status.members.isEmpty)
        await #expect(throws: ApusError.self) { try await second.readBarrier() }
        try await first.addLearner(MemberID(2))
        #expect(first.status.members.map(\.isVoter) == [true, false])
        try await first.promote(MemberID(2))
        #expect(first.status.members.map(\.isVoter) == [true, true])
        try await first.promote(MemberID(2))
        try await group.wait("the joiner to have everything") { group.commands(2).count == 200 }
        #expect(group.commands(2) == group.commands(1))
        #expect(group.state.withLock { $0.snapshots } > broken)
        // What it got survives its restart, with what came after.
        for number in 200..<230 { try await group.propose(command(number)) }
        await group.close(2)
        let again = try await group.open(2, bootstrap: nil)
        try await group.wait("the joiner to catch up again") { group.commands(2).count == 230 }
        #expect(group.commands(2) == group.commands(1))
        #expect(again.status.members.count == 2)
        #expect(group.state.withLock { $0.recorders[MemberID(2)]?.state.withLock { $0.outOfOrder } } == false)
        await group.closeAll()
    }

    @Test func aJoinerThatNobodyKnowsStaysQuiet() async throws {
        let group = try NodeGroup()
        let node = try await group.open(7, bootstrap: nil)
        for _ in 0..<100 { _ = node.step(.tick) }
        #expect(node.status.term == 0)
        await group.close(7)
        let again = try await group.open(7, bootstrap: nil)
        #expect(again.status.members.isEmpty)
        await group.closeAll()
    }

    @Test func leadershipIsHandedOver() async throws {
        let group = try await three()
        try await group.propose(command(0))
        let leader = try await group.leader()
        let target = MemberID(leader.status.id.number % 3 + 1)
        try await leader.transferLeadership(to: target)
        #expect(try group.node(target.number).role.role == .leader)
        let next = try await group.leader()
        try await next.transferLeadership(to: nil)
        #expect(next.status.role != .leader)
        let error = await #expect(throws: ApusError.self) { try await next.transferLeadership(to: target) }
        #expect(error?.code == .unavailable)
        try await group.propose(command(1))
        let third = try await group.leader()
        let unknown = await #expect(throws: ApusError.self) { try await third.transferLeadership(to: MemberID(99)) }
        #expect(unknown?.code == .invalidArgument)
        await group.closeAll()
    }

    @Test func removalKeepsAQuorum() async throws {
        let group = try await three()
        try await group.propose(command(0))
        var leader = try await group.leader()
        // The leader itself: it hands over first.
        let old = leader.status.id
        let handed = await #expect(throws: ApusError.self) { try await leader.remove(old) }
        #expect(handed?.code == .unavailable)
        leader = try await group.leader()
        #expect(leader.status.id != old)
        // With one voter away, removing another one would leave one of two.
        let away = old
        let other = try #require(leader.status.members.first { $0.id != away && $0.id != leader.status.id }).id
        await group.close(away.number)
        try await group.wait("the loss to be seen") { leader.status.members.first { $0.id == away }?.isReachable == false }
        let refused = await #expect(throws: ApusError.self) { try await leader.remove(other) }
        #expect(refused?.code == .conflict)
        try await leader.remove(away)
        try await leader.remove(away)
        #expect(Set(leader.status.members.map(\.id)) == [leader.status.id, other])
        try await leader.remove(other)
        let last = await #expect(throws: ApusError.self) { try await leader.remove(leader.status.id) }
        #expect(last?.code == .conflict)
        try await group.propose(command(1))
        let missing = await #expect(throws: ApusError.self) { try await leader.promote(MemberID(55)) }
        #expect(missing?.code == .notFound)
        await group.closeAll()
    }

    @Test func aLeaderThatIsCutOffFailsClearly() async throws {
        let group = try await three()
        try await group.propose(command(0))
        let old = try await group.leader()
        _ = group.state.withLock { $0.cut.insert(old.status.id) }
        let lost = await #expect(throws: ApusError.self) { try await old.addLearner(MemberID(9)) }
        #expect(lost?.code == .unavailable)
        let read = await #expect(throws: ApusError.self) { try await old.readBarrier() }
        #expect(read?.code == .unavailable)
        try await group.propose(command(1))
        group.state.withLock { $0.cut = [] }
        try await group.wait("the old one to follow") { group.commands(old.status.id.number).count == 2 }
        #expect(old.status.members.count == 3)
        await group.closeAll()
    }

    /// Also of the one who leads next: it asked as a follower, and nobody but itself can answer any more.
    @Test func aReadOutlivesTheLeaderThatWasAsked() async throws {
        // Waiting is not what ends it.
        let group = try await three { $0.readTicks = 1_000_000 }
        try await group.propose(command(0))
        let old = try await group.leader()
        let others = try (1...3 as ClosedRange<UInt64>).filter { $0 != old.status.id.number }.map { try group.node($0) }
        try await group.wait("all to follow") { others.allSatisfy { $0.role.leader == old.status.id } }
        _ = group.state.withLock { $0.cut.insert(old.status.id) }
        let answered = Count()
        await withTaskGroup(of: Void.self) { tasks in
            for node in others { tasks.addTask { await Self.read(node, answered) } }
            // Closing ends those that would wait for ever.
            do { try await group.wait("both reads") { answered.value == 2 } } catch { await group.closeAll() }
            tasks.cancelAll()
        }
        await group.closeAll()
    }

    /// Counts a read that was answered. While nobody leads it is refused, and asked again.
    private static func read(_ node: RaftNode, _ answered: Count) async {
        while !ConcurrentTask.isCancelled {
            if (try? await node.readBarrier()) != nil { return answered.add() }
            try? await ConcurrentTask.sleep(for: .milliseconds(2))
        }
    }

    private final class Count: Sendable {
        private let state = Mutex(0)

        var value: Int { state.withLock { $0 } }
        func add() { state.withLock { $0 += 1 } }
    }

    @Test func oneMemberGoesOnAlone() async throws {
        let group = try await three()
        for number in 0..<10 { try await group.propose(command(number)) }
        try await group.wait("all") { group.commands(2).count == 10 }
        await group.closeAll()
        #expect(throws: ApusError.self) { try RaftRecovery.forceNewCluster(member: one, directory: group.path(99)) }
        let position = try RaftRecovery.forceNewCluster(member: MemberID(2), directory: group.path(2))
        let node = try await group.open(2, bootstrap: [1, 2, 3])
        #expect(node.status.members.map(\.id.number) == [2])
        #expect(node.status.committedIndex > position.index)
        #expect(group.commands(2) == (0..<10).map { command($0) })
        try await group.propose(command(10))
        // Others may join it anew.
        try await group.open(4, bootstrap: nil)
        try await node.addLearner(MemberID(4))
        try await node.promote(MemberID(4))
        try await group.wait("the new one") { group.commands(4) == group.commands(2) }
        await group.closeAll()
    }

    @Test func aFullDiskStopsLeadingAndGoesOnWhenThereIsSpace() async throws {
        let group = try NodeGroup()
        let disks = (0..<3).map { _ in FaultyFiles() }
        for number in 1...3 as ClosedRange<UInt64> { try await group.open(number, bootstrap: [1, 2, 3], files: disks[Int(number) - 1]) }
        for number in 0..<5 { try await group.propose(command(number)) }
        let old = try await group.leader()
        let disk = disks[Int(old.status.id.number) - 1]
        disk.state.withLock { $0.isFull = true }
        _ = try old.propose(command(5))
        try await group.wait("the full disk to be seen") { old.status.suspension?.contains("No space left") == true }
        #expect(old.status.role == .follower)
        let error = #expect(throws: ApusError.self) { try old.propose(command(6)) }
        #expect(error?.code == .unavailable)
        await #expect(throws: ApusError.self) { try await old.readBarrier() }
        // The others go on.
        for number in 10..<20 { try await group.propose(command(number)) }
        #expect(try await group.leader().status.id != old.status.id)
        disk.state.withLock { $0.isFull = false }
        try await group.wait("it to catch up") {
            old.status.suspension == nil && group.commands(old.status.id.number).contains(command(19))
        }
        await group.close(old.status.id.number)
        try await group.open(old.status.id.number, bootstrap: [1, 2, 3])
        try await group.propose(command(20))
        try await group.wait("all to be equal") { Set((1...3).map { group.commands($0) }).count == 1 && group.commands(1).last == command(20) }
        await group.closeAll()
    }

    @Test func aGroupOfOneSurvivesAFullDisk() async throws {
        let directory = try TemporaryDirectory()
        let disk = FaultyFiles()
        let recorder = Recorder()
        let node = try await RaftNode.open(
            configuration(directory.path) {
                $0.files = disk
                $0.tick = .milliseconds(5)
                $0.snapshotInterval = 4
                $0.segmentSize = 500
            }, stateMachine: recorder, logger: silent)
        var proposed: [[UInt8]] = []
        for round in 0..<5 {
            for number in 0..<7 {
                let payload = command(round * 100 + number)
                try await wait { (try? node.propose(payload)) != nil }
                proposed.append(payload)
                try await recorder.wait(for: proposed.count)
            }
            disk.state.withLock { $0.isFull = true }
            let payload = command(round * 100 + 50)
            _ = try node.propose(payload)
            proposed.append(payload)
            try await wait { node.status.suspension != nil }
            disk.state.withLock { $0.isFull = false }
            try await wait { node.status.suspension == nil && node.status.role == .leader }
        }
        try await recorder.wait(for: proposed.count)
        await node.close()
        let again = Recorder()
        let reopened = try await RaftNode.open(configuration(directory.path), stateMachine: again, logger: silent)
        #expect(again.commands == proposed)
        #expect(!again.state.withLock { $0.outOfOrder })
        await reopened.close()
    }

    private func wait(_ condition: () -> Bool) async throws {
        let end = ContinuousClock.now + .seconds(60)
        while !condition() {
            try #require(ContinuousClock.now < end)
            try await ConcurrentTask.sleep(for: .milliseconds(2))
        }
    }
}
