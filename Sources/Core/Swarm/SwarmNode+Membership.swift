import Agent
import Dispatcher
import Events
import Files
import Logging
import Orchestration
public import PluginAPI
import Raft
import Security
import Store
import Synchronization
import Wire

extension SwarmNode {
    // MARK: Beginning

    /// Makes a swarm of one.
    /// - Returns: This node's id.
    public func initialize(_ beginning: SwarmBeginning) async throws(ApusError) -> ID {
        try await change { () throws(ApusError) in
            if beginning.isForced, let present = current.withLock({ $0 }) { return try await force(present, beginning) }
            guard current.withLock({ $0 }) == nil else { throw Self.alreadyPart }
            var cluster = beginning.cluster
            cluster.id = .random()
            cluster.plugins = environment.activePlugins()
            var record = NodeRecord()
            record.nodeID = .random()
            record.address = beginning.advertise.host
            record.listenAddress = beginning.listen.description
            record.advertiseAddress = beginning.advertise.description
            record.dataPathAddress = beginning.dataPathAddress
            do throws(ApusError) {
                try Files.removeTree(directory)
                try Files.makeDirectory(directory)
                let identity = try await SwarmIdentity.bootstrap(
                    clusterID: cluster.id, nodeID: record.nodeID, authority: try await environment.authority(cluster.plugins.certificateAuthority),
                    directory: "\(directory)/certificates", now: WallClock().now(), lifetime: cluster.certificateLifetime,
                    external: cluster.spec.ca.externalCAs)
                cluster.root = identity.root
                cluster.joinTokens = identity.tokens
                cluster.tls = identity.tls
                if cluster.spec.encryption.autoLockManagers { cluster.unlockKey = try UnlockKey.generate().description }
                try await start(record, identity.certificate, isJoining: false, isFinished: false)
                try await create(cluster, record, identity.record, beginning.availability)
                try applyLock(cluster)
                // Last: what is there without this file was not finished.
                try current.withLock { $0?.node }?.file.finish()
            } catch {
                await end()
                try? Files.removeTree(directory)
                throw error.during("the swarm could not be made")
            }
            publish("create", cluster.id)
            return record.nodeID
        }
    }

    private func create(
        _ cluster: Cluster, _ record: NodeRecord, _ certificate: NodeCertificateRecord, _ availability: NodeAvailability
    ) async throws(ApusError) {
        let store = try manager().store
        var node = Node()
        node.id = record.nodeID
        node.spec.role = .manager
        node.spec.availability = availability
        node.description = environment.describe()
        node.description.dataPathAddress = record.dataPathAddress
        node.status.state = .ready
        node.status.address = record.address
        node.certificate = certificate
        var manager = ManagerStatus()
        manager.leader = true
        manager.reachability = .reachable
        manager.address = record.advertiseAddress
        manager.raftID = store.memberID.number
        node.manager = manager
        let first = node
        try await store.update { transaction throws(ApusError) in
            try transaction.create(.cluster(cluster))
            try transaction.create(.node(first))
            // Published ports need it from the first service on.
            try transaction.create(.network(try NetworkDraft.create(NetworkDraft.ingressSpec, in: transaction)))
        }
    }

    /// Goes on alone with what this manager has.
    private func force(_ present: Current, _ beginning: SwarmBeginning) async throws(ApusError) -> ID {
        guard let manager = present.manager else {
            throw ApusError(.unavailable, "only a manager can force a new cluster, and this node is \(present.isLocked ? "locked" : "a worker")")
        }
        let member = manager.store.memberID
        let kept = lock.withLock { $0 }
        await end()
        lock.withLock { $0 = kept }
        try RaftRecovery.forceNewCluster(member: member, directory: "\(directory)/raft", files: AutoLock(directory: directory).files(kept))
        var record = present.record
        record.members = []
        record.managers = []
        record.listenAddress = beginning.listen.description
        record.address = beginning.advertise.host
        record.advertiseAddress = beginning.advertise.description
        if !beginning.dataPathAddress.isEmpty { record.dataPathAddress = beginning.dataPathAddress }
        try record.write(directory: directory)
        try await start(record)
        let (id, address) = (record.nodeID, record.advertiseAddress)
        let store = try self.manager().store
        try await store.update { transaction throws(ApusError) in
            for var node in transaction.snapshot.nodes.values {
                if node.id == id {
                    node.spec.role = .manager
                    node.manager?.address = address
                    node.manager?.raftID = member.number
                } else {
                    guard node.manager != nil || node.spec.role == .manager else { continue }
                    node.manager = nil
                    node.spec.role = .worker
                    node.status.state = .down
                    node.status.message = "this manager was left behind by --force-new-cluster; remove it, and let it join again"
                }
                try transaction.update(.node(node))
            }
        }
        return id
    }

    // MARK: Joining

