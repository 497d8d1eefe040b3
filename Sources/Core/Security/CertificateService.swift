import OpenSSL
public import PluginAPI
public import Store
import Synchronization
public import Wire

/// The managers' side of node certificates: joining, renewing, healing. Works on the leader; others forward to it.
///
/// A request is first an entry of the store, `pending` on its node, and then signed: at once, or by whoever asks for its status next. A leader that
/// dies between the two loses nothing.
public final class CertificateService: Sendable {
    /// What the service works with.
    public struct Environment: Sendable {
        public var store: ObjectStore
        /// The authority with this plugin name, as the cluster object has it.
        public var authority: @Sendable (_ name: String) async throws(ApusError) -> any CertificateAuthority
        /// Whether the node is connected now, to any manager.
        public var hasSession: @Sendable (ID) -> Bool
        /// Called for everything that was issued or refused; must not block.
        public var onEvent: @Sendable (IdentityEvent) -> Void
        public var limits = CertificateLimits()
        public var clock: any IdentityClock = WallClock()

        public init(
            store: ObjectStore, authority: @escaping @Sendable (_ name: String) async throws(ApusError) -> any CertificateAuthority,
            hasSession: @escaping @Sendable (ID) -> Bool, onEvent: @escaping @Sendable (IdentityEvent) -> Void
        ) {
            self.store = store
            self.authority = authority
            self.hasSession = hasSession
            self.onEvent = onEvent
        }
    }

    struct Limiters {
        var strangers: KeyedBuckets<String>
        var joins: TokenBucket
        var renewals: KeyedBuckets<ID>
        /// Nodes whose request an authority has.
        var signing: Set<ID> = []
    }

    let environment: Environment
    let limiters: Mutex<Limiters>

    public init(_ environment: Environment) {
        self.environment = environment
        let limits = environment.limits
        limiters = Mutex(
            Limiters(
                strangers: KeyedBuckets(capacity: limits.strangerBurst, refill: limits.strangerRate, limit: limits.strangers),
                joins: TokenBucket(capacity: limits.joinBurst, refill: limits.joinRate, now: environment.clock.now()),
                renewals: KeyedBuckets(capacity: limits.renewalBurst, refill: limits.renewalRate, limit: 1 << 16)))
    }

    var now: Timestamp { environment.clock.now() }

    func cluster() throws(ApusError) -> Cluster {
        guard let cluster = environment.store.read().cluster else { throw ApusError(.unavailable, "the store has no swarm yet; try again") }
        return cluster
    }

    // MARK: What is asked without a request

    /// The root whose digest the join tokens carry, for anyone.
    public func rootCertificate() throws(ApusError) -> GetRootCACertificateResponse {
        var response = GetRootCACertificateResponse()
        response.certificate = Array(try cluster().root.certificate.utf8)
        return response
    }

    /// The unlock key, for managers.
    public func unlockKey(for caller: CertificateCaller) throws(ApusError) -> GetUnlockKeyResponse {
        let cluster = try cluster()
        try authorize(caller, roles: [.manager], cluster)
        var response = GetUnlockKeyResponse()
        if cluster.spec.encryption.autoLockManagers, !cluster.unlockKey.isEmpty {
            response.unlockKey = try UnlockKey(parsing: cluster.unlockKey).bytes
        }
        response.version = cluster.version
        return response
    }

    /// What to trust, for nodes of the swarm.
    public func trust(for caller: CertificateCaller) throws(ApusError) -> GetTrustResponse {
        let cluster = try cluster()
        try authorize(caller, roles: [.manager, .worker], cluster)
        var response = GetTrustResponse()
        response.roots = Array(cluster.trustBundle.utf8)
        response.certificateLifetime = cluster.certificateLifetime
        response.time = now
        return response
    }

    private func authorize(_ caller: CertificateCaller, roles: Set<NodeRole>, _ cluster: Cluster) throws(ApusError) {
        guard let id = caller.nodeID, let role = caller.role, let clusterID = caller.clusterID else {
            throw ApusError(.unauthenticated, "this is for nodes with a certificate of the swarm")
        }
        if let refusal = PeerAuthorization.refusal(
            nodeID: id, role: role, clusterID: clusterID, of: cluster.id, roles: roles, node: environment.store.read().nodes[id])
        {
            throw refusal
        }
    }

    // MARK: Asking for certificates

    /// Joins, with a token, or renews, with a client certificate. The certificate is fetched with `status`.
    public func issue(_ request: IssueNodeCertificateRequest, for caller: CertificateCaller) async throws(ApusError) -> IssueNodeCertificateResponse {
        request.token.isEmpty ? try await renew(request, for: caller) : try await join(request, for: caller)
    }

