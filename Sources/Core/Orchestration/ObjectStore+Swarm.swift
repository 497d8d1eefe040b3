public import PluginAPI
public import Store

extension StoreSnapshot: SwarmState {
    public func service(_ id: ID) -> Service? { services[id] }
    public func node(_ id: ID) -> Node? { nodes[id] }
    public func task(_ id: ID) -> Task? { tasks[id] }
    public func network(_ target: String) -> Network? { networks[ID(target)] ?? network(named: target) }
    public func secret(_ id: ID) -> Secret? { secrets[id] }
    public func config(_ id: ID) -> Config? { configs[id] }
    public var allServices: [Service] { Array(services.values) }
    public var allNodes: [Node] { Array(nodes.values) }
    public var allTasks: [Task] { Array(tasks.values) }
    public var allNetworks: [Network] { Array(networks.values) }
}

extension StoreTransaction: SwarmTransaction {
    public var cluster: Cluster? { snapshot.cluster }
    public func service(_ id: ID) -> Service? { snapshot.services[id] }
    public func service(named name: String) -> Service? { snapshot.service(named: name) }
    public func node(_ id: ID) -> Node? { snapshot.nodes[id] }
    public func task(_ id: ID) -> Task? { snapshot.tasks[id] }
    public func network(_ target: String) -> Network? { snapshot.network(target) }
    public func secret(_ id: ID) -> Secret? { snapshot.secrets[id] }
    public func config(_ id: ID) -> Config? { snapshot.configs[id] }
    public func tasks(ofService service: ID) -> [Task] { snapshot.tasks(ofService: service) }
    public func tasks(onNode node: ID) -> [Task] { snapshot.tasks(onNode: node) }
    public var allServices: [Service] { snapshot.allServices }
    public var allNodes: [Node] { snapshot.allNodes }
    public var allTasks: [Task] { snapshot.allTasks }
    public var allNetworks: [Network] { snapshot.allNetworks }

    public mutating func create(_ task: Task) throws(ApusError) { try create(.task(task)) }
    public mutating func update(_ task: Task) throws(ApusError) { try update(.task(task)) }
    public mutating func removeTask(_ id: ID) throws(ApusError) { try remove(.task, id) }
    public mutating func update(_ service: Service, matching version: Version) throws(ApusError) {
        try update(.service(service), matching: version)
    }
    public mutating func removeService(_ id: ID) throws(ApusError) { try remove(.service, id) }
    public mutating func update(_ node: Node) throws(ApusError) { try update(.node(node)) }
    public mutating func create(_ network: Network) throws(ApusError) { try create(.network(network)) }
    public mutating func update(_ network: Network) throws(ApusError) { try update(.network(network)) }
    public mutating func removeNetwork(_ id: ID) throws(ApusError) { try remove(.network, id) }
    public mutating func update(_ cluster: Cluster) throws(ApusError) { try update(.cluster(cluster)) }
}

extension ObjectStore: SwarmStore {
    public func watchEvents() -> (state: StoreSnapshot, commits: AsyncStream<[SwarmEvent]>) {
        let (snapshot, commits) = watch()
        let feed = EventFeed(commits)
        return (snapshot, AsyncStream { await feed.next() })
    }

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
