import Files
import PluginAPI
import Synchronization
import Testing

@testable import Raft

@Suite struct NodeTests {
    private func command(_ number: Int) -> [UInt8] { Array("command \(number)".utf8) }

    @Test func commandsSurviveARestart() async throws {
        let directory = try TemporaryDirectory()
        for round in 0..<3 {
            let recorder = Recorder()
            let node = try await RaftNode.open(configuration(directory.path), stateMachine: recorder, logger: quiet)
            #expect(recorder.commands == (0..<round * 10).map { command($0) })
            #expect(node.role.role == .leader)
            for number in round * 10..<round * 10 + 10 { _ = try node.propose(command(number)) }
            try await recorder.wait(for: round * 10 + 10)
            await node.close()
            #expect(recorder.commands == (0..<round * 10 + 10).map { command($0) })
            #expect(!recorder.state.withLock { $0.outOfOrder })
        }
    }

    @Test func whatIsProposedBeforeTheEndIsWritten() async throws {
        let directory = try TemporaryDirectory()
        let node = try await RaftNode.open(configuration(directory.path), stateMachine: Recorder(), logger: quiet)
        for number in 0..<50 { _ = try node.propose(command(number)) }
        await node.close()
        #expect(throws: ApusError.self) { try node.propose([]) }
        let recorder = Recorder()
        let again = try await RaftNode.open(configuration(directory.path), stateMachine: recorder, logger: quiet)
        #expect(recorder.commands.count == 50)
        await again.close()
    }

    @Test func snapshotsReplaceTheLog() async throws {
        let directory = try TemporaryDirectory()
        let settings = configuration(directory.path) {
            $0.snapshotInterval = 20
            $0.segmentSize = 1000
        }
        let recorder = Recorder()
        let node = try await RaftNode.open(settings, stateMachine: recorder, logger: quiet)
        for number in 0..<200 {
            _ = try node.propose(command(number))
            try await recorder.wait(for: number + 1)
        }
        await node.close()
        #expect(try Files.list(directory.path + "/wal").count < 20)
        let again = Recorder()
        let reopened = try await RaftNode.open(settings, stateMachine: again, logger: quiet)
        #expect(again.commands == (0..<200).map { command($0) })
        // The newest, and perhaps one that is being replaced at this moment.
        #expect((1...2).contains(try Files.list(directory.path + "/snapshots").filter { $0.hasSuffix(".snapshot") }.count))
        #expect(!again.state.withLock { $0.outOfOrder })
        await reopened.close()
    }

    @Test func manyRestartsDoNotPileUpSegments() async throws {
        let directory = try TemporaryDirectory()
        let settings = configuration(directory.path) { $0.segmentLimit = 5 }
        for round in 0..<20 {
            let recorder = Recorder()
            let node = try await RaftNode.open(settings, stateMachine: recorder, logger: quiet)
            #expect(recorder.commands.count == round)
            _ = try node.propose(command(round))
            try await recorder.wait(for: round + 1)
            await node.close()
        }
        #expect(try Files.list(directory.path + "/wal").count <= 8)
    }

    @Test func proposalsTogetherCostOneSynchronization() async throws {
        let directory = try TemporaryDirectory()
        let disk = FaultyFiles()
        let recorder = Recorder()
        let node = try await RaftNode.open(configuration(directory.path) { $0.files = disk }, stateMachine: recorder, logger: quiet)
        let before = disk.state.withLock { $0.synchronizations }
        for number in 0..<1000 { _ = try node.propose(command(number)) }
        try await recorder.wait(for: 1000)
        let used = disk.state.withLock { $0.synchronizations } - before
        #expect(used < 200)
        #expect(used >= 1)
        await node.close()
    }

    @Test(arguments: [FaultyFiles.Fault.synchronize, .write], [0, 1, 7])
    func aFailedWriteIsFinal(_ fault: FaultyFiles.Fault, _ after: Int) async throws {
        let directory = try TemporaryDirectory()
        let disk = FaultyFiles()
        let recorder = Recorder()
        let node = try await RaftNode.open(configuration(directory.path) { $0.files = disk }, stateMachine: recorder, logger: silent)
        for number in 0..<5 {
            _ = try node.propose(command(number))
            try await recorder.wait(for: number + 1)
        }
        disk.fail(fault, after: after)
        var proposed = 5
        while proposed < 500 {
            do { _ = try node.propose(command(proposed)) } catch { break }
            proposed += 1
            try await recorder.wait(for: proposed)
        }
        #expect(proposed < 500)
        let error = await node.failure()
        #expect(error.message.contains("Input/output error"))
        let acknowledged = recorder.commands
        #expect(acknowledged.count == proposed - 1 || acknowledged.count == proposed)
        #expect(throws: ApusError.self) { try node.propose(command(999)) }
        let barrier = await #expect(throws: ApusError.self) { try await node.readBarrier() }
        #expect(barrier == error)
        await node.close()
        // Nothing was written or tried again.
        #expect(disk.state.withLock { $0.operationsAfterFailure } == 0)
        #expect(recorder.commands == acknowledged)
        #expect(recorder.state.withLock { $0.failure } == error)

        // The acknowledged ones are all there; one that was not may be.
        let again = Recorder()
        let reopened = try await RaftNode.open(configuration(directory.path), stateMachine: again, logger: silent)
        #expect(again.commands.starts(with: acknowledged))
        #expect(again.commands.count <= acknowledged.count + 1)
        await reopened.close()
    }

    @Test func aDiskThatFailsAtOnceIsReportedByOpen() async throws {
        for after in 0..<4 {
            let directory = try TemporaryDirectory()
            let disk = FaultyFiles()
            disk.fail(.synchronize, after: after)
            let error = await #expect(throws: ApusError.self, "\(after)") {
                let node = try await RaftNode.open(configuration(directory.path) { $0.files = disk }, stateMachine: Recorder(), logger: silent)
                _ = try node.propose([1])
                throw await node.failure()
            }
            #expect(error?.message.contains("Input/output error") == true)
            // Whatever was left behind, the folder opens again.
            let node = try await RaftNode.open(configuration(directory.path), stateMachine: Recorder(), logger: silent)
            await node.close()
        }
    }

    @Test func aReadBarrierSeesEverythingBefore() async throws {
        let directory = try TemporaryDirectory()
        let recorder = Recorder()
        let node = try await RaftNode.open(configuration(directory.path), stateMachine: recorder, logger: quiet)
        for number in 0..<20 {
            _ = try node.propose(command(number))
            try await node.readBarrier()
        }
        try await recorder.wait(for: 20)
        await node.close()
        await #expect(throws: ApusError.self) { try await node.readBarrier() }
    }

    @Test func aProposalForAnotherPlaceIsRefused() async throws {
        let directory = try TemporaryDirectory()
        let node = try await RaftNode.open(configuration(directory.path), stateMachine: Recorder(), logger: quiet)
        let next = try #require(node.nextIndex)
        #expect(try node.propose([1], at: next).index == next)
        #expect(throws: ApusError.self) { try node.propose([2], at: next) }
        await node.close()
    }
}