    /// Comes into a swarm, and returns when the managers know this node: a worker when it has a session, a manager when it has a say.
    /// - Throws: `permissionDenied` for a wrong token; `unavailable` when no manager can be reached; then nothing has changed. `timedOut` when the
    ///   node is in, but not ready yet: it goes on by itself.
    public func join(_ joining: SwarmJoining) async throws(ApusError) {
        try await change { () throws(ApusError) in
            guard current.withLock({ $0 }) == nil else { throw Self.alreadyPart }
            guard !joining.managers.isEmpty else { throw ApusError(.invalidArgument, "the address of a manager is missing") }
            let addresses = try joining.managers.map { address throws(ApusError) in try NodeAddress(address).description }
            var record = NodeRecord()
            record.address = joining.advertise.host
            record.listenAddress = joining.listen.description
            record.advertiseAddress = joining.advertise.description
            record.dataPathAddress = joining.dataPathAddress
            record.managers = addresses
            do throws(ApusError) {
                try Files.makeDirectory(directory)
                var flow = JoinFlow(
                    token: try JoinToken(parsing: joining.token), directory: "\(directory)/certificates",
                    connector: ManagerConnector(managers: { addresses }, logger: logger))
                flow.availability = joining.availability
                // A person may have to accept the node; whoever waits for the answer may go away.
                flow.patience = .seconds(100)
                let certificate = try await flow.run()
                record.nodeID = certificate.nodeID
                try record.write(directory: directory)
                try await start(record, certificate, isJoining: true)
            } catch {
                await end()
                // The key of a node that waits to be accepted is kept: asking again is the same node.
                if error.code != .timedOut { try? Files.removeTree(directory) }
                throw error
            }
            publish("join", record.nodeID)
            try await waitUntilReady()
        }
    }

    private func waitUntilReady() async throws(ApusError) {
        let due = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < due {
            guard let current = current.withLock({ $0 }), let node = current.node else { return }
            let isManager = node.renewer.certificate.role == .manager
            // What only a person can put right is said at once.
            if let problem = current.joinProblem, problem.code == .invalidArgument {
                throw ApusError(.timedOut, "the node is part of the swarm, but not among its managers: \(problem.message)")
            }
            var news = node.dispatcher.news().makeAsyncIterator()
            if let latest = await news.next(), case .connected = latest.connection, !isManager || current.manager?.isVoter == true { return }
            do { try await ConcurrentTask.sleep(for: .milliseconds(20)) } catch { break }
        }
        throw ApusError(.timedOut, "the node is part of the swarm, but has no session with its managers yet; it goes on trying, see \"apus info\"")
    }

    // MARK: Leaving

    /// Leaves the swarm. The tasks of this node end; the last manager takes the swarm with it.
    /// - Throws: `unavailable` for a manager without `force`.
    public func leave(force: Bool) async throws(ApusError) {
        try await change { () throws(ApusError) in
            guard let present = current.withLock({ $0 }) else { throw ApusError(.unavailable, "This node is not part of a swarm") }
            if present.isLocked, !force { throw Self.locked }
            if let manager = present.manager {
                guard force else { throw ApusError(.unavailable, Self.warning(manager)) }
                if manager.members.count > 1 {
                    do throws(ApusError) {
                        try await manager.leaveGroup(isLeaving: true)
                    } catch {
                        logger.warning("the other managers could not be told that this one leaves: \(error.message)")
                    }
                }
            }
            await present.node?.dispatcher.end(isLeaving: true)
            await end()
            await environment.containers.removeTaskContainers()
            try Files.removeTree(directory)
            publish("leave", present.record.nodeID)
        }
    }

    private static func warning(_ manager: ManagerPart) -> String {
        let count = manager.members.count
        let start = "You are attempting to leave the swarm on a node that is participating as a manager. "
        let end = " Use `--force` to ignore this message."
        guard count > 1 else { return start + "Removing the last manager erases all current state of the swarm." + end }
        let status = manager.store.raft.status
        let reachable = status.members.count { $0.isVoter && $0.isReachable != false }
        let left = status.members.count(where: \.isVoter) - 1
        if reachable - 1 <= left / 2 {
            return start + "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`." + end
        }
        return start + "Demote it first with \"apus node demote\": then nothing is lost." + end
    }

    // MARK: Locking

    /// Brings the keys at rest to what the cluster says.
    func applyLock(_ cluster: Cluster) throws(ApusError) {
        let key = cluster.spec.encryption.autoLockManagers && !cluster.unlockKey.isEmpty ? try UnlockKey(parsing: cluster.unlockKey) : nil
        let present = lock.withLock { $0 }
        let next = try AutoLock(directory: directory).apply(key, lock: present)
        lock.withLock { $0 = next }
    }

    func publish(_ action: String, _ id: ID) {
        environment.events.publish(.init(type: "swarm", action: action, actorID: id.text, scope: "swarm", time: WallClock().now()))
    }
}
