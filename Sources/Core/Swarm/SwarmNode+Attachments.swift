public import Agent
import Dispatcher
public import PluginAPI
import Store
import Synchronization
public import Wire

/// Places in attachable networks for containers of this node that are no tasks. The agent asks for them.
extension SwarmNode: AttachmentProvider {
    /// A place, as the task that stands for it, with its addresses. Asked again for the same container and network, it is the same place.
    /// - Throws: `unavailable` outside of a swarm and without a leader; otherwise as the leader says: `notFound`, `permissionDenied`, `invalidArgument`,
    ///   `conflict`.
    public nonisolated func attach(_ request: AttachNetworkRequest) async throws(ApusError) -> Task {
        let (node, part, manager) = try parts()
        if let manager, manager.store.isLeader { return try await AttachmentService(store: manager.store).attach(request, of: node) }
        let response: AttachNetworkResponse = try await LeaderClient.callLeader(
            ManagersMethods.attach, request, among: part.dispatcher.managers, over: part.connections)
        return response.task
    }

    /// Gives a place back; succeeds when it is gone already.
    /// - Throws: as `attach`.
    public nonisolated func detach(_ place: ID) async throws(ApusError) {
        let (node, part, manager) = try parts()
        if let manager, manager.store.isLeader { return try await AttachmentService(store: manager.store).detach(place, of: node) }
        var request = DetachNetworkRequest()
        request.taskID = place
        let _: ManagersAnswer = try await LeaderClient.callLeader(
            ManagersMethods.detach, request, among: part.dispatcher.managers, over: part.connections)
    }

    /// A place for a container that the engine makes.
    public nonisolated func attach(_ wanted: NetworkPlaceRequest) async throws(ApusError) -> Task {
        guard current.withLock({ $0 }) != nil else { throw ApusError(.notFound, "network \(wanted.network) not found") }
        var request = AttachNetworkRequest()
        request.network = wanted.network
        request.containerID = wanted.containerID
        request.containerName = wanted.containerName
        request.aliases = wanted.aliases
        request.address = wanted.address
        return try await attach(request)
    }

    private nonisolated func parts() throws(ApusError) -> (ID, NodePart, ManagerPart?) {
        guard let current = current.withLock({ $0 }) else { throw ApusError(.unavailable, "This node is not part of a swarm") }
        if current.isLocked { throw Self.locked }
        guard let node = current.node else { throw ApusError(.unavailable, "this node's part in the swarm has not begun yet: try again") }
        return (current.record.nodeID, node, current.manager)
    }
}
