import Orchestration
import PluginAPI
import Synchronization

/// The objects of a swarm in dictionaries.
struct MemoryState: SwarmState, Sendable {
    var cluster: Cluster?
    var services: [ID: Service] = [:]
    var nodes: [ID: Node] = [:]
    var tasks: [ID: Task] = [:]
    var networks: [ID: Network] = [:]
    var secrets: [ID: Secret] = [:]
    var configs: [ID: Config] = [:]
    var byService: [ID: Set<ID>] = [:]
    var byNode: [ID: Set<ID>] = [:]

    func service(_ id: ID) -> Service? { services[id] }
    func service(named name: String) -> Service? { services.values.first { $0.spec.name == name } }
    func node(_ id: ID) -> Node? { nodes[id] }
    func task(_ id: ID) -> Task? { tasks[id] }
    func network(_ target: String) -> Network? { networks[ID(target)] ?? networks.values.first { $0.spec.name == target } }
    func secret(_ id: ID) -> Secret? { secrets[id] }
    func config(_ id: ID) -> Config? { configs[id] }
    func tasks(ofService service: ID) -> [Task] { (byService[service] ?? []).compactMap { tasks[$0] } }
    func tasks(onNode node: ID) -> [Task] { (byNode[node] ?? []).compactMap { tasks[$0] } }
    var allServices: [Service] { Array(services.values) }
    var allNodes: [Node] { Array(nodes.values) }
    var allTasks: [Task] { Array(tasks.values) }
    var allNetworks: [Network] { Array(networks.values) }

    mutating func put(_ task: Task) {
        if let old = tasks[task.id] { unlink(old) }
        tasks[task.id] = task
        byService[task.serviceID, default: []].insert(task.id)
        if !task.nodeID.isEmpty { byNode[task.nodeID, default: []].insert(task.id) }
    }

    mutating func drop(_ id: ID) {
        if let old = tasks.removeValue(forKey: id) { unlink(old) }
    }

    private mutating func unlink(_ task: Task) {
        byService[task.serviceID]?.remove(task.id)
        byNode[task.nodeID]?.remove(task.id)
    }
}

/// A transaction over the dictionaries that keeps what it did as events.
struct MemoryTransaction: SwarmTransaction {
    var state: MemoryState
    var events: [SwarmEvent] = []
    let now: Timestamp
    let version: Version

    var cluster: Cluster? { state.cluster }
    func service(_ id: ID) -> Service? { state.service(id) }
    func service(named name: String) -> Service? { state.service(named: name) }
    func node(_ id: ID) -> Node? { state.node(id) }
    func task(_ id: ID) -> Task? { state.task(id) }
    func network(_ target: String) -> Network? { state.network(target) }
    func secret(_ id: ID) -> Secret? { state.secret(id) }
    func config(_ id: ID) -> Config? { state.config(id) }
    func tasks(ofService service: ID) -> [Task] { state.tasks(ofService: service) }
    func tasks(onNode node: ID) -> [Task] { state.tasks(onNode: node) }
    var allServices: [Service] { state.allServices }
    var allNodes: [Node] { state.allNodes }
    var allTasks: [Task] { state.allTasks }
    var allNetworks: [Network] { state.allNetworks }

    mutating func create(_ task: Task) throws(ApusError) {
        guard state.tasks[task.id] == nil else { throw ApusError(.conflict, "task \(task.id) exists") }
        var task = task
        task.createdAt = now
        task.updatedAt = now
        task.version = version
        state.put(task)
        events.append(.task(task, from: nil))
    }

    mutating func update(_ task: Task) throws(ApusError) {
        guard let old = state.tasks[task.id] else { throw ApusError(.notFound, "task \(task.id) not found") }
        var task = task
        task.updatedAt = now
        task.version = version
        state.put(task)
        events.append(.task(task, from: old))
    }

    mutating func removeTask(_ id: ID) throws(ApusError) {
        guard let old = state.tasks[id] else { throw ApusError(.notFound, "task \(id) not found") }
        state.drop(id)
        events.append(.taskRemoved(old))
    }

    mutating func update(_ service: Service, matching expected: Version) throws(ApusError) {
        guard let old = state.services[service.id] else { throw ApusError(.notFound, "service \(service.id) not found") }
        guard old.version == expected else { throw ApusError(.conflict, "update out of sequence") }
        put(service)
    }

