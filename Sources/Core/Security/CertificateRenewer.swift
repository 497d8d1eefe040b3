public import Logging
import OpenSSL
public import PluginAPI
import Synchronization
import Wire

/// Keeps a node's certificate fresh: renews it at a random point between half and four fifths of its life, at once when told, and after its expiry
/// too.
///
/// One `run` at a time; its owner cancels it and waits for it.
public final class CertificateRenewer: Sendable {
    /// Where the certificate is, who renews it, and when.
    public struct Configuration: Sendable {
        /// `<data root>/swarm/certificates`.
        public var directory: String
        public var connector: any CertificateConnector
        /// What opens the node's key at rest; `nil` while the swarm is not locked.
        public var lock: @Sendable () -> LocalLock? = { nil }
        /// Called with every new certificate, after it is on disk, and when only the roots have changed.
        public var onChange: @Sendable (NodeCertificate) async -> Void
        public var logger: Logger = Logger(label: "identity")
        public var clock: any IdentityClock = WallClock()
        /// Where between half and four fifths of the life: 0 to 1.
        public var randomFraction: @Sendable () -> Double = { Double.random(in: 0...1) }
        /// The first pause after a failure; each is twice the one before.
        public var firstRetry: Duration = .seconds(5)
        /// How long the managers may take for one request.
        public var patience: Duration = .seconds(60)

        public init(directory: String, connector: any CertificateConnector, onChange: @escaping @Sendable (NodeCertificate) async -> Void) {
            self.directory = directory
            self.connector = connector
            self.onChange = onChange
        }
    }

    private struct State {
        var certificate: NodeCertificate
        var wish: String?
        var wantsTrust = false
        var waiter: CheckedContinuation<Void, Never>?
        var lastError: ApusError?
    }

    private let configuration: Configuration
    private let state: Mutex<State>

    public init(_ certificate: NodeCertificate, _ configuration: Configuration) {
        self.configuration = configuration
        state = Mutex(State(certificate: certificate))
    }

    /// The present certificate.
    public var certificate: NodeCertificate { state.withLock { $0.certificate } }
    /// Why the last try failed; `nil` after a success.
    public var lastError: ApusError? { state.withLock { $0.lastError } }

    /// Renews at once: the role or the root has changed. Tells that come while one is under way make another after it.
    public func renewNow(_ reason: String) {
        tell { $0.wish = reason }
    }

    /// Fetches the roots at once, without a new certificate: a rotation has begun or ended.
    public func trustChanged() {
        tell { $0.wantsTrust = true }
    }

    private func tell(_ change: (inout State) -> Void) {
        let waiter = state.withLock { state in
            change(&state)
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    /// Renews until the task is cancelled.
    public func run() async {
        var due = renewalTime(certificate)
        var failures = 0
        // What a try that failed still owes; the next one comes after a pause.
        var owed = (certificate: false, trust: false)
        while !ConcurrentTask.isCancelled {
            await wait(until: failures == 0 ? due : configuration.clock.now() + retryPause(failures))
            if ConcurrentTask.isCancelled { return }
            let (wish, wantsTrust) = state.withLock { state in
                defer { (state.wish, state.wantsTrust) = (nil, false) }
                return (state.wish, state.wantsTrust)
            }
            owed.certificate = owed.certificate || wish != nil || configuration.clock.now() >= due
            owed.trust = owed.trust || wantsTrust
            guard owed.certificate || owed.trust else { continue }
            do throws(ApusError) {
                if owed.certificate {
                    try await renew()
                    due = renewalTime(certificate)
                    configuration.logger.info(
                        "renewed the node's certificate, valid until \(certificate.expiresAt)", metadata: ["reason": "\(wish ?? "due")"])
                } else {
                    try await takeTrust()
                }
                failures = 0
                owed = (false, false)
                state.withLock { $0.lastError = nil }
            } catch {
                if ConcurrentTask.isCancelled { return }
                failures += 1
                state.withLock { $0.lastError = error }
                configuration.logger.warning("the node's certificate, valid until \(certificate.expiresAt), was not renewed: \(error.message)")
            }
        }
    }

    /// When a certificate is to be renewed, by this machine's clock.
    func renewalTime(_ certificate: NodeCertificate) -> Timestamp {
        let share = 0.5 + 0.3 * min(1, max(0, configuration.randomFraction()))
        // Whatever an authority makes of lifetimes, managers are not asked without a pause.
        return certificate.issuedAt + max(.seconds(10), certificate.lifetime * share)
    }

    /// Grows from `firstRetry`, twice each time, up to an hour or a twentieth of the certificate's life.
    func retryPause(_ failures: Int) -> Duration {
        let longest = max(configuration.firstRetry, min(.seconds(3600), certificate.lifetime / 20))
        return min(longest, configuration.firstRetry * (1 << min(20, max(0, failures - 1))))
    }

    private func wait(until time: Timestamp) async {
        let clock = configuration.clock
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await clock.sleep(until: time) }
            group.addTask { await self.waitForWish() }
            await group.next()
            group.cancelAll()
        }
    }

