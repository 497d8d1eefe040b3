import OpenSSL
public import PluginAPI
import Wire

/// Asks for a certificate and waits until it is issued; what joining and renewing have in common.
struct CertificateRequester {
    var clock: any IdentityClock
    /// Between two questions for the status, at first; it doubles up to `longestPoll`.
    var poll: Duration = .milliseconds(250)
    var longestPoll: Duration = .seconds(5)
    /// Called when the node waits for `node accept`, or the authority does not answer.
    var onWaiting: @Sendable (String) -> Void = { _ in }

    /// The chain that was issued for this key.
    /// - Parameter patience: How long the managers may take; `nil`: for ever, as with `node accept`.
    func fetch(_ nodeID: ID, key: PrivateKey, client: any CertificateClient, patience: Duration?) async throws(ApusError) -> String {
        let begin = clock.now()
        var pause = poll
        var told = ""
        while true {
            let response = try await client.status(NodeCertificateStatusRequest(nodeID: nodeID))
            switch response.status.state {
            case .issued, .rotate:
                let chain = String(decoding: response.certificate?.certificateChain ?? [], as: UTF8.self)
                // The one before this request is of no use.
                if let first = try? Certificate(pem: chain), first.belongs(to: key) { return chain }
                guard response.status.state == .rotate || patience != nil else {
                    throw ApusError(.failed, "the managers issued a certificate for another key")
                }
            case .failed:
                throw ApusError(.permissionDenied, "the managers refused the certificate: \(response.status.message)")
            case .pending, .renew, .unknown:
                if response.status.message != told {
                    told = response.status.message
                    onWaiting(told)
                }
            }
            if let patience, clock.now() - begin > patience {
                throw ApusError(.timedOut, "no certificate was issued in \(patience.components.seconds) s\(told.isEmpty ? "" : ": \(told)")")
            }
            if ConcurrentTask.isCancelled { throw ApusError(.cancelled, "waiting for a certificate was cancelled") }
            await clock.sleep(until: clock.now() + pause)
            pause = min(pause * 2, longestPoll)
        }
    }
}

/// How a machine becomes a node: the root by the token's digest, a key of its own, a request, a certificate.
public struct JoinFlow: Sendable {
    public var token: JoinToken
    public var availability: NodeAvailability = .active
    /// `<data root>/swarm/certificates`.
    public var directory: String
    public var connector: any CertificateConnector
    public var clock: any IdentityClock = WallClock()
    /// How long the managers may take; `nil`: until the caller's task is cancelled, as with `node accept`.
    public var patience: Duration?
    /// Called with what the managers wait for, when they do.
    public var onWaiting: @Sendable (String) -> Void = { _ in }

    public init(token: JoinToken, directory: String, connector: any CertificateConnector) {
        self.token = token
        self.directory = directory
        self.connector = connector
    }

    /// Joins, and writes the files. When it was cut short, doing it again is the same node.
    /// - Throws: `permissionDenied` when the root is not the token's, or the token is wrong; what the connection says.
    public func run() async throws(ApusError) -> NodeCertificate {
        let root = try await fetchRoot()
        let key: PrivateKey
        if let pending = try NodeCertificate.pendingKey(directory: directory) {
            key = try PrivateKey(pem: pending)
        } else {
            key = try PrivateKey.generate()
            try NodeCertificate.writePendingKey(try key.pem(), directory: directory)
        }
        var request = IssueNodeCertificateRequest()
        request.signingRequest = Array(try CertificateRequest(key: key, subject: DistinguishedName(commonName: "node")).pem().utf8)
        request.token = token.description
        request.availability = availability
        let asked = request
        let requester = CertificateRequester(clock: clock, onWaiting: onWaiting)
        let patience = patience
        let (nodeID, chain) = try await connector.withClient(.verified(roots: root)) { client throws(ApusError) in
            let answer = try await client.issue(asked)
            return (answer.nodeID, try await requester.fetch(answer.nodeID, key: key, client: client, patience: patience))
        }
        let now = clock.now()
        let check = IssuedCertificateCheck(publicKey: try key.publicKey(), nodeID: nodeID, role: nil, clusterID: nil, roots: root, now: now)
        do throws(ApusError) {
            try check.check(chain: chain)
        } catch {
            throw error.during("the answer of the manager is not believed")
        }
        let certificate = try NodeCertificate(certificateChain: chain, key: try key.pem(), root: root, issuedAt: now)
        try certificate.write(directory: directory)
        return certificate
    }

    /// The root that the token names. Whatever else is sent with it is not believed.
    private func fetchRoot() async throws(ApusError) -> String {
        let response = try await connector.withClient(.unverified) { client throws(ApusError) in try await client.root() }
        guard response.certificate.count <= 64 << 10, let text = String(validating: response.certificate, as: UTF8.self),
            let root = CertificateChain.firstText(pem: text), JoinToken.matches(JoinToken.digest(ofCertificate: root), token.digest)
        else {
            throw ApusError(
                .permissionDenied,
                "the manager's root certificate is not the one that the join token names: "
                    + "the token is of another swarm or of an older root, or this is not the manager that you mean")
        }
        return root
    }
}
