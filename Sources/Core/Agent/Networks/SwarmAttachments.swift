public import PluginAPI

/// Gets places in networks of the swarm for containers that are not tasks; the managers give them.
public protocol AttachmentProvider: Sendable {
    /// A place in an attachable network, as a task that stands for it.
    /// - Throws: `notFound` without such a network, `permissionDenied` when it is not attachable, `unavailable` without a leader or an address.
    func attach(_ request: NetworkPlaceRequest) async throws(ApusError) -> Task
    /// Gives a place back; succeeds when it is gone already.
    func detach(_ attachment: ID) async throws(ApusError)
}

/// A place that somebody wants for a container.
public struct NetworkPlaceRequest: Sendable, Hashable {
    /// Id or name.
    public var network: String
    public var containerID: ID
    public var containerName: String
    public var aliases: [String] = []
    /// Without a length; empty: one is chosen.
    public var address: String = ""

    public init(network: String, containerID: ID, containerName: String) {
        self.network = network
        self.containerID = containerID
        self.containerName = containerName
    }
}
