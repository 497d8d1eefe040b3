import Coding
import Orchestration
import PluginAPI
import Store
import Swarm

/// `/nodes`: read, update, accept, remove.
struct NodeRoutes: Sendable {
    let swarm: SwarmNode

    func add(to router: inout Router) {
        router.add("GET", "/nodes") { request throws(ApusError) in try await list(request) }
        router.add("GET", "/nodes/{id}") { request throws(ApusError) in
            let snapshot = try await swarm.snapshot(for: request)
            return .object(try ObjectReferences.node(request.parameter("id"), in: snapshot, selfID: swarm.status.nodeID))
        }
        router.add("POST", "/nodes/{id}/update") { request throws(ApusError) in
            let request = try resolved(request)
            return try await swarm.onLeader(request) { manager throws(ApusError) in try await update(request, manager) }
        }
        router.add("POST", "/nodes/{id}/accept") { request throws(ApusError) in
            let request = try resolved(request)
            return try await swarm.onLeader(request) { manager throws(ApusError) in
                let node = try ObjectReferences.node(request.parameter("id"), in: manager.store.read(), selfID: swarm.status.nodeID)
                try await manager.accept(node.id)
                return .empty(200)
            }
        }
        router.add("DELETE", "/nodes/{id}") { request throws(ApusError) in
            let request = try resolved(request)
            return try await swarm.onLeader(request) { manager throws(ApusError) in try await remove(request, manager) }
        }
    }

    /// `self` is this node, also when another one answers.
    private func resolved(_ request: APIRequest) throws(ApusError) -> APIRequest {
        guard request.parameter("id") == "self", !request.isForwarded else { return request }
        var request = request
        let id = swarm.status.nodeID.text
        request.parameters["id"] = id
        request.target = request.target.replacing("/nodes/self", with: "/nodes/\(id)", maxReplacements: 1)
        return request
    }

    private func list(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let filters = try Filters(request.text("filters"), known: ["id", "label", "membership", "name", "node.label", "role"])
        let nodes = try await swarm.snapshot(for: request).nodes.values
            .filter { node in
                filters.prefix("id", node.id.text) && filters.any("name") { node.description.hostname.hasPrefix($0) }
                    && filters.exact("role", node.spec.role.rawValue) && filters.labels("node.label", node.spec.labels)
                    && filters.labels("label", node.description.engine.labels) && filters.exact("membership", node.certificate.membership.rawValue)
            }
            .sorted { ($0.description.hostname, $0.id) < ($1.description.hostname, $1.id) }
        return .json(.array(nodes.map { JSONFields.encode($0) }))
    }

    private func update(_ request: APIRequest, _ manager: ManagerPart) async throws(ApusError) -> APIResponse {
        let version = try request.storeVersion()
        let reference = request.parameter("id")
        let spec = try request.decode(NodeSpec.self)
        let ownID = swarm.status.nodeID
        let present = try ObjectReferences.node(reference, in: manager.store.read(), selfID: ownID)
        let isDemotion = present.spec.role == .manager && spec.role == .worker
        if isDemotion { try await manager.checkDemotion(of: present) }
        try await manager.store.update { transaction throws(ApusError) in
            var node = try ObjectReferences.node(reference, in: transaction.snapshot, selfID: ownID)
            node = try NodeDraft.update(node, to: spec, in: transaction.snapshot, now: .now)
            try transaction.update(.node(node), matching: version)
        }
        if isDemotion { try await manager.demote(present.id) }
        return .empty(200)
    }

    private func remove(_ request: APIRequest, _ manager: ManagerPart) async throws(ApusError) -> APIResponse {
        let reference = request.parameter("id")
        let force = request.flag("force")
        let ownID = swarm.status.nodeID
        try await manager.store.update { transaction throws(ApusError) in
            let node = try ObjectReferences.node(reference, in: transaction.snapshot, selfID: ownID)
            try NodeDraft.checkRemoval(of: node, force: force, in: transaction.snapshot)
            try transaction.remove(.node, node.id)
        }
        return .empty(200)
    }
}
