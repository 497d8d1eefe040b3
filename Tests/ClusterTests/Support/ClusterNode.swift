import Coding
import Files
import Glibc
import HTTPClient
import PluginAPI
import Processes
import Synchronization
import Testing

/// One engine of a cluster, on a machine of its own as far as the network can tell.
final class ClusterNode: Sendable {
    /// From 1; also the last number of its address.
    let index: Int
    let root: String
    let namespace: String
    private let stage: String
    private let client: HTTPClient
    private let engine = Mutex<RunningEngine?>(nil)
    /// `NAME=value`, besides what this process has.
    private let environment = Mutex<[String]>([])

    var address: String { "10.98.0.\(index)" }
    var socket: String { "\(root)/apus.sock" }
    var dataRoot: String { "\(root)/data" }

    init(index: Int, root: String, namespace: String, stage: String, client: HTTPClient) {
        self.index = index
        self.root = root
        self.namespace = namespace
        self.stage = stage
        self.client = client

    }

    // MARK: The process

    /// The engine's process id.
    var process: Int32 {
        get throws { try #require(engine.withLock { $0 }, "engine \(index) does not run").process }
    }

    var isRunning: Bool { engine.withLock { $0.map { $0.ended == nil } ?? false } }

    /// Environment for the next start.
    func setEnvironment(_ values: String...) { environment.withLock { $0 = values } }

    /// Starts the engine and waits until it answers.
    func start() async throws {
        let log = open("\(root)/log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        defer { close(log) }
        var arguments = ["--net=/run/netns/\(namespace)", "env"] + environment.withLock { $0 }
        arguments += ["\(stage)/bin/apusd", "--data-root", dataRoot, "--exec-root", "\(root)/exec", "--host", "unix://\(socket)", "--pidfile", "\(root)/pid"]
        arguments += ["--registry-mirror", ClusterHarness.registryURL, "--insecure-registry", ClusterHarness.registryAddress]
        arguments += ["--plugin-dir", "\(root)/plugins"]
        if getenv("APUS_CLUSTER_DEBUG") != nil { arguments.append("--debug") }
        let process = try Processes.spawn(ProcessRequest("nsenter", arguments, workingDirectory: "/", descriptors: [1: log, 2: log], newSession: true))
        let running = RunningEngine(process)
        engine.withLock { $0 = running }
        try await eventually("engine \(index) answers", { "its log ends: " + self.logTail() }) {
            if let code = running.ended { throw EngineFailure("engine \(index) ended with \(code): \(logTail())") }
            return (try? await send("GET", "/_ping", timeout: .seconds(2)))?.status == 200
        }
    }

    /// Sends a signal that ends it, waits for the end and returns the exit code.
    @discardableResult
    func stop(_ signal: Int32 = SIGKILL) async throws -> Int32 {
        let running = try #require(engine.withLock { $0 }, "engine \(index) does not run")
        kill(running.process, signal)
        try await eventually("engine \(index) ends", { self.logTail() }) { running.ended != nil }
        engine.withLock { $0 = nil }
        // What libfaketime leaves of a process that ended.
        for name in ["faketime_shm_", "sem.faketime_sem_"] { unlink("/dev/shm/\(name)\(running.process)") }
        return running.ended ?? -1
    }

    /// A signal that does not end it: SIGSTOP, SIGCONT.
    func signal(_ signal: Int32) throws { kill(try process, signal) }

    var log: String { (try? Files.readText("\(root)/log")) ?? "" }

    /// The last lines of the engine's log.
    func logTail(_ count: Int = 15) -> String { "\n" + log.split(separator: "\n").suffix(count).joined(separator: "\n") }

    // MARK: The API

    /// One request, over the engine's socket.
    func send(_ method: String, _ path: String, _ body: JSONValue? = nil, timeout: Duration = .seconds(120)) async throws -> HTTPResponse {
        var request = HTTPRequest(method, "http://apus\(path)", unixSocket: socket)
        request.timeout = timeout
        if let body {
            request.headers["Content-Type"] = "application/json"
            request.body = .bytes(body.bytes())
        }
        return try await client.send(request)
    }

    /// One request whose answer must be a success; returns its JSON.
    @discardableResult
    func json(
        _ method: String, _ path: String, _ body: JSONValue? = nil, timeout: Duration = .seconds(120), sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> JSONValue {
        let answer = try await send(method, path, body, timeout: timeout)
        guard answer.head.isSuccess else {
            throw EngineFailure("engine \(index): \(method) \(path) answered \(answer.status): \(answer.text) (\(sourceLocation))")
        }
        return answer.body.isEmpty ? .null : try JSONValue.parse(answer.body)
    }

    func get(_ path: String, filters: JSONValue? = nil, sourceLocation: SourceLocation = #_sourceLocation) async throws -> JSONValue {
        let query = filters.map { (path.contains("?") ? "&" : "?") + "filters=" + percentEncoded($0.text()) } ?? ""
        return try await json("GET", path + query, timeout: .seconds(30), sourceLocation: sourceLocation)
    }

    /// What a call is refused with; a call that succeeds is thrown.
    func refusal(
        _ method: String, _ path: String, _ body: JSONValue? = nil, timeout: Duration = .seconds(120), sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> (status: Int, message: String) {
        let answer = try await send(method, path, body, timeout: timeout)
        guard !answer.head.isSuccess else { throw EngineFailure("engine \(index): \(method) \(path) succeeded: \(answer.text) (\(sourceLocation))") }
        return (answer.status, (try? JSONValue.parse(answer.body))?["message"]?.string ?? answer.text)
    }

    /// `Swarm` of `/info`.
    var swarm: JSONValue {
        get async throws { try await get("/info")["Swarm"] ?? .null }
    }

    /// This node's id in the swarm.
    var id: String {
        get async throws { try #require(await swarm["NodeID"]?.string, "engine \(index) is in no swarm") }
    }
}

/// An engine's process, reaped once.
final class RunningEngine: Sendable {
    let process: Int32
    private let code = Mutex<Int32?>(nil)
    private let waiter = Mutex<ConcurrentTask<Void, Never>?>(nil)

    init(_ process: Int32) {
        self.process = process
        let task = ConcurrentTask { [weak self] in
            let code = try? await Processes.wait(process)
            self?.code.withLock { $0 = code ?? -1 }
        }
        waiter.withLock { $0 = task }
    }

    /// The exit code, when it has ended.
    var ended: Int32? { code.withLock { $0 } }
}

/// What went wrong in a step that a test needs.
struct EngineFailure: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}
