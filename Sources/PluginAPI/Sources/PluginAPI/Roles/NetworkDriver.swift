/// Makes networks of one kind on a node and puts containers into them.
///
/// All calls are level-triggered: creating what is there already, or removing what is not, succeeds and repairs what is missing.
public protocol NetworkDriver: Plugin {
    /// Makes the network on this node.
    func create(_ network: LocalNetwork) async throws(ApusError)
    /// Removes the network from this node. `conflict` while containers are in it.
    func remove(_ network: LocalNetwork) async throws(ApusError)
    /// Puts an interface into a container's network namespace. After an error nothing of it is left.
    func attach(_ request: AttachRequest) async throws(ApusError) -> AttachAnswer
    /// Takes the interface away, also when the namespace is gone already.
    func detach(_ request: DetachRequest) async throws(ApusError)
}

/// A network as a node sees it.
public struct LocalNetwork: Sendable, Hashable {
    public var id: ID
    public var name: String
    /// The subnet, with the gateway's address: `172.30.0.1/16`.
    public var gateway: IPPrefix
    public var gatewayV6: IPPrefix?
    /// Without a way out.
    public var isInternal = false
    public var options: [String: String] = [:]

    public init(id: ID, name: String, gateway: IPPrefix) {
        self.id = id
        self.name = name
        self.gateway = gateway
    }
}

/// A container that joins a network.
public struct AttachRequest: Sendable {
    public var network: LocalNetwork
    public var containerID: ID
    /// The path of a pinned network namespace.
    public var sandboxPath: String
    /// Inside of the namespace, such as `eth0`.
    public var interfaceName: String
    /// The container's address, with the length of the network.
    public var address: IPPrefix
    public var addressV6: IPPrefix?
    public var macAddress: MACAddress
    /// Whether the default route leads here.
    public var isDefaultRoute: Bool

    public init(
        network: LocalNetwork, containerID: ID, sandboxPath: String, interfaceName: String, address: IPPrefix,
        macAddress: MACAddress, isDefaultRoute: Bool
    ) {
        self.network = network
        self.containerID = containerID
        self.sandboxPath = sandboxPath
        self.interfaceName = interfaceName
        self.address = address
        self.macAddress = macAddress
        self.isDefaultRoute = isDefaultRoute
    }
}

/// How the container joined.
public struct AttachAnswer: Sendable, Hashable {
    /// The interface's name on the host, empty when there is none.
    public var hostInterface: String
    public var mtu: Int

    public init(hostInterface: String, mtu: Int) {
        self.hostInterface = hostInterface
        self.mtu = mtu
    }
}

/// A container that leaves a network.
public struct DetachRequest: Sendable {
    public var network: LocalNetwork
    public var containerID: ID
    public var sandboxPath: String

    public init(network: LocalNetwork, containerID: ID, sandboxPath: String) {
        self.network = network
        self.containerID = containerID
        self.sandboxPath = sandboxPath
    }
}
