import Coding
import PluginAPI
import Synchronization

/// A version of the Engine API, `1.50`.
struct EngineAPIVersion: Hashable, Sendable, Comparable {
    var major: Int
    var minor: Int

    static let newest = EngineAPIVersion(major: 1, minor: 50)
    static let oldest = EngineAPIVersion(major: 1, minor: 24)

    init(major: Int, minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// Reads `1.50`, digits without leading zeros; `nil` for anything else.
    init?(_ text: String) {
        let (major, minor) = text.cut(at: ".")
        guard let major = Int(major), let minor = minor.flatMap({ Int($0) }) else { return nil }
        self.init(major: major, minor: minor)
        // Int reads signs and zeros too.
        guard self.text.utf8.elementsEqual(text.utf8), major >= 0, minor >= 0 else { return nil }
    }

    var text: String { "\(major).\(minor)" }

    static func < (left: EngineAPIVersion, right: EngineAPIVersion) -> Bool { (left.major, left.minor) < (right.major, right.minor) }
}

/// The Engine API as calls: paths without the version, JSON in and out, an `ApusError` for every status of 400 or more.
final class EngineClient: Sendable {
    let connection: any EngineConnection
    /// Whether what is read may be what the manager knows by itself.
    private let readsStale: Bool
    private let negotiated = Mutex<EngineAPIVersion?>(nil)

    init(connection: any EngineConnection, readsStale: Bool = false) {
        self.connection = connection
        self.readsStale = readsStale
    }

    /// The newest version that both sides speak.
    func version() async throws(ApusError) -> EngineAPIVersion {
        if let version = negotiated.withLock({ $0 }) { return version }
        let answer = try await connection.send(EngineRequest(method: "GET", target: "/_ping"))
        guard answer.status < 400 else { throw EngineFailure.error(of: answer, doing: "GET /_ping") }
        guard let offered = answer.headers["api-version"].flatMap({ EngineAPIVersion($0) }) else {
            throw ApusError(.failed, "what answers at \(connection.name) is not an engine: its /_ping names no API version")
        }
        guard offered >= .oldest else {
            throw ApusError(
                .failed, "the engine at \(connection.name) speaks API \(offered.text); apus needs \(EngineAPIVersion.oldest.text) at least")
        }
        let version = min(offered, .newest)
        negotiated.withLock { $0 = version }
        return version
    }

    func get(_ path: String, _ query: Query = [:], headers: [String: String] = [:]) async throws(ApusError) -> JSONValue {
        var query = query
        query.add("stale", readsStale)
        return try Self.parsed(try await call("GET", path, query, headers: headers))
    }

    @discardableResult
    func post(_ path: String, _ query: Query = [:], body: JSONValue? = nil, headers: [String: String] = [:]) async throws(ApusError) -> JSONValue {
        try Self.parsed(try await call("POST", path, query, body: body, headers: headers))
    }

    @discardableResult
    func delete(_ path: String, _ query: Query = [:]) async throws(ApusError) -> JSONValue {
        try Self.parsed(try await call("DELETE", path, query))
    }

    func call(
        _ method: String, _ path: String, _ query: Query = [:], body: JSONValue? = nil, headers: [String: String] = [:]
    ) async throws(ApusError) -> EngineResponse {
        let request = try await request(method, path, query, body: body.map { .bytes($0.bytes()) } ?? .none, headers: headers)
        let answer = try await connection.send(request)
        guard answer.status < 400 else { throw EngineFailure.error(of: answer, doing: "\(method) \(path)") }
        return answer
    }

