public import PluginAPI

/// The node objects that the API writes, and what may be done to a node.
public enum NodeDraft {
    /// A node with a new spec.
    ///
    /// Throws `conflict` when the last manager is to be a worker.
    public static func update(_ node: Node, to spec: NodeSpec, in state: some SwarmState, now: Timestamp) throws(ApusError) -> Node {
        if node.spec.role == .manager, spec.role == .worker, !hasOtherManager(than: node.id, state) {
            throw ApusError(.conflict, "node \(node.id) is the last manager of the swarm, and cannot be demoted: promote another node first")
        }
        var changed = node
        changed.spec = spec
        if spec.availability != node.spec.availability { changed.availabilityChangedAt = now }
        return changed
    }

    /// Whether a node may be removed.
    ///
    /// Throws `conflict` for a manager, which must be demoted first, and for the last one in particular; without `force` also for a node
    /// that is neither down nor disconnected.
    public static func checkRemoval(of node: Node, force: Bool, in state: some SwarmState) throws(ApusError) {
        if node.spec.role == .manager || node.manager != nil {
            guard hasOtherManager(than: node.id, state) else {
                throw ApusError(.conflict, "node \(node.id) is the last manager of the swarm, and cannot be removed")
            }
            throw ApusError(.conflict, "node \(node.id) is a manager: demote it first (apus node demote \(node.id))")
        }
        guard !force, node.status.state != .down, node.status.state != .disconnected else { return }
        throw ApusError(
            .conflict, "node \(node.id) is not down (\(node.status.state.rawValue)) and can't be removed: let it leave the swarm first, or use --force")
    }

    private static func hasOtherManager(than node: ID, _ state: some SwarmState) -> Bool {
        state.allNodes.contains { $0.id != node && $0.spec.role == .manager }
    }
}
