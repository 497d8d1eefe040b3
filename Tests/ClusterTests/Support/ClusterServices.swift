import Coding
import PluginAPI
import Testing

/// A task that runs and is to run.
struct RunningTask: Hashable, Sendable {
    var id: String
    var slot: Int64
    var node: String
    var container: String
    var process: Int64

    init?(_ json: JSONValue) {
        guard json["Status"]?["State"]?.string == "running", let id = json["ID"]?.string, let node = json["NodeID"]?.string,
            let container = json["Status"]?["ContainerStatus"]?["ContainerID"]?.string,
            let process = json["Status"]?["ContainerStatus"]?["PID"]?.integer
        else { return nil }
        self.id = id
        self.node = node
        self.container = container
        self.process = process
        slot = json["Slot"]?.integer ?? 0
    }
}

extension ClusterHarness {
    /// Creates a service and waits until it is whole.
    @discardableResult
    func createService(_ name: String, replicas: Int64, on manager: ClusterNode? = nil) async throws -> [RunningTask] {
        let manager = manager ?? self[1]
        try await manager.json(
            "POST", "/services/create",
            [
                "Name": .string(name), "Mode": ["Replicated": ["Replicas": .integer(replicas)]],
                "TaskTemplate": [
                    "ContainerSpec": ["Image": "busybox:latest", "Command": ["sleep", "100000"], "StopGracePeriod": 1_000_000_000],
                    "RestartPolicy": ["Condition": "any", "Delay": 100_000_000],
                ],
            ])
        return try await waitUntilWhole(name, replicas: replicas, on: manager)
    }

    /// Waits until each slot of the service runs one task, and the engines that can be asked run just their containers.
    /// - Parameters:
    ///   - except: Engines that cannot be asked, or that cannot know: their containers do not count, and no task may be on them.
    @discardableResult
    func waitUntilWhole(
        _ service: String, replicas: Int64, on manager: ClusterNode, except: [ClusterNode] = [], within limit: Duration = .seconds(180)
    ) async throws -> [RunningTask] {
        var found: [RunningTask] = []
        var problem = ""
        try await eventually("\(service) has \(replicas) tasks", within: limit, { problem + (await self.describe(manager)) }) {
            let wanted: [JSONValue]
            do {
                wanted = try await manager.get("/tasks", filters: ["service": [.string(service)], "desired-state": ["running"]]).array ?? []
            } catch {
                problem = "\(error)"
                return false
            }
            found = wanted.compactMap(RunningTask.init)
            problem = "tasks: \(wanted.map { "\($0["Slot"]?.text() ?? "") \($0["Status"]?.text() ?? "") on \($0["NodeID"]?.text() ?? "")" })"
            guard wanted.count == Int(replicas), found.count == wanted.count, Set(found.map(\.slot)).count == found.count else { return false }
            for node in except {
                guard let id = try? await node.id else { continue }
                guard !found.contains(where: { $0.node == id }) else { return false }
            }
            let containers = try await self.containers(of: service, on: nodes.filter { node in node.isRunning && !except.contains { $0 === node } })
            problem += " containers: \(containers.sorted())"
            return containers == Set(found.map(\.container))
        }
        return found.sorted { $0.slot < $1.slot }
    }

    /// The containers of a service that run, by what the engines themselves say.
    func containers(of service: String, on nodes: [ClusterNode]) async throws -> Set<String> {
        var all: Set<String> = []
        for node in nodes {
            let list = try await node.get("/containers/json", filters: ["label": [.string("com.docker.swarm.service.name=\(service)")]])
            all.formUnion((list.array ?? []).compactMap { $0["Id"]?.string })
        }
        return all
    }
}
