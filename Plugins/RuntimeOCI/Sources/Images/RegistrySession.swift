import Coding
import HTTPClient
import PluginAPI
import Synchronization

/// Requests to one repository of one registry, with its authorization, retries and ways to be reached (registry API, version 2).
final class RegistrySession: Sendable {
    /// A manifest as it came.
    struct FetchedManifest: Sendable {
        var bytes: [UInt8]
        var digest: ContentDigest
        var document: ManifestDocument
        /// As the registry says, without parameters.
        var type: String
    }

    let target: RegistryTarget
    private let client: HTTPClient
    private let authorizer: RegistryAuthorizer
    private let credentials: RegistryCredentials?
    private let configuration: ImageStoreConfiguration
    /// The address that answered.
    private let settled = Mutex<RegistryAddress?>(nil)

    private static let manifestLimit = 4 << 20
    private static let transientStatuses: Set<Int> = [408, 416, 429, 500, 502, 503, 504]

    init(
        _ target: RegistryTarget, client: HTTPClient, authorizer: RegistryAuthorizer, credentials: RegistryCredentials?,
        configuration: ImageStoreConfiguration
    ) {
        self.target = target
        self.client = client
        self.authorizer = authorizer
        self.credentials = credentials
        self.configuration = configuration
    }

    // MARK: Manifests and small blobs

    /// - Parameter selector: a tag or a digest.
    func manifest(_ selector: String, expecting digest: ContentDigest?) async throws(ApusError) -> FetchedManifest {
        let answer = try await get(
            "/v2/\(target.repository)/manifests/\(selector)", headers: ["Accept": ManifestParser.acceptedTypes], limit: Self.manifestLimit,
            what: "the manifest")
        let actual = ContentDigest(of: answer.body)
        if let digest, digest != actual {
            throw ApusError(.corrupt, "\(target.name) answered with a manifest of digest \(actual) where \(digest) was asked for")
        }
        if let stated = answer.headers["Docker-Content-Digest"], let stated = ContentDigest(stated), stated != actual {
            throw ApusError(.corrupt, "\(target.name) says that its manifest has digest \(stated), but it has \(actual)")
        }
        let type = (answer.headers["Content-Type"] ?? "").prefix { $0 != ";" }.filter { $0 != " " }.lowercased()
        do throws(ApusError) {
            let document = try ManifestParser.parse(answer.body, contentType: type)
            return FetchedManifest(bytes: answer.body, digest: actual, document: document, type: type)
        } catch {
            throw error.during("\(target.name) answered what cannot be used")
        }
    }

    /// A blob in memory, checked.
    func blob(_ descriptor: ContentDescriptor) async throws(ApusError) -> [UInt8] {
        let path = "/v2/\(target.repository)/blobs/\(descriptor.digest)"
        let answer = try await get(path, headers: [:], limit: Int(descriptor.size), what: "the blob \(descriptor.digest.short)", redirects: 10)
        guard answer.body.count == descriptor.size else {
            throw ApusError(
                .corrupt, "\(target.name) sent \(answer.body.count) bytes of \(descriptor.digest) where the manifest says \(descriptor.size)")
        }
        let actual = ContentDigest(of: answer.body)
        guard actual == descriptor.digest else {
            throw ApusError(.corrupt, "\(target.name) sent a blob of digest \(actual) where \(descriptor.digest) was asked for")
        }
        return answer.body
    }

    // MARK: Tags and access

    private static let maximumPages = 1000
    private static let maximumTags = 100_000

    /// All tags of the repository, page by page.
    func tags() async throws(ApusError) -> [String] {
        var tags: [String] = []
        var path = "/v2/\(target.repository)/tags/list"
        var seen: Set<String> = []
        for _ in 0..<Self.maximumPages {
            let answer = try await get(path, headers: [:], limit: Self.manifestLimit, what: "the tags")
            guard let json = try? JSONValue.parse(answer.body), json.object != nil, let names = (json["tags"] ?? .null).isNull ? [] : json["tags"]?.array
            else { throw ApusError(.corrupt, "\(target.name) answered what is no list of tags") }
            for name in names {
                guard let tag = name.string, (try? ImageReference("name:\(tag)"))?.tag == tag else {
                    throw ApusError(.corrupt, "\(target.name) lists a tag that is none: \(ImageReference.printable(name.text()))")
                }
                tags.append(tag)
            }
            guard tags.count <= Self.maximumTags else { break }
            guard let next = Self.nextPage(answer.headers.all("Link")) else {
                guard !tags.isEmpty else { throw ApusError(.notFound, "\(target.name) has no tag of \(target.repository)") }
                return tags
            }
            guard seen.insert(next).inserted else { throw ApusError(.corrupt, "\(target.name) lists the tags of \(target.repository) in a circle") }
            path = next
        }
        throw ApusError(
            .tooLarge, "\(target.name) has more than \(Self.maximumTags) tags of \(target.repository), or more than \(Self.maximumPages) pages of them")
    }

