import Logging
import PluginAPI
import Raft
import Security
import Store

/// The leader's care for the managers: takes those out of the group that are to be workers, tells nodes whose role changed to renew, and
/// keeps what the store says of the managers true. Level-triggered: it looks at everything once a second, and after every change of a node.
struct RoleKeeper: Sendable {
    let store: ObjectStore
    let logger: Logger

    func run() async {
        while !ConcurrentTask.isCancelled {
            let (snapshot, commits) = store.watch()
            await look(snapshot)
            let changed = ConcurrentTask {
                for await commit in commits where commit.changes.contains(where: { $0.isOfNode }) { return }
            }
            let timer = ConcurrentTask {
                try? await ConcurrentTask.sleep(for: .seconds(1))
                changed.cancel()
            }
            await withTaskCancellationHandler {
                await changed.value
            } onCancel: {
                changed.cancel()
            }
            timer.cancel()
            await timer.value
        }
    }

    private func look(_ snapshot: StoreSnapshot) async {
        // First out of the group, then the worker's certificate: a manager that stops before it is out counts as one that is missing. Each on its
        // own: one that cannot go now keeps no other one waiting.
        for node in snapshot.nodes.values where node.spec.role == .worker {
            guard let manager = node.manager, manager.raftID != 0 else { continue }
            await attempt("node \(node.id) cannot leave the managers yet") { () throws(ApusError) in
                try await store.raft.remove(MemberID(manager.raftID))
                try await clear(node.id)
            }
        }
        let membership = store.raft.membership
        for node in snapshot.nodes.values where node.spec.role == .manager {
            guard let manager = node.manager, membership.all.contains(MemberID(manager.raftID)), !manager.address.isEmpty else { continue }
            let contact = MemberContact(node: node.id, address: manager.address)
            guard membership.contacts[MemberID(manager.raftID)] != contact else { continue }
            await attempt("the managers cannot be told where node \(node.id) is") { () throws(ApusError) in
                try await store.raft.relocate(MemberID(manager.raftID), to: contact)
            }
        }
        await attempt("nodes could not be told of their new role") { () throws(ApusError) in try await RootRotations.tellRoleChanges(store: store) }
        await attempt("the managers' state could not be written") { () throws(ApusError) in try await writeStatus(snapshot) }
    }

    private func attempt(_ problem: String, _ body: () async throws(ApusError) -> Void) async {
        if ConcurrentTask.isCancelled || !store.isLeader { return }
        do throws(ApusError) { try await body() } catch {
            if !ConcurrentTask.isCancelled { logger.debug("\(problem): \(error.message)") }
        }
    }

    private func clear(_ id: ID) async throws(ApusError) {
        try await store.update { transaction throws(ApusError) in
            guard var node = transaction.snapshot.nodes[id], node.spec.role == .worker else { return }
            node.manager = nil
            try transaction.update(.node(node))
        }
        logger.info("node \(id) is a manager no more")
    }

    /// Who leads, and who can be reached.
    private func writeStatus(_ snapshot: StoreSnapshot) async throws(ApusError) {
        let status = store.raft.status
        guard status.role == .leader else { return }
        let members = Dictionary(status.members.map { ($0.id.number, $0) }) { first, _ in first }
        @Sendable func wanted(_ node: Node) -> ManagerStatus? {
            guard var manager = node.manager else { return nil }
            let member = members[manager.raftID]
            manager.leader = manager.raftID == status.id.number
            // One that has no say yet does not count: whoever stops another manager now must know.
            manager.reachability = member?.isVoter == false ? .unknown : member?.isReachable ?? false ? .reachable : .unreachable
            return manager
        }
        guard snapshot.nodes.values.contains(where: { wanted($0) != $0.manager }) else { return }
        try await store.update { transaction throws(ApusError) in
            for var node in transaction.snapshot.nodes.values {
                let status = wanted(node)
                guard status != node.manager else { continue }
                node.manager = status
                try transaction.update(.node(node))
            }
        }
    }
}

extension StoreChange {
    var isOfNode: Bool {
        switch self {
        case .created(let object), .updated(let object, from: _), .removed(let object): object.kind == .node
        }
    }
}