    private func waitForWish() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isDone = state.withLock { state in
                    if state.wish != nil || state.wantsTrust || ConcurrentTask.isCancelled { return true }
                    state.waiter = continuation
                    return false
                }
                if isDone { continuation.resume() }
            }
        } onCancel: {
            let waiter = state.withLock { state in
                defer { state.waiter = nil }
                return state.waiter
            }
            waiter?.resume()
        }
    }

    // MARK: One renewal

    /// Renews once, now.
    func renew() async throws(ApusError) {
        if try await takeLostAnswer() { return }
        let old = certificate
        let lock = configuration.lock()
        let key: PrivateKey
        if let pending = try NodeCertificate.pendingKey(directory: configuration.directory, lock: lock) {
            key = try PrivateKey(pem: pending)
        } else {
            key = try PrivateKey.generate()
            try NodeCertificate.writePendingKey(try key.pem(), directory: configuration.directory, lock: lock)
        }
        let isExpired = old.isExpired(now: configuration.clock.now())
        let requester = CertificateRequester(clock: configuration.clock)
        let patience = configuration.patience
        let request = Array(try CertificateRequest(key: key, subject: DistinguishedName(commonName: old.nodeID.text)).pem().utf8)
        let connection: CertificateConnection = isExpired ? .verified(roots: old.root) : .authenticated(old)
        let chain = try await configuration.connector.withClient(connection) { client throws(ApusError) -> String in
            if isExpired {
                try await Self.askExpired(old, request, client)
            } else {
                var asked = IssueNodeCertificateRequest()
                asked.signingRequest = request
                let answer = try await client.issue(asked)
                guard answer.nodeID == old.nodeID else {
                    throw ApusError(.permissionDenied, "the manager answered for node \(answer.nodeID) and not for \(old.nodeID)")
                }
            }
            return try await requester.fetch(old.nodeID, key: key, client: client, patience: patience)
        }
        let now = configuration.clock.now()
        let check = IssuedCertificateCheck(
            publicKey: try key.publicKey(), nodeID: old.nodeID, role: nil, clusterID: old.clusterID, roots: old.root, now: now)
        do throws(ApusError) {
            try check.check(chain: chain)
        } catch {
            throw error.during("the answer of the manager is not believed")
        }
        try await take(try NodeCertificate(certificateChain: chain, key: try key.pem(), root: old.root, issuedAt: now), lock)
    }

    /// Fetches what was issued for a key that was sent before, when the answer was lost: the managers believe that key alone by now, so that even
    /// when its certificate has expired since it is the one to go on with.
    /// - Returns: Whether nothing else is to be done.
    private func takeLostAnswer() async throws(ApusError) -> Bool {
        let old = certificate
        let lock = configuration.lock()
        guard let pending = try NodeCertificate.pendingKey(directory: configuration.directory, lock: lock) else { return false }
        let response: NodeCertificateStatusResponse
        do throws(ApusError) {
            response = try await configuration.connector.withClient(.verified(roots: old.root)) { client throws(ApusError) in
                try await client.status(NodeCertificateStatusRequest(nodeID: old.nodeID))
            }
        } catch  where error.code == .notFound {
            // Removed: to be refused, and recorded, like any other request.
            return false
        }
        guard let bytes = response.certificate?.certificateChain, let chain = String(validating: bytes, as: UTF8.self),
            let issued = try? NodeCertificate(certificateChain: chain, key: pending, root: old.root), issued.nodeID == old.nodeID,
            issued.clusterID == old.clusterID
        else { return false }
        try await take(issued, lock)
        return response.status.state == .issued && !issued.isExpired(now: configuration.clock.now())
    }

    private static func askExpired(_ old: NodeCertificate, _ request: [UInt8], _ client: any CertificateClient) async throws(ApusError) {
        var asked = RenewExpiredCertificateRequest()
        asked.signingRequest = request
        asked.certificateChain = Array(old.certificateChain.utf8)
        asked.signature = try PrivateKey(pem: old.key).signature(of: asked.signedBytes)
        let answer = try await client.renewExpired(asked)
        guard answer.nodeID == old.nodeID else {
            throw ApusError(.permissionDenied, "the manager answered for node \(answer.nodeID) and not for \(old.nodeID)")
        }
    }

    /// Puts a certificate in place, finds out what to trust with it, and tells of it.
    private func take(_ certificate: NodeCertificate, _ lock: LocalLock?) async throws(ApusError) {
        // On disk before anything else can fail: from now on the managers believe this key alone.
        try certificate.write(directory: configuration.directory, lock: lock)
        state.withLock { $0.certificate = certificate }
        guard !certificate.isExpired(now: configuration.clock.now()) else { return }
        var final = certificate
        do throws(ApusError) {
            final = try await withTrust(certificate, lock)
        } catch {
            configuration.logger.warning("the swarm's roots could not be had: \(error.message)")
        }
        let taken = final
        state.withLock { $0.certificate = taken }
        await configuration.onChange(taken)
    }

    /// The certificate with the roots and the lifetime that the managers give now.
    private func withTrust(_ certificate: NodeCertificate, _ lock: LocalLock?) async throws(ApusError) -> NodeCertificate {
        let answer = try await configuration.connector.withClient(.authenticated(certificate)) { client throws(ApusError) in try await client.trust() }
        guard let roots = String(validating: answer.roots, as: UTF8.self) else { throw ApusError(.invalidArgument, "the roots are not PEM") }
        let fresh = try NodeCertificate(
            certificateChain: certificate.certificateChain, key: certificate.key, root: roots, issuedAt: certificate.issuedAt,
            lifetime: answer.certificateLifetime > .zero ? answer.certificateLifetime : nil)
        try fresh.write(directory: configuration.directory, lock: lock)
        return fresh
    }

    /// Takes up the roots that the managers give now, without a new certificate.
    private func takeTrust() async throws(ApusError) {
        let fresh = try await withTrust(certificate, configuration.lock())
        state.withLock { $0.certificate = fresh }
        await configuration.onChange(fresh)
    }
}
