import Coding
import PluginAPI
import Security
import Store
import Swarm

/// `/swarm`: init, join, inspect, update, unlock, leave.
struct SwarmRoutes: Sendable {
    let swarm: SwarmNode
    let plugins: PluginController

    func add(to router: inout Router) {
        router.add("GET", "/swarm") { request throws(ApusError) in
            var cluster = try cluster(in: try await swarm.snapshot(for: request))
            // Whoever may read this may join nodes, but not sign them.
            cluster.spec.ca.signingKey = ""
            return .object(cluster)
        }
        router.add("POST", "/swarm/init") { request throws(ApusError) in
            .json(.string(try await swarm.initialize(try request.decode(SwarmInitRequest.self).beginning()).text))
        }
        router.add("POST", "/swarm/join") { request throws(ApusError) in
            try await swarm.join(try request.decode(SwarmJoinRequest.self).joining())
            return .empty(200)
        }
        router.add("POST", "/swarm/update") { request throws(ApusError) in
            try await swarm.onLeader(request) { manager throws(ApusError) in try await update(request, manager) }
        }
        router.add("POST", "/swarm/leave") { request throws(ApusError) in
            try await swarm.leave(force: request.flag("force"))
            return .empty(200)
        }
        router.add("GET", "/swarm/unlockkey") { request throws(ApusError) in
            let cluster = try cluster(in: try await swarm.snapshot(for: request))
            return .json(["UnlockKey": .string(cluster.spec.encryption.autoLockManagers ? cluster.unlockKey : "")])
        }
        router.add("POST", "/swarm/unlock") { request throws(ApusError) in
            let body = try request.json()
            for key in body.object?.keys ?? [] where key != "UnlockKey" { throw ApusError(.invalidArgument, "unknown field \(key)") }
            guard let key = body["UnlockKey"]?.string, !key.isEmpty else { throw ApusError(.invalidArgument, "UnlockKey is missing") }
            try await swarm.unlock(key)
            return .empty(200)
        }
    }

    private func cluster(in snapshot: StoreSnapshot) throws(ApusError) -> Cluster {
        guard let cluster = snapshot.cluster else { throw ApusError(.unavailable, "the store has no swarm yet; try again") }
        return cluster
    }

    private func update(_ request: APIRequest, _ manager: ManagerPart) async throws(ApusError) -> APIResponse {
        let version = try request.storeVersion()
        let spec = try request.decode(ClusterSpec.self)
        try spec.check()
        let rotation = TokenRotation(
            worker: request.flag("rotateWorkerToken"), manager: request.flag("rotateManagerToken"), unlockKey: request.flag("rotateManagerUnlockKey"))
        let old = try cluster(in: manager.store.read())
        if spec.ca.forceRotate != old.spec.ca.forceRotate || spec.ca.externalCAs != old.spec.ca.externalCAs || !spec.ca.signingCertificate.isEmpty {
            try await rotate(spec, old, version, rotation, manager)
        } else {
            try await manager.store.update { transaction throws(ApusError) in
                var cluster = try cluster(in: transaction.snapshot)
                try Self.change(&cluster, spec, rotation)
                try transaction.update(.cluster(cluster), matching: version)
            }
        }
        return .empty(200)
    }

    /// Which secrets are made anew.
    struct TokenRotation: Sendable {
        var worker = false
        var manager = false
        var unlockKey = false
    }

    private static func change(_ cluster: inout Cluster, _ spec: ClusterSpec, _ rotation: TokenRotation) throws(ApusError) {
        guard spec.name.isEmpty || spec.name == cluster.spec.name else {
            throw ApusError(.invalidArgument, "the name of a swarm cannot be changed; it is \"\(cluster.spec.name)\"")
        }
        cluster.spec = Cluster.keepingUnknown(spec.normalized(), from: cluster.spec)
        if rotation.worker || rotation.manager {
            var tokens = cluster.joinTokens ?? JoinTokens()
            if rotation.worker { try tokens.rotate(.worker, rootDigest: cluster.root.digest) }
            if rotation.manager { try tokens.rotate(.manager, rootDigest: cluster.root.digest) }
            cluster.joinTokens = tokens
        }
        let locks = cluster.spec.encryption.autoLockManagers
        if !locks {
            cluster.unlockKey = ""
        } else if cluster.unlockKey.isEmpty || rotation.unlockKey {
            cluster.unlockKey = try UnlockKey.generate().description
        }
    }

    /// `swarm ca --rotate`, and going over to or from external signers.
    private func rotate(
        _ spec: ClusterSpec, _ old: Cluster, _ version: Version, _ rotation: TokenRotation, _ manager: ManagerPart
    ) async throws(ApusError) {
        var wish = RootRotationRequest()
        wish.certificate = spec.ca.signingCertificate
        wish.key = spec.ca.signingKey
        wish.external = spec.ca.externalCAs
        wish.authority = spec.ca.externalCAs.isEmpty ? (old.signingAuthority == "external" ? "internal" : old.signingAuthority) : "external"
        if wish.authority != old.signingAuthority { try await plugins.checkAuthority(wish.authority, manager) }
        let (oldAuthority, newAuthority) = (
            try await plugins.agreed.authority(old.plugins.certificateAuthority), try await plugins.agreed.authority(wish.authority)
        )
        var kept = spec
        kept.ca.signingCertificate = ""
        kept.ca.signingKey = ""
        let stored = kept
        try await RootRotations.begin(
            wish, store: manager.store, old: oldAuthority, new: newAuthority, now: .now
        ) { cluster throws(ApusError) in
            guard cluster.version == version else {
                throw ApusError(.conflict, "update out of sequence: the swarm was changed by somebody else; look at it, and repeat")
            }
            try Self.change(&cluster, stored, rotation)
        }
    }
}
