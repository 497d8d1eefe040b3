import Logging
import Orchestration
import PluginAPI
import Synchronization
import Wire

extension NodeSessions {
    /// Nodes in one transaction.
    private static var batchLimit: Int { 100 }
    private static var step: Duration { .milliseconds(200) }

    /// Serves the nodes until it is cancelled; then every session ends at once. To be run by the leader alone, and never twice at the same time.
    public func run() async {
        let (state, commits) = store.watchEvents()
        let now = ContinuousClock.now
        let (writes, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        contents.withLock { contents in
            var table = SessionTable(configuration.sessions, now: now)
            Self.apply(state.cluster, to: &table, configuration.sessions)
            table.takeOver(state.allNodes, now: now)
            contents.table = table
            contents.takeOver(EndpointIndex(state), expecting: state.allNodes.filter { $0.status.state != .down }.map(\.id))
            contents.managers = Self.managers(in: state)
            contents.writer = wake
        }
        wake.yield()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.follow(commits) }
            group.addTask { await self.watchTime() }
            group.addTask { await self.write(writes) }
            await group.waitForAll()
        }
        let (handles, readings) = contents.withLock { contents in
            defer { contents = Contents() }
            return (contents.handles, contents.readings)
        }
        for reading in readings.values { reading.pipe.finish(Self.notLeading) }
        for handle in handles.values { handle.finish(Self.notLeading) }
    }

    // MARK: What happens in the store

    private func follow(_ commits: AsyncStream<[SwarmEvent]>) async {
        for await events in commits { note(events) }
        while !ConcurrentTask.isCancelled {
            // Fallen behind: everything is looked at anew.
            let (state, commits) = store.watchEvents()
            catchUp(state)
            for await events in commits { note(events) }
            try? await ConcurrentTask.sleep(for: .milliseconds(50))
        }
    }

    private func note(_ events: [SwarmEvent]) {
        let state = store.read()
        noteNodes(events, state)
        noteEndpoints(events, state)
    }

    private func noteNodes(_ events: [SwarmEvent], _ state: Store.State) {
        let now = ContinuousClock.now
        var tasks: [ID: Set<ID>] = [:]
        var changed: Set<ID> = []
        var removed: [ID] = []
        var isForAll = false
        for event in events {
            switch event {
            case .task(let task, let old):
                guard Self.concernsNode(task, old) else { continue }
                tasks[task.nodeID, default: []].insert(task.id)
                if let old, old.nodeID != task.nodeID { tasks[old.nodeID, default: []].insert(task.id) }
            case .taskRemoved(let task): tasks[task.nodeID, default: []].insert(task.id)
            case .node(let node, let old):
                if old.map({ Self.isNews($0, node) }) ?? true { changed.insert(node.id) }
                if old?.manager != node.manager { isForAll = true }
            case .nodeRemoved(let node):
                removed.append(node.id)
                if node.manager != nil { isForAll = true }
            case .cluster: isForAll = true
            case .service, .serviceRemoved, .network, .networkRemoved: break
            }
        }
        tasks[""] = nil
        guard !tasks.isEmpty || !changed.isEmpty || !removed.isEmpty || isForAll else { return }
        var ended: [Handle] = []
        contents.withLock { contents in
            if isForAll {
                contents.managers = Self.managers(in: state)
                if var table = contents.table {
                    Self.apply(state.cluster, to: &table, configuration.sessions)
                    contents.table = table
                }
            }
            for node in changed { if let node = state.node(node) { contents.table?.add(node, now: now) } }
            for node in removed {
                contents.table?.remove(node)
                if let handle = contents.handles.removeValue(forKey: node) { ended.append(handle) }
            }
            for (node, ids) in tasks { contents.handles[node]?.mailbox.withLock { $0 }?.add(ids) }
            if isForAll {
                for handle in contents.handles.values { handle.change.yield() }
            } else {
                for node in changed { contents.handles[node]?.change.yield() }
            }
        }
        for handle in ended { handle.finish(ApusError(.permissionDenied, "node \(handle.node) was removed from the swarm")) }
    }

    private func catchUp(_ state: Store.State) {
        let now = ContinuousClock.now
        catchUpEndpoints(state)
        let ended = contents.withLock { contents -> [Handle] in
            contents.managers = Self.managers(in: state)
            if var table = contents.table {
                Self.apply(state.cluster, to: &table, configuration.sessions)
                contents.table = table
            }
            for node in state.allNodes { contents.table?.add(node, now: now) }
            contents.table?.keep(where: { state.node($0) != nil })
            var ended: [Handle] = []
            for (node, handle) in contents.handles {
                guard state.node(node) != nil else {
                    ended.append(handle)
                    contents.handles[node] = nil
                    continue
                }
                handle.change.yield()
                handle.mailbox.withLock { $0 }?.addEverything()
            }
            return ended
        }
        for handle in ended { handle.finish(ApusError(.permissionDenied, "node \(handle.node) was removed from the swarm")) }
    }

    /// Whether a node is to hear of a change of its object.
    private static func isNews(_ old: Node, _ new: Node) -> Bool {
        old.spec != new.spec || old.manager != new.manager || old.certificate.state != new.certificate.state
    }

    /// Whether the node is to hear of it: of its own reports it is not.
    private static func concernsNode(_ task: Task, _ old: Task?) -> Bool {
        guard let old else { return true }
        return task.nodeID != old.nodeID || task.desiredState != old.desiredState || (old.status.state < .assigned) != (task.status.state < .assigned)
            || task.networks != old.networks || task.spec != old.spec
    }

    private static func managers(in state: Store.State) -> [ManagerPeer] {
        state.allNodes.compactMap { node in
            guard let manager = node.manager, !manager.address.isEmpty else { return nil }
            var peer = ManagerPeer()
            peer.nodeID = node.id
            peer.address = manager.address
            // One that does not answer is tried last.
            peer.weight = manager.reachability == .unreachable ? 1 : 8
            return peer
        }.sorted { $0.nodeID < $1.nodeID }
    }

    private static func apply(_ cluster: Cluster?, to table: inout SessionTable, _ configured: SessionTable.Configuration) {
        let period = cluster?.spec.dispatcher.heartbeatPeriod ?? .zero
        let wanted = period > .zero ? period : configured.heartbeatPeriod
        if table.configuration.heartbeatPeriod != wanted { table.configuration.heartbeatPeriod = wanted }
    }

    // MARK: Time

    private func watchTime() async {
        var last = ContinuousClock.now
        while !ConcurrentTask.isCancelled {
            try? await ConcurrentTask.sleep(for: Self.step)
            let now = ContinuousClock.now
            let absence = now - last - Self.step
            last = now
            let (ended, hasChanges) = contents.withLock { contents -> ([Handle], Bool) in
                // This process was stopped, or starved: it could not hear anybody either.
                if absence > .seconds(1) { contents.table?.forgive(absence) }
                let nodes = contents.table?.expire(now: now) ?? []
                for node in nodes { contents.withdrawals.gone(node) }
                if !nodes.isEmpty { contents.deliverWithdrawals() }
                return (nodes.compactMap { contents.handles.removeValue(forKey: $0) }, contents.table?.hasChanges ?? false)
            }
            for handle in ended {
                logger.warning("nothing is heard of node \(handle.node)")
                handle.finish(ApusError(.notFound, "nothing was heard of node \(handle.node) for too long; it must register again"))
            }
            if hasChanges { wakeWriter() }
        }
    }

    // MARK: Writing

    private func write(_ writes: AsyncStream<Void>) async {
        for await _ in writes {
            while !ConcurrentTask.isCancelled {
                let changes = contents.withLock { $0.table?.takeChanges(limit: Self.batchLimit) ?? [:] }
                if changes.isEmpty { break }
                do throws(ApusError) {
                    try await write(changes)
                } catch {
                    contents.withLock { $0.table?.putBack(changes) }
                    guard !ConcurrentTask.isCancelled else { return }
                    logger.warning("the states of \(changes.count) nodes could not be written, they will be again: \(error.message)")
                    try? await ConcurrentTask.sleep(for: .milliseconds(200))
                }
            }
            if ConcurrentTask.isCancelled { return }
        }
    }

    private func write(_ changes: [ID: SessionTable.Change]) async throws(ApusError) {
        let now = configuration.now()
        try await store.transact { transaction throws(ApusError) in
            for (id, change) in changes.sorted(by: { $0.key < $1.key }) {
                guard let old = transaction.node(id) else { continue }
                var node = old
                change.apply(to: &node, now: now)
                if node != old { try transaction.update(node) }
            }
        }
    }
}

extension SessionTable.Change {
    func apply(to node: inout Node, now: Timestamp) {
        if node.status.state != state {
            node.status.state = state
            node.status.since = now
        }
        node.status.message = message
        if let address { node.status.address = address }
        if let description {
            let tls = description.tls ?? node.description.tls
            node.description = description
            node.description.tls = tls
        }
    }
}
