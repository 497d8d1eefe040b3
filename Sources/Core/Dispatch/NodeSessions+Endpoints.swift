import Orchestration
public import PluginAPI
import Synchronization
public import Wire

extension NodeSessions {
    /// Changes after which also those streams look that they do not concern, so that none keeps an index that is long out of date.
    private static var refreshPeriod: Int { 1000 }

    // MARK: What nodes ask for

    /// Sends what the node must know of networks and published ports, as a whole table and then what changes, until the session is over or the
    /// caller is cancelled.
    /// - Throws: as `serveSession`.
    public func serveEndpoints(
        _ request: EndpointsRequest, from peer: PeerIdentity?, send: @Sendable (EndpointsMessage) async throws -> Void
    ) async throws {
        let node = try authorize(peer)
        let handle = try handle(of: node, request.sessionID)
        try await configuration.confirmLeadership()
        let mailbox = Mailbox<EndpointKey>()
        var cursor = EndpointCursor(node: node, version: handle.endpoints.withLock { $0.version })
        let whole = openEndpoints(handle, mailbox, &cursor)
        // It may have ended before the mailbox was there to be closed.
        try handle.check()
        for message in whole { try await send(message) }
        var sentAt = ContinuousClock.now
        var signals = mailbox.signals.makeAsyncIterator()
        while try await mailbox.wait(after: sentAt, &signals) {
            try handle.check()
            let messages = nextEndpoints(handle, mailbox, &cursor)
            guard !messages.isEmpty else { continue }
            for message in messages { try await send(message) }
            sentAt = .now
        }
        try handle.check()
        guard !ConcurrentTask.isCancelled else { return }
        throw ApusError(.notFound, "another stream of endpoints of node \(node) has taken the place of this one")
    }

    /// A table, and every one before it, is in force on the node.
    /// - Throws: as `heartbeat`.
    public func confirmEndpoints(_ request: ConfirmEndpointsRequest, from peer: PeerIdentity?) throws(ApusError) -> ConfirmEndpointsResponse {
        let node = try authorize(peer)
        try checkSession(node, request.sessionID)
        contents.withLock { contents in
            contents.withdrawals.confirm(node, version: request.version)
            contents.deliverWithdrawals()
        }
        return ConfirmEndpointsResponse()
    }

    // What was noted, the index and the books must be of one moment: otherwise a change that the index has already would be taken for old when
    // its note comes.

    private func openEndpoints(_ handle: Handle, _ mailbox: Mailbox<EndpointKey>, _ cursor: inout EndpointCursor) -> [EndpointsMessage] {
        let (old, index, unfinished, withdrawn) = contents.withLock { contents in
            let old = handle.endpoints.withLock { endpoints in
                defer {
                    endpoints.mailbox = mailbox
                    endpoints.withdrawn = []
                }
                return endpoints.mailbox
            }
            return (old, contents.index, contents.withdrawals.unfinished, contents.withdrawals.withdrawn(on: handle.node))
        }
        old?.close()
        var messages = cursor.full(index, withdrawn: withdrawn).messages
        let known = unfinished.filter { cursor.knows(task: $0) }
        let version = cursor.version
        let mustConfirm = contents.withLock { contents in
            guard contents.handles[handle.node] === handle else { return false }
            handle.endpoints.withLock { $0.version = version }
            defer { contents.deliverWithdrawals() }
            return contents.withdrawals.opened(handle.node, version: version, unfinished: unfinished, knowing: known)
        }
        if mustConfirm { messages[messages.count - 1].mustConfirm = true }
        return messages
    }

