import OpenSSL
public import PluginAPI
public import Store

/// A wish to go over to another root (`swarm ca --rotate`).
public struct RootRotationRequest: Sendable {
    /// The new root, PEM; empty: one is made, or that of the external signers is taken.
    public var certificate: String = ""
    /// Its key, PEM.
    public var key: String = ""
    /// Signers that are to sign from now on; empty: the swarm signs itself.
    public var external: [ExternalCA] = []
    /// The plugin that is to sign from now on; empty: the present one.
    public var authority: String = ""

    public init() {}
}

/// Goes over to another root without losing a node: the new root's key is signed by the old root, nodes trust both and renew, then the old one goes.
public enum RootRotations {
    /// Begins a rotation, in place of one that is under way.
    /// - Parameters:
    ///   - old: The authority of the present root.
    ///   - new: That of the new one.
    ///   - change: Made to the cluster in the same transaction, such as the new spec.
    /// - Returns: What to tell everybody.
    @discardableResult
    public static func begin(
        _ request: RootRotationRequest, store: ObjectStore, old: any CertificateAuthority, new: any CertificateAuthority, now: Timestamp,
        change: @escaping @Sendable (inout Cluster) throws(ApusError) -> Void = { _ in }
    ) async throws(ApusError) -> IdentityEvent {
        guard let cluster = store.read().cluster else { throw ApusError(.unavailable, "the store has no swarm yet; try again") }
        let root = try await newRoot(request, cluster: cluster, authority: new, now: now)
        guard root.certificate != cluster.root.certificate else {
            throw ApusError(.conflict, "this is the root that the swarm has already")
        }
        let crossSigned = try await crossSign(root, cluster: cluster, old: old, now: now)
        let isExternal = new.isExternal
        try await store.update { transaction throws(ApusError) in
            guard var current = transaction.snapshot.cluster else { throw ApusError(.unavailable, "the store has no swarm yet; try again") }
            guard current.root.certificate == cluster.root.certificate else {
                throw ApusError(.conflict, "the root was rotated by somebody else meanwhile; look at it, and repeat")
            }
            var rotation = RootRotation()
            rotation.root = root
            rotation.crossSignedCertificate = crossSigned
            rotation.startedAt = now
            rotation.certificateAuthority = request.authority
            current.rootRotation = rotation
            current.rootRotationInProgress = true
            // The signers of the old root have signed the new one, and are not asked again.
            if isExternal { if !request.external.isEmpty { current.spec.ca.externalCAs = request.external } } else { current.spec.ca.externalCAs = [] }
            try change(&current)
            current.lastForcedRotation = current.spec.ca.forceRotate
            try transaction.update(.cluster(current))
        }
        var event = IdentityEvent(.rotationStarted, time: now)
        event.reason = "root \(root.digest)"
        return event
    }

    private static func newRoot(
        _ request: RootRotationRequest, cluster: Cluster, authority: any CertificateAuthority, now: Timestamp
    ) async throws(ApusError) -> RootMaterial {
        var root = RootMaterial()
        if authority.isExternal {
            guard request.key.isEmpty else {
                throw ApusError(.invalidArgument, "an external certificate authority keeps its key to itself: leave --ca-key out")
            }
            root.certificate = request.certificate.isEmpty ? try SwarmIdentity.externalRoot(request.external) : request.certificate
        } else if request.certificate.isEmpty {
            guard request.key.isEmpty else { throw ApusError(.invalidArgument, "a root key needs its certificate: add --ca-cert") }
            root = try await authority.createRoot(CreateRootRequest(clusterID: cluster.id, now: now))
        } else {
            guard !request.key.isEmpty else {
                throw ApusError(.invalidArgument, "the swarm cannot sign with a root certificate alone: add --ca-key, or --external-ca")
            }
            root.certificate = request.certificate
            root.key = request.key
        }
        try check(&root, needsKey: !authority.isExternal, now: now)
        return root
    }

    /// One certificate, of an authority that signed itself, valid long enough, with its own key.
    private static func check(_ root: inout RootMaterial, needsKey: Bool, now: Timestamp) throws(ApusError) {
        let certificates = try CertificateChain.certificates(pem: root.certificate)
        guard certificates.count == 1, let text = CertificateChain.firstText(pem: root.certificate) else {
            throw ApusError(.invalidArgument, "the new root must be one certificate, not \(certificates.count)")
        }
        let certificate = certificates[0]
        guard certificate.isAuthority, certificate.isIssued(by: certificate) else {
            throw ApusError(.invalidArgument, "the new root must be the certificate of a certificate authority, signed with its own key")
        }
        guard certificate.notBefore <= now, certificate.notAfter > now + .seconds(86400) else {
            throw ApusError(
                .invalidArgument,
                "the new root is valid from \(certificate.notBefore) until \(certificate.notAfter), and it is \(now): "
                    + "it must be valid for a day at least")
        }
        if needsKey {
            guard certificate.belongs(to: try PrivateKey(pem: root.key)) else {
                throw ApusError(.invalidArgument, "the new root's certificate and its key do not belong together")
            }
        }
        root.certificate = text
        root.digest = JoinToken.digest(ofCertificate: text)
    }

