import Orchestration
import PluginAPI

func makeNode(
    _ name: String, labels: [String: String] = [:], memory: Int64 = 16 << 30, cpus: Int64 = 8, state: NodeState = .ready,
    availability: NodeAvailability = .active, role: NodeRole = .worker, address: String = "10.0.0.1"
) -> Node {
    var node = Node()
    node.id = ID(name)
    node.spec.labels = labels
    node.spec.availability = availability
    node.spec.role = role
    node.status.state = state
    node.status.address = address
    node.description.hostname = name
    node.description.platform.os = "linux"
    node.description.platform.architecture = "x86_64"
    node.description.resources.memoryBytes = memory
    node.description.resources.nanoCPUs = cpus * 1_000_000_000
    var overlay = EnginePlugin()
    (overlay.type, overlay.name) = ("Network", "overlay")
    node.description.engine.plugins = [overlay]
    return node
}

func makeSpec(_ name: String, image: String = "steady", replicas: UInt64? = 1, _ change: (inout ServiceSpec) -> Void = { _ in }) -> ServiceSpec {
    var spec = ServiceSpec()
    spec.name = name
    var container = ContainerSpec()
    container.image = image
    spec.task.container = container
    if let replicas {
        var replicated = ReplicatedService()
        replicated.replicas = replicas
        spec.mode.replicated = replicated
    } else {
        spec.mode.global = GlobalService()
    }
    change(&spec)
    return spec
}

func makeTask(_ id: String, service: String = "service", memory: Int64 = 0, cpus: Int64 = 0, _ change: (inout Task) -> Void = { _ in }) -> Task {
    var task = Task()
    task.id = ID(id)
    task.serviceID = ID(service)
    task.status.state = .pending
    task.desiredState = .running
    if memory > 0 || cpus > 0 {
        var reserved = Resources()
        reserved.memoryBytes = memory
        reserved.nanoCPUs = cpus * 1_000_000_000
        var resources = ResourceRequirements()
        resources.reservations = reserved
        task.spec.resources = resources
    }
    change(&task)
    return task
}

func makePort(_ target: UInt64, _ published: UInt64 = 0, _ mode: PublishMode = .ingress, _ transport: TransportProtocol = .tcp) -> PortConfig {
    var port = PortConfig()
    port.targetPort = target
    port.publishedPort = published
    port.publishMode = mode
    port.transport = transport
    return port
}

func makeEndpoint(_ ports: PortConfig...) -> EndpointSpec {
    var endpoint = EndpointSpec()
    endpoint.ports = ports
    return endpoint
}

func makePlacement(_ constraints: String..., preferences: [String] = [], maximum: UInt64 = 0) -> Placement {
    var placement = Placement()
    placement.constraints = constraints
    placement.preferences = preferences.map { descriptor in
        var over = SpreadOver()
        over.descriptor = descriptor
        var preference = PlacementPreference()
        preference.spread = over
        return preference
    }
    placement.maxReplicas = maximum
    return placement
}

func makeRestart(_ condition: RestartCondition = .any, delay: Duration? = nil, attempts: UInt64? = nil, window: Duration? = nil) -> RestartPolicy {
    var policy = RestartPolicy()
    policy.condition = condition
    policy.delay = delay
    policy.maxAttempts = attempts
    policy.window = window
    return policy
}

func makeUpdate(_ change: (inout UpdateConfig) -> Void) -> UpdateConfig {
    var update = UpdateConfig()
    update.parallelism = 1
    change(&update)
    return update
}

/// What a service or a task says of a network that it joins.
func makeJoin(_ target: String, aliases: [String] = []) -> NetworkAttachmentSpec {
    var join = NetworkAttachmentSpec()
    join.target = target
    join.aliases = aliases
    return join
}

extension Simulation {
    /// The swarm's settings, and its ingress network.
    mutating func makeSwarm(pools: [String] = ["10.0.0.0/8"]) {
        change { transaction in
            var cluster = Cluster()
            cluster.id = "swarm"
            cluster.defaultAddressPool = pools
            cluster.subnetSize = 24
            transaction.put(cluster)
        }
        make(NetworkDraft.ingressSpec)
    }

    @discardableResult
    mutating func make(_ spec: NetworkSpec) -> Network {
        guard var network = try? NetworkDraft.create(spec, id: ID("\(spec.name)-id"), in: state) else { return Network() }
        network.createdAt = now
        change { [network] in $0.put(network) }
        return network
    }

    @discardableResult
    mutating func makeNetwork(_ name: String, subnet: String = "", _ change: (inout NetworkSpec) -> Void = { _ in }) -> Network {
        var spec = NetworkSpec()
        spec.name = name
        if !subnet.isEmpty {
            var pool = IPAMPool()
            pool.subnet = subnet
            spec.ipam = IPAMConfig()
            spec.ipam?.configs = [pool]
        }
        change(&spec)
        return make(spec)
    }
}
