public import PluginAPI

/// The kinds of objects in the store.
public enum ObjectKind: String, CaseIterable, Sendable, Hashable {
    case cluster, node, service, task, network, secret, config
}

/// Any object of the store. Indirect, because the cases differ much in size: the store remembers thousands of changes, most of them of tasks, and
/// would keep the room of a service for each.
public indirect enum StoredObject: Sendable, Hashable {
    case cluster(Cluster)
    case node(Node)
    case service(Service)
    case task(Task)
    case network(Network)
    case secret(Secret)
    case config(Config)

    public var kind: ObjectKind {
        switch self {
        case .cluster: .cluster
        case .node: .node
        case .service: .service
        case .task: .task
        case .network: .network
        case .secret: .secret
        case .config: .config
        }
    }

    public var id: ID {
        switch self {
        case .cluster(let object): object.id
        case .node(let object): object.id
        case .service(let object): object.id
        case .task(let object): object.id
        case .network(let object): object.id
        case .secret(let object): object.id
        case .config(let object): object.id
        }
    }

    public var version: Version {
        switch self {
        case .cluster(let object): object.version
        case .node(let object): object.version
        case .service(let object): object.version
        case .task(let object): object.version
        case .network(let object): object.version
        case .secret(let object): object.version
        case .config(let object): object.version
        }
    }

    public var createdAt: Timestamp {
        switch self {
        case .cluster(let object): object.createdAt
        case .node(let object): object.createdAt
        case .service(let object): object.createdAt
        case .task(let object): object.createdAt
        case .network(let object): object.createdAt
        case .secret(let object): object.createdAt
        case .config(let object): object.createdAt
        }
    }

    /// The name that no other object of the kind may have; `nil` for kinds whose names may repeat.
    var uniqueName: String? {
        switch self {
        case .service(let service): service.spec.name
        case .network(let network): network.spec.name
        case .secret(let secret): secret.spec.name
        case .config(let config): config.spec.name
        case .cluster, .node, .task: nil
        }
    }

    /// The object as a transaction leaves it.
    func stamped(version: Version, createdAt: Timestamp, updatedAt: Timestamp) -> StoredObject {
        func stamp<Value>(_ value: Value, _ change: (inout Value) -> Void) -> Value {
            var copy = value
            change(&copy)
            return copy
        }
        switch self {
        case .cluster(let object):
            return .cluster(stamp(object) { ($0.version, $0.createdAt, $0.updatedAt) = (version, createdAt, updatedAt) })
        case .node(let object):
            return .node(stamp(object) { ($0.version, $0.createdAt, $0.updatedAt) = (version, createdAt, updatedAt) })
        case .service(let object):
            return .service(stamp(object) { ($0.version, $0.createdAt, $0.updatedAt) = (version, createdAt, updatedAt) })
        case .task(let object):
            return .task(stamp(object) { ($0.version, $0.createdAt, $0.updatedAt) = (version, createdAt, updatedAt) })
        case .network(let object):
            return .network(stamp(object) { ($0.version, $0.createdAt, $0.updatedAt) = (version, createdAt, updatedAt) })
        case .secret(let object):
            return .secret(stamp(object) { ($0.version, $0.createdAt, $0.updatedAt) = (version, createdAt, updatedAt) })
        case .config(let object):
            return .config(stamp(object) { ($0.version, $0.createdAt, $0.updatedAt) = (version, createdAt, updatedAt) })
        }
    }
}

/// One object that a commit made, changed or removed.
public enum StoreChange: Sendable, Hashable {
    case created(StoredObject)
    case updated(StoredObject, from: StoredObject)
    /// The object as it was.
    case removed(StoredObject)

    /// The object as it is now, or was when it was removed.
    public var object: StoredObject {
        switch self {
        case .created(let object), .updated(let object, from: _), .removed(let object): object
        }
    }
}

/// What one transaction changed.
public struct StoreCommit: Sendable, Hashable {
    /// The index of its log entry; objects that it made or changed have this version.
    public let version: Version
    public let changes: [StoreChange]

    public init(version: Version, changes: [StoreChange]) {
        self.version = version
        self.changes = changes
    }
}
