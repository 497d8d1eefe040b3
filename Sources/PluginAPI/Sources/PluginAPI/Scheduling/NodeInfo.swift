/// A node as a scheduler sees it: the node, and what it carries.
public struct NodeInfo: Sendable {
    let facts: NodeFacts
    /// Tasks placed here that are to run; those on their way out do not count.
    public internal(set) var taskCount = 0
    /// What the tasks here have reserved, until they have really ended.
    public internal(set) var reservedNanoCPUs: Int64 = 0
    /// What the tasks here have reserved, until they have really ended.
    public internal(set) var reservedMemoryBytes: Int64 = 0
    var serviceTasks: [ID: Int] = [:]
    var hostPorts: [HostPort: Int] = [:]
    var failures: [ServiceVersion: [Timestamp]] = [:]

    init(facts: NodeFacts) { self.facts = facts }

    public var node: Node { facts.node }
    public var id: ID { facts.node.id }
    /// All processors, in billionths of one.
    public var nanoCPUs: Int64 { facts.nanoCPUs }
    /// All memory, in bytes.
    public var memoryBytes: Int64 { facts.memoryBytes }

    /// Tasks of a service placed here that are to run.
    public func taskCount(ofService service: ID) -> Int { serviceTasks[service] ?? 0 }

    /// How many tasks of the same version of its service failed here in the last five minutes (counted up to five).
    public func recentFailures(of task: Task, now: Timestamp) -> Int {
        guard !failures.isEmpty, let times = failures[ServiceVersion(task)] else { return 0 }
        return times.count { now - $0 < Self.failureMemory }
    }

    static var failureMemory: Duration { .seconds(300) }
    static var failureLimit: Int { 5 }

    mutating func recordFailure(of version: ServiceVersion, at time: Timestamp) {
        var times = failures[version] ?? []
        times.append(time)
        if times.count > Self.failureLimit {
            times.sort()
            times.removeFirst(times.count - Self.failureLimit)
        }
        failures[version] = times
        if failures.count > 64 {
            failures = failures.filter { entry in entry.value.contains { time - $0 < Self.failureMemory } }
        }
    }
}

/// What does not change while a node carries tasks; shared, since a node is a large value.
final class NodeFacts: Sendable {
    let node: Node
    /// False for a node that tasks name but that is not known, or no longer.
    let isKnown: Bool
    let isReady: Bool
    let isActive: Bool
    let nanoCPUs: Int64
    let memoryBytes: Int64

    init(_ node: Node, isKnown: Bool) {
        self.node = node
        self.isKnown = isKnown
        isReady = node.status.state == .ready
        isActive = node.spec.availability == .active
        nanoCPUs = node.description.resources.nanoCPUs
        memoryBytes = node.description.resources.memoryBytes
    }
}

/// A port of a node that a task holds for itself.
struct HostPort: Hashable, Sendable {
    var port: UInt64
    var transport: TransportProtocol

    /// `nil` unless the task asks for a port of its own node by number.
    init?(_ configuration: PortConfig) {
        guard configuration.publishMode == .host, configuration.publishedPort != 0 else { return nil }
        port = configuration.publishedPort
        transport = configuration.transport
    }
}

/// A service in one of its versions: a corrected spec must not suffer for the failures of the one before.
struct ServiceVersion: Hashable, Sendable {
    var service: ID
    var version: Version

    init(_ task: Task) {
        service = task.serviceID
        version = task.specVersion
    }
}