    /// The path of the page that a `Link` field names as the next one (RFC 8288). A full URL counts as its path: other hosts are not asked.
    static func nextPage(_ fields: [String]) -> String? {
        for link in fields.flatMap({ $0.split(separator: ",") }) {
            let parts = link.split(separator: ";").map { $0.filter { $0 != " " && $0 != "\t" } }
            guard let first = parts.first, first.hasPrefix("<"), first.hasSuffix(">"),
                parts.dropFirst().contains(where: { $0 == "rel=\"next\"" || $0 == "rel=next" })
            else { continue }
            var url = first.dropFirst().dropLast()
            if let scheme = ["https://", "http://"].first(where: { url.hasPrefix($0) }) { url = url.dropFirst(scheme.count).drop { $0 != "/" } }
            guard url.hasPrefix("/v2/"), url.utf8.allSatisfy({ (33...126).contains($0) }) else { continue }
            return String(url)
        }
        return nil
    }

    /// Asks for nothing but an answer, with the credentials (registry API, "API version check").
    /// - Throws: `unauthenticated` when they are refused.
    func checkAccess() async throws(ApusError) {
        do throws(ApusError) {
            _ = try await get("/v2/", headers: [:], limit: Self.manifestLimit, what: "the login")
        } catch  where error.code == .notFound {
            throw ApusError(.failed, "\(target.name) is no registry: it does not know /v2/")
        }
    }

    private func get(_ path: String, headers: HTTPHeaders, limit: Int, what: String, redirects: Int = 5) async throws(ApusError) -> HTTPResponse {
        var delay = Duration.milliseconds(200)
        for attempt in 1... {
            let result = try await ask(path, what: what) { (request) throws(HTTPFailure) -> HTTPResponse in
                var request = request
                for field in headers.fields { request.headers.fields.append(field) }
                request.redirectLimit = redirects
                request.timeout = self.configuration.stallTimeout
                return try await self.client.collect(request, limit: limit)
            } status: {
                $0.head
            }
            switch result {
            case .success(let answer): return answer
            case .failure(let failure):
                guard failure.isTransient, attempt < 4 else { throw failure.error }
                try await Self.pause(failure.delay ?? delay)
                delay *= 2
            }
        }
        throw ApusError(.failed, "\(target.name) did not answer")
    }

    static func pause(_ delay: Duration) async throws(ApusError) {
        do {
            try await ConcurrentTask.sleep(for: delay)
        } catch {
            throw ApusError(.cancelled, "the pull was cancelled")
        }
    }

    // MARK: One request

    /// A request that failed, and whether it may go better the next time.
    struct Failure: Error {
        var error: ApusError
        var isTransient = false
        /// It looks as if the other side spoke TLS where we do not, or the other way round.
        var isWrongScheme = false
        /// What the registry asked for.
        var delay: Duration?
    }

    /// Makes a request for a path, answers a challenge, and tries the next address while none has answered yet.
    ///
    /// - Throws: only for cancellation.
    func ask<Answer: Sendable>(
        _ path: String, what: String, _ send: (HTTPRequest) async throws(HTTPFailure) -> Answer, status: (Answer) -> HTTPHead
    ) async throws(ApusError) -> Result<Answer, Failure> {
        if let address = settled.withLock({ $0 }) { return try await ask(address, path, what, send, status) }
        var failures: [Failure] = []
        for address in target.addresses {
            let result = try await ask(address, path, what, send, status)
            switch result {
            case .success:
                settled.withLock { $0 = address }
                return result
            case .failure(let failure):
                failures.append(failure)
                guard failure.isWrongScheme else { return result }
            }
        }
        guard let first = failures.first else { return .failure(Failure(error: ApusError(.failed, "\(target.name) has no address"))) }
        guard failures.count > 1 else { return .failure(first) }
        let message = failures.map(\.error.message).joined(separator: "; ")
        return .failure(Failure(error: ApusError(first.error.code, message), isTransient: failures.contains { $0.isTransient }))
    }

