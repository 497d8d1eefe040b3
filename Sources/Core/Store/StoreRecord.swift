import Coding
import PluginAPI

/// An object, or its kind and id alone, as the log and snapshots hold it.
struct ObjectRecord: FieldCoded {
    var cluster: Cluster?
    var node: Node?
    var service: Service?
    var task: Task?
    var network: Network?
    var secret: Secret?
    var config: Config?
    var removedKind = ""
    var removedID: ID = ""
    /// 1 created, 2 updated, 3 removed; 0 in a snapshot.
    var action: UInt64 = 0

    init() {}

    init(_ object: StoredObject) {
        switch object {
        case .cluster(let object): cluster = object
        case .node(let object): node = object
        case .service(let object): service = object
        case .task(let object): task = object
        case .network(let object): network = object
        case .secret(let object): secret = object
        case .config(let object): config = object
        }
    }

    init(_ change: StoreChange) {
        switch change {
        case .created(let object):
            self.init(object)
            action = 1
        case .updated(let object, from: _):
            self.init(object)
            action = 2
        case .removed(let object):
            self.init()
            removedKind = object.kind.rawValue
            removedID = object.id
            action = 3
        }
    }

    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Cluster", &cluster)
        try coder.field(2, "Node", &node)
        try coder.field(3, "Service", &service)
        try coder.field(4, "Task", &task)
        try coder.field(5, "Network", &network)
        try coder.field(6, "Secret", &secret)
        try coder.field(7, "Config", &config)
        try coder.field(8, "RemovedKind", &removedKind)
        try coder.field(9, "RemovedID", &removedID)
        try coder.field(10, "Action", &action)
    }

    var object: StoredObject? {
        if let cluster { return .cluster(cluster) }
        if let node { return .node(node) }
        if let service { return .service(service) }
        if let task { return .task(task) }
        if let network { return .network(network) }
        if let secret { return .secret(secret) }
        if let config { return .config(config) }
        return nil
    }
}

/// One transaction in the log.
struct TransactionRecord: FieldCoded {
    /// The version of the state that it was made on: on any other it does nothing.
    var base: UInt64 = 0
    var time: Timestamp = .never
    var changes: [ObjectRecord] = []

    init() {}

    init(base: Version, time: Timestamp, changes: [StoreChange]) {
        self.base = base.index
        self.time = time
        self.changes = changes.map { ObjectRecord($0) }
    }

    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Base", &base)
        try coder.field(2, "Time", &time)
        try coder.field(3, "Changes", &changes)
    }

    /// The state after it, and what it changed. Depends on nothing but the state, the record and its place, so that every member
    /// comes to the same result, an error too.
    func applied(to state: StoreSnapshot, at index: UInt64) throws(ApusError) -> (StoreSnapshot, StoreCommit) {
        guard state.version.index == base else {
            throw ApusError(.conflict, "the store changed while this was on its way: try again")
        }
        var transaction = StoreTransaction(snapshot: state, version: Version(index: index), now: time)
        for change in changes {
            switch (change.action, change.object) {
            case (1, let object?): try transaction.create(object)
            case (2, let object?): try transaction.update(object)
            case (3, nil):
                guard let kind = ObjectKind(rawValue: change.removedKind) else { throw ApusError(.corrupt, "unknown kind \(change.removedKind)") }
                try transaction.remove(kind, change.removedID)
            default: throw ApusError(.corrupt, "entry \(index) has a change of an unknown kind")
            }
        }
        var result = transaction.snapshot
        result.version = Version(index: index)
        return (result, StoreCommit(version: Version(index: index), changes: transaction.changes))
    }
}
