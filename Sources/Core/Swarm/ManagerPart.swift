import Dispatcher
import Events
import Files
import GRPCCore
import Logging
public import Orchestration
import Peers
public import PluginAPI
import Raft
import Security
public import Store
import Synchronization
import Transport
public import Wire

/// A node's part as a manager: the store and its group, and while it leads, everything that keeps the swarm.
public final class ManagerPart: Sendable {
    public let store: ObjectStore
    /// Works while this manager leads.
    public let orchestration: Manager
    let sessions: NodeSessions<ObjectStore>
    let certificates: CertificateService
    let directory: MemberDirectory
    private let peers: GRPCRaftTransport
    let connections: PeerConnections
    private let reports: NodeReports<ObjectStore>
    private let transport: NodeServerTransport
    private let server: GRPCServer<NodeServerTransport>
    private let record: Mutex<NodeRecord>
    private let removed = Mutex<Set<ID>>([])
    private let environment: SwarmEnvironment
    private let identity: @Sendable () -> PeerIdentity
    private let onCluster: @Sendable (Cluster) -> Void

    /// Opens the store.
    /// - Parameters:
    ///   - isJoining: The group takes this manager in later; otherwise an empty folder becomes a group of one.
    ///   - onCluster: Called with the cluster at first and after each of its changes; must not block.
    ///   - lock: What opens the keys at rest.
    static func open(
        _ record: NodeRecord, isJoining: Bool, lock: LocalLock?, connections: PeerConnections, identity: @escaping @Sendable () -> PeerIdentity,
        onCluster: @escaping @Sendable (Cluster) -> Void, environment: SwarmEnvironment
    ) async throws(ApusError) -> ManagerPart {
        let path = environment.directory
        let kept = Mutex(record)
        let logger = environment.logger
        let directory = MemberDirectory(record.members) { members in
            // Without it, a group of which all members were restarted would not find itself.
            kept.withLock { record in
                record.members = members
                do throws(ApusError) { try record.write(directory: path) } catch {
                    logger.error("the managers could not be remembered: \(error.message)")
                }
            }
        }
        let peers = GRPCRaftTransport(connector: MemberConnector(connections: connections, directory: directory), logger: logger)
        var configuration = StoreConfiguration(directory: "\(path)/raft", logger: logger)
        configuration.transport = peers
        configuration.isJoining = isJoining
        configuration.files = AutoLock(directory: path).files(lock)
        let store = try await ObjectStore.open(configuration)
        peers.attach(store.raft)
        return try ManagerPart(record, store, directory, peers, connections, identity, onCluster, environment)
    }

    private init(
        _ record: NodeRecord, _ store: ObjectStore, _ directory: MemberDirectory, _ peers: GRPCRaftTransport, _ connections: PeerConnections,
        _ identity: @escaping @Sendable () -> PeerIdentity, _ onCluster: @escaping @Sendable (Cluster) -> Void, _ environment: SwarmEnvironment
    ) throws(ApusError) {
        self.store = store
        self.directory = directory
        self.peers = peers
        self.connections = connections
        self.identity = identity
        self.onCluster = onCluster
        self.environment = environment
        self.record = Mutex(record)
        var configuration = NodeSessionsConfiguration<StoreSnapshot>()
        configuration.confirmLeadership = { () throws(ApusError) in _ = try await store.readLatest() }
        configuration.trustRoots = { Array(($0.cluster?.trustBundle ?? "").utf8) }
        configuration.mustRenew = { node, _ in node.certificate.state == .renew }
        let sessions = NodeSessions(store: store, configuration: configuration, logger: environment.logger)
        self.sessions = sessions
        reports = NodeReports(sessions: sessions, logger: environment.logger)
        orchestration = Manager(store: store, scheduler: environment.scheduler, logger: environment.logger)
        let publish = Self.publisher(environment)
        certificates = CertificateService(
            CertificateService.Environment(
                store: store, authority: environment.authority, hasSession: { sessions.hasSession($0) }, onEvent: publish))

        let listen = try NodeAddress(record.listenAddress)
        transport = NodeServerTransport(
            host: listen.host, port: listen.port, security: .tls(connections.credentials), logger: environment.logger)
        let leader = Self.leader(store, directory)
        let refusal = Self.refusal(store)
        let forwarding = CertificateForwarding(
            service: certificates, isLeading: { store.isLeader },
            forward: { request throws(ApusError) in
                guard let leader = leader() else { throw ApusError(.unavailable, "the managers have no leader now: try again") }
                do throws(DispatcherFailure) {
                    return try await LeaderClient.call(ManagersMethods.certificate, request, at: leader, over: connections)
                } catch {
                    throw error.error
                }
            })
        server = GRPCServer(
            transport: transport,
            services: [
                CertificateRPC(forwarding),
                DispatcherService(sessions: sessions, leader: leader, logger: environment.logger),
                RaftService(
                    node: store.raft,
                    memberOf: { [directory] node in
                        refusal(PeerIdentity.current) == nil ? directory.member(of: node) : nil
                    }),
                ManagersService(
                    store: store, directory: directory, refusal: refusal, leader: leader, certificates: forwarding,
                    reportPlugin: environment.reportPlugin, answer: environment.answer, logger: environment.logger),
            ])
    }