    private func ask<Answer: Sendable>(
        _ address: RegistryAddress, _ path: String, _ what: String, _ send: (HTTPRequest) async throws(HTTPFailure) -> Answer,
        _ status: (Answer) -> HTTPHead
    ) async throws(ApusError) -> Result<Answer, Failure> {
        var request = HTTPRequest("GET", address.base + path)
        request.tls = address.tls
        request.connectTimeout = configuration.connectTimeout
        request.headers["Authorization"] = authorizer.header(address, target.repository, credentials)
        var wasChallenged = false
        while true {
            let answer: Answer
            do throws(HTTPFailure) {
                answer = try await send(request)
            } catch {
                return .failure(try failure(error, address))
            }
            let head = status(answer)
            if head.isSuccess { return .success(answer) }
            guard head.status == 401, !wasChallenged, let challenge = AuthorizationChallenge(head.headers.all("WWW-Authenticate")) else {
                return .failure(refusal(head, what, address))
            }
            wasChallenged = true
            authorizer.forget(address, target.repository, credentials)
            do throws(ApusError) {
                request.headers["Authorization"] = try await authorizer.authorize(
                    challenge, address, target.repository, credentials, stallTimeout: configuration.stallTimeout)
            } catch {
                if error.code == .cancelled { throw error }
                return .failure(Failure(error: error, isTransient: error.code == .unavailable || error.code == .timedOut))
            }
        }
    }

    private func failure(_ failure: HTTPFailure, _ address: RegistryAddress) throws(ApusError) -> Failure {
        switch failure.kind {
        case .cancelled: throw failure.error
        // Nobody there: waiting a second seldom helps, and the caller may have another registry to ask.
        case .unresolved, .unreachable:
            // Without a port, HTTP and HTTPS have ports of their own.
            return Failure(
                error: ApusError(.unavailable, "\(address.authority) cannot be reached: \(failure.message)"),
                isWrongScheme: failure.kind == .unreachable && !address.authority.contains(":"))
        case .timedOut:
            return Failure(error: ApusError(.timedOut, "\(address.authority) did not answer in time: \(failure.message)"), isTransient: true)
        case .interrupted:
            return Failure(
                error: ApusError(.unavailable, "\(address.authority) ended the connection: \(failure.message)"), isTransient: true,
                isWrongScheme: true)
        case .refused(let error): return Failure(error: error)
        case .tls:
            let message = "no secure connection to \(address.authority): \(failure.message). \(nextStep(address))"
            return Failure(error: ApusError(.failed, message), isWrongScheme: true)
        case .malformedAnswer:
            return Failure(error: ApusError(.corrupt, "\(address.authority) answered what is no HTTP: \(failure.message)"), isWrongScheme: true)
        default: return Failure(error: ApusError(.corrupt, "\(address.authority) answered wrongly: \(failure.message)"))
        }
    }

    /// What to do when a certificate is not trusted.
    private func nextStep(_ address: RegistryAddress) -> String {
        if let file = address.tls.authorityFile { return "Certificates of this registry are checked with \(file)" }
        return "If its certificate is of an authority of your own, or signed by itself, put that certificate into "
            + "\(configuration.certificateDirectory)/\(address.authority)/ca.crt"
    }

    private func refusal(_ head: HTTPHead, _ what: String, _ address: RegistryAddress) -> Failure {
        let what = target.repository.isEmpty ? what : "\(what) of \(target.repository)"
        switch head.status {
        case 401:
            return Failure(error: ApusError(.unauthenticated, "\(address.authority) refuses \(what): the name, the password or the token is wrong"))
        case 403:
            return Failure(error: ApusError(.permissionDenied, "\(address.authority) does not allow \(what)"))
        case 404: return Failure(error: ApusError(.notFound, "\(address.authority) does not have \(what)"))
        case 300..<400: return Failure(error: ApusError(.corrupt, "\(address.authority) redirects to where it is not followed (\(head.status))"))
        default:
            let delay = head.headers["Retry-After"].flatMap { Int($0) }.map { Duration.seconds(min(max($0, 0), 10)) }
            return Failure(
                error: ApusError(
                    Self.transientStatuses.contains(head.status) ? .unavailable : .corrupt, "\(address.authority) answered \(head.status) for \(what)"
                ),
                // Go's TLS servers answer plain HTTP with 400.
                isTransient: Self.transientStatuses.contains(head.status), isWrongScheme: head.status == 400, delay: delay)
        }
    }
}
