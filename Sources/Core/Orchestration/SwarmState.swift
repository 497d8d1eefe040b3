public import PluginAPI

/// What the planners read: the objects of the swarm at one moment.
///
/// The store's snapshots and transactions are this; tests have a dictionary.
public protocol SwarmState {
    var cluster: Cluster? { get }
    func service(_ id: ID) -> Service?
    func service(named name: String) -> Service?
    func node(_ id: ID) -> Node?
    func task(_ id: ID) -> Task?
    /// By id or name.
    func network(_ target: String) -> Network?
    func secret(_ id: ID) -> Secret?
    func config(_ id: ID) -> Config?
    func tasks(ofService service: ID) -> [Task]
    func tasks(onNode node: ID) -> [Task]
    var allServices: [Service] { get }
    var allNodes: [Node] { get }
    var allTasks: [Task] { get }
    var allNetworks: [Network] { get }
}

/// Where changes are applied; it reads its own writes.
public protocol SwarmTransaction: SwarmState {
    mutating func create(_ task: Task) throws(ApusError)
    mutating func update(_ task: Task) throws(ApusError)
    mutating func removeTask(_ id: ID) throws(ApusError)
    /// `conflict` when the version is not the service's any more.
    mutating func update(_ service: Service, matching version: Version) throws(ApusError)
    mutating func removeService(_ id: ID) throws(ApusError)
    mutating func update(_ node: Node) throws(ApusError)
    mutating func create(_ network: Network) throws(ApusError)
    mutating func update(_ network: Network) throws(ApusError)
    mutating func removeNetwork(_ id: ID) throws(ApusError)
    mutating func update(_ cluster: Cluster) throws(ApusError)
}

/// Something that happened to an object, as the planners need to know it.
public enum SwarmEvent: Sendable {
    case node(Node, from: Node?)
    case nodeRemoved(Node)
    case service(Service)
    case serviceRemoved(Service)
    case task(Task, from: Task?)
    case taskRemoved(Task)
    case cluster(Cluster)
    case network(Network)
    case networkRemoved(Network)
}