    /// The new root under the old one's signature, checked.
    private static func crossSign(
        _ root: RootMaterial, cluster: Cluster, old: any CertificateAuthority, now: Timestamp
    ) async throws(ApusError) -> String {
        let other = try Certificate(pem: root.certificate)
        var request = CrossSignRequest(
            certificate: root.certificate, now: now, root: cluster.root, externalAuthorities: cluster.spec.ca.externalCAs)
        if !root.key.isEmpty {
            request.signingRequest = try CertificateRequest(key: try PrivateKey(pem: root.key), subject: other.subject).pem()
        }
        let text = try await old.crossSign(request)
        let certificates = try CertificateChain.certificates(pem: text)
        let signed = certificates[0]
        guard signed.isAuthority, try signed.publicKey() == other.publicKey(), signed.hasSubject(of: other) else {
            throw ApusError(.permissionDenied, "the answer of the certificate authority is not believed: it is not the new root's name and key")
        }
        try CertificateChain.verify(signed, intermediates: [], roots: [try Certificate(pem: cluster.root.certificate)], at: now)
        return try signed.pem()
    }

    /// What is to be done now: tells nodes, or ends the rotation. Does nothing when there is none.
    /// - Returns: The plan; `nil` without a rotation.
    public static func step(store: ObjectStore) async throws(ApusError) -> RootRotationPlan? {
        let snapshot = store.read()
        guard let rotation = snapshot.cluster?.rootRotation else { return nil }
        let plan = try RootRotationPlanner.plan(rotation: rotation, nodes: Array(snapshot.nodes.values))
        guard plan.isComplete || !plan.tell.isEmpty else { return plan }
        return try await store.update { transaction throws(ApusError) in
            // Planned again on what is there by now: a node may have joined.
            guard var cluster = transaction.snapshot.cluster, let rotation = cluster.rootRotation else { return nil }
            let plan = try RootRotationPlanner.plan(rotation: rotation, nodes: Array(transaction.snapshot.nodes.values))
            for id in plan.tell {
                guard var node = transaction.snapshot.nodes[id] else { continue }
                node.certificate.state = .renew
                try transaction.update(.node(node))
            }
            if plan.isComplete {
                try finish(&cluster, rotation)
                try transaction.update(.cluster(cluster))
            }
            return plan
        }
    }

    /// The new root alone, and join tokens that name it.
    private static func finish(_ cluster: inout Cluster, _ rotation: RootRotation) throws(ApusError) {
        cluster.root = rotation.root
        cluster.tls = try TLSInfo(root: rotation.root.certificate)
        cluster.joinTokens = try JoinTokens.generate(rootDigest: rotation.root.digest)
        if !rotation.certificateAuthority.isEmpty { cluster.plugins.certificateAuthority = rotation.certificateAuthority }
        cluster.rootRotation = nil
        cluster.rootRotationInProgress = false
    }

    /// The leader's loop: takes every rotation to its end. Its owner cancels it when the leadership ends.
    /// - Parameters:
    ///   - onPlan: Called with every plan of a rotation, for the log.
    ///   - onEvent: Called when one has ended.
    public static func run(
        store: ObjectStore, clock: any IdentityClock = WallClock(), interval: Duration = .seconds(3),
        onPlan: @escaping @Sendable (RootRotationPlan) -> Void = { _ in }, onEvent: @escaping @Sendable (IdentityEvent) -> Void
    ) async {
        while !ConcurrentTask.isCancelled {
            let cluster = store.read().cluster
            if cluster?.rootRotation != nil, let plan = (try? await step(store: store)) ?? nil {
                onPlan(plan)
                if plan.isComplete {
                    var event = IdentityEvent(.rotationFinished, time: clock.now())
                    event.reason = "root \(store.read().cluster?.root.digest ?? "")"
                    onEvent(event)
                }
            }
            await clock.sleep(until: clock.now() + interval)
        }
    }

    /// Tells nodes to renew whose role in their certificate is not the one that they are to have.
    ///
    /// For the leader, after `node promote` and `node demote`, and when it begins to lead.
    /// - Returns: Who was told.
    @discardableResult
    public static func tellRoleChanges(store: ObjectStore) async throws(ApusError) -> [ID] {
        func isTold(_ node: Node) -> Bool { node.certificate.state == .issued && node.certificate.role != node.spec.role }
        guard store.read().nodes.values.contains(where: isTold) else { return [] }
        return try await store.update { transaction throws(ApusError) in
            var told: [ID] = []
            for var node in transaction.snapshot.nodes.values where node.certificate.state == .issued && node.certificate.role != node.spec.role {
                guard told.count < 200 else { break }
                node.certificate.state = .renew
                try transaction.update(.node(node))
                told.append(node.id)
            }
            return told
        }
    }
}