    /// Follows an answer without an end of its own. What `onChunk` throws ends it.
    func stream(
        _ method: String, _ path: String, _ query: Query = [:], body: EngineRequest.Body = .none, headers: [String: String] = [:],
        onHead: @escaping @Sendable (EngineResponse) -> Void = { _ in }, onChunk: @escaping @Sendable ([UInt8]) throws(ApusError) -> Void
    ) async throws(ApusError) {
        let request = try await request(method, path, query, body: body, headers: headers)
        let refusal = Mutex<EngineResponse?>(nil)
        try await connection.stream(
            request,
            onHead: { head in
                refusal.withLock { $0 = head.status >= 400 ? head : nil }
                onHead(head)
            },
            onChunk: { (chunk) throws(ApusError) in
                let isRefused = refusal.withLock { refusal in
                    refusal?.body += chunk
                    return refusal != nil
                }
                if !isRefused { try onChunk(chunk) }
            })
        if let answer = refusal.withLock({ $0 }) { throw EngineFailure.error(of: answer, doing: "\(method) \(path)") }
    }

    private func request(
        _ method: String, _ path: String, _ query: Query, body: EngineRequest.Body, headers: [String: String]
    ) async throws(ApusError) -> EngineRequest {
        let version = try await version()
        var request = EngineRequest(method: method, target: "/v\(version.text)\(path)\(query.text)", headers: headers, body: body)
        if body != .none, request.headers["Content-Type"] == nil { request.headers["Content-Type"] = "application/json" }
        return request
    }

    private static func parsed(_ answer: EngineResponse) throws(ApusError) -> JSONValue {
        if answer.body.allSatisfy({ $0 == 0x0a || $0 == 0x20 || $0 == 0x0d }) { return .null }
        do throws(ApusError) {
            return try JSONValue.parse(answer.body)
        } catch {
            throw ApusError(.corrupt, "the engine's answer is not JSON: \(error.message)")
        }
    }
}

/// What the engine refused, with what to do about it.
enum EngineFailure {
    static func error(of answer: EngineResponse, doing what: String) -> ApusError {
        let body = String(decoding: answer.body, as: UTF8.self).trimmed
        let parsed = (try? JSONValue.parse(body))?["message"]?.string
        let message = parsed ?? (body.isEmpty ? "the engine answered \(answer.status) to \(what)" : body)
        let code: ApusError.Code =
            switch answer.status {
            case 401: .unauthenticated
            case 403: .permissionDenied
            case 404: .notFound
            case 409: .conflict
            case 413: .tooLarge
            case 501: .unimplemented
            case 503: .unavailable
            case 504: .timedOut
            case 500...: .failed
            default: .invalidArgument
            }
        return ApusError(code, hinted(message))
    }

    /// The message, with the next step behind it when it is known and not said yet.
    static func hinted(_ message: String) -> String {
        let lower = message.lowercased()
        let sentence = message.hasSuffix(".") ? String(message.dropLast()) : message
        if lower.contains("worker nodes can't") {
            return sentence + ". `apus info` lists the managers; -H talks to another engine"
        }
        if lower.contains("not a swarm manager") || lower.contains("not part of a swarm") {
            return lower.contains("swarm init")
                ? message : sentence + ". Make this node a swarm with `apus swarm init`, or take it into one with `apus swarm join`"
        }
        if lower.contains("does not have a leader") {
            // Only some commands have the flag; the rest of the sentence helps with all.
            return sentence.replacing("?stale=1 shows", with: "--stale with `ls`, `ps` and `inspect` shows")
                + ". When most managers are lost for good, `apus swarm init --force-new-cluster` goes on with this one alone"
        }
        if lower.contains("needs to be unlocked"), !lower.contains("swarm unlock") {
            return sentence + ". Unlock it with `apus swarm unlock`"
        }
        if lower.contains("no certificate was issued") {
            return sentence + ". If the swarm lets nodes in by hand, run `apus node accept` on a manager (`apus node ls` shows the id); "
                + "then repeat this command"
        }
        if lower.contains("update out of sequence") {
            return sentence + ". Somebody else changed it meanwhile: look at it again and repeat the command"
        }
        if lower.contains("already part of a swarm"), !lower.contains("swarm leave") {
            return sentence + ". Leave it first with `apus swarm leave --force`"
        }
        return message
    }
}
