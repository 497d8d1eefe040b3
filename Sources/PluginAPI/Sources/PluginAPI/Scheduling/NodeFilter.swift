/// The filters that a node must pass to take a task, in the order in which they are asked.
public enum NodeFilter: Sendable, Hashable, CaseIterable {
    /// The node answers and takes new tasks.
    case ready
    /// What the task reserves is free.
    case resources
    /// The node has the network, volume, log and runtime plugins that the task uses.
    case plugins
    /// `Placement.constraints` hold.
    case constraints
    /// The node's platform is one of `Placement.platforms`.
    case platform
    /// The task's host-mode ports are free.
    case hostPorts
    /// The node has fewer than `Placement.maxReplicas` tasks of the service.
    case maximumPerNode
}

/// Why a node does not take a task.
public struct NodeObstacle: Sendable, Hashable {
    public let filter: NodeFilter
    /// What follows a number of nodes: `not ready`, `with insufficient memory`.
    public let reason: String
}

/// What a task asks of a node, read from its spec once for all equal tasks.
public struct TaskRequirements: Sendable {
    private let serviceID: ID
    private let nanoCPUs: Int64
    private let memoryBytes: Int64
    private let plugins: [EnginePlugin]
    private let constraints: [Constraint]
    /// Of a constraint that cannot be read; such a task fits nowhere.
    private let constraintError: String?
    private let platforms: [Platform]
    private let hostPorts: [HostPort]
    private let maximumPerNode: UInt64

    public init(_ task: Task) {
        serviceID = task.serviceID
        nanoCPUs = task.spec.resources?.reservations?.nanoCPUs ?? 0
        memoryBytes = task.spec.resources?.reservations?.memoryBytes ?? 0
        plugins = Self.plugins(of: task)
        do throws(ApusError) {
            constraints = try Constraint.parse(task.spec.placement?.constraints ?? [])
            constraintError = nil
        } catch {
            constraints = []
            constraintError = error.message
        }
        platforms = (task.spec.placement?.platforms ?? []).filter { !$0.os.isEmpty || !$0.architecture.isEmpty }
        hostPorts = task.ports.compactMap { HostPort($0) }
        maximumPerNode = task.spec.placement?.maxReplicas ?? 0
    }

    /// The first filter that the node does not pass, or `nil` when it can take the task.
    public func obstacle(on node: NodeInfo) -> NodeObstacle? {
        for filter in NodeFilter.allCases {
            if let reason = reason(filter, node) { return NodeObstacle(filter: filter, reason: reason) }
        }
        return nil
    }

    /// Whether the node's own qualities allow the task; what changes with its load (resources, ports, maximum) is left aside.
    ///
    /// Global services ask this to learn which nodes they run on.
    public func isEligible(_ node: Node) -> Bool {
        let info = NodeInfo(facts: NodeFacts(node, isKnown: true))
        return reason(.constraints, info) == nil && reason(.platform, info) == nil
    }

    private func reason(_ filter: NodeFilter, _ node: NodeInfo) -> String? {
        switch filter {
        case .ready:
            if !node.facts.isReady { return "not ready" }
            return node.facts.isActive ? nil : "not available for new tasks"
        case .resources:
            if memoryBytes > 0, memoryBytes > node.memoryBytes - node.reservedMemoryBytes { return "with insufficient memory" }
            if nanoCPUs > 0, nanoCPUs > node.nanoCPUs - node.reservedNanoCPUs { return "with insufficient CPU" }
            return nil
        case .plugins:
            guard let missing = plugins.first(where: { !node.facts.node.description.engine.plugins.contains($0) }) else { return nil }
            let type = missing.type == Self.runtimeType ? "runtime" : missing.type.lowercased()
            return "without the \(type) plugin \"\(missing.name)\""
        case .constraints:
            if let constraintError { return "refused because of an \(constraintError)" }
            guard let broken = constraints.first(where: { !$0.matches(node.facts.node) }) else { return nil }
            return "not meeting the constraint \(broken)"
        case .platform:
            guard !platforms.isEmpty, !platforms.contains(where: { Self.runs($0, on: node.facts.node.description.platform) }) else { return nil }
            return "of a platform that the image does not support"
        case .hostPorts:
            guard !hostPorts.isEmpty, let taken = hostPorts.first(where: { node.hostPorts[$0] != nil }) else { return nil }
            return "with host port \(taken.port)/\(taken.transport.rawValue) in use"
        case .maximumPerNode:
            guard maximumPerNode > 0, UInt64(node.taskCount(ofService: serviceID)) >= maximumPerNode else { return nil }
            return "at the maximum of \(maximumPerNode) replica\(maximumPerNode == 1 ? "" : "s") per node"
        }
    }

    private static func runs(_ wanted: Platform, on platform: Platform) -> Bool {
        (wanted.os.isEmpty || wanted.os.equalsIgnoringCase(platform.os))
            && (wanted.architecture.isEmpty || wanted.architecture.equalsArchitecture(platform.architecture))
    }

    /// Every engine has these, and need not list them.
    private static let builtIn: Set<String> = ["", "local", "bridge", "host", "none", "null", "json-file"]

    /// As nodes list what only Apus has as a plugin.
    private static let runtimeType = "apus.runtime"

    private static func plugins(of task: Task) -> [EnginePlugin] {
        var found: Set<EnginePlugin> = []
        func need(_ type: String, _ name: String, unless known: Set<String> = builtIn) {
            guard !known.contains(name) else { return }
            var plugin = EnginePlugin()
            plugin.type = type
            plugin.name = name
            found.insert(plugin)
        }
        for mount in task.spec.container?.mounts ?? [] where mount.kind == .volume {
            need("Volume", mount.volumeOptions?.driver?.name ?? "")
        }
        for attachment in task.networks {
            need("Network", attachment.network.driver.name)
        }
        need("Log", task.spec.logDriver?.name ?? "")
        // A place in a network that a node has for a container of its own is run by nobody.
        need(runtimeType, task.spec.runtime, unless: ["", "container", "attachment"])
        return found.sorted { ($0.type, $0.name) < ($1.type, $1.name) }
    }
}

/// Counts why nodes were refused, and says it in one line.
struct ObstacleTally {
    private var counts: [NodeObstacle: Int] = [:]

    mutating func count(_ obstacle: NodeObstacle) { counts[obstacle, default: 0] += 1 }

    /// `no suitable node (2 nodes not ready, 1 with insufficient memory)`.
    var reason: String {
        guard !counts.isEmpty else { return "no suitable node (there are no nodes)" }
        let order = Dictionary(uniqueKeysWithValues: NodeFilter.allCases.enumerated().map { ($1, $0) })
        let sorted = counts.sorted {
            (order[$0.key.filter] ?? 0, -$0.value, $0.key.reason) < (order[$1.key.filter] ?? 0, -$1.value, $1.key.reason)
        }
        let parts = sorted.prefix(8).enumerated().map { index, entry in
            "\(entry.value)\(index == 0 ? (entry.value == 1 ? " node" : " nodes") : "") \(entry.key.reason)"
        }
        let rest = sorted.dropFirst(8).reduce(0) { $0 + $1.value }
        return "no suitable node (\((parts + (rest > 0 ? ["\(rest) for other reasons"] : [])).joined(separator: ", ")))"
    }
}
