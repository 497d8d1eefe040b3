import Dispatcher
import Files
import Glibc
import Logging
import Orchestration
import PluginAPI
import SchedulerSpread
import Store
import Synchronization
import Wire

/// Times the manager with many nodes and tasks: `manager-benchmark [nodes tasks]...`, by default 1000 100000 10000 100000.
///
/// For each: the scheduler alone, the manager with the replicated store on disk (from its start until every task has a node), the sessions
/// and assignments of all nodes without a network, and the endpoints of all nodes with 10,000 tasks in one network. One line of JSON for each.
///
/// Over TLS, in two processes: `manager-benchmark serve FOLDER NODES TASKS` and `manager-benchmark nodes FOLDER PORT NODES TASKS
/// 0|1`, where 1 is with the table of endpoints.
@main
struct Benchmark {
    static func main() async {
        do { try await run() } catch {
            // On the way out of a measurement a backtrace tells nobody anything.
            Output.line("\(error)", to: STDERR_FILENO)
            exit(1)
        }
    }

    private static func run() async throws {
        let arguments = CommandLine.arguments.dropFirst().map { String($0) }
        if arguments.first == "serve" || arguments.first == "nodes" {
            let values = arguments.dropFirst(2).compactMap { Int($0) }
            switch (arguments.first, values.count) {
            case ("serve", 2): return try await serve(arguments[1], values[0], values[1])
            case ("nodes", 4): return try await simulate(arguments[1], values[0], values[1], values[2], withEndpoints: values[3] != 0)
            default: throw ApusError(.invalidArgument, "serve FOLDER NODES TASKS, or nodes FOLDER PORT NODES TASKS 0|1")
            }
        }
        let numbers = CommandLine.arguments.dropFirst().compactMap { Int($0) }
        let sizes =
            numbers.count >= 2 ? stride(from: 0, to: numbers.count - 1, by: 2).map { (numbers[$0], numbers[$0 + 1]) } : [(1000, 100_000), (10_000, 100_000)]
        for (nodes, tasks) in sizes {
            try scheduleAlone(nodes, tasks)
            try await runManager(nodes, tasks)
            try await runEndpoints(nodes, min(tasks, 10_000))
        }
    }

    static func say(_ what: String, _ nodes: Int, _ tasks: Int, _ more: [(String, Double)]) {
        let rest = more.map { ", \"\($0.0)\": \(($0.1 * 1000).rounded() / 1000)" }.joined()
        Output.line("{\"what\": \"\(what)\", \"nodes\": \(nodes), \"tasks\": \(tasks)\(rest)}")
    }

    static func seconds(_ duration: Duration) -> Double { Double(duration.nanoseconds) / 1e9 }

    static func makeNode(_ number: Int) -> Node {
        var node = Node()
        node.id = ID("node\(number)-\(String(repeating: "x", count: 12))")
        node.status.state = .ready
        node.status.address = "10.0.\(number / 256 % 256).\(number % 256)"
        node.description.hostname = "host\(number)"
        node.description.platform.os = "linux"
        node.description.platform.architecture = "x86_64"
        node.description.resources.nanoCPUs = 64_000_000_000
        node.description.resources.memoryBytes = 256 << 30
        node.spec.labels = ["zone": "z\(number % 8)"]
        return node
    }

    static func makeService(_ number: Int, replicas: Int) -> Service {
        var spec = ServiceSpec()
        spec.name = "service\(number)"
        var container = ContainerSpec()
        container.image = "registry.example/shop/frontend:1.\(number)"
        container.environment = ["A=1", "B=2"]
        spec.task.container = container
        var replicated = ReplicatedService()
        replicated.replicas = UInt64(replicas)
        spec.mode.replicated = replicated
        return ServiceDraft.create(spec)
    }

    static func makeTasks(_ service: Service, _ count: Int) -> [Task] {
        (1...count).map { slot in
            var task = Task()
            task.id = .random()
            task.serviceID = service.id
            task.serviceName = service.spec.name
            task.slot = UInt64(slot)
            task.spec = service.spec.task
            task.specVersion = service.specVersion ?? Version()
            task.desiredState = .running
            task.status.state = .pending
            task.createdAt = Timestamp(nanoseconds: 1)
            return task
        }
    }

    static func scheduleAlone(_ nodes: Int, _ count: Int) throws {
        let scheduler = SpreadScheduler()
        let services = (0..<100).map { makeService($0, replicas: count / 100) }
        let tasks = services.flatMap { makeTasks($0, count / 100) }
        let clock = ContinuousClock()
        let feed = clock.measure { scheduler.apply((0..<nodes).map { .node(makeNode($0)) }) }
        var placed = 0
        let time = try clock.measure { placed = try scheduler.schedule(ScheduleRequest(tasks: tasks, now: .never)).placements.count }
        say("scheduler alone", nodes, placed, [("feed_s", seconds(feed)), ("schedule_s", seconds(time))])
    }

