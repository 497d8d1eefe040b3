import HashTreeCollections
public import PluginAPI

/// The whole state as of one commit: an immutable value over persistent trees, cheap to copy and to keep.
public struct StoreSnapshot: Sendable {
    /// Of the last commit.
    public internal(set) var version = Version()
    /// There is at most one.
    public private(set) var cluster: Cluster?
    public private(set) var nodes = ObjectTable<Node>()
    public private(set) var services = ObjectTable<Service>()
    public private(set) var tasks = ObjectTable<Task>()
    public private(set) var networks = ObjectTable<Network>()
    public private(set) var secrets = ObjectTable<Secret>()
    public private(set) var configs = ObjectTable<Config>()

    private struct Name: Hashable, Sendable {
        var kind: ObjectKind
        var text: String
    }

    private var names = TreeDictionary<Name, ID>()
    private var tasksByService = TreeDictionary<ID, TreeSet<ID>>()
    private var tasksByNode = TreeDictionary<ID, TreeSet<ID>>()

    public init() {}

    /// Names of services are unique.
    public func service(named name: String) -> Service? { id(named: name, .service).flatMap { services[$0] } }
    /// Names of networks are unique.
    public func network(named name: String) -> Network? { id(named: name, .network).flatMap { networks[$0] } }
    /// Names of secrets are unique.
    public func secret(named name: String) -> Secret? { id(named: name, .secret).flatMap { secrets[$0] } }
    /// Names of configs are unique.
    public func config(named name: String) -> Config? { id(named: name, .config).flatMap { configs[$0] } }

    /// Those of a service, sorted by id.
    public func tasks(ofService id: ID) -> [Task] { (tasksByService[id] ?? []).sorted().compactMap { tasks[$0] } }
    /// Those on a node, sorted by id.
    public func tasks(onNode id: ID) -> [Task] { (tasksByNode[id] ?? []).sorted().compactMap { tasks[$0] } }

    /// The object of a kind with this id.
    public func object(_ kind: ObjectKind, _ id: ID) -> StoredObject? {
        switch kind {
        case .cluster: cluster.flatMap { $0.id == id ? .cluster($0) : nil }
        case .node: nodes[id].map { .node($0) }
        case .service: services[id].map { .service($0) }
        case .task: tasks[id].map { .task($0) }
        case .network: networks[id].map { .network($0) }
        case .secret: secrets[id].map { .secret($0) }
        case .config: configs[id].map { .config($0) }
        }
    }

    func id(named name: String, _ kind: ObjectKind) -> ID? { names[Name(kind: kind, text: name)] }

    // MARK: Changes

    /// Puts the object in place of the one with its id, if there is one. The caller has checked names.
    mutating func put(_ object: StoredObject) {
        if let name = object.uniqueName {
            if let old = self.object(object.kind, object.id)?.uniqueName, old != name { names[Name(kind: object.kind, text: old)] = nil }
            names[Name(kind: object.kind, text: name)] = object.id
        }
        switch object {
        case .cluster(let cluster): self.cluster = cluster
        case .node(let node): nodes.objects[node.id] = node
        case .service(let service): services.objects[service.id] = service
        case .task(let task):
            let old = tasks.objects.updateValue(task, forKey: task.id)
            if old?.serviceID != task.serviceID {
                if let old { Self.unlink(old.id, from: old.serviceID, &tasksByService) }
                Self.link(task.id, to: task.serviceID, &tasksByService)
            }
            if old?.nodeID != task.nodeID {
                if let old { Self.unlink(old.id, from: old.nodeID, &tasksByNode) }
                Self.link(task.id, to: task.nodeID, &tasksByNode)
            }
        case .network(let network): networks.objects[network.id] = network
        case .secret(let secret): secrets.objects[secret.id] = secret
        case .config(let config): configs.objects[config.id] = config
        }
    }

    mutating func remove(_ object: StoredObject) {
        if let name = object.uniqueName { names[Name(kind: object.kind, text: name)] = nil }
        switch object {
        case .cluster: cluster = nil
        case .node(let node): nodes.objects[node.id] = nil
        case .service(let service): services.objects[service.id] = nil
        case .task(let task):
            tasks.objects[task.id] = nil
            Self.unlink(task.id, from: task.serviceID, &tasksByService)
            Self.unlink(task.id, from: task.nodeID, &tasksByNode)
        case .network(let network): networks.objects[network.id] = nil
        case .secret(let secret): secrets.objects[secret.id] = nil
        case .config(let config): configs.objects[config.id] = nil
        }
    }

    private static func link(_ task: ID, to owner: ID, _ index: inout TreeDictionary<ID, TreeSet<ID>>) {
        guard !owner.isEmpty else { return }
        index[owner, default: []].insert(task)
    }

    private static func unlink(_ task: ID, from owner: ID, _ index: inout TreeDictionary<ID, TreeSet<ID>>) {
        guard !owner.isEmpty, var tasks = index[owner] else { return }
        tasks.remove(task)
        index[owner] = tasks.isEmpty ? nil : tasks
    }

    /// Every object, kind by kind.
    func forEachObject(_ body: (StoredObject) throws(ApusError) -> Void) throws(ApusError) {
        if let cluster { try body(.cluster(cluster)) }
        for node in nodes.values { try body(.node(node)) }
        for service in services.values { try body(.service(service)) }
        for task in tasks.values { try body(.task(task)) }
        for network in networks.values { try body(.network(network)) }
        for secret in secrets.values { try body(.secret(secret)) }
        for config in configs.values { try body(.config(config)) }
    }
}
