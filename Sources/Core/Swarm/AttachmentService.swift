import Orchestration
import PluginAPI
import Store
import Wire

/// The leader's side of containers' places in attachable networks: makes the task that stands for a place, and waits for its addresses.
struct AttachmentService: Sendable {
    let store: ObjectStore
    /// How long the leader may take to give an address.
    var patience: Duration = .seconds(25)

    /// A place for a container of a node; the one that it has already, if it has one.
    /// - Throws: `notFound` without such a network; `permissionDenied` when it is not attachable or the node is not of this swarm; `invalidArgument` for
    ///   an address or an alias that is none; `conflict` with the reason when the address is not to be had, or none at all.
    func attach(_ request: AttachNetworkRequest, of node: ID) async throws(ApusError) -> Task {
        let id = try await store.update { transaction throws(ApusError) in
            let snapshot = transaction.snapshot
            guard snapshot.nodes[node] != nil else {
                throw ApusError(.permissionDenied, "node \(node) is not part of this swarm, or was removed from it")
            }
            guard let network = snapshot.network(request.network) else { throw ApusError(.notFound, "network \(request.network.prefix(100)) not found") }
            let wish = AttachmentDraft.Wish(
                networkID: network.id, nodeID: node, containerID: request.containerID, name: request.containerName, aliases: request.aliases,
                address: request.address)
            if let present = AttachmentDraft.present(wish, in: snapshot) { return present.id }
            try AttachmentDraft.check(wish, in: network)
            let task = AttachmentDraft.create(wish, in: network)
            try transaction.create(.task(task))
            return task.id
        }
        let answer = await withTaskGroup(of: Result<Task, ApusError>?.self) { group in
            group.addTask { await settled(id) }
            group.addTask { [patience] in
                try? await ConcurrentTask.sleep(for: patience)
                return nil
            }
            let first = await group.next() ?? nil
            group.cancelAll()
            return first
        }
        do throws(ApusError) {
            guard let answer else { throw ApusError(.unavailable, "the leader gave no address in network \(request.network.prefix(100)) in time; try again") }
            return try answer.get()
        } catch {
            // Nobody will use it.
            try? await detach(id, of: node)
            throw error
        }
    }

    /// Gives a place back; succeeds when it is gone already.
    /// - Throws: `permissionDenied` for what is not a place of the node.
    func detach(_ id: ID, of node: ID) async throws(ApusError) {
        try await store.update { transaction throws(ApusError) in
            guard let task = transaction.snapshot.tasks[id] else { return }
            guard task.nodeID == node, AttachmentDraft.isPlace(task) else {
                throw ApusError(.permissionDenied, "task \(id) is not a place of a container of node \(node)")
            }
            try transaction.remove(.task, id)
        }
    }

    /// Waits until the leader has given addresses, or refused to.
    private func settled(_ id: ID) async -> Result<Task, ApusError> {
        let gone = ApusError(.unavailable, "the place was taken away before it had an address; try again")
        let (snapshot, commits) = store.watch()
        guard let task = snapshot.tasks[id] else { return .failure(gone) }
        if let answer = Self.answer(task) { return answer }
        for await commit in commits {
            for change in commit.changes {
                switch change {
                case .updated(.task(let task), from: _) where task.id == id:
                    if let answer = Self.answer(task) { return answer }
                case .removed(.task(let task)) where task.id == id: return .failure(gone)
                default: continue
                }
            }
        }
        return .failure(ApusError(.unavailable, "this manager is not the leader any more: try again"))
    }

    private static func answer(_ task: Task) -> Result<Task, ApusError>? {
        if task.status.state.isTerminal { return .failure(ApusError(.conflict, task.status.error)) }
        return task.status.state == .running ? .success(task) : nil
    }
}