    static func runManager(_ nodes: Int, _ count: Int) async throws {
        let directory = "/var/tmp/apus-bench-\(getpid())"
        defer { try? Files.removeTree(directory) }
        let logger = Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() }
        let store = try await ObjectStore.open(StoreConfiguration(directory: directory, logger: logger))
        let clock = ContinuousClock()
        let machines = (0..<nodes).map { makeNode($0) }
        let clusterID = ID.random()
        let services = (0..<100).map { makeService($0, replicas: count / 100) }
        let filling = try await clock.measure {
            try await store.update { transaction throws(ApusError) in
                var cluster = Cluster()
                cluster.id = clusterID
                try transaction.create(.cluster(cluster))
                for service in services { try transaction.create(.service(service)) }
            }
            try await createAll(machines.map { .node($0) }, store)
            try await createAll(services.flatMap { makeTasks($0, count / 100) }.map { .task($0) }, store)
        }
        let version = store.read().version.index
        let (_, commits) = store.watch()
        let manager = Manager(store: store, scheduler: { SpreadScheduler() }, logger: logger)
        let assigning = await clock.measure {
            await during([{ await manager.run() }]) {
                // Counted as they come: to look at all of them again and again would be measured too.
                var assigned = 0
                for await commit in commits {
                    for case .updated(.task(let task), from: .task(let old)) in commit.changes
                    where old.status.state < .assigned && task.status.state >= .assigned { assigned += 1 }
                    if assigned >= count { break }
                }
            }
        }
        say(
            "manager", nodes, count,
            [("fill_s", seconds(filling)), ("assign_s", seconds(assigning)), ("entries", Double(store.read().version.index - version))])
        try await runSessions(store, machines, clusterID, count, logger)
        await store.close()
    }

    /// What the simulated nodes have heard.
    final class Heard: Sendable {
        let sessions = Mutex<[ID: ID]>([:])
        let tasks = Mutex(0)
    }

    static func follow(_ node: Node, _ peer: PeerIdentity, _ sessions: NodeSessions<ObjectStore>, _ heard: Heard) async {
        let (ids, id) = AsyncStream.makeStream(of: ID.self)
        await withTaskGroup(of: Void.self) { streams in
            streams.addTask {
                var request = SessionRequest()
                request.description = node.description
                request.address = node.status.address
                try? await sessions.serveSession(request, from: peer) { message in
                    heard.sessions.withLock { $0[node.id] = message.sessionID }
                    id.yield(message.sessionID)
                }
            }
            streams.addTask {
                for await id in ids {
                    var request = AssignmentsRequest()
                    request.sessionID = id
                    try? await sessions.serveAssignments(request, from: peer) { message in heard.tasks.withLock { $0 += message.tasks.count } }
                    return
                }
            }
        }
    }

    /// All nodes register, and are given their tasks; then they beat once.
    static func runSessions(_ store: ObjectStore, _ nodes: [Node], _ cluster: ID, _ count: Int, _ logger: Logger) async throws {
        let sessions = NodeSessions(store: store, logger: logger)
        let heard = Heard()
        let peers = nodes.map { PeerIdentity(nodeID: $0.id, role: .worker, clusterID: cluster, serial: "1") }
        let clock = ContinuousClock()
        let before = residentBytes()
        await during([{ await sessions.run() }]) {
            await until { sessions.isLeading }
            let begin = clock.now
            let clients: [@Sendable () async -> Void] = zip(nodes, peers).map { node, peer in { await follow(node, peer, sessions, heard) } }
            await during(clients) {
                await until { heard.tasks.withLock { $0 >= count } }
                let assigning = clock.now - begin
                let known = heard.sessions.withLock { $0 }
                var failures = 0
                let beating = clock.measure {
                    for (node, peer) in zip(nodes, peers) {
                        var request = HeartbeatRequest()
                        request.sessionID = known[node.id] ?? ""
                        if (try? sessions.heartbeat(request, from: peer)) == nil { failures += 1 }
                    }
                }
                // The writes of the states come to rest.
                await until { store.read().nodes.values.allSatisfy { $0.status.state == .ready } }
                let writing = clock.now - begin
                let memory = residentBytes() - before
                let start = processorSeconds()
                try? await ConcurrentTask.sleep(for: .seconds(2))
                say(
                    "sessions", nodes.count, count,
                    [
                        ("all_assigned_s", seconds(assigning)), ("all_ready_s", seconds(writing)),
                        ("heartbeat_us", seconds(beating) * 1e6 / Double(nodes.count)), ("failed_heartbeats", Double(failures)),
                        ("idle_cpu_percent", (processorSeconds() - start) / 2 * 100), ("kib_per_node", Double(max(0, memory)) / 1024 / Double(nodes.count)),
                    ])
            }
        }
    }

    /// All tasks run in one network, in which every node has one: every node is told of all of them, and then of a thousand that are to end.
    static func runEndpoints(_ count: Int, _ taskCount: Int) async throws {
        let directory = "/var/tmp/apus-bench-\(getpid())"
        defer { try? Files.removeTree(directory) }
        let logger = Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() }
        let store = try await ObjectStore.open(StoreConfiguration(directory: directory, logger: logger))
        let nodes = (0..<count).map { makeNode($0) }
        var network = Network()
        network.id = .random()
        network.spec.name = "front"
        let service = makeService(0, replicas: taskCount)
        let tasks = makeTasks(service, taskCount).enumerated().map { number, task in
            var task = task
            task.nodeID = nodes[number % count].id
            task.status.state = .running
            var place = NetworkAttachment()
            place.network.id = network.id
            place.addresses = ["10.1.\(number / 256 % 256).\(number % 256)/16"]
            task.networks = [place]
            return task
        }
        let cluster = ID.random()
        try await store.update { [network] transaction throws(ApusError) in
            var object = Cluster()
            object.id = cluster
            try transaction.create(.cluster(object))
            try transaction.create(.service(service))
            try transaction.create(.network(network))
        }
        try await createAll(nodes.map { .node($0) }, store)
        try await createAll(tasks.map { .task($0) }, store)

        let sessions = NodeSessions(store: store, logger: logger)
        let told = Heard()
        let clock = ContinuousClock()
        await during([{ await sessions.run() }]) {
            await until { sessions.isLeading }
            let before = residentBytes()
            var (begin, processor) = (clock.now, processorSeconds())
            let clients: [@Sendable () async -> Void] = nodes.map { node in
                { await hear(node, PeerIdentity(nodeID: node.id, role: .worker, clusterID: cluster, serial: "1"), sessions, told) }
            }
            await during(clients) {
                await until { told.tasks.withLock { $0 >= count * taskCount } }
                let (whole, wholeProcessor, memory) = (clock.now - begin, processorSeconds() - processor, residentBytes() - before)
                let changes = min(1000, taskCount)
                told.tasks.withLock { $0 = 0 }
                (begin, processor) = (clock.now, processorSeconds())
                for task in tasks.prefix(changes) {
                    try? await store.update { transaction throws(ApusError) in
                        var task = task
                        task.desiredState = .shutdown
                        try transaction.update(.task(task))
                    }
                }
                await until { told.tasks.withLock { $0 >= count * changes } }
                say(
                    "endpoints", count, taskCount,
                    [
                        ("whole_s", seconds(whole)), ("whole_cpu_s", wholeProcessor), ("kib_per_node", Double(max(0, memory)) / 1024 / Double(count)),
                        ("changes", Double(changes)), ("changes_s", seconds(clock.now - begin)), ("changes_cpu_s", processorSeconds() - processor),
                    ])
            }
        }
        await store.close()
    }

    /// A node that counts what it hears of tasks.
    static func hear(_ node: Node, _ peer: PeerIdentity, _ sessions: NodeSessions<ObjectStore>, _ heard: Heard) async {
        let (ids, id) = AsyncStream.makeStream(of: ID.self)
        await withTaskGroup(of: Void.self) { streams in
            streams.addTask {
                var request = SessionRequest()
                request.description = node.description
                request.address = node.status.address
                try? await sessions.serveSession(request, from: peer) { id.yield($0.sessionID) }
            }
            streams.addTask {
                for await id in ids {
                    var request = EndpointsRequest()
                    request.sessionID = id
                    try? await sessions.serveEndpoints(request, from: peer) { message in heard.tasks.withLock { $0 += message.tasks.count } }
                    return
                }
            }
        }
    }

    /// Of this process, in all threads.
    static func processorSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    static func residentBytes() -> Int {
        guard let text = try? Files.readText("/proc/self/statm"), let pages = text.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) else {
            return 0
        }
        return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    static func createAll(_ objects: [StoredObject], _ store: ObjectStore) async throws {
        for start in stride(from: 0, to: objects.count, by: 200) {
            let batch = objects[start..<min(start + 200, objects.count)]
            try await store.update { transaction throws(ApusError) in for object in batch { try transaction.create(object) } }
        }
    }

    static func until(_ condition: () -> Bool) async {
        while !condition() { try? await ConcurrentTask.sleep(for: .milliseconds(50)) }
    }

    static func during(_ work: [@Sendable () async -> Void], _ body: () async -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            for item in work { group.addTask { await item() } }
            await body()
            group.cancelAll()
        }
    }
}

enum Output {
    /// Unbuffered, so that a long run can be followed.
    static func line(_ text: String, to descriptor: Int32 = STDOUT_FILENO) {
        let bytes = Array("\(text)\n".utf8)
        _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    }
}