    private static func publisher(_ environment: SwarmEnvironment) -> @Sendable (IdentityEvent) -> Void {
        { event in
            environment.events.publish(
                .init(
                    type: event.type, action: event.kind.rawValue, actorID: event.nodeID.text, attributes: event.attributes, scope: "swarm",
                    time: event.time))
            let level: Logger.Level = event.kind == .refused || event.kind == .alarm ? .warning : .info
            environment.logger.log(
                level: level, "\(event.kind.rawValue)", metadata: event.attributes.mapValues { .string($0) }.merging(["node": "\(event.nodeID)"]) { $1 })
        }
    }

    /// Where the leader is, as far as this manager knows.
    public var leaderAddress: String? { Self.leader(store, directory)() }
    public var members: [GroupMember] { directory.all }

    private static func leader(_ store: ObjectStore, _ directory: MemberDirectory) -> @Sendable () -> String? {
        { store.leaderID.flatMap { directory.address(of: $0) } }
    }

    /// Why a caller is not heard as a manager.
    private static func refusal(_ store: ObjectStore) -> @Sendable (PeerIdentity?) -> ApusError? {
        { peer in
            guard let peer else { return ApusError(.unauthenticated, "a manager must show its certificate") }
            guard peer.role == .manager else { return ApusError(.permissionDenied, "this is for managers, and node \(peer.nodeID) is a worker") }
            let snapshot = store.read()
            // A manager that was away may know less than who calls; the leader knows everything.
            guard let cluster = snapshot.cluster else { return nil }
            guard peer.clusterID == cluster.id else {
                return ApusError(.permissionDenied, "node \(peer.nodeID) has a certificate of another swarm, \(peer.clusterID)")
            }
            guard store.isLeader else { return nil }
            guard let node = snapshot.nodes[peer.nodeID] else {
                return ApusError(.permissionDenied, "node \(peer.nodeID) is not part of this swarm, or was removed from it")
            }
            guard node.spec.role == .manager || node.manager != nil else {
                return ApusError(.permissionDenied, "node \(peer.nodeID) is to be a worker")
            }
            return nil
        }
    }

    // MARK: Running