    mutating func removeService(_ id: ID) throws(ApusError) {
        guard let old = state.services.removeValue(forKey: id) else { throw ApusError(.notFound, "service \(id) not found") }
        events.append(.serviceRemoved(old))
    }

    mutating func update(_ node: Node) throws(ApusError) {
        guard state.nodes[node.id] != nil else { throw ApusError(.notFound, "node \(node.id) not found") }
        put(node)
    }

    mutating func create(_ network: Network) throws(ApusError) {
        guard state.networks[network.id] == nil else { throw ApusError(.conflict, "network \(network.id) exists") }
        put(network)
    }

    mutating func update(_ network: Network) throws(ApusError) {
        guard state.networks[network.id] != nil else { throw ApusError(.notFound, "network \(network.id) not found") }
        put(network)
    }

    mutating func removeNetwork(_ id: ID) throws(ApusError) {
        guard let old = state.networks.removeValue(forKey: id) else { throw ApusError(.notFound, "network \(id) not found") }
        events.append(.networkRemoved(old))
    }

    mutating func update(_ cluster: Cluster) throws(ApusError) {
        var cluster = cluster
        cluster.version = version
        state.cluster = cluster
        events.append(.cluster(cluster))
    }

    // What the API would do.

    mutating func put(_ network: Network) {
        var network = network
        network.version = version
        state.networks[network.id] = network
        events.append(.network(network))
    }

    mutating func put(_ service: Service) {
        var service = service
        service.version = version
        service.updatedAt = now
        state.services[service.id] = service
        events.append(.service(service))
    }

    mutating func put(_ node: Node) {
        var node = node
        node.version = version
        let old = state.nodes[node.id]
        state.nodes[node.id] = node
        events.append(.node(node, from: old))
    }

    mutating func removeNode(_ id: ID) {
        if let old = state.nodes.removeValue(forKey: id) { events.append(.nodeRemoved(old)) }
    }

    mutating func put(_ cluster: Cluster) {
        state.cluster = cluster
        events.append(.cluster(cluster))
    }
}

/// A store in memory for the loops that need one.
final class MemorySwarm: SwarmStore {
    private struct Contents {
        var state = MemoryState()
        var version = Version(index: 1)
        var watchers: [Int: AsyncStream<[SwarmEvent]>.Continuation] = [:]
        var nextWatcher = 0
        var failures: [ApusError] = []
        var transactions = 0
    }

    private let contents = Mutex(Contents())
    private let clock: any ManagerClock

    init(clock: any ManagerClock = SystemClock()) { self.clock = clock }

    func read() -> MemoryState { contents.withLock(\.state) }
    var transactionCount: Int { contents.withLock(\.transactions) }

    /// The next transactions fail with these errors.
    func fail(with errors: [ApusError]) { contents.withLock { $0.failures += errors } }

    func watchEvents() -> (state: MemoryState, commits: AsyncStream<[SwarmEvent]>) {
        let (stream, continuation) = AsyncStream<[SwarmEvent]>.makeStream()
        let (state, id) = contents.withLock { contents in
            contents.nextWatcher += 1
            contents.watchers[contents.nextWatcher] = continuation
            return (contents.state, contents.nextWatcher)
        }
        continuation.onTermination = { [weak self] _ in self?.contents.withLock { $0.watchers[id] = nil } }
        return (state, stream)
    }

    /// Ends all watches, as a store does to readers that fall behind.
    func dropWatchers() {
        let watchers = contents.withLock { contents in
            defer { contents.watchers = [:] }
            return contents.watchers
        }
        for watcher in watchers.values { watcher.finish() }
    }

    @discardableResult
    func transact<Result: Sendable>(
        _ body: @escaping @Sendable (inout MemoryTransaction) throws(ApusError) -> Result
    ) async throws(ApusError) -> Result {
        try commit(body)
    }

    @discardableResult
    func commit<Result>(_ body: (inout MemoryTransaction) throws(ApusError) -> Result) throws(ApusError) -> Result {
        try contents.withLock { contents throws(ApusError) in
            contents.transactions += 1
            if !contents.failures.isEmpty { throw contents.failures.removeFirst() }
            var transaction = MemoryTransaction(state: contents.state, now: clock.now(), version: Version(index: contents.version.index + 1))
            let result = try body(&transaction)
            contents.state = transaction.state
            contents.version.index += 1
            if !transaction.events.isEmpty {
                for watcher in contents.watchers.values { watcher.yield(transaction.events) }
            }
            return result
        }
    }
}
