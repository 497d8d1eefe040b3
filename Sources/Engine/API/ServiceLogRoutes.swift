import Agent
import Coding
import PluginAPI
import Store
import Swarm
import Synchronization
import Wire

/// `/services/{id}/logs` and `/tasks/{id}/logs`: the output of all tasks, wherever they run, each line marked with its task.
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

    private func logs(_ request: APIRequest, of service: ID?, tasks: [Task]) throws(ApusError) -> APIResponse {
        let wanted = try LogStreams.request(request)
        let manager = try swarm.manager()
        let reader = ServiceLogReader(
            manager: manager, ownID: swarm.status.nodeID, local: TaskLogs(containers: containers, runtime: runtime), wanted: wanted,
            details: request.flag("details"))
        return .stream("application/vnd.docker.multiplexed-stream") { writer in
            try await withThrowingTaskGroup(of: Void.self) { group in
                var seen: Set<ID> = []
                for task in tasks where seen.insert(task.id).inserted { group.addTask { try await reader.copy(task, to: writer) } }
                // A service's later tasks join while it is followed; a single task ends by itself.
                if wanted.follow, let service {
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
            for line in reader.missing.lines { try await writer.write(line) }
        }
    }
}

/// Reads the logs of tasks, each once it has a container.
private struct ServiceLogReader: Sendable {
    let manager: ManagerPart
    let ownID: ID
    let local: TaskLogs
    let wanted: LogRequest
    let details: Bool
    let missing = MissingLogs()

    /// - Throws: what the writer throws. A node that cannot be asked is no reason to end: it is named.
    func copy(_ task: Task, to writer: any APIResponseWriter) async throws {
        guard let task = await withContainer(task) else { return }
        let subscription = subscription(task)
        let client = ClientWriter(writer: writer)
        do {
            if task.nodeID == ownID {
                try await local.copy(subscription) { try await client.write($0) }
            } else {
                try await manager.readLogs(subscription, on: task.nodeID) { try await client.write($0) }
            }
        } catch {
            // The reader went, which is nobody's fault.
            if ConcurrentTask.isCancelled || client.hasFailed { throw error }
            let node = manager.store.read().nodes[task.nodeID]
            let name = node.map { $0.description.hostname.isEmpty ? $0.id.text : $0.description.hostname } ?? task.nodeID.text
            let line = missing.add(task, node: name, ApusError(error))
            // Who follows does not come to the end soon.
            if wanted.follow { try await writer.write(line) }
        }
    }

    private func subscription(_ task: Task) -> LogSubscription {
        var subscription = LogSubscription()
        subscription.taskID = task.id
        subscription.standardOutput = wanted.standardOutput
        subscription.standardError = wanted.standardError
        subscription.follow = wanted.follow
        subscription.timestamps = wanted.timestamps
        subscription.tail = wanted.tail.map { Int64($0) }
        subscription.since = wanted.since
        subscription.until = wanted.until
        if details {
            subscription.linePrefix =
                "com.docker.swarm.node.id=\(task.nodeID),com.docker.swarm.service.id=\(task.serviceID),com.docker.swarm.task.id=\(task.id) "
        }
        return subscription
    }

    /// The task once it has a container, which is waited for while following; `nil` when it never gets one.
    private func withContainer(_ task: Task) async -> Task? {
        func hasContainer(_ task: Task) -> Bool { !(task.status.container?.containerID.isEmpty ?? true) }
        if hasContainer(task) { return task }
        guard wanted.follow else { return nil }
        let (snapshot, commits) = manager.store.watch()
        guard let now = snapshot.tasks[task.id] else { return nil }
        if hasContainer(now) { return now }
        if now.status.state.isTerminal { return nil }
        for await commit in commits {
            for change in commit.changes {
                switch change {
                case .updated(.task(let changed), from: _) where changed.id == task.id:
                    if hasContainer(changed) { return changed }
                    if changed.status.state.isTerminal { return nil }
                case .removed(.task(let removed)) where removed.id == task.id: return nil
                default: continue
                }
            }
        }
        return nil
    }
}

/// Whose logs could not be had, as lines on standard error.
private final class MissingLogs: Sendable {
    private let found = Mutex<[String: (count: Int, line: String)]>([:])

    /// Returns the line for this task alone.
    func add(_ task: Task, node: String, _ error: ApusError) -> [UInt8] {
        found.withLock { found in
            let count = (found[node]?.count ?? 0) + 1
            let tasks = count == 1 ? "the log of task \(task.id)" : "the logs of \(count) tasks"
            found[node] = (count, "\(tasks) on node \(node) cannot be had: \(error.message)")
        }
        return Self.notice("the log of task \(task.id) on node \(node) cannot be had: \(error.message)")
    }

    /// One for each node.
    var lines: [[UInt8]] { found.withLock { $0.sorted { $0.key < $1.key }.map { Self.notice($0.value.line) } } }

    private static func notice(_ text: String) -> [UInt8] { LogFrames.frame(2, "apus: \(text)\n".utf8) }
}

/// Remembers whether the client is gone.
private final class ClientWriter: Sendable {
    private let writer: any APIResponseWriter
    private let failure = Mutex(false)

    init(writer: any APIResponseWriter) { self.writer = writer }

    var hasFailed: Bool { failure.withLock { $0 } }

    func write(_ bytes: [UInt8]) async throws {
        do { try await writer.write(bytes) } catch {
            failure.withLock { $0 = true }
            throw error
        }
    }
}
