import Dispatcher
import Files
import GRPCCore
import Glibc
import Logging
import NIOCore
import Orchestration
import PluginAPI
import SchedulerSpread
import Store
import Transport

/// The manager of a measurement over TLS. `manager.py` puts it and the nodes together; times are seconds of the machine's monotonic clock.
extension Benchmark {
    /// Serves nodes on loopback, with its store in the folder, until it is killed. When the file `assign` appears in the folder it makes the tasks
    /// and gives them to the nodes.
    static func serve(_ folder: String, _ count: Int, _ taskCount: Int) async throws {
        let logger = Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() }
        let authority = try Authority.make(cluster: .random(), in: folder)
        let store = try await ObjectStore.open(StoreConfiguration(directory: "\(folder)/store", logger: logger))
        let services = (0..<100).map { makeService($0, replicas: taskCount / 100) }
        try await store.update { transaction throws(ApusError) in
            var cluster = Cluster()
            cluster.id = authority.cluster
            try transaction.create(.cluster(cluster))
        }
        let machines = (0..<count).map { number in
            var node = makeNode(number)
            node.status.state = .down
            return node
        }
        try await createAll(machines.map { .node($0) }, store)

        var configuration = NodeSessionsConfiguration<StoreSnapshot>()
        configuration.confirmLeadership = { () throws(ApusError) in _ = try await store.readLatest() }
        let sessions = NodeSessions(store: store, configuration: configuration, logger: logger)
        let transport = NodeServerTransport(
            host: "127.0.0.1", port: 0, security: .tls(try authority.credentials("manager", unit: "swarm-manager")), logger: logger)
        let server = GRPCServer(transport: transport, services: [DispatcherService(sessions: sessions, logger: logger)])
        await during([{ await sessions.run() }, { try? await server.serve() }]) {
            await until { sessions.isLeading }
            guard let port = try? await transport.listeningAddress().port else { return report("failed", []) }
            report("listening", [("port", Double(port))])
            await until { store.read().nodes.values.allSatisfy { $0.status.state == .ready } }
            report("ready", [("at", monotonicSeconds())])
            await until { Files.exists("\(folder)/assign") }
            let begin = monotonicSeconds()
            do {
                try await store.update { transaction throws(ApusError) in for service in services { try transaction.create(.service(service)) } }
                try await createAll(services.flatMap { makeTasks($0, taskCount / 100) }.map { .task($0) }, store)
            } catch {
                return report("failed", [])
            }
            report("filled", [("s", monotonicSeconds() - begin)])
            await assign(store, taskCount, logger)
            await until { false }
        }
    }

    /// The manager at work, from its start until every task has a node; it goes on until the process is killed.
    private static func assign(_ store: ObjectStore, _ count: Int, _ logger: Logger) async {
        let (_, commits) = store.watch()
        let manager = Manager(store: store, scheduler: { SpreadScheduler() }, logger: logger)
        report("begin", [("at", monotonicSeconds())])
        await during([{ await manager.run() }]) {
            var assigned = 0
            for await commit in commits {
                for case .updated(.task(let task), from: .task(let old)) in commit.changes
                where old.status.state < .assigned && task.status.state >= .assigned { assigned += 1 }
                if assigned >= count { break }
            }
            report(assigned >= count ? "assigned" : "failed", [("at", monotonicSeconds())])
            await until { false }
        }
    }

    static func report(_ what: String, _ values: [(String, Double)]) {
        Output.line("{\"what\": \"\(what)\"\(values.map { ", \"\($0.0)\": \($0.1)" }.joined())}")
    }

    static func monotonicSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