    /// Serves and, while it leads, keeps the swarm, until it is cancelled; then the store is closed.
    func run() async {
        connections.credentials.setPolicy { [weak self] peer in self?.policy(peer) }
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                do { try await self.server.serve() } catch {
                    if !ConcurrentTask.isCancelled { self.environment.onFailure(ApusError(.failed, "the managers' port is lost: \(error)")) }
                }
            }
            group.addTask { await self.followNodes() }
            group.addTask { await self.environment.follow(self.store) }
            group.addTask { await LeaderRole(self.leaderWork).run(self.store.leadership()) }
            group.addTask {
                let failure = await self.store.failure()
                if !ConcurrentTask.isCancelled { self.environment.onFailure(failure) }
            }
            group.addTask {
                // Closing is what ends the watch of failures.
                await Self.untilCancelled()
                self.server.beginGracefulShutdown()
                await self.store.close()
                await self.peers.close()
            }
            await group.waitForAll()
        }
    }

    private static func untilCancelled() async {
        let (stream, continuation) = AsyncStream.makeStream(of: Never.self)
        await withTaskCancellationHandler {
            for await _ in stream {}
        } onCancel: {
            continuation.finish()
        }
    }

    /// Returns when the port is open.
    /// - Throws: `unavailable` when it cannot be.
    func waitUntilListening() async throws(ApusError) {
        do {
            _ = try await transport.listeningAddress()
        } catch {
            let reason = (error as? RPCError)?.message ?? "\(error)"
            throw ApusError(.unavailable, "managers cannot be listened for on \(record.withLock { $0.listenAddress }): \(reason)")
        }
    }

    private var leaderWork: [@Sendable () async -> Void] {
        let publish = Self.publisher(environment)
        return [
            { await self.orchestration.run() },
            { await self.sessions.run() },
            { await RoleKeeper(store: self.store, logger: self.environment.logger).run() },
            { await RootRotations.run(store: self.store, onEvent: publish) },
        ]
    }

    /// Removed nodes are locked out at once: on the leader by the store, on the others as soon as they hear of it.
    private func policy(_ peer: PeerIdentity) -> String? {
        if removed.withLock({ $0.contains(peer.nodeID) }) { return "node \(peer.nodeID) was removed from the swarm" }
        let snapshot = store.read()
        guard let cluster = snapshot.cluster else { return nil }
        if peer.clusterID != cluster.id { return "node \(peer.nodeID) is of another swarm, \(peer.clusterID)" }
        if store.isLeader, snapshot.nodes[peer.nodeID] == nil { return "node \(peer.nodeID) is not part of the swarm" }
        return nil
    }

    private func followNodes() async {
        while !ConcurrentTask.isCancelled {
            let (snapshot, commits) = store.watch()
            follow(snapshot)
            if let cluster = snapshot.cluster { onCluster(cluster) }
            for await commit in commits {
                var mustCheck = false
                for change in commit.changes {
                    if case .removed(.node(let node)) = change {
                        removed.withLock { _ = $0.insert(node.id) }
                        mustCheck = true
                    }
                    if case .updated(.cluster(let cluster), from: _) = change { onCluster(cluster) }
                    if change.isOfNode { mustCheck = mustCheck || Self.changesRole(change) }
                }
                guard commit.changes.contains(where: \.isOfNode) else { continue }
                follow(store.read())
                if mustCheck { connections.credentials.recheck() }
            }
            try? await ConcurrentTask.sleep(for: .milliseconds(50))
        }
    }

    private static func changesRole(_ change: StoreChange) -> Bool {
        guard case .updated(.node(let new), from: .node(let old)) = change else { return false }
        return new.spec.role != old.spec.role || (new.manager == nil) != (old.manager == nil)
    }

    private func follow(_ snapshot: StoreSnapshot) {
        directory.replace(
            with: snapshot.nodes.values.compactMap { node in
                guard let manager = node.manager, manager.raftID != 0 else { return nil }
                var member = GroupMember()
                member.memberID = manager.raftID
                member.nodeID = node.id
                member.address = manager.address
                return member
            })
    }

    // MARK: The group

    /// Whether this manager has a say in the group.
    var isVoter: Bool { store.raft.membership.voters.contains(store.memberID) }

    /// Asks the leader to take this manager in, and returns when it has a say. Done again, it goes on where it was; by a manager that was away,
    /// it tells where it is now, and learns who came meanwhile.
    func join(through managers: [String]) async throws(ApusError) {
        let (memberID, address) = (store.memberID.number, record.withLock { $0.advertiseAddress })
        var request = JoinGroupRequest()
        request.memberID = memberID
        request.address = address
        let addresses = managers.filter { $0 != address }
        let answer: JoinGroupResponse = try await LeaderClient.callLeader(ManagersMethods.join, request, among: addresses, over: connections)
        directory.add(answer.members)
        if isVoter { return }
        var completion = CompleteJoinRequest()
        completion.memberID = memberID
        let _: ManagersAnswer = try await LeaderClient.callLeader(
            ManagersMethods.complete, completion, among: addresses + answer.members.map(\.address).filter { $0 != address }, over: connections,
            timeout: .seconds(90))
    }

    /// Asks to be taken out of the group. A leader hands leadership over first.
    func leaveGroup(isLeaving: Bool) async throws(ApusError) {
        if store.isLeader { try await store.raft.transferLeadership(to: nil) }
        var request = LeaveGroupRequest()
        request.memberID = store.memberID.number
        request.isLeaving = isLeaving
        let own = record.withLock { $0.advertiseAddress }
        let _: ManagersAnswer = try await LeaderClient.callLeader(
            ManagersMethods.leave, request, among: directory.all.map(\.address).filter { $0 != own }, over: connections)
    }

    /// Lets a node in that waits for a person's word. Works on the leader.
    /// - Throws: `notFound`; `conflict` when it was accepted already.
    public func accept(_ node: ID) async throws(ApusError) { try await certificates.accept(node) }

    /// Hands a call of the Engine API to the leader.
    /// - Throws: `unavailable` when there is none, or when this manager leads itself.
    public func forward(_ request: ForwardRequest) async throws(ApusError) -> ForwardResponse {
        guard !store.isLeader, let leader = leaderAddress else {
            throw ApusError(
                .unavailable,
                "The swarm does not have a leader. It's possible that too few managers are online. "
                    + "Make sure more than half of the managers are online.")
        }
        do throws(DispatcherFailure) {
            return try await LeaderClient.call(ManagersMethods.forward, request, at: leader, over: connections, timeout: .seconds(60))
        } catch {
            throw error.error
        }
    }

    /// Reads the log of a task on a node, as whole frames.
    /// - Throws: `unavailable` when the managers have no leader, or the node is not there or goes; `timedOut`; what the node says; what `write`
    ///   throws.
    public func readLogs(
        _ subscription: LogSubscription, on node: ID, write: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws {
        if sessions.isLeading { return try await sessions.readLogs(subscription, on: node, write: write) }
        guard let leader = leaderAddress else { throw ApusError(.unavailable, "the managers have no leader now: try again") }
        var request = ReadLogsRequest()
        request.nodeID = node
        request.subscription = subscription
        let client = GRPCDispatcherClient(try connections.client(for: leader))
        do throws(DispatcherFailure) {
            try await client.readLogs(request) { try await write($0.data) }
        } catch {
            throw error.error
        }
    }

    /// The dispatcher of this process, for its own node.
    var localDispatcher: LocalDispatcherClient {
        LocalDispatcherClient(sessions: sessions, reports: reports, identity: identity, leader: Self.leader(store, directory))
    }
}

/// The way to a member of the group.
private struct MemberConnector: PeerConnector {
    let connections: PeerConnections
    let directory: MemberDirectory

    func client(for member: MemberID) async throws -> any RaftPeer {
        guard let address = directory.address(of: member) else {
            throw ApusError(.notFound, "it is not known where manager \(member) is")
        }
        return try connections.client(for: address)
    }
}
