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
    private let record: NodeRecord
    private let removed = Mutex<Set<ID>>([])
    /// Whether the store holds everything that was decided before this manager began. Until then it may be long out of date.
    private let isNewest = Mutex(false)
    private let environment: SwarmEnvironment
    private let identity: @Sendable () -> PeerIdentity
    private let certificate: @Sendable () -> NodeCertificate
    private let onCluster: @Sendable () -> Void

    /// Opens the store.
    /// - Parameters:
    ///   - isJoining: The group takes this manager in later; otherwise an empty folder becomes a group of one.
    ///   - onCluster: Called when the store's cluster may be new and is no older than what was decided before this manager began; must not block.
    ///   - lock: What opens the keys at rest.
    static func open(
        _ file: NodeRecordFile, isJoining: Bool, lock: LocalLock?, connections: PeerConnections, certificate: @escaping @Sendable () -> NodeCertificate,
        onCluster: @escaping @Sendable () -> Void, environment: SwarmEnvironment
    ) async throws(ApusError) -> ManagerPart {
        let (record, logger) = (file.record, environment.logger)
        let directory = MemberDirectory(file, logger: logger)
        let peers = GRPCRaftTransport(
            connector: MemberConnector(connections: connections, directory: directory), address: record.advertiseAddress, logger: logger)
        var configuration = StoreConfiguration(directory: "\(environment.directory)/raft", logger: logger)
        configuration.transport = peers
        configuration.isJoining = isJoining
        configuration.contact = MemberContact(node: record.nodeID, address: record.advertiseAddress)
        configuration.files = AutoLock(directory: environment.directory).files(lock)
        let store = try await ObjectStore.open(configuration)
        directory.attach(store.raft)
        peers.attach(store.raft)
        return try ManagerPart(record, store, directory, peers, connections, certificate, onCluster, environment)
    }

    private init(
        _ record: NodeRecord, _ store: ObjectStore, _ directory: MemberDirectory, _ peers: GRPCRaftTransport, _ connections: PeerConnections,
        _ certificate: @escaping @Sendable () -> NodeCertificate, _ onCluster: @escaping @Sendable () -> Void, _ environment: SwarmEnvironment
    ) throws(ApusError) {
        self.store = store
        self.directory = directory
        self.peers = peers
        self.connections = connections
        self.certificate = certificate
        identity = {
            let certificate = certificate()
            return PeerIdentity(nodeID: certificate.nodeID, role: certificate.role, clusterID: certificate.clusterID, serial: certificate.serial)
        }
        self.onCluster = onCluster
        self.environment = environment
        self.record = record
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
            service: certificates, isLeading: { store.isSettledLeader },
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
                    refusal: { peer, member in
                        if let error = refusal(peer) { return error }
                        // A manager of which nobody has told this one yet must be heard: without its vote there may never be a leader who tells.
                        guard let node = directory.node(of: member), node != peer.nodeID else { return nil }
                        return ApusError(.permissionDenied, "node \(peer.nodeID) may not speak for member \(member), which is node \(node)")
                    }, onAddress: { directory.heard($0, $1, $2) }),
                ManagersService(
                    store: store, directory: directory, refusal: refusal, leader: leader,
                    dialBack: { node, address throws(ApusError) in try await connections.check(node, isAt: address) }, certificates: forwarding,
                    reportPlugin: environment.reportPlugin, answer: environment.answer, logger: environment.logger),
            ])
    }

    private static func publisher(_ environment: SwarmEnvironment) -> @Sendable (IdentityEvent) -> Void {
        { event in
            // What is on record every manager shows, when it has the record.
            if !event.isOnRecord {
                environment.events.publish(
                    .init(
                        type: event.type, action: event.kind.rawValue, actorID: event.nodeID.text, attributes: event.attributes, scope: "swarm",
                        time: event.time))
            }
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
            // A manager that was away may know less than who calls; also a leader, until it has applied what it could not know to be decided before it led.
            // Refusing its voters then, it would never come that far.
            guard let cluster = snapshot.cluster else { return nil }
            guard peer.clusterID == cluster.id else {
                return ApusError(.permissionDenied, "node \(peer.nodeID) has a certificate of another swarm, \(peer.clusterID)")
            }
            guard store.isSettledLeader else { return nil }
            guard let node = store.read().nodes[peer.nodeID] else {
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
        connections.setRenewal { [weak peers] in peers?.renew() }
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                do { try await self.server.serve() } catch {
                    if !ConcurrentTask.isCancelled { self.environment.onFailure(ApusError(.failed, "the managers' port is lost: \(error)")) }
                }
            }
            group.addTask { await self.followNodes() }
            group.addTask { await self.catchUp() }
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
            throw ApusError(.unavailable, "managers cannot be listened for on \(record.listenAddress): \(reason)")
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
        if store.isSettledLeader, store.read().nodes[peer.nodeID] == nil { return "node \(peer.nodeID) is not part of the swarm" }
        return nil
    }

    /// Waits until the store holds everything that was decided before this manager began, and lets what it says count from then on.
    private func catchUp() async {
        while !ConcurrentTask.isCancelled {
            do throws(ApusError) {
                _ = try await store.readLatest()
                isNewest.withLock { $0 = true }
                await follow(store.read())
                onCluster()
                return await recordOwnCertificate()
            } catch {
                try? await ConcurrentTask.sleep(for: .milliseconds(100))
            }
        }
    }

    /// Puts this manager's certificate on record if it has signed that itself, as after it slept past the end of the one before.
    private func recordOwnCertificate() async {
        while !ConcurrentTask.isCancelled {
            let mine = certificate()
            // Of an ordinary renewal the leader knew before this node did.
            guard let known = store.read().nodes[mine.nodeID]?.certificate, known.serial != mine.serial, known.issuedAt < mine.issuedAt else { return }
            var request = RecordCertificateRequest()
            request.certificateChain = mine.certificateChain
            let own = record.advertiseAddress
            do throws(ApusError) {
                if store.isLeader { return try await certificates.record(chain: request.certificateChain, of: mine.nodeID, address: own) }
                let _: ManagersAnswer = try await LeaderClient.callLeader(
                    ManagersMethods.record, request, among: directory.all.map(\.address).filter { $0 != own }, over: connections)
                return
            } catch {
                environment.logger.debug("the certificate of this node is not on record yet: \(error.message)")
                guard error.code == .unavailable || error.code == .timedOut || error.code == .conflict else { return }
                try? await ConcurrentTask.sleep(for: .seconds(1))
            }
        }
    }

    private func followNodes() async {
        while !ConcurrentTask.isCancelled {
            let (snapshot, commits) = store.watch()
            await follow(snapshot)
            if isNewest.withLock({ $0 }) { onCluster() }
            for await commit in commits {
                var mustCheck = false
                for change in commit.changes {
                    if case .removed(.node(let node)) = change {
                        removed.withLock { _ = $0.insert(node.id) }
                        mustCheck = true
                    }
                    if case .updated(.cluster, from: _) = change, isNewest.withLock({ $0 }) { onCluster() }
                    if change.isOfNode { mustCheck = mustCheck || Self.changesRole(change) }
                }
                guard commit.changes.contains(where: \.isOfNode) else { continue }
                await follow(store.read())
                if mustCheck { connections.credentials.recheck() }
            }
            try? await ConcurrentTask.sleep(for: .milliseconds(50))
        }
    }

    private static func changesRole(_ change: StoreChange) -> Bool {
        guard case .updated(.node(let new), from: .node(let old)) = change else { return false }
        return new.spec.role != old.spec.role || (new.manager == nil) != (old.manager == nil)
    }

    private func follow(_ snapshot: StoreSnapshot) async {
        let members = snapshot.nodes.values.compactMap { node -> GroupMember? in
            guard let manager = node.manager, manager.raftID != 0 else { return nil }
            var member = GroupMember()
            member.memberID = manager.raftID
            member.nodeID = node.id
            member.address = manager.address
            return member
        }
        let isNewest = isNewest.withLock { $0 }
        directory.follow(members, isNewest: isNewest)
        if isNewest { await peers.keepOnly(store.raft.membership.all) }
    }

    // MARK: The group

    /// Whether this manager has a say in the group.
    var isVoter: Bool { store.raft.membership.voters.contains(store.memberID) }

    /// Asks the leader to take this manager in, and returns when it has a say. Done again, it goes on where it was; by a manager that was away,
    /// it tells where it is now, and learns who came meanwhile.
    func join(through managers: [String]) async throws(ApusError) {
        let (memberID, address) = (store.memberID.number, record.advertiseAddress)
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
        let own = record.advertiseAddress
        let _: ManagersAnswer = try await LeaderClient.callLeader(
            ManagersMethods.leave, request, among: directory.all.map(\.address).filter { $0 != own }, over: connections)
    }

    /// Lets a node in that waits for a person's word. Works on the leader.
    /// - Throws: `notFound`; `conflict` when it was accepted already.
    public func accept(_ node: ID) async throws(ApusError) { try await certificates.accept(node) }

    /// Makes sure that the managers can go on without this one, now. Works on the leader.
    /// - Throws: `conflict` when they could not.
    public func checkDemotion(of node: Node) async throws(ApusError) {
        guard let number = node.manager?.raftID, number != 0 else { return }
        try await store.raft.confirmMajority(without: MemberID(number))
    }

    /// Waits until a node that is to be a worker is out of the group: from then on nobody waits for its word. A leader that is to go hands leadership
    /// over instead, and its successor does the rest.
    /// - Throws: `conflict` when the managers could not go on without it; then it is a manager as before.
    public func demote(_ id: ID) async throws(ApusError) {
        guard let node = store.read().nodes[id], node.spec.role == .worker, let number = node.manager?.raftID, number != 0 else { return }
        guard MemberID(number) != store.memberID else { return }
        do throws(ApusError) {
            try await store.raft.remove(MemberID(number))
        } catch {
            // Whatever else went wrong, the leader goes on trying.
            guard error.code == .conflict else { return }
            try await store.update { transaction throws(ApusError) in
                guard var node = transaction.snapshot.nodes[id], node.spec.role == .worker, node.manager != nil else { return }
                node.spec.role = .manager
                try transaction.update(.node(node))
            }
            throw error
        }
    }

    /// Hands a call of the Engine API to the leader.
    /// - Returns: `nil` when it certainly did nothing: it did not arrive, or whom it reached does not lead. It may be repeated.
    /// - Throws: `unavailable` when it may have arrived, and there is no answer.
    public func forward(_ request: ForwardRequest) async throws(ApusError) -> ForwardResponse? {
        guard !store.isLeader, let leader = leaderAddress else { return nil }
        do throws(DispatcherFailure) {
            let response: ForwardResponse = try await LeaderClient.call(
                ManagersMethods.forward, request, at: leader, over: connections, timeout: .seconds(60))
            return response.isRefused ? nil : response
        } catch {
            if error.error == LeaderClient.unsent { return nil }
            guard error.error.code == .unavailable else { throw error.error }
            throw ApusError(
                .unavailable, "the leader was lost before it answered (\(error.error.message)): this was done or not; look, and repeat it if need be")
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