    /// How far a node's certificate is. One that waits to be signed is signed, if the authority can.
    public func status(_ request: NodeCertificateStatusRequest, for caller: CertificateCaller) async throws(ApusError) -> NodeCertificateStatusResponse {
        func find() throws(ApusError) -> Node {
            guard let node = environment.store.read().nodes[request.nodeID] else {
                throw ApusError(.notFound, "node \(request.nodeID.short) is not part of this swarm, or was removed from it")
            }
            return node
        }
        guard request.nodeID.text.utf8.count <= 64 else { throw ApusError(.invalidArgument, "this is not the id of a node") }
        do throws(ApusError) {
            if try find().certificate.state == .pending { await sign(request.nodeID) }
            let node = try find()
            var response = NodeCertificateStatusResponse()
            response.status = CertificatePolicy.status(node)
            var certificate = IssuedCertificate()
            certificate.role = node.certificate.role
            certificate.status = response.status
            certificate.nodeID = node.id
            certificate.certificateChain = Array(node.certificate.certificateChain.utf8)
            response.certificate = certificate
            return response
        } catch {
            // Ids cannot be guessed, but trying must cost who tries.
            if error.code == .notFound { try takeStranger(caller) }
            throw error
        }
    }

    /// `node accept`: lets a node in that waits.
    /// - Throws: `notFound`; `conflict` when it was accepted already.
    public func accept(_ id: ID) async throws(ApusError) {
        try await environment.store.update { transaction throws(ApusError) in
            guard var node = transaction.snapshot.nodes[id] else { throw ApusError(.notFound, "node \(id) not found") }
            guard node.certificate.membership == .pending else { throw ApusError(.conflict, "node \(id) is accepted already") }
            node.certificate.membership = .accepted
            try transaction.update(.node(node))
        }
        var event = IdentityEvent(.nodeAccepted, time: now)
        event.nodeID = id
        environment.onEvent(event)
        await sign(id)
    }

    /// Puts a certificate on record that a manager signed itself, `SwarmIdentity.resignSelf`, once there is a leader again. Done again it does nothing.
    /// - Parameters:
    ///   - chain: PEM, the node's own first.
    ///   - id: Whose it is; that it is this node that says so, the caller has made sure.
    /// - Throws: `notFound` when the node was removed; `permissionDenied` when the certificate is not one for this node as a manager.
    public func record(chain: String, of id: ID, address: String) async throws(ApusError) {
        let cluster = try cluster()
        let certificates = try CertificateChain.certificates(pem: chain)
        guard let first = certificates.first else { throw ApusError(.invalidArgument, "the certificate is missing") }
        let (certificate, issuer) = try IssuedCertificateCheck(
            publicKey: try first.publicKey(), nodeID: id, role: .manager, clusterID: cluster.id, roots: cluster.trustBundle, now: now
        ).check(chain: chain)
        var made = NodeCertificateRecord()
        made.state = .issued
        made.serial = certificate.serialNumber
        made.publicKeyDigest = try certificate.publicKeyDigest()
        made.issuerKeyDigest = try issuer.publicKeyDigest()
        made.role = .manager
        made.issuedAt = now
        made.expiresAt = certificate.notAfter
        made.occasion = "self-signed"
        made.requestedBy = address
        made.certificateChain = chain
        let record = made
        let isNew = try await environment.store.update { transaction throws(ApusError) -> Bool in
            guard var node = transaction.snapshot.nodes[id] else { throw ApusError(.notFound, "node \(id) not found") }
            if node.certificate.serial == record.serial { return false }
            guard node.spec.role == .manager, node.certificate.membership == .accepted else {
                throw ApusError(.permissionDenied, "node \(id) is no manager of this swarm")
            }
            var record = record
            record.membership = node.certificate.membership
            record.lastRefusal = node.certificate.lastRefusal
            node.certificate = record
            try transaction.update(.node(node))
            return true
        }
        guard isNew else { return }
        var event = IdentityEvent(.healed, time: now)
        event.nodeID = id
        event.role = .manager
        event.serial = record.serial
        event.expiresAt = record.expiresAt
        event.address = address
        environment.onEvent(event)
    }

    func takeStranger(_ caller: CertificateCaller) throws(ApusError) {
        let now = now
        guard limiters.withLock({ $0.strangers.take(caller.host, now: now) }) else {
            throw ApusError(.unavailable, "too many attempts from \(caller.host); try again later")
        }
    }

    // MARK: Refusals

    /// Records a refusal, and returns the error for the caller.
    func refuse(_ error: ApusError, node id: ID?, _ caller: CertificateCaller, kind: IdentityEvent.Kind = .refused) async -> ApusError {
        let time = now
        var event = IdentityEvent(kind, time: time)
        event.nodeID = id ?? ""
        event.address = caller.address
        event.reason = error.message
        environment.onEvent(event)
        guard let id, let node = environment.store.read().nodes[id] else { return error }
        // One write in ten seconds for the same reason: nobody fills the log by asking.
        if let last = node.certificate.lastRefusal, last.reason == error.message, last.time <= time, time - last.time < .seconds(10) { return error }
        _ = try? await environment.store.update { transaction throws(ApusError) in
            guard var node = transaction.snapshot.nodes[id] else { return }
            var refusal = CertificateRefusal()
            refusal.time = time
            refusal.reason = error.message
            refusal.requestedBy = caller.address
            node.certificate.lastRefusal = refusal
            try transaction.update(.node(node))
        }
        return error
    }
}
