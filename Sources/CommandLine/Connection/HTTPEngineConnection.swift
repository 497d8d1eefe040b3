import Glibc
import HTTPClient
import PluginAPI

/// Certificates for an engine on TCP.
struct EngineTLS: Sendable, Hashable {
    var authorityFile: String?
    var certificateFile: String?
    var keyFile: String?
}

/// An engine over HTTP on a unix socket or TCP.
final class HTTPEngineConnection: EngineConnection {
    private let host: EngineHost
    private let tls: EngineTLS?
    private let client: HTTPClient

    init(host: EngineHost, tls: EngineTLS?) {
        self.host = host
        self.tls = tls
        client = HTTPClient(userAgent: "apus/\(CommandLineTool.version)")
    }

    var name: String { host.text }

    func send(_ request: EngineRequest) async throws(ApusError) -> EngineResponse {
        do throws(HTTPFailure) {
            let response = try await client.collect(converted(request), limit: 1 << 30)
            return EngineResponse(status: response.status, headers: Self.converted(response.headers), body: response.body)
        } catch {
            throw explained(error)
        }
    }

    func stream(
        _ request: EngineRequest,
        onHead: @escaping @Sendable (EngineResponse) throws(ApusError) -> Void,
        onChunk: @escaping @Sendable ([UInt8]) throws(ApusError) -> Void
    ) async throws(ApusError) {
        do throws(HTTPFailure) {
            _ = try await client.transfer(
                converted(request),
                onHead: { (head) throws(ApusError) in try onHead(EngineResponse(status: head.status, headers: Self.converted(head.headers))) },
                onChunk: onChunk)
        } catch {
            throw explained(error)
        }
    }

    private func converted(_ request: EngineRequest) -> HTTPRequest {
        var headers = HTTPHeaders()
        for name in request.headers.keys.sorted() { headers[name] = request.headers[name] }
        let body: HTTPBody =
            switch request.body {
            case .none: .none
            case .bytes(let bytes): .bytes(bytes)
            case .descriptor(let descriptor): .descriptor(descriptor)
            }
        switch host {
        case .unix(let path):
            return HTTPRequest(request.method, "http://apus" + request.target, headers: headers, body: body, unixSocket: path)
        case .tcp(let authority):
            var message = HTTPRequest(
                request.method, "\(tls == nil ? "http" : "https")://\(authority)\(request.target)", headers: headers, body: body)
            message.tls.authorityFile = tls?.authorityFile
            message.tls.certificateFile = tls?.certificateFile
            message.tls.keyFile = tls?.keyFile
            return message
        }
    }

    private static func converted(_ headers: HTTPHeaders) -> [String: String] {
        Dictionary(headers.fields.map { ($0.name.lowercased(), $0.value) }, uniquingKeysWith: { first, _ in first })
    }

    /// Says what to do when nobody answers.
    private func explained(_ failure: HTTPFailure) -> ApusError {
        guard failure.kind == .unreachable || failure.kind == .unresolved else { return failure.error }
        guard case .unix(let path) = host else {
            return ApusError(.unavailable, "no engine answers at \(name) (\(failure.message)); is apusd running there, and is that port its API?")
        }
        if access(path, F_OK) != 0, errno == ENOENT {
            return ApusError(
                .unavailable,
                "no engine runs at \(name): there is no such socket. Start one as root with `apusd`, or name another with --host or APUS_HOST")
        }
        if access(path, W_OK) != 0, errno == EACCES {
            return ApusError(
                .permissionDenied,
                "you may not use the engine at \(name). Run apus as root, or join the socket's group with `usermod -aG apus $USER` and log in again")
        }
        return ApusError(
            .unavailable, "no engine listens at \(name), although the socket exists: apusd may have ended. Start it again as root with `apusd`")
    }
}
