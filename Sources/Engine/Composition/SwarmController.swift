import Agent
import Dispatcher
import Events
import Files
import Logging
import Orchestration
import PluginAPI
import PluginHost
import Raft
import Security
import Store
import Synchronization

/// This node's part in a swarm: none, or manager of a swarm of one.
///
/// Owns the store, the manager's controllers and the agent while there is a swarm, and ends them when there is none any more.
actor SwarmController {
    /// What runs while this node is in a swarm.
    struct Membership: Sendable {
        var nodeID: ID
        var address: String
        var store: ObjectStore
        var orchestration: Manager

        func now() -> Timestamp { .now }
    }

    /// Where the membership is kept on disk, `<data root>/swarm`.
    private let directory: String
    private let plugins: PluginRegistry
    private let containers: ContainerEngine
    private let events: EventHub
    private let describe: @Sendable () -> NodeDescription
    private let logger: Logger
    private let failures: AsyncStream<ApusError>.Continuation
    /// The membership's tasks; ended and awaited by `end()`.
    private var work: ConcurrentTask<Void, Never>?
    /// Waits for the store to fail; not among `work`, for it returns only when the store is closed.
    private var watch: ConcurrentTask<Void, Never>?
    /// Read by every request, without waiting for a change that is under way.
    private nonisolated let current = Mutex<Membership?>(nil)
    private var isChanging = false

    init(
        directory: String, plugins: PluginRegistry, containers: ContainerEngine, events: EventHub,
        describe: @escaping @Sendable () -> NodeDescription, failures: AsyncStream<ApusError>.Continuation, logger: Logger
    ) {
        self.directory = directory
        self.plugins = plugins
        self.containers = containers
        self.events = events
        self.describe = describe
        self.failures = failures
        self.logger = logger
    }

    /// The membership, or `nil` when this node is in no swarm.
    nonisolated var membership: Membership? { current.withLock { $0 } }

    /// The membership, for what needs a manager.
    /// - Throws: `unavailable` with what to do.
    nonisolated func manager() throws(ApusError) -> Membership {
        guard let membership else {
            throw ApusError(
                .unavailable,
                "This node is not a swarm manager. Use \"apus swarm init\" (or \"docker swarm init\") to make it one and try again.")
        }
        return membership
    }

    private func change<Value>(_ body: () async throws(ApusError) -> Value) async throws(ApusError) -> Value {
        guard !isChanging else { throw ApusError(.conflict, "the swarm is being changed by another request; try again") }
        isChanging = true
        defer { isChanging = false }
        return try await body()
    }

    // MARK: Joining and leaving

    /// Takes up the swarm that this node was in when the engine last ran.
    func resume() async throws(ApusError) {
        guard Files.exists("\(directory)/node") else {
            // An `init` that was cut short leaves a store without a node: it never was answered, so it never was.
            try Files.removeTree(directory)
            return
        }
        let lines = try Files.readText("\(directory)/node").split(separator: "\n").map(String.init)
        guard lines.count == 2, !lines[0].isEmpty else {
            throw ApusError(.corrupt, "\(directory)/node is damaged; it has the id of this node, then its address")
        }
        try await change { () throws(ApusError) in
            try await start(nodeID: ID(lines[0]), address: lines[1], creating: nil)
        }
    }

    /// Makes a swarm of one.
    func initialize(_ request: SwarmInitRequest) async throws(ApusError) -> ID {
        try await change { () throws(ApusError) in
            guard membership == nil else {
                throw ApusError(
                    .unavailable, "This node is already part of a swarm. Use \"apus swarm leave\" to leave this swarm and join another one.")
            }
            try request.check()
            let address = try request.address()
            var cluster = Cluster()
            cluster.id = .random()
            cluster.spec = request.spec.normalized()
            cluster.dataPathPort = request.dataPathPort == 0 ? 4789 : request.dataPathPort
            cluster.defaultAddressPool = request.defaultAddressPool.isEmpty ? ["10.0.0.0/8"] : request.defaultAddressPool
            cluster.subnetSize = request.subnetSize == 0 ? 24 : request.subnetSize
            cluster.plugins = PluginController.active(plugins)
            let nodeID = ID.random()
            do throws(ApusError) {
                try Files.makeDirectory(directory)
                let authority = try plugins.certificateAuthority()
                let identity = try await SwarmIdentity.bootstrap(
                    clusterID: cluster.id, nodeID: nodeID, authority: authority, directory: "\(directory)/certificates", now: .now)
                cluster.root = identity.root
                cluster.joinTokens = identity.tokens
                cluster.tls = identity.tls
                var node = Node()
                node.id = nodeID
                node.spec.role = .manager
                node.spec.availability = request.availability
                try await start(nodeID: nodeID, address: address, creating: (cluster, node))
                // Last: what is there without this file was not finished.
                try Files.writeAtomically(Array("\(nodeID)\n\(address)\n".utf8), to: "\(directory)/node")
            } catch {
                await end()
                try? Files.removeTree(directory)
                throw error.during("the swarm could not be made")
            }
            publish("create", cluster.id)
            // Making keys and a store is starting up too.
            StartUpMemory.release()
            return nodeID
        }
    }

    /// Leaves the swarm; the last manager takes the swarm with it.
    func leave(force: Bool) async throws(ApusError) {
        try await change { () throws(ApusError) in
            guard membership != nil else { throw ApusError(.unavailable, "This node is not part of a swarm") }
            guard force else {
                throw ApusError(
                    .unavailable,
                    "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message."
                )
            }
            await end()
            await containers.removeTaskContainers()
            try Files.removeTree(directory)
        }
    }

    /// Ends the controllers and closes the store; containers go on.
    func end() async {
        let membership = current.withLock { membership in
            defer { membership = nil }
            return membership
        }
        work?.cancel()
        await work?.value
        work = nil
        watch?.cancel()
        await membership?.store.close()
        await watch?.value
        watch = nil
    }

    // MARK: What runs

    private func start(nodeID: ID, address: String, creating objects: (Cluster, Node)?) async throws(ApusError) {
        let store = try await ObjectStore.open(StoreConfiguration(directory: "\(directory)/raft", logger: logger))
        do throws(ApusError) {
            let description = describe()
            try await store.update { transaction throws(ApusError) in
                if let (cluster, node) = objects {
                    try transaction.create(.cluster(cluster))
                    try transaction.create(.node(Self.present(node, description, address)))
                } else {
                    guard let node = transaction.snapshot.nodes[nodeID] else {
                        throw ApusError(.corrupt, "the store does not have this node (\(nodeID)); \(address)")
                    }
                    let present = Self.present(node, description, address)
                    if present != node { try transaction.update(.node(present)) }
                }
            }
        } catch {
            await store.close()
            throw error
        }
        let plugins = plugins
        let logger = logger
        let orchestration = Manager(
            store: store,
            scheduler: { (try? plugins.scheduler()) ?? NoScheduler() },
            logger: logger)
        let agent = Agent(
            nodeID: nodeID, source: LocalDispatcher(store: store, logger: logger), containers: containers,
            servicePorts: { Self.publishedPorts(of: store) }, logger: logger)
        let membership = Membership(nodeID: nodeID, address: address, store: store, orchestration: orchestration)
        current.withLock { $0 = membership }
        let events = events
        let failures = failures
        work = ConcurrentTask {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await orchestration.run() }
                group.addTask { await agent.run() }
                group.addTask { await StoreEvents.publish(from: store, to: events) }
            }
        }
        watch = ConcurrentTask {
            let failure = await store.failure()
            if !ConcurrentTask.isCancelled { failures.yield(failure) }
        }
    }

    /// The published ports of every service, at first and after every change.
    private static func publishedPorts(of store: ObjectStore) -> AsyncStream<[ID: [PortConfig]]> {
        AsyncStream(bufferingPolicy: .bufferingNewest(1)) { continuation in
            let follower = ConcurrentTask {
                // A stream of commits ends when its reader was too slow; then the whole state is looked at again.
                while !ConcurrentTask.isCancelled {
                    let (snapshot, commits) = store.watch()
                    continuation.yield(publishedPorts(in: snapshot))
                    for await commit in commits where commit.changes.contains(where: { $0.isOfService }) {
                        continuation.yield(publishedPorts(in: store.read()))
                    }
                }
            }
            continuation.onTermination = { _ in follower.cancel() }
        }
    }

    private static func publishedPorts(in snapshot: StoreSnapshot) -> [ID: [PortConfig]] {
        var ports: [ID: [PortConfig]] = [:]
        for service in snapshot.services.values where !service.pendingDelete && !service.endpoint.ports.isEmpty {
            ports[service.id] = service.endpoint.ports
        }
        return ports
    }

    private static func present(_ node: Node, _ description: NodeDescription, _ address: String) -> Node {
        var node = node
        node.description = description
        node.status.state = .ready
        node.status.address = address
        node.status.message = ""
        var manager = ManagerStatus()
        manager.leader = true
        manager.reachability = .reachable
        manager.address = "\(address):2377"
        node.manager = manager
        return node
    }

    private func publish(_ action: String, _ id: ID) {
        events.publish(EngineEvent(type: "swarm", action: action, actorID: id.text, scope: "swarm", time: .now))
    }
}

/// Stands in when no scheduler can be loaded, not even the default one: tasks wait, and say why.
private final class NoScheduler: Scheduler {
    func apply(_ changes: [SchedulingChange]) {}

    func schedule(_ request: ScheduleRequest) -> ScheduleAnswer {
        var answer = ScheduleAnswer()
        for task in request.tasks { answer.reasons[task.id] = "no scheduler plugin could be loaded; see apus plugin ls" }
        return answer
    }
}

extension StoreChange {
    fileprivate var isOfService: Bool {
        switch self {
        case .created(let object), .updated(let object, from: _), .removed(let object): object.kind == .service
        }
    }
}
