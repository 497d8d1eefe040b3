import Dispatcher
import Files
import Logging
public import PluginAPI
import Raft
import Security
import Store
import Synchronization
import Wire

/// This engine's part in a swarm: none, worker, manager, or locked.
///
/// Owns everything that runs while there is a swarm, and ends it when there is none any more; containers outlive both.
public actor SwarmNode {
    struct Current: Sendable {
        var record: NodeRecord
        var manager: ManagerPart?
        var node: NodePart?
        var isLocked = false
        var problem: ApusError?
        /// Why the other managers have not taken this one in yet.
        var joinProblem: ApusError?
    }

    let environment: SwarmEnvironment
    /// Read by every request, without waiting for a change that is under way.
    nonisolated let current = Mutex<Current?>(nil)
    nonisolated let lock = Mutex<LocalLock?>(nil)
    private var nodeWork: ConcurrentTask<Void, Never>?
    private var managerWork: ConcurrentTask<Void, Never>?
    private var joinWork: ConcurrentTask<Void, Never>?
    private var isChanging = false
    /// Roles that certificates brought while something else was under way.
    private let roles: AsyncStream<NodeRole>
    private nonisolated let role: AsyncStream<NodeRole>.Continuation
    private var roleWork: ConcurrentTask<Void, Never>?
    /// Signals that the store may have a new cluster.
    private let clusters: AsyncStream<Void>
    private nonisolated let cluster: AsyncStream<Void>.Continuation
    private var clusterWork: ConcurrentTask<Void, Never>?

    var logger: Logger { environment.logger }
    var directory: String { environment.directory }

    public init(_ environment: SwarmEnvironment) {
        self.environment = environment
        (roles, role) = AsyncStream.makeStream(of: NodeRole.self)
        (clusters, cluster) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    // MARK: What there is

    public nonisolated var status: SwarmStatus {
        var status = SwarmStatus()
        guard let current = current.withLock({ $0 }) else { return status }
        status.nodeID = current.record.nodeID
        status.address = current.record.address
        if current.isLocked {
            status.state = .locked
            return status
        }
        if let problem = current.problem {
            status.state = .error
            status.error = problem.message
        } else {
            status.state = .active
            if let problem = current.joinProblem { status.error = "this node is not among the managers yet: \(problem.message)" }
            switch current.node?.dispatcher.connection {
            case .refused(let error):
                status.state = .error
                status.error = "the managers refuse this node: \(error.message)"
            case .searching(let error?): status.error = "no session with a manager: \(error.message)"
            default: break
            }
        }
        status.isManager = current.manager != nil
        if let manager = current.manager {
            status.managers = manager.members.map { ($0.nodeID, $0.address) }
        } else {
            status.managers = (current.node?.dispatcher.managers ?? []).map { ("", $0) }
        }
        return status
    }

    /// This node's part as a manager.
    /// - Throws: `unavailable` with what to do.
    public nonisolated func manager() throws(ApusError) -> ManagerPart {
        guard let current = current.withLock({ $0 }) else {
            throw ApusError(
                .unavailable,
                "This node is not a swarm manager. Use \"apus swarm init\" (or \"docker swarm init\") to make it one, or \"apus swarm join\", and try again.")
        }
        if current.isLocked { throw Self.locked }
        guard let manager = current.manager else {
            throw ApusError(
                .unavailable,
                "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. "
                    + "Please run this command on a manager node or promote the current node to a manager.")
        }
        return manager
    }

    public nonisolated var managerPart: ManagerPart? { current.withLock { $0?.manager } }

    static var locked: ApusError {
        ApusError(.unavailable, "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"apus swarm unlock\" to unlock it.")
    }

    static var alreadyPart: ApusError {
        ApusError(.unavailable, "This node is already part of a swarm. Use \"apus swarm leave\" to leave this swarm and join another one.")
    }

    func change<Value>(_ body: () async throws(ApusError) -> Value) async throws(ApusError) -> Value {
        guard !isChanging else { throw ApusError(.conflict, "the swarm is being changed by another request; try again") }
        isChanging = true
        defer { isChanging = false }
        return try await body()
    }

    // MARK: Taking part

    /// Takes up the swarm that this node was in when the engine last ran.
    public func resume() async throws(ApusError) {
        try await change { () throws(ApusError) in
            guard let record = try NodeRecord.read(directory: directory) else {
                // What was cut short leaves a store without a node: it never was answered, so it never was.
                if !Files.exists("\(directory)/certificates/swarm-node.next.key") { try Files.removeTree(directory) }
                return
            }
            if AutoLock(directory: directory).isLocked {
                current.withLock { $0 = Current(record: record, isLocked: true) }
                logger.warning("this manager is locked: \"apus swarm unlock\" makes it go on")
                return
            }
            try await start(record)
        }
    }

    /// Opens a locked manager.
    /// - Throws: `invalidArgument` for a wrong key, `conflict` when it is not locked.
    public func unlock(_ text: String) async throws(ApusError) {
        try await change { () throws(ApusError) in
            guard let record = current.withLock({ $0 }) else {
                throw ApusError(.unavailable, "This node is not part of a swarm, so there is nothing to unlock.")
            }
            guard record.isLocked else { throw ApusError(.conflict, "swarm is not locked") }
            let opened = try AutoLock(directory: directory).unlock(try UnlockKey(parsing: text))
            lock.withLock { $0 = opened }
            try await start(record.record)
        }
    }

    /// Starts what the files say, and returns when it runs.
    func start(_ record: NodeRecord) async throws(ApusError) {
        let lock = lock.withLock { $0 }
        guard let certificate = try NodeCertificate.read(directory: "\(directory)/certificates", lock: lock) else {
            throw ApusError(
                .corrupt, "\(directory)/certificates has no certificate of this node; restore it from a copy, or remove \(directory) and join again")
        }
        try await start(record, try await heal(certificate, record, lock), isJoining: true)
    }

    /// A manager that slept past the end of its certificate signs itself another one, if it has the root's key.
    private func heal(_ certificate: NodeCertificate, _ record: NodeRecord, _ lock: LocalLock?) async throws(ApusError) -> NodeCertificate {
        let now = WallClock().now()
        guard certificate.isExpired(now: now), certificate.role == .manager else { return certificate }
        var configuration = StoreConfiguration(directory: "\(directory)/raft", logger: logger)
        configuration.files = AutoLock(directory: directory).files(lock)
        // Nobody can be asked what of it was decided.
        let snapshot = try ObjectStore.lastKnown(configuration)
        guard let cluster = snapshot.cluster else { return certificate }
        do throws(ApusError) {
            let healed = try await SwarmIdentity.resignSelf(
                certificate, cluster: cluster, node: snapshot.nodes[record.nodeID], authority: try await environment.authority(cluster.signingAuthority),
                directory: "\(directory)/certificates", lock: lock, now: now)
            logger.warning("this node's certificate had expired; it has signed itself another one", metadata: ["expired": "\(certificate.expiresAt)"])
            return healed
        } catch {
            logger.error("this node's certificate has expired: \(error.message)")
            return certificate
        }
    }

    /// - Parameters:
    ///   - isJoining: Whether a store that is not there yet waits for a group, instead of being one.
    ///   - isFinished: False while a swarm is being made: then the record is not written yet.
    func start(_ record: NodeRecord, _ certificate: NodeCertificate, isJoining: Bool, isFinished: Bool = true) async throws(ApusError) {
        let role = role
        let file = NodeRecordFile(record, directory: directory, isWritten: isFinished)
        let part = try NodePart(
            file, certificate: certificate, lock: { [weak self] in self?.lock.withLock { $0 } ?? nil },
            manager: { [weak self] in self?.current.withLock { $0?.manager } ?? nil },
            onCertificate: { role.yield($0.role) }, environment: environment)
        current.withLock { $0 = Current(record: record, node: part) }
        nodeWork = ConcurrentTask { await part.run() }
        do throws(ApusError) {
            if certificate.role == .manager { try await startManager(part, isJoining: isJoining) }
        } catch {
            await end()
            throw error
        }
        if roleWork == nil {
            roleWork = ConcurrentTask { [weak self, roles] in
                for await role in roles { await self?.take(role) }
            }
            clusterWork = ConcurrentTask { [weak self, clusters] in
                for await _ in clusters { await self?.takeCluster() }
            }
        }
    }

    private func startManager(_ part: NodePart, isJoining: Bool) async throws(ApusError) {
        let renewer = part.renewer
        let manager = try await ManagerPart.open(
            part.file, isJoining: isJoining, lock: lock.withLock { $0 }, connections: part.connections,
            certificate: { renewer.certificate }, onCluster: { [cluster] in cluster.yield() }, environment: environment)
        managerWork = ConcurrentTask { await manager.run() }
        do throws(ApusError) {
            try await manager.waitUntilListening()
        } catch {
            managerWork?.cancel()
            await managerWork?.value
            managerWork = nil
            throw error
        }
        current.withLock { $0?.manager = manager }
        guard isJoining else { return }
        let dispatcher = part.dispatcher
        let logger = logger
        joinWork = ConcurrentTask { [weak self] in
            var pause = Duration.milliseconds(200)
            while !ConcurrentTask.isCancelled, !manager.store.isLeader {
                do throws(ApusError) {
                    try await manager.join(through: dispatcher.managers)
                    logger.debug("this manager is one of the group")
                    self?.setJoinProblem(nil)
                    return
                } catch {
                    if ConcurrentTask.isCancelled { return }
                    if !manager.isVoter { self?.setJoinProblem(error) }
                    logger.log(level: manager.isVoter ? .debug : .warning, "this node is not among the managers yet: \(error.message)")
                }
                try? await ConcurrentTask.sleep(for: pause)
                pause = min(pause * 2, .seconds(5))
            }
        }
    }

    private nonisolated func setJoinProblem(_ error: ApusError?) { current.withLock { $0?.joinProblem = error } }

    /// A certificate of another role: the node becomes a manager, or is one no more.
    private func take(_ role: NodeRole) async {
        guard let now = current.withLock({ $0 }), let part = now.node else { return }
        do throws(ApusError) {
            try await change { () throws(ApusError) in
                switch (role, now.manager) {
                case (.manager, nil):
                    logger.info("this node becomes a manager")
                    try await startManager(part, isJoining: true)
                case (.worker, .some):
                    logger.info("this node is a manager no more")
                    await endManager()
                    try Files.removeTree("\(directory)/raft")
                default: break
                }
            }
        } catch {
            logger.error("the change of this node's role to \(role.rawValue) is not done yet: \(error.message)")
            current.withLock { $0?.problem = error }
            try? await ConcurrentTask.sleep(for: .seconds(1))
            self.role.yield(role)
        }
    }

    /// The keys at rest follow what the cluster says, on every manager.
    private func takeCluster() {
        guard let cluster = current.withLock({ $0?.manager })?.store.read().cluster else { return }
        do throws(ApusError) { try applyLock(cluster) } catch {
            logger.error("the keys at rest could not be locked or unlocked as the swarm wants it: \(error.message)")
            current.withLock { $0?.problem = error }
        }
    }

    private func endManager() async {
        let work = managerWork
        managerWork = nil
        joinWork?.cancel()
        await joinWork?.value
        joinWork = nil
        work?.cancel()
        await work?.value
        current.withLock { $0?.manager = nil }
    }

    /// Ends everything of the swarm; containers go on.
    public func end() async {
        await endManager()
        let work = nodeWork
        nodeWork = nil
        work?.cancel()
        await work?.value
        current.withLock { $0 = nil }
        lock.withLock { $0 = nil }
    }

    /// Ends for good, with the engine.
    public func shutDown() async {
        role.finish()
        cluster.finish()
        roleWork?.cancel()
        clusterWork?.cancel()
        await roleWork?.value
        await clusterWork?.value
        // Nodes that restart say nothing: their tasks go on, and are taken back.
        await end()
    }
}
