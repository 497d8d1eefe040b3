import Allocation
public import PluginAPI

/// The places of containers of a node's own in attachable networks. A task stands for each; the leader gives it its addresses.
public enum AttachmentDraft {
    /// A place that a node asks for.
    public struct Wish: Sendable, Hashable {
        public var networkID: ID
        public var nodeID: ID
        public var containerID: ID
        /// The container's.
        public var name: String
        public var aliases: [String]
        /// Without a length; empty: one is chosen.
        public var address: String

        public init(networkID: ID, nodeID: ID, containerID: ID, name: String, aliases: [String] = [], address: String = "") {
            self.networkID = networkID
            self.nodeID = nodeID
            self.containerID = containerID
            self.name = name
            self.aliases = aliases
            self.address = address
        }
    }

    /// A place that has no address yet; until it has, its addresses are what is wished for.
    public static func create(_ wish: Wish, in network: Network, id: ID = ID.random()) -> Task {
        var join = NetworkAttachmentSpec()
        join.target = network.id.text
        join.aliases = wish.aliases
        var task = Task()
        task.id = id
        task.nodeID = wish.nodeID
        // The name of a task begins with its service's, and here there is nothing else.
        task.serviceName = wish.name
        task.spec.runtime = TaskSpec.attachmentRuntime
        task.spec.networks = [join]
        task.desiredState = .running
        task.status.state = .new
        task.status.message = "created"
        var container = ContainerStatus()
        container.containerID = wish.containerID
        task.status.container = container
        var place = NetworkAttachment(in: network, aliases: wish.aliases)
        if !wish.address.isEmpty { place.addresses = [wish.address] }
        task.networks = [place]
        return task
    }

    /// Whether a task stands for a container of a node's own.
    public static func isPlace(_ task: Task) -> Bool { task.isAttachment }

    /// The place that the container has already.
    public static func present(_ wish: Wish, in state: some SwarmState) -> Task? {
        state.tasks(onNode: wish.nodeID).first { task in
            task.isAttachment && !task.status.state.isTerminal && task.status.container?.containerID == wish.containerID
                && task.networks.contains { $0.network.id == wish.networkID }
        }
    }

    /// Whether a node may have a place for its container.
    /// - Throws: `notFound` without such a network; `permissionDenied` when it is not attachable; `invalidArgument` for an alias or an address that
    ///   is none.
    public static func check(_ wish: Wish, in network: Network) throws(ApusError) {
        guard !network.spec.ingress else { throw ApusError(.permissionDenied, "the ingress network takes no containers") }
        guard network.spec.attachable else {
            throw ApusError(
                .permissionDenied,
                "Could not attach to network \(network.spec.name): rpc error: code = PermissionDenied desc = network \(network.spec.name) not manually attachable"
            )
        }
        guard !wish.containerID.isEmpty, wish.containerID.text.utf8.count <= 128, wish.name.utf8.count <= 253 else {
            throw ApusError(.invalidArgument, "the container that is to be in network \(network.spec.name) has no id, or one that is too long")
        }
        for alias in wish.aliases where !ServiceValidation.isHostName(alias) {
            throw ApusError(
                .invalidArgument, "the alias \"\(ServiceValidation.printable(alias))\" is not a name: letters and digits, with -, _ and . between them")
        }
        guard !wish.address.isEmpty else { return }
        guard let address = IPAddress(wish.address) else {
            throw ApusError(.invalidArgument, "\"\(ServiceValidation.printable(wish.address))\" is not an address")
        }
        guard network.addressPools.contains(where: { $0.contains(address) }) else {
            throw ApusError(.invalidArgument, "the address \(address) is not one that the network \(network.spec.name) gives away")
        }
    }
}
