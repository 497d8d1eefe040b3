public import PluginAPI
public import Store

extension StoreSnapshot: SwarmState {
    /// `nil` when there is none of that id.
    public func service(_ id: ID) -> Service? { services[id] }
    /// `nil` when there is none of that id.
    public func node(_ id: ID) -> Node? { nodes[id] }
    /// `nil` when there is none of that id.
    public func task(_ id: ID) -> Task? { tasks[id] }
    /// By id, then by name, as specs may name it.
    public func network(_ target: String) -> Network? { networks[ID(target)] ?? network(named: target) }
    /// `nil` when there is none of that id.
    public func secret(_ id: ID) -> Secret? { secrets[id] }
    /// `nil` when there is none of that id.
    public func config(_ id: ID) -> Config? { configs[id] }
    /// In no order.
    public var allServices: [Service] { Array(services.values) }
    /// In no order.
    public var allNodes: [Node] { Array(nodes.values) }
    /// In no order.
    public var allTasks: [Task] { Array(tasks.values) }
    /// In no order.
    public var allNetworks: [Network] { Array(networks.values) }
}

extension StoreTransaction: SwarmTransaction {
    /// `nil` before the swarm is made.
    public var cluster: Cluster? { snapshot.cluster }
    /// As changed so far in this transaction; so with all that follow.
    public func service(_ id: ID) -> Service? { snapshot.services[id] }
    /// Names of services are unique.
    public func service(named name: String) -> Service? { snapshot.service(named: name) }
    /// `nil` when there is none of that id.
    public func node(_ id: ID) -> Node? { snapshot.nodes[id] }
    /// `nil` when there is none of that id.
    public func task(_ id: ID) -> Task? { snapshot.tasks[id] }
    /// By id, then by name, as specs may name it.
    public func network(_ target: String) -> Network? { snapshot.network(target) }
    /// `nil` when there is none of that id.
    public func secret(_ id: ID) -> Secret? { snapshot.secrets[id] }
    /// `nil` when there is none of that id.
    public func config(_ id: ID) -> Config? { snapshot.configs[id] }
    /// All of the service, in whatever state.
    public func tasks(ofService service: ID) -> [Task] { snapshot.tasks(ofService: service) }
    /// All of the node, in whatever state.
    public func tasks(onNode node: ID) -> [Task] { snapshot.tasks(onNode: node) }
    /// In no order.
    public var allServices: [Service] { snapshot.allServices }
    /// In no order.
    public var allNodes: [Node] { snapshot.allNodes }
    /// In no order.
    public var allTasks: [Task] { snapshot.allTasks }
    /// In no order.
    public var allNetworks: [Network] { snapshot.allNetworks }

    /// - Throws: `conflict` when there is one of that id.
    public mutating func create(_ task: Task) throws(ApusError) { try create(.task(task)) }
    /// - Throws: `notFound` when there is none of that id.
    public mutating func update(_ task: Task) throws(ApusError) { try update(.task(task)) }
    /// - Throws: `notFound` when there is none of that id.
    public mutating func removeTask(_ id: ID) throws(ApusError) { try remove(.task, id) }
    /// - Throws: `notFound`; `conflict` when the service has another version by now.
    public mutating func update(_ service: Service, matching version: Version) throws(ApusError) {
        try update(.service(service), matching: version)
    }
    /// - Throws: `notFound` when there is none of that id.
    public mutating func removeService(_ id: ID) throws(ApusError) { try remove(.service, id) }
    /// - Throws: `notFound` when there is none of that id.
    public mutating func update(_ node: Node) throws(ApusError) { try update(.node(node)) }
    /// - Throws: `conflict` when there is one of that id or name.
    public mutating func create(_ network: Network) throws(ApusError) { try create(.network(network)) }
    /// - Throws: `notFound` when there is none of that id.
    public mutating func update(_ network: Network) throws(ApusError) { try update(.network(network)) }
    /// - Throws: `notFound` when there is none of that id.
    public mutating func removeNetwork(_ id: ID) throws(ApusError) { try remove(.network, id) }
    /// - Throws: `notFound` before the swarm is made.
    public mutating func update(_ cluster: Cluster) throws(ApusError) { try update(.cluster(cluster)) }
}

extension ObjectStore: SwarmStore {
    /// The state now, and of every commit after it what matters to orchestration. Nothing is missed between the two.
    public func watchEvents() -> (state: StoreSnapshot, commits: AsyncStream<[SwarmEvent]>) {
        let (snapshot, commits) = watch()
        let feed = EventFeed(commits)
        return (snapshot, AsyncStream { await feed.next() })
    }

    /// `update`, under the name that orchestration knows.
    public func transact<Result: Sendable>(
        _ body: @escaping @Sendable (inout StoreTransaction) throws(ApusError) -> Result
    ) async throws(ApusError) -> Result {
        try await update(body)
    }
}

/// Turns commits into events as they are asked for.
private actor EventFeed {
    private var iterator: AsyncStream<StoreCommit>.Iterator

    init(_ commits: AsyncStream<StoreCommit>) { iterator = commits.makeAsyncIterator() }

    func next() async -> [SwarmEvent]? {
        var iterator = iterator
        let commit = await iterator.next(isolation: self)
        self.iterator = iterator
        return commit.map { $0.changes.compactMap(SwarmEvent.init) }
    }
}

extension SwarmEvent {
    /// `nil` for objects that do not matter to orchestration.
    init?(_ change: StoreChange) {
        switch change {
        case .created(let object): self.init(object, old: nil)
        case .updated(let object, let old): self.init(object, old: old)
        case .removed(.node(let node)): self = .nodeRemoved(node)
        case .removed(.service(let service)): self = .serviceRemoved(service)
        case .removed(.task(let task)): self = .taskRemoved(task)
        case .removed(.network(let network)): self = .networkRemoved(network)
        case .removed: return nil
        }
    }

    private init?(_ object: StoredObject, old: StoredObject?) {
        switch object {
        case .node(let node):
            if case .node(let old) = old { self = .node(node, from: old) } else { self = .node(node, from: nil) }
        case .service(let service): self = .service(service)
        case .task(let task):
            if case .task(let old) = old { self = .task(task, from: old) } else { self = .task(task, from: nil) }
        case .cluster(let cluster): self = .cluster(cluster)
        case .network(let network): self = .network(network)
        case .secret, .config: return nil
        }
    }
}
