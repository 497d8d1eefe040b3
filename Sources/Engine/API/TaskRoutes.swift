import Coding
import Orchestration
import PluginAPI
import Store
import Swarm

/// `/tasks` and `/nodes`.
struct TaskRoutes: Sendable {
    let swarm: SwarmNode

    func add(to router: inout Router) {
        router.add("GET", "/tasks") { request throws(ApusError) in try await list(request) }
        router.add("GET", "/tasks/{id}") { request throws(ApusError) in
            let snapshot = try await swarm.snapshot(for: request)
            return .object(try ObjectReferences.task(request.parameter("id"), in: snapshot).resolvingNetworks(in: snapshot))
        }
    }

    private func list(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let filters = try Filters(
            request.text("filters"), known: ["desired-state", "id", "label", "name", "node", "service", "_up-to-date", "runtime"])
        let snapshot = try await swarm.snapshot(for: request)
        let ownID = swarm.status.nodeID
        var services: Set<ID> = []
        for reference in filters["service"] {
            if let service = try? ObjectReferences.service(reference, in: snapshot) { services.insert(service.id) } else { services.insert(ID(reference)) }
        }
        var nodes: Set<ID> = []
        for reference in filters["node"] {
            if let node = try? ObjectReferences.node(reference, in: snapshot, selfID: ownID) {
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
                // The places of containers in networks are tasks for the managers alone.
                && (filters["runtime"].isEmpty ? !AttachmentDraft.isPlace(task) : filters.exact("runtime", task.spec.runtime))
                && filters.any("_up-to-date") { wanted in
                    let current = snapshot.services[task.serviceID]?.specVersion ?? Version()
                    return (task.specVersion == current) == (wanted == "true" || wanted == "1")
                }
        }
        .sorted { ($0.slot, $1.createdAt) < ($1.slot, $0.createdAt) }
        return .json(.array(tasks.map { JSONFields.encode($0.resolvingNetworks(in: snapshot)) }))
    }
}
