/// Makes networks of one kind on a node and puts containers into them.
///
/// All calls are level-triggered: creating what is there already, or removing what is not, succeeds and repairs what is missing.
public protocol NetworkDriver: Plugin {
    /// Whether a network is one node's own, or one and the same on all nodes of the swarm. Never changes.
    var scope: NetworkScope { get }
    /// Whether the driver can make such a network; asked by the manager before it is declared.
    /// - Throws: `invalidArgument` naming an option that the driver does not know or whose value makes no sense; `unavailable` for what this
    ///   machine cannot do, such as encryption without its kernel's help.
    func check(_ network: LocalNetwork) async throws(ApusError)
    /// Makes the network on this node.
    func create(_ network: LocalNetwork) async throws(ApusError)
    /// Removes the network from this node. `conflict` while containers are in it.
    func remove(_ network: LocalNetwork) async throws(ApusError)
    /// Puts an interface into a container's network namespace. After an error nothing of it is left.
    func attach(_ request: AttachRequest) async throws(ApusError) -> AttachAnswer
    /// Takes the interface away, also when the namespace is gone already.
    func detach(_ request: DetachRequest) async throws(ApusError)
    /// Where everybody else in a network of the swarm is: the whole of it, each time something has changed. The network was made before.
    func setPeers(_ request: PeersRequest) async throws(ApusError)
    /// What is around all networks of this node; called once after the start, also outside of a swarm, and each time something has changed.
    func setSurroundings(_ surroundings: NetworkSurroundings) async throws(ApusError)
}

extension NetworkDriver {
    /// `local`: its networks end at the node.
    public var scope: NetworkScope { .local }
    /// Finds nothing wrong.
    public func check(_ network: LocalNetwork) async throws(ApusError) {}
    /// Does nothing: a local network has no peers.
    public func setPeers(_ request: PeersRequest) async throws(ApusError) {}
    /// Does nothing.
    public func setSurroundings(_ surroundings: NetworkSurroundings) async throws(ApusError) {}
}

/// How far a network reaches, in the Engine API's words.
public enum NetworkScope: String, Sendable, Hashable, CaseIterable {
    case local
    case swarm
}

/// The other endpoints of a network of the swarm.
public struct PeersRequest: Sendable {
    public var network: LocalNetwork
    /// Those on other nodes, sorted by address.
    public var peers: [NetworkPeer]

    public init(network: LocalNetwork, peers: [NetworkPeer]) {
        self.network = network
        self.peers = peers
    }
}

/// An endpoint on another node.
public struct NetworkPeer: Sendable, Hashable {
    /// In the network.
    public var address: IPAddress
    public var addressV6: IPAddress?
    public var macAddress: MACAddress
    /// The node's, on the underlay.
    public var node: IPAddress

    public init(address: IPAddress, addressV6: IPAddress? = nil, macAddress: MACAddress, node: IPAddress) {
        self.address = address
        self.addressV6 = addressV6
        self.macAddress = macAddress
        self.node = node
    }
}

/// What is around the networks of a node: the other nodes, and what containers have no business with.
public struct NetworkSurroundings: Sendable, Hashable {
    /// This node's address on the underlay; `nil` outside of a swarm.
    public var address: IPAddress?
    /// UDP, of VXLAN.
    public var dataPathPort: UInt16 = 4789
    /// The other nodes' addresses on the underlay, sorted. Frames of a network are accepted from these alone.
    public var members: [IPAddress] = []
    /// Where managers listen, this one too, sorted; out of reach from containers.
    public var managers: [NetworkSocket] = []

    public init() {}
}

/// An address and a port.
public struct NetworkSocket: Sendable, Hashable, Comparable {
    public var address: IPAddress
    public var port: UInt16

    public init(address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }

    public static func < (left: NetworkSocket, right: NetworkSocket) -> Bool { (left.address, left.port) < (right.address, right.port) }
}

/// A key of the networks' encryption. The managers make them and change them every twelve hours; the swarm holds three at a time.
public struct NetworkKey: FieldCoded {
    /// Counts the keys; the next key has the next number.
    public var number: UInt64 = 0
    /// 16 random bytes.
    public var key: [UInt8] = []
    public var createdAt: Timestamp = .never

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Number", &number)
        try coder.field(2, "Key", &key)
        try coder.field(3, "CreatedAt", &createdAt)
    }
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
    /// The number of a network of the swarm in VXLAN, 24 bits; 0 for a local one.
    public var vni: UInt32 = 0
    /// This node's address on the underlay; `nil` for a local network.
    public var underlay: IPAddress?
    /// UDP, of VXLAN.
    public var dataPathPort: UInt16 = 4789
    /// Whether what leaves the node must be encrypted; without keys, or without the kernel's help, the network is refused.
    public var isEncrypted = false
    /// Oldest first; the one before the last is sent with, all are accepted, so that a new key is known everywhere before it is used.
    /// With one or two keys the first is sent with.
    public var keys: [NetworkKey] = []

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
    /// Bytes of a packet at most.
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
