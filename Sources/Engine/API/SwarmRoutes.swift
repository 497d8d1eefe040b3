import Coding
import PluginAPI
import Security
import Store

/// `/swarm`: init, inspect, update, leave.
struct SwarmRoutes: Sendable {
    let swarm: SwarmController

    func add(to router: inout Router) {
        router.add("GET", "/swarm") { _ throws(ApusError) in .object(try cluster(in: swarm.manager().store.read())) }
        router.add("POST", "/swarm/init") { request throws(ApusError) in
            .json(.string(try await swarm.initialize(request.decode(SwarmInitRequest.self)).text))
        }
        router.add("POST", "/swarm/update") { request throws(ApusError) in try await update(request) }
        router.add("POST", "/swarm/leave") { request throws(ApusError) in
            try await swarm.leave(force: request.flag("force"))
            return .empty(200)
        }
        router.missing("POST", "/swarm/join", "joining a swarm")
        router.missing("GET", "/swarm/unlockkey", "autolock")
        router.missing("POST", "/swarm/unlock", "autolock")
    }

    private func cluster(in snapshot: StoreSnapshot) throws(ApusError) -> Cluster {
        guard let cluster = snapshot.cluster else { throw ApusError(.unavailable, "the store has no swarm yet; try again") }
        return cluster
    }

    private func update(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let version = try request.storeVersion()
        let spec = try request.decode(ClusterSpec.self)
        try spec.check()
        let rotateWorker = request.flag("rotateWorkerToken")
        let rotateManager = request.flag("rotateManagerToken")
        if request.flag("rotateManagerUnlockKey") { throw ApusError(.unimplemented, "autolock is not in this version of Apus") }
        try await swarm.manager().store.update { transaction throws(ApusError) in
            var cluster = try cluster(in: transaction.snapshot)
            guard spec.name.isEmpty || spec.name == cluster.spec.name else {
                throw ApusError(.invalidArgument, "the name of a swarm cannot be changed; it is \"\(cluster.spec.name)\"")
            }
            cluster.spec = spec.normalized()
            if rotateWorker || rotateManager {
                var tokens = cluster.joinTokens ?? JoinTokens()
                if rotateWorker { try tokens.rotate(.worker, rootDigest: cluster.root.digest) }
                if rotateManager { try tokens.rotate(.manager, rootDigest: cluster.root.digest) }
                cluster.joinTokens = tokens
            }
            try transaction.update(.cluster(cluster), matching: version)
        }
        return .empty(200)
    }
}
