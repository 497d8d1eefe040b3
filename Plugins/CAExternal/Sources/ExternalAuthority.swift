import Coding
import HTTPClient
import OpenSSL
public import PluginAPI

/// Relays the requests of nodes to a server that speaks cfssl's protocol, and never sees a root key.
///
/// The servers are the swarm's (`--external-ca protocol=cfssl,url=https://ca.example/api/v1/cfssl/sign,cacert=root.pem`), asked in their order
/// until one answers. A server's options: `profile`, the signing profile; `label`, the signer of a server with several.
/// Settings of the plugin itself, which are local to a manager (`--plugin-opt ca/external:key=value`): `authority-file`, what the server's TLS
/// certificate is verified with in place of the system's; `certificate-file` and `key-file`, what the manager shows; `timeout`, seconds, 5.
public final class ExternalAuthority: CertificateAuthority {
    private let host: any HostServices
    private let client = HTTPClient(maximumTransfers: 8)
    private let tls: HTTPTLSOptions
    private let timeout: Duration

    /// - Throws: `invalidArgument` for a setting that has no meaning.
    public init(host: any HostServices) throws(ApusError) {
        self.host = host
        var tls = HTTPTLSOptions()
        var timeout: Duration = .seconds(5)
        for (key, value) in host.configuration {
            switch key {
            case "authority-file": tls.authorityFile = value
            case "certificate-file": tls.certificateFile = value
            case "key-file": tls.keyFile = value
            case "timeout":
                guard let seconds = Int(value), (1...60).contains(seconds) else {
                    throw ApusError(.invalidArgument, "ca/external:timeout is 1 to 60 seconds, not \"\(value)\"")
                }
                timeout = .seconds(seconds)
            default:
                throw ApusError(
                    .invalidArgument, "ca/external has no setting \"\(key)\": there are authority-file, certificate-file, key-file and timeout")
            }
        }
        self.tls = tls
        self.timeout = timeout
    }

    public var isExternal: Bool { true }

    public func createRoot(_ request: CreateRootRequest) async throws(ApusError) -> RootMaterial {
        throw ApusError(.invalidArgument, "an external certificate authority has its root already: give it with --external-ca …,cacert=FILE")
    }

    /// Has the first server that answers sign. What it answers is checked here, and again by the manager.
    public func issue(_ request: IssueRequest) async throws(ApusError) -> IssueAnswer {
        let signingRequest = try CertificateRequest(pem: request.signingRequest)
        let unit = request.role == .manager ? "swarm-manager" : "swarm-worker"
        var body: JSONValue = [
            "certificate_request": .string(try signingRequest.pem()),
            "subject": [
                "CN": .string(request.nodeID.text), "names": [["OU": .string(unit), "O": .string(request.clusterID.text)]],
            ],
        ]
        let names = [unit, request.nodeID.text] + (request.role == .manager ? ["swarm-ca"] : [])
        body["hosts"] = JSONValue(names)
        let chain = try await sign(body, servers: request.externalAuthorities, root: request.root.certificate)
        let certificates = try CertificateChain.certificates(pem: chain)
        let certificate = certificates[0]
        let expected = DistinguishedName(commonName: request.nodeID.text, organizationalUnit: unit, organization: request.clusterID.text)
        guard try certificate.publicKey() == signingRequest.publicKey() else { throw refusal("is for another key than the node's") }
        guard certificate.subject == expected else {
            let subject = certificate.subject
            throw refusal(
                "is for \(subject.commonName) (\(subject.organizationalUnit)) of \(subject.organization), and not for \(request.nodeID) (\(unit))")
        }
        guard !certificate.isAuthority else { throw refusal("may sign others, which no node's may") }
        try verify(certificates, request.root)
        host.count("certificates", by: 1)
        return IssueAnswer(certificateChain: chain, expiresAt: certificate.notAfter)
    }

