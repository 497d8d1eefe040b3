import Dispatcher
import Glibc
import Logging
import Orchestration
import PluginAPI
import SchedulerBinpack
import SchedulerSpread
import Store
import Testing

/// The manager and the dispatcher on the real store.
@Suite struct ObjectStoreTests {
    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func until(_ what: Comment, _ condition: () -> Bool) async throws {
        for _ in 0..<6000 {
            if condition() { return }
            try await ConcurrentTask.sleep(for: .milliseconds(5))
        }
        Issue.record(what)
        throw CancellationError()
    }

    private func withDirectory(_ body: (String) async throws -> Void) async throws {
        var template = Array("/tmp/apus-orchestration-XXXXXX".utf8CString)
        let path = template.withUnsafeMutableBufferPointer { buffer in buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) } }
        let directory = try #require(path)
        defer { removeTree(directory) }
        try await body(directory)
    }

    private func removeTree(_ path: String) {
        if let folder = opendir(path) {
            while let entry = readdir(folder) {
                let name = withUnsafePointer(to: entry.pointee.d_name) { pointer in
                    pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                if name != ".", name != ".." { removeTree("\(path)/\(name)") }
            }
            closedir(folder)
            rmdir(path)
        } else {
            unlink(path)
        }
    }

    @Test func aNodeThatChangedMeanwhileIsNotOverwritten() async throws {
        try await withDirectory { directory in
            let store = try await ObjectStore.open(StoreConfiguration(directory: "\(directory)/swarm", logger: Self.logger))
            try await store.update { transaction throws(ApusError) in try transaction.create(.node(makeNode("n1"))) }
            let seen = try #require(store.read().nodes["n1"])
            var spec = seen.spec
            spec.availability = .drain
            let drained = try NodeDraft.update(seen, to: spec, in: store.read(), now: SystemClock().now())
            try await store.update { transaction throws(ApusError) in try transaction.update(.node(drained), matching: seen.version) }
            spec.labels = ["a": "b"]
            let late = try NodeDraft.update(seen, to: spec, in: store.read(), now: SystemClock().now())
            do throws(ApusError) {
                try await store.update { transaction throws(ApusError) in try transaction.update(.node(late), matching: seen.version) }
                Issue.record("an update with a version of yesterday")
            } catch {
                #expect(error.code == .conflict)
            }
            #expect(store.read().nodes["n1"]?.spec.labels == [:])
            #expect(store.read().nodes["n1"]?.availabilityChangedAt != .never)
            await store.close()
        }
    }

    /// A manager, a dispatcher and an obedient node on a store, as an engine has them; all of it ends with the body.
    private func withEngine(_ directory: String, _ body: (ObjectStore) async throws -> Void) async throws {
        let store = try await ObjectStore.open(StoreConfiguration(directory: "\(directory)/swarm", logger: Self.logger))
        let manager = Manager(store: store, scheduler: { SpreadScheduler() }, logger: Self.logger)
        let dispatcher = LocalDispatcher(store: store, logger: Self.logger)
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await manager.run() }
                group.addTask { await obey(dispatcher) }
                try await body(store)
                group.cancelAll()
            }
        } catch {
            await store.close()
            throw error
        }
        await store.close()
    }

    private func obey(_ dispatcher: some AssignmentSource) async {
        var known: [ID: TaskState] = [:]
        for await tasks in dispatcher.assignments(for: "n1") {
            var reports: [ID: TaskStatus] = [:]
            repeat {
                reports = [:]
                for task in tasks {
                    let state = known[task.id] ?? task.status.state
                    guard let next = Self.next(task, state) else { continue }
                    known[task.id] = next
                    var status = task.status
                    status.state = next
                    status.timestamp = SystemClock().now()
                    reports[task.id] = status
                }
                if !reports.isEmpty { try? await dispatcher.report(reports) }
            } while !reports.isEmpty && !ConcurrentTask.isCancelled
        }
    }

    private static func next(_ task: Task, _ state: TaskState) -> TaskState? {
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

    private func running(_ store: ObjectStore, _ service: ID) -> [Task] {
        store.read().tasks(ofService: service).filter { $0.status.state == .running && $0.desiredState == .running }
    }

    @Test func aServiceLivesAndSurvivesTheEngine() async throws {
        try await withDirectory { directory in
            var before: Set<ID> = []
            try await withEngine(directory) { store in
                try await store.update { transaction throws(ApusError) in
                    try transaction.create(.node(makeNode("n1")))
                    try transaction.create(.network(try NetworkDraft.create(NetworkDraft.ingressSpec, in: transaction)))
                }
                let service = ServiceDraft.create(
                    makeSpec("web", image: "nginx:latest", replicas: 5) { $0.endpoint = makeEndpoint(makePort(80)) }, id: "web")
                try await store.update { transaction throws(ApusError) in
                    try ServiceValidation.check(service.spec, in: transaction.snapshot, replacing: nil)
                    try transaction.create(.service(service))
                }
                try await until("five run") { running(store, "web").count == 5 }
                #expect(store.read().services["web"]?.endpoint.ports.map(\.publishedPort) == [30000])
                let mesh = Set(running(store, "web").compactMap { $0.networks.first?.addresses.first })
                #expect(mesh.count == 5 && store.read().nodes["n1"]?.meshAddresses.first == "10.0.0.2/16")
                before = Set(running(store, "web").map(\.id))
            }
            try await withEngine(directory) { store in
                #expect(Set(running(store, "web").map(\.id)) == before, "a restart replaces nothing")
                let service = try #require(store.read().services["web"])
                var spec = service.spec
                spec.mode.replicated?.replicas = 7
                spec.task.container?.arguments = ["-q"]
                spec.update = makeUpdate {
                    $0.parallelism = 4
                    $0.monitor = .milliseconds(50)
                }
                let changed = ServiceDraft.update(service, to: spec)
                try await store.update { transaction throws(ApusError) in
                    try ServiceValidation.check(changed.spec, in: transaction.snapshot, replacing: service)
                    try transaction.update(.service(changed), matching: service.version)
                }
                try await until("the update is complete") { store.read().services["web"]?.updateStatus?.state == .completed }
                try await until("seven run") { running(store, "web").count == 7 }
                #expect(before.isDisjoint(with: running(store, "web").map(\.id)))
                try await store.update { transaction throws(ApusError) in try transaction.remove(.service, "web") }
                try await until("nothing is left") { store.read().tasks.isEmpty }
            }
        }
    }

    @Test func oneReplicaAfterTheOther() async throws {
        try await withDirectory { directory in
            try await withEngine(directory) { store in
                try await store.update { transaction throws(ApusError) in try transaction.create(.node(makeNode("n1"))) }
                for index in 0..<5 {
                    let id = ID("web\(index)")
                    let service = ServiceDraft.create(makeSpec("web\(index)"), id: id)
                    try await store.update { transaction throws(ApusError) in try transaction.create(.service(service)) }
                    try await until("replica \(index) runs") { !running(store, id).isEmpty }
                }
            }
        }
    }
}