    private func nextEndpoints(_ handle: Handle, _ mailbox: Mailbox<EndpointKey>, _ cursor: inout EndpointCursor) -> [EndpointsMessage] {
        let (news, index, untold, withdrawn) = contents.withLock { contents in
            let withdrawn = handle.endpoints.withLock { endpoints -> Set<ID> in
                guard endpoints.mailbox === mailbox else { return [] }
                defer { endpoints.withdrawn = [] }
                return endpoints.withdrawn
            }
            return (mailbox.take(), contents.index, contents.withdrawals.untold(handle.node), withdrawn)
        }
        let update = cursor.changes(news, index, withdrawn: withdrawn)
        let version = cursor.version
        let mustConfirm = contents.withLock { contents in
            guard contents.handles[handle.node] === handle, handle.endpoints.withLock({ $0.mailbox === mailbox }) else { return false }
            handle.endpoints.withLock { $0.version = version }
            defer { contents.deliverWithdrawals() }
            return contents.withdrawals.told(handle.node, version: version, of: untold, stopped: update.stopped)
        }
        var messages = update.messages
        if mustConfirm, !messages.isEmpty { messages[messages.count - 1].mustConfirm = true }
        return messages
    }

    // MARK: What happens in the store

    func noteEndpoints(_ events: [SwarmEvent], _ state: Store.State) {
        let lost = events.compactMap { event -> ID? in
            switch event {
            case .node(let node, _): node.status.state == .down ? node.id : nil
            case .nodeRemoved(let node): node.id
            default: nil
            }
        }
        // The index has one writer, who needs the lock only to put it back.
        var index = contents.withLock(\.index)
        let keys = index.keys(of: events, in: state)
        guard !keys.isEmpty else { return }
        let changes = index.update(keys, from: state)
        contents.withLock { [index] contents in
            for node in lost where contents.handles[node] == nil { contents.withdrawals.gone(node) }
            contents.take(index, changes)
            contents.changesSinceRefresh += keys.count
            guard contents.changesSinceRefresh >= Self.refreshPeriod else { return }
            contents.changesSinceRefresh = 0
            for handle in contents.handles.values { handle.endpoints.withLock { $0.mailbox }?.add([]) }
        }
    }

    /// Events were missed: every stream compares everything, and every task that is to serve no more is waited for from the beginning.
    func catchUpEndpoints(_ state: Store.State) {
        let index = EndpointIndex(state)
        contents.withLock { contents in
            contents.index = index
            let streams = contents.handles.values.filter { handle in handle.endpoints.withLock { $0.mailbox } != nil }
            for task in contents.withdrawals.all where index.leaving[task] == nil { contents.withdrawals.forget(task) }
            for (task, node) in index.leaving { contents.withdrawals.begin(task, on: node, telling: streams.map(\.node)) }
            for handle in streams { handle.endpoints.withLock { $0.mailbox }?.addEverything() }
            for node in state.allNodes where node.status.state == .down && contents.handles[node.id] == nil { contents.withdrawals.gone(node.id) }
            contents.deliverWithdrawals()
        }
    }
}

extension NodeSessions.Contents {
    /// A term begins.
    mutating func takeOver(_ index: EndpointIndex, expecting nodes: [ID]) {
        self.index = index
        withdrawals = Withdrawals(expecting: Set(nodes))
        for (task, node) in index.leaving { withdrawals.begin(task, on: node, telling: []) }
        _ = withdrawals.takeCompleted()
    }

    /// Takes an index that changed, and tells those whom it concerns.
    mutating func take(_ index: EndpointIndex, _ changes: EndpointIndex.Changes) {
        self.index = index
        for task in changes.gone { withdrawals.forget(task) }
        var told: [ID: [ID]] = [:]
        if !changes.isEmpty {
            for (node, handle) in handles {
                guard let mailbox = handle.endpoints.withLock({ $0.mailbox }), let keys = index.keys(of: changes, for: node) else { continue }
                mailbox.add(keys)
                for task in changes.leaving.keys where keys.contains(EndpointKey(.task, task)) { told[task, default: []].append(node) }
            }
        }
        for (task, node) in changes.leaving { withdrawals.begin(task, on: node, telling: told[task] ?? []) }
        deliverWithdrawals()
    }

    /// Tells the nodes which of their tasks are withdrawn.
    mutating func deliverWithdrawals() {
        for (node, tasks) in withdrawals.takeCompleted() {
            guard let handle = handles[node] else { continue }
            let mailbox = handle.endpoints.withLock { endpoints in
                endpoints.withdrawn.formUnion(tasks)
                return endpoints.mailbox
            }
            mailbox?.add([])
        }
    }
}
