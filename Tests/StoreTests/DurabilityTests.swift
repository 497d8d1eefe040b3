import Coding
import PluginAPI
import Raft
import Synchronization
import Testing

@testable import Store

@Suite struct DurabilityTests {
    @Test func aFailedSynchronizationIsFinalAndWhatWasAcknowledgedStays() async throws {
        let directory = try TemporaryDirectory()
        let disk = FailingFiles()
        let store = try await ObjectStore.open(
            configuration(directory) {
                $0.files = disk
                $0.logger = silent
            })
        let acknowledged = NameSet()
        let refused = NameSet()
        await withTaskGroup(of: Void.self) { group in
            for writer in 0..<16 {
                group.addTask {
                    for round in 0..<50 {
                        if writer == 0, round == 20 { disk.isFailing.withLock { $0 = true } }
                        let name = "s\(writer)-\(round)"
                        do {
                            try await store.create(makeService(name))
                            acknowledged.insert(name)
                        } catch {
                            refused.insert(name)
                        }
                    }
                }
            }
        }
        #expect(await store.failure().message.contains("Input/output error"))
        let written = acknowledged.names
        #expect(written.count >= 20)
        #expect(refused.names.count > 0)
        #expect(Set(store.read().services.values.map(\.spec.name)) == written)
        let error = await #expect(throws: ApusError.self) { try await store.create(makeService("late")) }
        #expect(error?.message.contains("Input/output error") == true)
        await store.close()
        let again = try await ObjectStore.open(configuration(directory))
        let found = Set(again.read().services.values.map(\.spec.name))
        #expect(written.isSubset(of: found))
        #expect(found.subtracting(written).isSubset(of: refused.names))
        await again.close()
    }

    @Test func snapshotsAndRestartsKeepEverything() async throws {
        let directory = try TemporaryDirectory()
        var expected: Set<Service> = []
        for round in 0..<5 {
            let store = try await ObjectStore.open(
                configuration(directory) {
                    $0.snapshotInterval = 15
                    $0.segmentSize = 4000
                })
            #expect(Set(store.read().services.values) == expected)
            for number in 0..<30 { expected.insert(try await store.create(makeService("s\(round)-\(number)"))) }
            await store.close()
        }
    }

    @Test func anEntryThatDoesNotApplyChangesNothingAndSaysSo() throws {
        var state = StoreSnapshot()
        state.version = Version(index: 5)
        let service = makeService("web")
        let record = TransactionRecord(base: Version(index: 5), time: Timestamp(nanoseconds: 1), changes: [.created(.service(service))])
        let (after, commit) = try record.applied(to: state, at: 6)
        #expect(after.version.index == 6)
        #expect(commit.changes.count == 1)
        // Once more: its base is gone.
        let stale = #expect(throws: ApusError.self) { try record.applied(to: after, at: 7) }
        #expect(stale?.code == .conflict)
        // The right base, but the name is taken: every member refuses it in the same way.
        let double = TransactionRecord(
            base: Version(index: 6), time: Timestamp(nanoseconds: 2), changes: [.created(.service(makeService("web", id: "other")))])
        let first = #expect(throws: ApusError.self) { try double.applied(to: after, at: 7) }
        let second = #expect(throws: ApusError.self) { try double.applied(to: after, at: 7) }
        #expect(first == second)
        // Rubbish in the log is refused, not trusted.
        let machine = ReplicatedState(StoreConfiguration(directory: "/nonexistent", logger: silent))
        machine.apply([
            LogEntry(index: 1, term: 1, kind: .command, payload: [1, 2, 3, 255]), LogEntry(index: 2, term: 1, kind: .command, payload: []),
        ])
        #expect(machine.published.withLock { $0.snapshot.services.isEmpty })
    }

    @Test func aTransactionThatAnotherLeaderReplacedIsReported() async throws {
        let machine = ReplicatedState(StoreConfiguration(directory: "/nonexistent", logger: silent))
        var proposals: [ReplicatedState.Proposal] = []
        for index in 1...3 as ClosedRange<UInt64> {
            var head = StoreSnapshot()
            head.version = Version(index: index)
            proposals.append(
                ReplicatedState.Proposal(
                    position: LogPosition(index: index, term: 1), base: Version(index: index - 1), head: head,
                    commit: StoreCommit(version: Version(index: index), changes: []), outcome: Promise()))
        }
        let waiting = proposals
        machine.proposing.withLock { $0.waiting = waiting }
        let other = TransactionRecord(base: Version(index: 1), time: Timestamp(nanoseconds: 1), changes: [.created(.service(makeService("theirs")))])
        machine.apply([LogEntry(index: 1, term: 1, kind: .command)])
        #expect(await proposals[0].outcome.value() == nil)
        machine.apply([LogEntry(index: 2, term: 2, kind: .command, payload: ProtobufFields.encode(other))])
        #expect(await proposals[1].outcome.value()?.code == .unavailable)
        #expect(await proposals[2].outcome.value()?.code == .unavailable)
        #expect(machine.published.withLock { $0.snapshot.service(named: "theirs")?.version.index } == 2)
    }

    @Test func damageIsReportedWithTheWayOutAndTheWayOutWorks() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        var versions: [Version] = []
        for number in 0..<5 { versions.append(try await store.create(makeService("s\(number)")).version) }
        await store.close()
        let swarm = directory.path + "/swarm"
        let files = SystemStorageFiles()
        let segment = try #require(try files.list(swarm + "/wal").first)
        let path = "\(swarm)/wal/\(segment)"
        var bytes = try files.read(path)
        bytes[bytes.count * 3 / 4] ^= 1
        try files.remove(path)
        let file = try files.create(path)
        try file.append(bytes)
        file.close()
        let error = await #expect(throws: ApusError.self) { _ = try await ObjectStore.open(configuration(directory)) }
        let message = try #require(error?.message)
        #expect(error?.code == .corrupt)
        let command = "apusd recover --data-root \(directory.path) --discard-after "
        #expect(message.contains(command))
        let index = try #require(message.split(separator: " ").last.flatMap { UInt64($0) })
        try RaftRecovery.discard(after: index, directory: swarm, name: "test")
        let again = try await ObjectStore.open(configuration(directory))
        #expect(again.read().version.index == index)
        #expect(again.read().services.count == versions.filter { $0.index <= index }.count)
        #expect((1..<5).contains(again.read().services.count))
        try await again.create(makeService("after"))
        await again.close()
    }

    @Test func aFolderOfAnotherKindIsRefused() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        await store.close()
        try SystemStorageFiles().remove(directory.path + "/swarm/member")
        let error = await #expect(throws: ApusError.self) { _ = try await ObjectStore.open(configuration(directory)) }
        #expect(error?.code == .corrupt)
    }
}

private final class NameSet: Sendable {
    private let state = Mutex<Set<String>>([])

    var names: Set<String> { state.withLock { $0 } }
    func insert(_ name: String) { state.withLock { _ = $0.insert(name) } }
}
