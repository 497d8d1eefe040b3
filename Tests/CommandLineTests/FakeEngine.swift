import Coding
import PluginAPI
import Synchronization

@testable import CommandLine

/// An engine that answers from a list, and remembers what it was asked.
final class FakeEngine: EngineConnection {
    private struct State {
        var requests: [EngineRequest] = []
        var answers: [String: [EngineResponse]] = [:]
    }

    let name = "unix:///fake.sock"
    private let state = Mutex(State())

    /// Answers a method and path; of several the last one stays.
    func answer(_ request: String, _ body: JSONValue, status: Int = 200) { answer(request, bytes: body.bytes(), status: status) }

    func answer(_ request: String, bytes: [UInt8], status: Int = 200) {
        state.withLock { $0.answers[request, default: []].append(EngineResponse(status: status, body: bytes)) }
    }

    var requests: [EngineRequest] { state.withLock { $0.requests } }

    /// The body of the last request to a path.
    func body(of request: String) throws -> JSONValue {
        guard let found = requests.last(where: { Self.key($0) == request }), case .bytes(let bytes) = found.body else {
            throw ApusError(.notFound, "no body was sent to \(request)")
        }
        return try JSONValue.parse(bytes)
    }

    func send(_ request: EngineRequest) async throws(ApusError) -> EngineResponse {
        state.withLock { state in
            state.requests.append(request)
            let key = Self.key(request)
            if key == "GET /_ping" { return EngineResponse(status: 200, headers: ["api-version": "1.50"]) }
            guard var answers = state.answers[key], let first = answers.first else {
                return EngineResponse(status: 404, body: Array("{\"message\":\"nothing at \(key)\"}".utf8))
            }
            if answers.count > 1 {
                answers.removeFirst()
                state.answers[key] = answers
            }
            return first
        }
    }

    func stream(
        _ request: EngineRequest, onHead: @escaping @Sendable (EngineResponse) throws(ApusError) -> Void,
        onChunk: @escaping @Sendable ([UInt8]) throws(ApusError) -> Void
    ) async throws(ApusError) {
        let answer = try await send(request)
        try onHead(EngineResponse(status: answer.status, headers: answer.headers))
        for byte in answer.body { try onChunk([byte]) }
    }

    private static func key(_ request: EngineRequest) -> String {
        var path = request.target.cut(at: "?").head
        if path.hasPrefix("/v1.50/") { path = String(path.dropFirst(6)) }
        return "\(request.method) \(path)"
    }
}

/// Keeps what a command writes.
final class FakeConsole: Console {
    private let texts = Mutex<(output: [UInt8], errors: [UInt8])>(([], []))
    let isTerminal: Bool
    let columns = 80

    init(isTerminal: Bool = false) { self.isTerminal = isTerminal }

    func write(_ bytes: [UInt8]) { texts.withLock { $0.output += bytes } }
    func writeError(_ bytes: [UInt8]) { texts.withLock { $0.errors += bytes } }
    var output: String { texts.withLock { String(decoding: $0.output, as: UTF8.self) } }
    var errors: String { texts.withLock { String(decoding: $0.errors, as: UTF8.self) } }
}

/// No signals ever, or one at once.
struct FakeInterrupts: InterruptSource {
    var presses = false

    func handling<Result: Sendable>(
        _ action: @escaping @Sendable (Int32) -> Void, during body: @Sendable () async throws -> Result
    ) async throws -> Result {
        if presses { action(2) }
        return try await body()
    }
}

/// A run of the program against a fake engine; its clock moves only when it sleeps.
struct FakeRun {
    let engine = FakeEngine()
    let console: FakeConsole
    var environment: [String: String] = ["HOME": "/nonexistent"]
    var presses = false
    /// What is typed where a secret is asked for.
    var secret = ""

    init(isTerminal: Bool = false) { console = FakeConsole(isTerminal: isTerminal) }

    func callAsFunction(_ arguments: String...) async -> Int32 { await self(arguments) }

    func callAsFunction(_ arguments: [String]) async -> Int32 {
        let clock = Clock()
        let typed = secret
        let context = CommandContext(
            client: EngineClient(connection: engine), console: console, environment: environment, now: { clock.now },
            sleep: { duration in
                try ConcurrentTask.checkCancellation()
                clock.advance(duration)
            }, secret: { _ in typed }, interrupts: FakeInterrupts(presses: presses))
        return await CommandLineTool.run(arguments, in: context)
    }

    private final class Clock: Sendable {
        // 2026-01-31T12:00:00Z
        private let time = Mutex(Timestamp(nanoseconds: 1_769_860_800_000_000_000))
        var now: Timestamp { time.withLock { $0 } }
        func advance(_ duration: Duration) { time.withLock { $0 = $0 + duration } }
    }
}
