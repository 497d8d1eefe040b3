import Logging
import PluginAPI
import SchedulerBinpack
import SchedulerSpread
import Synchronization
import Testing

@testable import Dispatcher
@testable import Orchestration

/// The loops, on real time, over a store in memory.
@Suite struct ManagerLoopTests {
    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    /// Waits until something holds; the limit is for a broken machine only.
    private func until(_ what: Comment, _ condition: () -> Bool) async throws {
        for _ in 0..<3000 {
            if condition() { return }
            try await ConcurrentTask.sleep(for: .milliseconds(10))
        }
        Issue.record(what)
        throw CancellationError()
    }

    /// Runs a manager and an obedient node beside the body.
    private func withManager(
        _ swarm: MemorySwarm, nodes: [ID] = ["n1"], scheduler: @escaping @Sendable () -> any Scheduler = { SpreadScheduler() },
        _ body: (ManagerLoop<MemorySwarm, SystemClock>) async throws -> Void
    ) async throws {
        let loop = ManagerLoop(store: swarm, clock: SystemClock(), scheduler: scheduler, logger: Self.logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await loop.run() }
            for node in nodes { group.addTask { await TestNode(swarm, node).run() } }
            try await body(loop)
            group.cancelAll()
        }
    }

    private func running(_ swarm: MemorySwarm, _ service: ID) -> [Task] {
        swarm.read().tasks(ofService: service).filter { $0.status.state == .running && $0.desiredState == .running }
    }

    private func makeSwarm(_ names: String...) throws -> MemorySwarm {
        let swarm = MemorySwarm()
        try swarm.commit { transaction throws(ApusError) in for name in names { transaction.put(makeNode(name)) } }
        return swarm
    }

    @Test func fromCreateToRunningToGone() async throws {
        let swarm = try makeSwarm("n1")
        try await withManager(swarm) { _ in
            let service = ServiceDraft.create(makeSpec("web", replicas: 3), id: "web")
            try swarm.commit { $0.put(service) }
            try await until("three replicas run") { running(swarm, "web").count == 3 }
            try swarm.commit { transaction throws(ApusError) in try transaction.removeService("web") }
            try await until("nothing is left") { swarm.read().tasks.isEmpty }
        }
    }

    @Test func oneReplicaAfterTheOther() async throws {
        let swarm = try makeSwarm("n1")
        try await withManager(swarm) { _ in
            for index in 0..<5 {
                let id = ID("web\(index)")
                let service = ServiceDraft.create(makeSpec("web\(index)"), id: id)
                try swarm.commit { $0.put(service) }
                try await until("replica \(index) runs") { !running(swarm, id).isEmpty }
            }
        }
    }

    @Test func anotherSchedulerTakesOverWhileTasksRun() async throws {
        let swarm = try makeSwarm("n1", "n2")
        let useBinpack = Mutex(false)
        let scheduler: @Sendable () -> any Scheduler = { if useBinpack.withLock({ $0 }) { BinpackScheduler() } else { SpreadScheduler() } }
        try await withManager(swarm, nodes: ["n1", "n2"], scheduler: scheduler) { loop in
            let service = ServiceDraft.create(makeSpec("web", replicas: 4), id: "web")
            try swarm.commit { $0.put(service) }
            try await until("four run") { running(swarm, "web").count == 4 }
            let before = Set(running(swarm, "web").map { "\($0.id) \($0.nodeID)" })
            useBinpack.withLock { $0 = true }
            loop.schedulerChanged()
            var more = service
            more.version = swarm.read().service("web")?.version ?? Version()
            more.spec.mode.replicated?.replicas = 8
            let changed = more
            try swarm.commit { $0.put(changed) }
            try await until("eight run") { running(swarm, "web").count == 8 }
            #expect(before.isSubset(of: running(swarm, "web").map { "\($0.id) \($0.nodeID)" }))
            let counts = Dictionary(running(swarm, "web").map { ($0.nodeID, 1) }, uniquingKeysWith: +)
            #expect(counts.values.sorted() == [2, 6])
        }
    }

    @Test func survivesFailuresOfTheStore() async throws {
        let swarm = try makeSwarm("n1")
        try await withManager(swarm) { _ in
            swarm.fail(with: [])
            let service = ServiceDraft.create(makeSpec("web", replicas: 2), id: "web")
            try swarm.commit { $0.put(service) }
            swarm.fail(with: [ApusError(.unavailable, "no leader"), ApusError(.unavailable, "no leader")])
            try await until("two run") { running(swarm, "web").count == 2 }
            swarm.dropWatchers()
            var more = service
            more.spec.mode.replicated?.replicas = 4
            let changed = more
            try await until("the store takes the change") { (try? swarm.commit { $0.put(changed) }) != nil }
            try await until("four run") { running(swarm, "web").count == 4 }
            let perSlot = Dictionary(grouping: swarm.read().tasks(ofService: "web").filter { $0.desiredState == .running }, by: \.slot)
            #expect(perSlot.values.allSatisfy { $0.count == 1 })
        }
    }

    /// It took minutes and gigabytes of memory.
    @Test func aMillionTasksThatFitNowhereLeaveOtherServicesAlone() async throws {
        let swarm = try makeSwarm("n1")
        let huge = ServiceDraft.create(makeSpec("huge", replicas: 1_000_000) { $0.task.placement = makePlacement("node.labels.disk==ssd") }, id: "huge")
        try swarm.commit { $0.put(huge) }
        try await withManager(swarm) { _ in
            try await until("the first of them wait") { !swarm.read().tasks(ofService: "huge").isEmpty }
            let web = ServiceDraft.create(makeSpec("web", replicas: 3), id: "web")
            try swarm.commit { $0.put(web) }
            try await until("the other service runs") { running(swarm, "web").count == 3 }
            try await until("as many wait as may") { swarm.read().tasks(ofService: "huge").count == 2000 }
            #expect(swarm.read().tasks(ofService: "huge").allSatisfy { $0.status.state == .pending })
            try swarm.commit { transaction throws(ApusError) in try transaction.removeService("huge") }
            try await until("nothing of it is left") { swarm.read().tasks(ofService: "huge").isEmpty }
            #expect(running(swarm, "web").count == 3)
        }
    }

    @Test func endsWhenCancelled() async throws {
        let swarm = try makeSwarm("n1")
        let loop = ManagerLoop(store: swarm, clock: SystemClock(), scheduler: { SpreadScheduler() }, logger: Self.logger)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await loop.run() }
            try? await ConcurrentTask.sleep(for: .milliseconds(30))
            group.cancelAll()
        }
        // Reaching this line is the test: run has returned.
        #expect(swarm.read().tasks.isEmpty)
    }

    @Test func largePlansAreSplit() async throws {
        let swarm = try makeSwarm("n1")
        let before = swarm.transactionCount
        let service = ServiceDraft.create(makeSpec("web", replicas: 1000), id: "web")
        try swarm.commit { $0.put(service) }
        var reconciler = Reconciler(scheduler: SpreadScheduler())
        reconciler.load(swarm.read())
        let plan = reconciler.plan(swarm.read(), now: SystemClock().now())
        let outcome = await swarm.apply(plan.units, now: SystemClock().now())
        #expect(outcome.error == nil)
        #expect(outcome.notApplied.isEmpty)
        #expect(swarm.read().tasks.count == 1000)
        #expect(swarm.transactionCount - before >= 6)
        // Too large for the store: halves are tried, down to single changes.
        let tooLarge = ApusError(.tooLarge, "the transaction is too large")
        swarm.fail(with: [tooLarge, tooLarge])
        let explain = swarm.read().tasks.keys.sorted().prefix(8).map { [PlannedChange.desire(task: $0, .shutdown)] }
        let second = await swarm.apply(explain, now: SystemClock().now())
        #expect(second.error == nil)
        #expect(swarm.read().tasks.values.filter { $0.desiredState == .shutdown }.count == 8)
        // An error leaves nothing unaccounted for.
        swarm.fail(with: [ApusError(.unavailable, "no leader")])
        let third = await swarm.apply(explain, now: SystemClock().now(), chunk: 3)
        #expect(third.error?.code == .unavailable)
        #expect(third.notApplied.count == 8)
    }
}

/// A node that does what it is told through the dispatcher's stream and reports.
struct TestNode {
    let store: MemorySwarm
    let node: ID
    let reports: StatusReports

    init(_ store: MemorySwarm, _ node: ID) {
        self.store = store
        self.node = node
        reports = StatusReports(store: store, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    func run() async {
        var known: [ID: TaskState] = [:]
        for await tasks in Assignments.stream(store, node) {
            for task in tasks {
                var state = known[task.id] ?? task.status.state
                while let next = next(task, state) {
                    state = next
                    var status = task.status
                    status.state = state
                    status.timestamp = SystemClock().now()
                    let report = [task.id: status]
                    while !ConcurrentTask.isCancelled {
                        if (try? await reports.report(report)) != nil { break }
                    }
                }
                known[task.id] = state
            }
        }
    }

    private func next(_ task: Task, _ state: TaskState) -> TaskState? {
        if state.isTerminal { return nil }
        if task.desiredState > .running { return .shutdown }
        switch state {
        case .assigned: return .accepted
        case .accepted: return .preparing
        case .preparing: return .ready
        case .ready: return task.desiredState == .running ? .starting : nil
        case .starting: return .running
        default: return nil
        }
    }
}
