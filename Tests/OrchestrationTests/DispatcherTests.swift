import Logging
import Orchestration
import PluginAPI
import Testing

@testable import Dispatcher

@Suite struct DispatcherTests {
    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func status(_ state: TaskState, at seconds: Int64 = 1, _ message: String = "") -> TaskStatus {
        var status = TaskStatus()
        status.state = state
        status.timestamp = Timestamp(nanoseconds: seconds * 1_000_000_000)
        status.message = message
        return status
    }

    private func makeSwarm(_ tasks: Task...) throws -> MemorySwarm {
        let swarm = MemorySwarm()
        try swarm.commit { transaction throws(ApusError) in for task in tasks { try transaction.create(task) } }
        return swarm
    }

    private func assigned(_ id: String, node: String = "n1", _ state: TaskState = .assigned) -> Task {
        makeTask(id) {
            $0.nodeID = ID(node)
            $0.status = status(state)
        }
    }

    // MARK: Reports

    @Test func statusesOnlyMoveForward() async throws {
        let swarm = try makeSwarm(assigned("t"))
        let reports = StatusReports(store: swarm, logger: Self.logger)
        func state() -> TaskState? { swarm.read().task("t")?.status.state }
        try await reports.report(["t": status(.running, at: 5)])
        #expect(state() == .running)
        try await reports.report(["t": status(.preparing, at: 9)])
        #expect(state() == .running)
        try await reports.report(["t": status(.running, at: 7, "healthy")])
        #expect(swarm.read().task("t")?.status.message == "healthy")
        try await reports.report(["t": status(.running, at: 6, "late")])
        #expect(swarm.read().task("t")?.status.message == "healthy")
        try await reports.report(["t": status(.complete, at: 8)])
        for later in [TaskState.shutdown, .failed, .rejected, .running, .orphaned] {
            try await reports.report(["t": status(later, at: 20)])
            #expect(state() == .complete, "an end is an end")
        }
    }

    @Test func unknownTasksAreDropped() async throws {
        let swarm = try makeSwarm(assigned("t"))
        let reports = StatusReports(store: swarm, logger: Self.logger)
        try await reports.report(["gone": status(.running), "t": status(.accepted)])
        #expect(swarm.read().tasks.count == 1)
        #expect(swarm.read().task("t")?.status.state == .accepted)
    }

    @Test func whatTheManagerWantsIsNotTouched() async throws {
        var task = assigned("t")
        task.desiredState = .shutdown
        let swarm = try makeSwarm(task)
        try await StatusReports(store: swarm, logger: Self.logger).report(["t": status(.shutdown, at: 9)])
        #expect(swarm.read().task("t")?.desiredState == .shutdown)
    }

    @Test func manyReportsShareTransactions() async throws {
        let swarm = MemorySwarm()
        try swarm.commit { transaction throws(ApusError) in for index in 0..<500 { try transaction.create(assigned("t\(index)")) } }
        let reports = StatusReports(store: swarm, logger: Self.logger)
        let before = swarm.transactionCount
        await withTaskGroup(of: Void.self) { group in
            for index in 0..<500 { group.addTask { try? await reports.report([ID("t\(index)"): status(.running, at: 3)]) } }
        }
        #expect(swarm.read().tasks.values.allSatisfy { $0.status.state == .running })
        #expect(swarm.transactionCount - before < 100)
    }

    @Test func everyReporterLearnsOfTheFailure() async throws {
        let swarm = try makeSwarm(assigned("a"), assigned("b"))
        let reports = StatusReports(store: swarm, logger: Self.logger)
        swarm.fail(with: [ApusError(.unavailable, "no leader")])
        await #expect(throws: ApusError(.unavailable, "no leader")) { try await reports.report(["a": status(.running, at: 3)]) }
        try await reports.report(["a": status(.running, at: 3)])
        #expect(swarm.read().task("a")?.status.state == .running)
        try await reports.report([:])
    }

    // MARK: Assignments

    private func next(_ iterator: inout AsyncStream<[Task]>.Iterator) async -> [String]? { await iterator.next()?.map(\.id.text) }

    @Test func theFullSetAtOnceAndAfterEachChange() async throws {
        let swarm = try makeSwarm(assigned("a"), assigned("other", node: "n2"), assigned("waiting", .pending), assigned("ended", .failed))
        var iterator = Assignments.stream(swarm, "n1").makeAsyncIterator()
        #expect(Set(await next(&iterator) ?? []) == ["a", "ended"])
        try swarm.commit { transaction throws(ApusError) in try transaction.create(assigned("b")) }
        #expect(Set(await next(&iterator) ?? []) == ["a", "b", "ended"])
        // Its own reports are no news; a changed desire is.
        try swarm.commit { transaction throws(ApusError) in
            var task = assigned("a")
            task.status = status(.running, at: 9)
            try transaction.update(task)
        }
        try swarm.commit { transaction throws(ApusError) in
            var task = assigned("b")
            task.desiredState = .shutdown
            try transaction.update(task)
        }
        let tasks = await iterator.next() ?? []
        #expect(tasks.first { $0.id == "b" }?.desiredState == .shutdown)
        #expect(tasks.first { $0.id == "a" }?.status.state == .running)
        try swarm.commit { transaction throws(ApusError) in try transaction.removeTask("b") }
        #expect(Set(await next(&iterator) ?? []) == ["a", "ended"])
        // What was placed meanwhile is not missed when the watch breaks.
        try swarm.commit { transaction throws(ApusError) in try transaction.create(assigned("c")) }
        swarm.dropWatchers()
        #expect(Set(await next(&iterator) ?? []) == ["a", "c", "ended"])
        try swarm.commit { transaction throws(ApusError) in try transaction.removeTask("c") }
        #expect(Set(await next(&iterator) ?? []) == ["a", "ended"])
    }

    @Test func aNodeWithoutTasksHearsSo() async throws {
        var iterator = Assignments.stream(try makeSwarm(), "n1").makeAsyncIterator()
        #expect(await next(&iterator) == [])
    }

    @Test func theStreamEndsWithItsReader() async throws {
        let swarm = try makeSwarm(assigned("a"))
        let count = await withTaskGroup(of: Int.self) { group in
            group.addTask {
                var count = 0
                for await _ in Assignments.stream(swarm, "n1") { count += 1 }
                return count
            }
            try? await ConcurrentTask.sleep(for: .milliseconds(50))
            group.cancelAll()
            return await group.next() ?? -1
        }
        #expect(count <= 1)
    }
}