    /// Has a server sign another root, with its profile `CA`, as SwarmKit does.
    public func crossSign(_ request: CrossSignRequest) async throws(ApusError) -> String {
        guard !request.signingRequest.isEmpty else {
            throw ApusError(
                .invalidArgument,
                "an external certificate authority signs another root only at the request of that root's key: rotate to the internal "
                    + "authority first, or have the new root signed by hand")
        }
        var servers = request.externalAuthorities
        for index in servers.indices { servers[index].options["profile"] = "CA" }
        let body: JSONValue = ["certificate_request": .string(request.signingRequest)]
        let chain = try await sign(body, servers: servers, root: request.root.certificate)
        let certificates = try CertificateChain.certificates(pem: chain)
        let other = try Certificate(pem: request.certificate)
        guard certificates[0].isAuthority, try certificates[0].publicKey() == other.publicKey() else {
            throw refusal("is not that of the new root; does the server have the profile \"CA\" with is_ca?")
        }
        try verify(certificates, request.root)
        return try certificates[0].pem()
    }

    private func verify(_ certificates: [Certificate], _ root: RootMaterial) throws(ApusError) {
        do throws(ApusError) {
            try CertificateChain.verify(
                certificates[0], intermediates: Array(certificates.dropFirst()), roots: try CertificateChain.certificates(pem: root.certificate), at: nil)
        } catch {
            throw refusal("is not of the swarm's root: \(error.message)")
        }
    }

    private func refusal(_ what: String) -> ApusError {
        host.count("refused_answers", by: 1)
        return ApusError(.permissionDenied, "the external certificate authority answered with a certificate that \(what)")
    }

    // MARK: The protocol

    /// The certificates of the first server that answers, PEM.
    private func sign(_ body: JSONValue, servers: [ExternalCA], root: String) async throws(ApusError) -> String {
        let usable = servers.filter { server in
            (server.kind.isEmpty || server.kind == "cfssl") && (server.caCertificate.isEmpty || Self.same(server.caCertificate, root))
        }
        guard !usable.isEmpty else {
            throw ApusError(
                .unavailable,
                "no external certificate authority of this swarm's root is configured: "
                    + "apus swarm update --external-ca protocol=cfssl,url=URL,cacert=FILE")
        }
        var failure = ApusError(.unavailable, "no external certificate authority answers")
        for server in usable {
            do throws(ApusError) {
                return try await ask(server, body)
            } catch {
                host.log(.warning, "\(server.url): \(error.message)")
                failure = error
                // A refusal is an answer.
                guard error.code == .unavailable || error.code == .timedOut else { throw error }
            }
        }
        throw failure
    }

    private static func same(_ left: String, _ right: String) -> Bool {
        left.utf8.filter { $0 > 32 } == right.utf8.filter { $0 > 32 }
    }

    private func ask(_ server: ExternalCA, _ body: JSONValue) async throws(ApusError) -> String {
        guard server.url.hasPrefix("https://") || server.url.hasPrefix("http://") else {
            throw ApusError(.invalidArgument, "\"\(server.url)\" is not the URL of a certificate authority: http:// or https://")
        }
        var body = body
        for option in ["profile", "label"] {
            if let value = server.options[option], !value.isEmpty { body[option] = .string(value) }
        }
        var request = HTTPRequest(
            "POST", server.url, headers: ["Content-Type": "application/json"], body: .bytes(body.bytes()))
        request.connectTimeout = timeout
        request.timeout = timeout
        request.tls = tls
        let response: HTTPResponse
        do throws(ApusError) {
            response = try await client.send(request, limit: 256 << 10)
        } catch {
            switch error.code {
            case .tooLarge, .corrupt: throw error
            default: throw ApusError(error.code == .timedOut ? .timedOut : .unavailable, "the external certificate authority: \(error.message)")
            }
        }
        return try certificate(in: response)
    }

    /// cfssl's answer: `{"success": true, "result": {"certificate": "PEM"}, "errors": [{"code": 1, "message": "…"}]}`.
    private func certificate(in response: HTTPResponse) throws(ApusError) -> String {
        let answer: JSONValue
        do throws(ApusError) {
            answer = try JSONValue.parse(response.body)
        } catch {
            let code: ApusError.Code = response.status >= 500 ? .unavailable : .failed
            throw ApusError(code, "the external certificate authority answered \(response.status) with something that is no JSON")
        }
        guard (200..<300).contains(response.status), answer["success"]?.bool == true, let text = answer["result"]?["certificate"]?.string, !text.isEmpty
        else {
            let message = answer["errors"]?[0]?["message"]?.string.map { String($0.prefix(200)) } ?? "without a reason"
            throw ApusError(
                response.status >= 500 ? .unavailable : .failed, "the external certificate authority refused (\(response.status)): \(message)")
        }
        return text
    }
}
