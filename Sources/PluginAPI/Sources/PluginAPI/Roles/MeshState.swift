/// The ingress network as one node sees it: how connections to published ports reach tasks on other nodes, and how the answers come back.
///
/// The node that takes a connection translates its destination to the task's address in the mesh, and leaves the source alone. A task's address in the
/// mesh is routed: its neighbour entry is the address of its node's device. The node that runs the task translates that address to
/// the task's own, remembers in the connection's mark which node brought it, and sends the answers back there. So nobody needs a second address.
public struct MeshState: Sendable, Hashable {
    public var networkID: ID
    /// The number of the ingress network in VXLAN, 24 bits.
    public var vni: UInt32
    /// UDP.
    public var dataPathPort: UInt16 = 4789
    /// This node's address on the underlay.
    public var underlay: IPAddress
    /// This node's address in the mesh, with the length of the network.
    public var address: IPPrefix
    public var addressV6: IPPrefix?
    /// Of the device; 0: the underlay's less what VXLAN takes.
    public var mtu: Int = 0
    /// The other nodes, sorted by index.
    public var nodes: [MeshNode] = []
    /// The tasks of other nodes that have an address in the mesh, sorted by address.
    public var remoteTasks: [RemoteTask] = []
    /// The tasks of this node, sorted by address.
    public var localTasks: [LocalTask] = []
    public var isEncrypted = false
    /// As `LocalNetwork.keys`.
    public var keys: [NetworkKey] = []

    public init(networkID: ID, vni: UInt32, underlay: IPAddress, address: IPPrefix) {
        self.networkID = networkID
        self.vni = vni
        self.underlay = underlay
        self.address = address
    }

    /// Another node in the mesh.
    public struct MeshNode: Sendable, Hashable {
        /// The distance of its address from the network's first: not 0, at most 65,535, and no other node has it.
        public var index: UInt16
        /// In the mesh.
        public var address: IPAddress
        public var addressV6: IPAddress?
        /// On the underlay.
        public var underlay: IPAddress

        /// Of its device: `MACAddress(containerWith: address)`.
        public var macAddress: MACAddress { MACAddress(containerWith: address) }

        public init(index: UInt16, address: IPAddress, addressV6: IPAddress? = nil, underlay: IPAddress) {
            self.index = index
            self.address = address
            self.addressV6 = addressV6
            self.underlay = underlay
        }
    }

    /// A task that runs on another node.
    public struct RemoteTask: Sendable, Hashable {
        /// In the mesh.
        public var address: IPAddress
        public var addressV6: IPAddress?
        /// Its node's.
        public var nodeIndex: UInt16

        public init(address: IPAddress, addressV6: IPAddress? = nil, nodeIndex: UInt16) {
            self.address = address
            self.addressV6 = addressV6
            self.nodeIndex = nodeIndex
        }
    }

    /// A task that runs here.
    public struct LocalTask: Sendable, Hashable {
        /// In the mesh.
        public var address: IPAddress
        public var addressV6: IPAddress?
        /// In the local network by which it is reached.
        public var target: IPAddress
        public var targetV6: IPAddress?

        public init(address: IPAddress, addressV6: IPAddress? = nil, target: IPAddress, targetV6: IPAddress? = nil) {
            self.address = address
            self.addressV6 = addressV6
            self.target = target
            self.targetV6 = targetV6
        }
    }
}

/// A container's network namespace, and the services that are reached from it by virtual addresses.
public struct SandboxState: Sendable, Hashable {
    /// Of the pinned namespace. One that is gone is not an error: its container has ended.
    public var path: String
    /// Sorted by address.
    public var services: [VirtualService]

    public init(path: String, services: [VirtualService]) {
        self.path = path
        self.services = services
    }
}

/// A service's address in a network. All ports of all protocols, and echo requests, go to one backend after the other; ports stay as they are.
public struct VirtualService: Sendable, Hashable {
    public var address: IPAddress
    /// Of the same family, sorted. Empty: connections are refused.
    public var backends: [IPAddress]

    public init(address: IPAddress, backends: [IPAddress]) {
        self.address = address
        self.backends = backends
    }
}
