import PluginAPI

/// What a service's tasks are made from now.
struct TaskTemplate {
    let service: Service
    let spec: TaskSpec
    let hostPorts: [PortConfig]
    /// Whether every node answers for a port of the service.
    let hasIngressPorts: Bool
    /// The network by which it does; `nil` when there is none, or no such port.
    let ingress: Network?
    let version: Version

    /// - Parameter ingress: the ingress network of the swarm.
    init(_ service: Service, ingress: Network? = nil) {
        self.service = service
        var spec = service.spec.task
        if spec.networks.isEmpty { spec.networks = service.spec.networks }
        self.spec = spec
        let ports = service.spec.endpoint?.ports ?? []
        hostPorts = ports.filter { $0.publishMode == .host }
        hasIngressPorts = ports.contains { $0.publishMode == .ingress }
        self.ingress = hasIngressPorts ? ingress : nil
        version = service.specVersion ?? Version()
    }

    /// Whether a task was made from something else than what the service says now.
    ///
    /// A task that has no place in the ingress network was made for a service without published ports, and is not reachable by them.
    func isOutdated(_ task: Task) -> Bool {
        if let ingress, !task.networks.contains(where: { $0.network.id == ingress.id }) { return true }
        return !task.spec.makesTheSameTask(as: spec) || task.ports != hostPorts
    }

    func makeTask(id: ID, slot: UInt64, node: ID, desired: TaskState, networks: [NetworkAttachment], now: Timestamp) -> Task {
        var task = Task()
        task.id = id
        task.createdAt = now
        task.updatedAt = now
        task.serviceID = service.id
        task.serviceName = service.spec.name
        task.slot = slot
        task.nodeID = node
        task.spec = spec
        task.specVersion = version
        task.ports = hostPorts
        task.networks = networks
        task.desiredState = desired
        task.status.state = .new
        task.status.timestamp = now
        task.status.message = "created"
        return task
    }
}

extension TaskSpec {
    var restartDelay: Duration { restartPolicy?.delay ?? .seconds(5) }
    var stopGracePeriod: Duration { container?.stopGracePeriod ?? .seconds(10) }
}

extension Task {
    /// Ended without being told to.
    var endedByItself: Bool { status.state == .complete || status.state == .failed || status.state == .rejected }
    var isWanted: Bool { desiredState <= .running }

    /// Whether the policy of its spec calls for a replacement. `others` are the other tasks of its seat.
    ///
    /// Attempts are counted from the history that is kept, so that a new leader comes to the same answer.
    func isRestartable(others: [Task]) -> Bool {
        let policy = spec.restartPolicy
        switch policy?.condition ?? .any {
        case .none: return false
        case .onFailure where status.state == .complete: return false
        default: break
        }
        guard let limit = policy?.maxAttempts, limit > 0 else { return true }
        var attempts = others.filter { $0.id != id && $0.endedByItself && $0.specVersion == specVersion }
        if let window = policy?.window, window > .zero {
            attempts = attempts.filter { status.timestamp - $0.status.timestamp <= window }
        }
        return UInt64(attempts.count) < limit
    }
}

extension TaskSpec {
    /// Whether a task of either is the same. New credentials serve the next pull; they are no reason to replace what runs.
    func makesTheSameTask(as other: TaskSpec) -> Bool {
        var (left, right) = (self, other)
        left.container?.registryCredentials = nil
        right.container?.registryCredentials = nil
        return left == right
    }
}
