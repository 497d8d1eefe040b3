import Coding
import Glibc
import HTTPClient
import PluginAPI
import Processes
import Testing

/// What became of the requests of a load.
struct LoadResult {
    /// Bodies, and how often each came.
    var answers: [String: Int64]
    var errors: [String]
}

/// Networks, and who is reached by them.
extension ClusterHarness {
    @discardableResult
    func createNetwork(_ name: String, _ more: [String: JSONValue] = [:]) async throws -> String {
        var body: JSONValue = ["Name": .string(name), "Driver": "overlay"]
        for (key, value) in more { body[key] = value }
        let answer = try await self[1].json("POST", "/networks/create", body)
        return try #require(answer["Id"]?.string)
    }

    /// Creates a service in networks and waits until it is whole.
    @discardableResult
    func createService(
        _ name: String, image: String, replicas: Int64, networks: [String] = [], ports: [JSONValue] = [], _ more: [String: JSONValue] = [:],
        container: [String: JSONValue] = [:]
    ) async throws -> [RunningTask] {
        var spec: JSONValue = ["Image": .string(image), "StopGracePeriod": 3_000_000_000]
        for (key, value) in container { spec[key] = value }
        var body: JSONValue = [
            "Name": .string(name), "Mode": ["Replicated": ["Replicas": .integer(replicas)]],
            "TaskTemplate": [
                "ContainerSpec": spec, "RestartPolicy": ["Condition": "any", "Delay": 100_000_000],
                "Networks": .array(networks.map { ["Target": .string($0)] }),
            ],
            "EndpointSpec": ["Ports": .array(ports)],
        ]
        for (key, value) in more { body[key] = value }
        try await self[1].json("POST", "/services/create", body)
        return try await waitUntilWhole(name, replicas: replicas, on: self[1])
    }

    /// Hands in a changed spec of a service.
    func updateService(_ name: String, _ change: (inout JSONValue) -> Void) async throws {
        var answer = ""
        try await eventually("the service \(name) is updated", { answer }) {
            let service = try await self[1].get("/services/\(name)")
            var spec = try #require(service["Spec"])
            change(&spec)
            let version = try #require(service["Version"]?["Index"]?.integer)
            let response = try await self[1].send("POST", "/services/\(name)/update?version=\(version)", spec)
            answer = response.text
            guard response.status == 200 || answer.contains("out of sequence") else { throw EngineFailure("the update answered \(response.status): \(answer)") }
            return response.status == 200
        }
    }

    static func port(_ published: Int64, _ target: Int64) -> JSONValue {
        ["Protocol": "tcp", "TargetPort": .integer(target), "PublishedPort": .integer(published), "PublishMode": "ingress"]
    }

    /// The engine on which a task runs.
    func node(of task: RunningTask) async throws -> ClusterNode {
        for node in nodes where node.isRunning { if try await node.id == task.node { return node } }
        throw EngineFailure("the task \(task.id) is on no engine")
    }

    /// Runs a program in the network namespace of a task.
    func inside(_ task: RunningTask, _ program: String, _ arguments: String..., timeout: Duration = .seconds(60)) async throws -> ProcessResult {
        let node = try await node(of: task)
        let path = "\(node.root)/exec/netns/\(task.container)"
        return try await Processes.run(ProcessRequest("nsenter", ["--net=\(path)", program] + arguments), timeout: timeout)
    }

    /// What a task's name server says of a name.
    func addresses(of name: String, asked task: RunningTask) async throws -> Set<String> {
        let answer = try await inside(task, "dig", "+short", "+time=2", "+tries=2", "@127.0.0.11", name)
        return Set(answer.text.lines.filter { IPAddress($0) != nil })
    }

    /// Asks an engine's port from the switch; the answer's text, or `nil`.
    func ask(_ node: ClusterNode, port: Int, path: String = "/") async throws -> String? {
        let result = try await Processes.run(
            ProcessRequest("nsenter", ["--net=/run/netns/\(prefix)-hub", "curl", "-fsS", "--max-time", "10", "http://\(node.address):\(port)\(path)"]),
            timeout: .seconds(30))
        return result.exitCode == 0 ? result.text.trimmed : nil
    }

    /// Asks the engines' port all the while that the body runs, from the switch.
    func underLoad(on port: Int, of engines: [ClusterNode]? = nil, keepsAlive: Bool = false, _ body: () async throws -> Void) async throws -> LoadResult {
        let targets = (engines ?? nodes).map { "\($0.address):\(port)" }
        var input: [Int32] = [-1, -1]
        var output: [Int32] = [-1, -1]
        guard pipe(&input) == 0, pipe(&output) == 0 else { throw EngineFailure("no pipe") }
        for descriptor in input + output { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        let program = "\(Self.repository)/Tests/ClusterTests/Programs/load.py"
        let process = try Processes.spawn(
            ProcessRequest(
                "nsenter", ["--net=/run/netns/\(prefix)-hub", "python3", program] + (keepsAlive ? ["--keep-alive"] : []) + targets,
                descriptors: [0: input[0], 1: output[1]]))
        close(input[0])
        close(output[1])
        let end = input[1]
        let reader = output[0]
        defer { close(reader) }
        async let text = Self.readAll(reader)
        do {
            try await body()
        } catch {
            close(end)
            _ = await text
            _ = try? await Processes.wait(process)
            throw error
        }
        close(end)
        let lines = await text.lines
        _ = try await Processes.wait(process)
        let result = try JSONValue.parse(lines.last ?? "")
        var answers: [String: Int64] = [:]
        for (key, value) in result["answers"]?.object ?? JSONObject() { answers[key] = value.integer ?? 0 }
        return LoadResult(answers: answers, errors: (result["errors"]?.array ?? []).compactMap(\.string))
    }

    private static func readAll(_ descriptor: Int32) async -> String {
        await withCheckedContinuation { continuation in
            let thread = ReadingThread(descriptor) { continuation.resume(returning: $0) }
            thread.start()
        }
    }
}

/// Reads to the end on a thread of its own.
private final class ReadingThread: Sendable {
    private let descriptor: Int32
    private let done: @Sendable (String) -> Void

    init(_ descriptor: Int32, _ done: @escaping @Sendable (String) -> Void) {
        self.descriptor = descriptor
        self.done = done
    }

    func start() {
        var thread = pthread_t()
        let box = Unmanaged.passRetained(self)
        pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let reader = Unmanaged<ReadingThread>.fromOpaque(argument).takeRetainedValue()
                var bytes: [UInt8] = []
                var buffer = [UInt8](repeating: 0, count: 65536)
                while case let count = read(reader.descriptor, &buffer, buffer.count), count > 0 { bytes += buffer.prefix(count) }
                reader.done(String(decoding: bytes, as: UTF8.self))
                return nil
            }, box.toOpaque())
        pthread_detach(thread)
    }
}
