import Agent
import Coding
import Orchestration
import PluginAPI
import Store
import Swarm

/// `/services`: create, read, update, remove.
struct ServiceRoutes: Sendable {
    let swarm: SwarmNode
    let containers: ContainerEngine

    func add(to router: inout Router) {
        router.add("GET", "/services") { request throws(ApusError) in try await list(request) }
        router.add("POST", "/services/create") { request throws(ApusError) in
            try checkNetworks(request)
            return try await swarm.onLeader(request) { manager throws(ApusError) in try await create(request, manager) }
        }
        router.add("GET", "/services/{id}") { request throws(ApusError) in
            let snapshot = try await swarm.snapshot(for: request)
            return .object(try ObjectReferences.service(request.parameter("id"), in: snapshot))
        }
        router.add("POST", "/services/{id}/update") { request throws(ApusError) in
            if (request.text("rollback") ?? "").isEmpty { try checkNetworks(request) }
            return try await swarm.onLeader(request) { manager throws(ApusError) in try await update(request, manager) }
        }
        router.add("DELETE", "/services/{id}") { request throws(ApusError) in
            try await swarm.onLeader(request) { manager throws(ApusError) in try await remove(request, manager) }
        }
    }

    /// A network of this node alone is no use to tasks that may run on others; the leader would only say that it does not know it.
    private func checkNetworks(_ request: APIRequest) throws(ApusError) {
        guard !request.isForwarded, let snapshot = swarm.managerPart?.store.read() else { return }
        let spec = try request.serviceSpec()
        for attachment in spec.task.networks + spec.networks where snapshot.network(attachment.target) == nil {
            guard
                let network = containers.networks().first(where: { $0.name == attachment.target || $0.id.text == attachment.target }),
                !network.isPredefined
            else { continue }
            throw ApusError(
                .permissionDenied,
                "The network \(network.name) cannot be used with services. Only networks scoped to the swarm can be used, such as those created with the overlay driver."
            )
        }
    }

    private func list(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let filters = try Filters(request.text("filters"), known: ["id", "label", "mode", "name"])
        let snapshot = try await swarm.snapshot(for: request)
        let withStatus = request.flag("status")
        let services = snapshot.services.values
            .filter { service in
                filters.prefix("id", service.id.text) && filters.any("name") { service.spec.name.hasPrefix($0) }
                    && filters.labels("label", service.spec.labels) && filters.exact("mode", service.spec.mode.name)
            }
            .sorted { $0.spec.name < $1.spec.name }
        return .json(
            .array(
                services.map { service in
                    var json = JSONFields.encode(service)
                    if withStatus { json["ServiceStatus"] = status(of: service, in: snapshot) }
                    return json
                }))
    }

    private func status(of service: Service, in snapshot: StoreSnapshot) -> JSONValue {
        let tasks = snapshot.tasks(ofService: service.id)
        let running = tasks.count { $0.status.state == .running && $0.desiredState <= .running }
        let desired =
            service.spec.mode.isGlobal
            ? tasks.count { $0.desiredState == .running && !$0.status.state.isTerminal } : Int(service.spec.mode.replicated?.replicas ?? 1)
        let completed = tasks.count { $0.status.state == .complete }
        return ["RunningTasks": .integer(Int64(running)), "DesiredTasks": .integer(Int64(desired)), "CompletedTasks": .integer(Int64(completed))]
    }

    private func create(_ request: APIRequest, _ manager: ManagerPart) async throws(ApusError) -> APIResponse {
        var wanted = try request.serviceSpec().normalized()
        wanted.task.container?.registryCredentials = try RegistryCredentials(header: request.headers["x-registry-auth"])
        let id = try await manager.store.update { [wanted] transaction throws(ApusError) in
            var spec = wanted
            if spec.name.isEmpty {
                let snapshot = transaction.snapshot
                spec.name = RandomName.generate { snapshot.service(named: $0) != nil }
            }
            spec = try FileReferences.resolved(spec, in: transaction.snapshot)
            try ServiceValidation.check(spec, in: transaction.snapshot, replacing: nil)
            spec = spec.resolvingNetworks(in: transaction)
            let service = ServiceDraft.create(spec)
            try transaction.create(.service(service))
            return service.id
        }
        return .json(["ID": .string(id.text), "Warnings": .null], status: 201)
    }

    private func update(_ request: APIRequest, _ manager: ManagerPart) async throws(ApusError) -> APIResponse {
        let version = try request.storeVersion()
        let reference = request.parameter("id")
        let rollback = request.text("rollback") ?? ""
        guard rollback.isEmpty || rollback == "previous" else {
            throw ApusError(.invalidArgument, "rollback=\(rollback) is not known; it can only be \"previous\"")
        }
        let spec = rollback.isEmpty ? try request.serviceSpec().normalized() : ServiceSpec()
        let credentials = try RegistryCredentials(header: request.headers["x-registry-auth"])
        let source = request.text("registryAuthFrom") ?? ""
        guard ["", "spec", "previous-spec"].contains(source) else {
            throw ApusError(.invalidArgument, "registryAuthFrom=\(source) is not known; it is \"spec\" or \"previous-spec\"")
        }
        try await manager.store.update { transaction throws(ApusError) in
            let service = try ObjectReferences.service(reference, in: transaction.snapshot)
            var wanted = spec
            // Never shown, so a client cannot send back what it has read.
            let known = source == "previous-spec" ? service.previousSpec : service.spec
            wanted = try FileReferences.resolved(wanted, in: transaction.snapshot)
            wanted.task.container?.registryCredentials = credentials ?? known?.task.container?.registryCredentials
            wanted = wanted.resolvingNetworks(in: transaction)
            let changed = rollback.isEmpty ? ServiceDraft.update(service, to: wanted) : try ServiceDraft.rollback(service, now: .now)
            try ServiceValidation.check(try FileReferences.resolved(changed.spec, in: transaction.snapshot), in: transaction.snapshot, replacing: service)
            try transaction.update(.service(changed), matching: version)
        }
        return .json(["Warnings": .null])
    }

    private func remove(_ request: APIRequest, _ manager: ManagerPart) async throws(ApusError) -> APIResponse {
        let reference = request.parameter("id")
        try await manager.store.update { transaction throws(ApusError) in
            let service = try ObjectReferences.service(reference, in: transaction.snapshot)
            try transaction.remove(.service, service.id)
        }
        return .empty(200)
    }
}

extension APIRequest {
    /// The `version` that an update must name.
    func storeVersion() throws(ApusError) -> Version {
        guard let text = text("version"), let index = UInt64(text) else {
            throw ApusError(.invalidArgument, "version=\(text("version") ?? "") is not a number; read the object first and hand in its Version.Index")
        }
        return Version(index: index)
    }
}

extension ServiceMode {
    /// The word of the `mode` filter.
    var name: String {
        if global != nil { return "global" }
        if replicatedJob != nil { return "replicated-job" }
        if globalJob != nil { return "global-job" }
        return "replicated"
    }

    var isGlobal: Bool { global != nil || globalJob != nil }
}

extension ServiceSpec {
    /// With what swarm fills in itself, so that `inspect` shows what is in force.
    func normalized() -> ServiceSpec {
        var spec = self
        if spec.mode == ServiceMode() { spec.mode.replicated = ReplicatedService() }
        if spec.mode.replicated != nil, spec.mode.replicated?.replicas == nil { spec.mode.replicated?.replicas = 1 }
        if spec.task.runtime.isEmpty { spec.task.runtime = "container" }
        return spec
    }
}
