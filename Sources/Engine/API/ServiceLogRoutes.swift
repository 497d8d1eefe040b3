import Agent
import Coding
import PluginAPI
import Store
import Swarm

/// `/services/{id}/logs` and `/tasks/{id}/logs`: the output of all tasks of this node, each line marked with its task.
struct ServiceLogRoutes: Sendable {
    let swarm: SwarmNode
    let containers: ContainerEngine
    let runtime: any Runtime

    func add(to router: inout Router) {
        router.add("GET", "/services/{id}/logs") { request throws(ApusError) in
            let snapshot = try await swarm.snapshot(for: request)
            let service = try ObjectReferences.service(request.parameter("id"), in: snapshot)
            return try logs(request, of: service.id, tasks: snapshot.tasks(ofService: service.id))
        }
        router.add("GET", "/tasks/{id}/logs") { request throws(ApusError) in
            let task = try ObjectReferences.task(request.parameter("id"), in: try await swarm.snapshot(for: request))
            return try logs(request, of: nil, tasks: [task])
        }
    }

    /// A line on standard error, framed as the rest.
    private static func notice(_ text: String) -> [UInt8] {
        let bytes = Array("apus: \(text)\n".utf8)
        let length = UInt32(bytes.count)
        return [2, 0, 0, 0] + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) } + bytes
    }

    private func logs(_ request: APIRequest, of service: ID?, tasks: [Task]) throws(ApusError) -> APIResponse {
        let wanted = try LogStreams.request(request)
        let details = request.flag("details")
        let reader = ServiceLogReader(swarm: swarm, containers: containers, runtime: runtime, wanted: wanted, details: details)
        let ownID = swarm.status.nodeID
        let elsewhere = tasks.count { !$0.nodeID.isEmpty && $0.nodeID != ownID && $0.desiredState == .running }
        return .stream("application/vnd.docker.multiplexed-stream") { writer in
            if elsewhere > 0 { try await writer.write(Self.notice("\(elsewhere) tasks run on other nodes; their logs are shown by \"apus logs\" there")) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                var seen: Set<ID> = []
                for task in tasks where seen.insert(task.id).inserted { group.addTask { try await reader.copy(task, to: writer) } }
                // A service's later tasks join while it is followed; a single task ends by itself.
                if wanted.follow, let service, let manager = swarm.managerPart {
                    let (snapshot, commits) = manager.store.watch()
                    for task in snapshot.tasks(ofService: service) where seen.insert(task.id).inserted {
                        group.addTask { try await reader.copy(task, to: writer) }
                    }
                    for await commit in commits {
                        for change in commit.changes {
                            guard case .created(.task(let task)) = change, task.serviceID == service, seen.insert(task.id).inserted else { continue }
                            group.addTask { try await reader.copy(task, to: writer) }
                        }
                        if manager.store.read().services[service] == nil { break }
                    }
                }
                try await group.waitForAll()
            }
        }
    }
}

/// Reads the log of a task's container, once it has one.
private struct ServiceLogReader: Sendable {
    let swarm: SwarmNode
    let containers: ContainerEngine
    let runtime: any Runtime
    let wanted: LogRequest
    let details: Bool

    func copy(_ task: Task, to writer: any APIResponseWriter) async throws {
        guard let container = await container(of: task) else { return }
        var logs = wanted
        logs.id = container
        logs.alwaysFramed = true
        if details {
            logs.linePrefix =
                "com.docker.swarm.node.id=\(task.nodeID),com.docker.swarm.service.id=\(task.serviceID),com.docker.swarm.task.id=\(task.id) "
        }
        let request = logs
        let runtime = runtime
        try await LogStreams.copy(to: writer) { descriptor throws(ApusError) in
            var request = request
            request.descriptor = descriptor
            do throws(ApusError) {
                try await runtime.logs(request)
            } catch {
                // The container was removed with its task: there is nothing more to read.
                guard error.code == .notFound else { throw error }
            }
        }
    }

    /// Waits for it while following.
    private func container(of task: Task) async -> ID? {
        if let id = task.status.container?.containerID, !id.isEmpty { return known(id) }
        guard wanted.follow, let store = swarm.managerPart?.store else { return nil }
        let (snapshot, commits) = store.watch()
        if let id = snapshot.tasks[task.id]?.status.container?.containerID, !id.isEmpty { return known(id) }
        for await commit in commits {
            for change in commit.changes {
                switch change {
                case .updated(.task(let changed), from: _) where changed.id == task.id:
                    if let id = changed.status.container?.containerID, !id.isEmpty { return known(id) }
                    if changed.status.state.isTerminal { return nil }
                case .removed(.task(let removed)) where removed.id == task.id: return nil
                default: continue
                }
            }
        }
        return nil
    }

    private func known(_ id: ID) -> ID? { (try? containers.inspect(id.text)) == nil ? nil : id }
}
