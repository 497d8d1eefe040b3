import Coding
import HTTPClient
import PluginAPI
import Testing

extension EngineHarness {
    /// The spec of a service, as a client sends it.
    static func spec(
        _ name: String, image: String = "nginx:latest", replicas: Int64 = 1, port: Int64? = nil, command: [String] = [], labels: [String: String] = [:]
    ) -> JSONValue {
        var container: JSONValue = ["Image": .string(image), "StopGracePeriod": 1_000_000_000]
        if !command.isEmpty { container["Command"] = JSONValue(command) }
        var spec: JSONValue = [
            "Name": .string(name), "Labels": JSONValue(labels), "Mode": ["Replicated": ["Replicas": .integer(replicas)]],
            "TaskTemplate": ["ContainerSpec": container, "RestartPolicy": ["Condition": "any", "Delay": 100_000_000]],
        ]
        if let port {
            spec["EndpointSpec"] = ["Ports": [["Protocol": "tcp", "TargetPort": 80, "PublishedPort": .integer(port), "PublishMode": "ingress"]]]
        }
        return spec
    }

    /// Creates a service and returns its id.
    func createService(_ spec: JSONValue) async throws -> String {
        try #require(await json("POST", "/services/create", spec, status: 201)["ID"]?.string)
    }

    /// Hands in a changed spec, read and written until nobody else writes between.
    func updateService(_ name: String, _ change: (inout JSONValue) -> Void) async throws {
        try await eventually("the service \(name) is updated") {
            let service = try await get("/services/\(name)")
            var spec = try #require(service["Spec"])
            change(&spec)
            let version = try #require(service["Version"]?["Index"]?.integer)
            return try await send("POST", "/services/\(name)/update?version=\(version)", spec).status == 200
        }
    }

    func removeService(_ name: String) async throws {
        try await json("DELETE", "/services/\(name)")
        try await eventually("no container of \(name) is left") {
            try await get("/containers/json?all=1", filters: ["label": [.string("com.docker.swarm.service.name=\(name)")]]).array?.isEmpty == true
        }
    }

    /// The tasks of a service that run and are to run.
    func runningTasks(of service: String) async throws -> [RunningTask] {
        let tasks = try await get("/tasks", filters: ["service": [.string(service)], "desired-state": ["running"]]).array ?? []
        return tasks.compactMap(RunningTask.init)
    }

    /// Waits until just so many run, and nothing else is meant to.
    @discardableResult
    func waitForTasks(of service: String, count: Int) async throws -> [RunningTask] {
        var found: [RunningTask] = []
        try await eventually(
            "\(count) tasks of \(service) run", { (try? await self.get("/tasks", filters: ["service": [.string(service)]]).text()) ?? "" }
        ) {
            let wanted = try await get("/tasks", filters: ["service": [.string(service)], "desired-state": ["running"]]).array ?? []
            found = wanted.compactMap(RunningTask.init)
            return wanted.count == count && found.count == count
        }
        return found.sorted { $0.slot < $1.slot }
    }

    /// What a published port answers; waits until something listens there, which a container that has just begun may not do yet.
    func ask(address: String = "127.0.0.1", port: Int) async throws -> String {
        var answer = ""
        try await eventually("something answers at port \(port)") {
            guard let text = try? await inNamespace("curl", "-fsS", "--max-time", "10", "http://\(address):\(port)/") else { return false }
            answer = text
            return true
        }
        return answer
    }
}

/// A task that runs.
struct RunningTask: Hashable {
    var id: String
    var slot: Int64
    var container: String
    var process: Int32

    init?(_ json: JSONValue) {
        guard json["Status"]?["State"]?.string == "running", let id = json["ID"]?.string,
            let container = json["Status"]?["ContainerStatus"]?["ContainerID"]?.string,
            let process = json["Status"]?["ContainerStatus"]?["PID"]?.integer
        else { return nil }
        self.id = id
        slot = json["Slot"]?.integer ?? 0
        self.container = container
        self.process = Int32(truncatingIfNeeded: process)
    }
}
