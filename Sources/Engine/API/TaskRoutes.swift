import Coding
import PluginAPI
import Store

/// `/tasks` and `/nodes`.
struct TaskRoutes: Sendable {
    let swarm: SwarmController

    func add(to router: inout Router) {
        router.add("GET", "/tasks") { request throws(ApusError) in try list(request) }
        router.add("GET", "/tasks/{id}") { request throws(ApusError) in
            let snapshot = try swarm.manager().store.read()
            return .object(try ObjectReferences.task(request.parameter("id"), in: snapshot))
        }
    }

    private func list(_ request: APIRequest) throws(ApusError) -> APIResponse {
        let filters = try Filters(
            request.text("filters"), known: ["desired-state", "id", "label", "name", "node", "service", "_up-to-date", "runtime"])
        let manager = try swarm.manager()
        let snapshot = manager.store.read()
        var services: Set<ID> = []
        for reference in filters["service"] {
            if let service = try? ObjectReferences.service(reference, in: snapshot) { services.insert(service.id) } else { services.insert(ID(reference)) }
        }
        var nodes: Set<ID> = []
        for reference in filters["node"] {
            if let node = try? ObjectReferences.node(reference, in: snapshot, selfID: manager.nodeID) {
                nodes.insert(node.id)
            } else {
                nodes.insert(ID(reference))
            }
        }
        for word in filters["desired-state"] where TaskState(rawValue: word) == nil && word != "accepted" {
            throw ApusError(.invalidArgument, "desired-state=\(word) is not a state; use running, shutdown or accepted")
        }
        // Only the tasks in question are looked at where the store has an index for them.
        let candidates = services.isEmpty ? Array(snapshot.tasks.values) : services.flatMap { snapshot.tasks(ofService: $0) }
        let tasks = candidates.filter { task in
            (nodes.isEmpty || nodes.contains(task.nodeID)) && filters.prefix("id", task.id.text) && filters.labels("label", task.labels)
                && filters.any("name") { task.name.hasPrefix($0) || task.serviceName.hasPrefix($0) }
                && filters.exact("desired-state", task.desiredState.rawValue)
                && filters.any("_up-to-date") { wanted in
                    let current = snapshot.services[task.serviceID]?.specVersion ?? Version()
                    return (task.specVersion == current) == (wanted == "true" || wanted == "1")
                }
        }
        .sorted { ($0.slot, $1.createdAt) < ($1.slot, $0.createdAt) }
        return .json(.array(tasks.map { JSONFields.encode($0) }))
    }
}

/// `/nodes`: read, update, remove.
struct NodeRoutes: Sendable {
    let swarm: SwarmController

    func add(to router: inout Router) {
        router.add("GET", "/nodes") { request throws(ApusError) in try list(request) }
        router.add("GET", "/nodes/{id}") { request throws(ApusError) in
            let manager = try swarm.manager()
            return .object(try ObjectReferences.node(request.parameter("id"), in: manager.store.read(), selfID: manager.nodeID))
        }
        router.add("POST", "/nodes/{id}/update") { request throws(ApusError) in try await update(request) }
        router.add("DELETE", "/nodes/{id}") { request throws(ApusError) in try await remove(request) }
    }

    private func list(_ request: APIRequest) throws(ApusError) -> APIResponse {
        let filters = try Filters(request.text("filters"), known: ["id", "label", "membership", "name", "node.label", "role"])
        let nodes = try swarm.manager().store.read().nodes.values
            .filter { node in
                filters.prefix("id", node.id.text) && filters.any("name") { node.description.hostname.hasPrefix($0) }
                    && filters.exact("role", node.spec.role.rawValue) && filters.labels("node.label", node.spec.labels)
                    && filters.labels("label", node.description.engine.labels) && filters.any("membership") { $0 == "accepted" }
            }
            .sorted { $0.description.hostname < $1.description.hostname }
        return .json(.array(nodes.map { JSONFields.encode($0) }))
    }

    private func update(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let manager = try swarm.manager()
        let version = try request.storeVersion()
        let reference = request.parameter("id")
        let spec = try request.decode(NodeSpec.self)
        try await manager.store.update { transaction throws(ApusError) in
            var node = try ObjectReferences.node(reference, in: transaction.snapshot, selfID: manager.nodeID)
            if node.spec.role == .manager, spec.role == .worker, transaction.snapshot.nodes.values.count(where: { $0.spec.role == .manager }) == 1 {
                throw ApusError(.conflict, "attempting to demote the last manager of the swarm")
            }
            guard node.spec.role == spec.role else { throw ApusError(.unimplemented, "changing the role of a node is not in this version of Apus") }
            node.spec = spec
            try transaction.update(.node(node), matching: version)
        }
        return .empty(200)
    }

    private func remove(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let manager = try swarm.manager()
        let reference = request.parameter("id")
        let force = request.flag("force")
        try await manager.store.update { transaction throws(ApusError) in
            let node = try ObjectReferences.node(reference, in: transaction.snapshot, selfID: manager.nodeID)
            if node.spec.role == .manager {
                throw ApusError(
                    .conflict, "node \(node.id) is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal")
            }
            if node.status.state == .ready, !force {
                throw ApusError(.conflict, "node \(node.id) is not down and can't be removed; let it leave first, or use --force")
            }
            try transaction.remove(.node, node.id)
        }
        return .empty(200)
    }
}
