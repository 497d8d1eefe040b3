import Coding
import Files
import Glibc
import HTTPClient
import PluginAPI
import Processes
import Synchronization
import Testing

/// A staged engine in a network namespace of its own, with a registry that has nginx and busybox, on folders of its own.
final class EngineHarness: Sendable {
    /// The engine that a suite shares; see `SharedEngine`.
    @TaskLocal static var current: EngineHarness?

    static var shared: EngineHarness {
        get throws { try #require(current, "this suite has no SharedEngine trait") }
    }

    let root: String
    let namespace: String
    let stage: String
    private let guardian: Guardian
    private let client = HTTPClient(maximumTransfers: 32)
    private let engine = Mutex<RunningEngine?>(nil)

    var socket: String { "\(root)/apus.sock" }
    var dataRoot: String { "\(root)/data" }
    var executionRoot: String { "\(root)/exec" }
    private static let registryPort = 5000

    // MARK: Beginning and end

    /// Starts everything. With `swarm`, the engine is made the manager of a swarm of one.
    static func start(images: Bool = true, swarm: Bool = true) async throws -> EngineHarness {
        let harness = try await EngineHarness()
        do {
            if images { try await harness.startRegistry() }
            try await harness.startEngine()
            if swarm { try await harness.initializeSwarm() }
        } catch {
            await harness.end()
            throw error
        }
        return harness
    }

    private init() async throws {
        let name = "apus-test-" + String(UInt64.random(in: .min ... .max), radix: 36)
        root = "/run/\(name)"
        namespace = name
        stage = try Self.findStage()
        try Files.makeDirectory(root)
        try await Self.check("ip", "netns", "add", name)
        try await Self.check("nsenter", "--net=/run/netns/\(name)", "ip", "link", "set", "lo", "up")
        guardian = try Guardian(root: root, namespace: name, stage: stage, registryScript: Self.repository + "/contrib/images/registry.sh")
    }

    /// Ends the engine and removes everything; what does not end by itself or stays is an issue.
    func end() async {
        do {
            if let running = engine.withLock({ $0 }) {
                kill(running.process, SIGTERM)
                let code = try await running.exitCode(within: .seconds(60))
                #expect(code == 0, "the engine ended with \(code) at SIGTERM: \(logTail())")
            }
        } catch {
            Issue.record("the engine did not end at SIGTERM: \(error) \(logTail())")
        }
        let log = logTail()
        do {
            let result = try await guardian.finish()
            #expect(result.exitCode == 0, "something was left behind: \(result.text) \(log)")
        } catch {
            Issue.record(error)
        }
    }

    private func startRegistry() async throws {
        try await Self.check("\(Self.repository)/contrib/images/build-images.sh", timeout: .seconds(300))
        try await inNamespace("\(Self.repository)/contrib/images/registry.sh", "start", "\(Self.registryPort)", "\(root)/registry")
        for image in ["nginx", "busybox"] {
            try await inNamespace(
                "python3", "\(Self.repository)/contrib/images/push.py", "/var/cache/apus-images/\(image).tar", registryURL, "library/\(image):latest")
        }
    }

    var registryURL: String { "http://127.0.0.1:\(Self.registryPort)" }

    // MARK: The engine

    private var engineArguments: [String] {
        [
            "--data-root", dataRoot, "--exec-root", executionRoot, "--host", "unix://\(socket)", "--pidfile", "\(root)/pid", "--registry-mirror",
            registryURL,
        ]
    }

    /// The engine's process id.
    var process: Int32 {
        get throws { try #require(engine.withLock { $0 }, "the engine does not run").process }
    }

    /// Starts the engine and waits until it answers.
    func startEngine() async throws {
        let log = open("\(root)/log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        defer { close(log) }
        let process = try Processes.spawn(
            ProcessRequest(
                "nsenter", ["--net=/run/netns/\(namespace)", "\(stage)/bin/apusd"] + engineArguments, workingDirectory: "/",
                descriptors: [1: log, 2: log], newSession: true))
        let running = RunningEngine(process)
        engine.withLock { $0 = running }
        try await eventually("the engine answers", { "its log ends: " + self.logTail() }) {
            if let code = running.ended { throw EngineFailure("the engine ended with \(code): \(logTail())") }
            return await isAnswering
        }
    }

    /// Sends a signal, waits for the end and returns the exit code.
    @discardableResult
    func stopEngine(_ signal: Int32) async throws -> Int32 {
        let running = try #require(engine.withLock { $0 })
        kill(running.process, signal)
        let code = try await running.exitCode(within: .seconds(60))
        engine.withLock { $0 = nil }
        return code
    }

    /// Runs `apusd` with these arguments until it ends by itself.
    func runEngineProgram(_ arguments: String...) async throws -> ProcessResult { try await runEngineProgram(arguments: arguments) }

    func runEngineProgram(arguments: [String]) async throws -> ProcessResult {
        try await Processes.run(
            ProcessRequest("nsenter", ["--net=/run/netns/\(namespace)", "\(stage)/bin/apusd"] + arguments), timeout: .seconds(120))
    }

    var isAnswering: Bool {
        get async { (try? await send("GET", "/_ping"))?.status == 200 }
    }

    /// The last lines of the engine's log.
    func logTail() -> String {
        let lines = ((try? Files.readText("\(root)/log")) ?? "").split(separator: "\n")
        return "\n" + lines.suffix(15).joined(separator: "\n")
    }

    // MARK: The API

    /// One request, over the engine's socket.
    func send(
        _ method: String, _ path: String, _ body: JSONValue? = nil, headers: [String: String] = [:], timeout: Duration = .seconds(180)
    ) async throws -> HTTPResponse {
        var request = HTTPRequest(method, "http://apus\(path)", unixSocket: socket)
        request.timeout = timeout
        if let body {
            request.headers["Content-Type"] = "application/json"
            request.body = .bytes(body.bytes())
        }
        for (name, value) in headers { request.headers[name] = value }
        return try await client.send(request)
    }

    /// One request with a body of bytes.
    func sendBytes(_ method: String, _ path: String, _ body: [UInt8]) async throws -> HTTPResponse {
        var request = HTTPRequest(method, "http://apus\(path)", headers: ["Content-Type": "application/x-tar"], body: .bytes(body), unixSocket: socket)
        request.timeout = .seconds(180)
        return try await client.send(request)
    }

    /// One request whose answer must have this status; returns its JSON.
    @discardableResult
    func json(
        _ method: String, _ path: String, _ body: JSONValue? = nil, status: Int = 200, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> JSONValue {
        let answer = try await send(method, path, body)
        guard answer.status == status else {
            throw EngineFailure("\(method) \(path) answered \(answer.status), not \(status): \(answer.text) (\(sourceLocation))")
        }
        return answer.body.isEmpty ? .null : try JSONValue.parse(answer.body)
    }

    func get(_ path: String, filters: JSONValue? = nil, sourceLocation: SourceLocation = #_sourceLocation) async throws -> JSONValue {
        let query = filters.map { (path.contains("?") ? "&" : "?") + "filters=" + percentEncoded($0.text()) } ?? ""
        return try await json("GET", path + query, sourceLocation: sourceLocation)
    }

    func initializeSwarm() async throws {
        try await json("POST", "/swarm/init", ["ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": "127.0.0.1"])
    }

    /// Every object of the swarm and every container, image, volume and network, by what makes it up; tasks by service and slot.
    func inventory() async throws -> [String: [String]] {
        var objects: [String: [String]] = [:]
        for kind in ["services", "nodes", "images/json", "networks", "plugins"] {
            objects[kind] = try await get("/\(kind)").array.map { $0.map { $0.text() } }?.sorted()
        }
        objects["containers"] = try await get("/containers/json?all=1").array?.compactMap { $0["Id"]?.string }.sorted()
        objects["volumes"] = try await get("/volumes")["Volumes"]?.array?.map { $0.text() }.sorted()
        objects["swarm"] = [try await get("/swarm").text()]
        return objects
    }

    // MARK: Programs

    /// Runs a program in the engine's network; its end with another code than 0 is thrown.
    @discardableResult
    func inNamespace(_ program: String, _ arguments: String..., timeout: Duration = .seconds(180)) async throws -> String {
        try await Self.check("nsenter", arguments: ["--net=/run/netns/\(namespace)", program] + arguments, timeout: timeout)
    }

    /// Runs Debian's docker CLI against this engine.
    func runDocker(_ arguments: [String], input: [UInt8] = [], timeout: Duration = .seconds(180)) async throws -> ProcessResult {
        try await Processes.run(
            ProcessRequest(
                "/usr/bin/docker", arguments, environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=\(root)", "DOCKER_HOST=unix://\(socket)"],
                workingDirectory: "/"),
            input: input, outputLimit: 8 << 20, timeout: timeout)
    }

    /// What the docker CLI prints, which must succeed.
    @discardableResult
    func docker(_ arguments: String..., input: [UInt8] = [], sourceLocation: SourceLocation = #_sourceLocation) async throws -> String {
        let result = try await runDocker(arguments, input: input)
        guard result.exitCode == 0 else {
            throw EngineFailure("docker \(arguments.joined(separator: " ")) ended with \(result.exitCode): \(result.errorText) (\(sourceLocation))")
        }
        return result.text.trimmed
    }

    /// What the docker CLI says when it fails, which it must.
    @discardableResult
    func dockerRefusal(_ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation) async throws -> String {
        let result = try await runDocker(arguments)
        guard result.exitCode != 0 else { throw EngineFailure("docker \(arguments.joined(separator: " ")) succeeded (\(sourceLocation))") }
        return result.errorText.trimmed
    }

    @discardableResult
    private static func check(_ program: String, _ arguments: String..., timeout: Duration = .seconds(180)) async throws -> String {
        try await check(program, arguments: arguments, timeout: timeout)
    }

    @discardableResult
    private static func check(_ program: String, arguments: [String], timeout: Duration) async throws -> String {
        let result = try await Processes.run(ProcessRequest(program, arguments), timeout: timeout)
        guard result.exitCode == 0 else {
            throw EngineFailure("\(program) \(arguments.joined(separator: " ")) ended with \(result.exitCode): \(result.errorText)\(result.text)")
        }
        return result.text.trimmed
    }

    // MARK: Places

    /// The repository's folder, through whatever links the sources were compiled.
    static let repository: String = {
        guard let path = realpath(#filePath, nil) else { return "." }
        defer { free(path) }
        return (0..<4).reduce(String(cString: path)) { path, _ in Files.parent(path) }
    }()

    /// `APUS_STAGE`, or the folder `stage` of the build folder that this program is in, or the repository's.
    private static func findStage() throws -> String {
        var candidates: [String] = []
        if let stage = getenv("APUS_STAGE") { candidates.append(String(cString: stage)) }
        if let path = realpath("/proc/self/exe", nil) {
            var folder = String(cString: path)
            free(path)
            while folder.count > 1 {
                folder = Files.parent(folder)
                candidates.append("\(folder)/stage")
            }
        }
        candidates.append("\(repository)/.build/stage")
        guard let stage = candidates.first(where: { Files.exists("\($0)/bin/apusd") }) else {
            throw EngineFailure("there is no staged engine; run make stage, or set APUS_STAGE")
        }
        return stage
    }
}

/// An engine's process, reaped once.
private final class RunningEngine: Sendable {
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

    func exitCode(within limit: Duration) async throws -> Int32 {
        try await eventually("process \(process) ends", within: limit) { ended != nil }
        return ended ?? -1
    }
}

/// What went wrong in a step that a test needs.
struct EngineFailure: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}

/// Gives all tests of a suite one engine.
struct SharedEngine: SuiteTrait, TestScoping {
    var images = true
    var swarm = true

    func provideScope(for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void) async throws {
        let harness = try await EngineHarness.start(images: images, swarm: swarm)
        do {
            try await EngineHarness.$current.withValue(harness) { try await function() }
        } catch {
            await harness.end()
            throw error
        }
        await harness.end()
    }
}

extension Trait where Self == SharedEngine {
    static var sharedEngine: Self { SharedEngine() }
}
