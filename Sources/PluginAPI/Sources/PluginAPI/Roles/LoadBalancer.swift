/// Spreads the connections to published ports, and to services' virtual addresses, over the tasks behind them.
///
/// A published port answers on every node and the task sees the client's address: what that takes is `MeshState`. A virtual address is balanced in
/// the namespace of the client, so there too the task sees the client's address.
public protocol LoadBalancer: Plugin {
    /// Whether this node's kernel has what the balancer needs; throws `unavailable` with what is missing.
    func probe() async throws(ApusError)
    /// Makes the node's state this one, in a single step: connections see the old or the new state, never a mixture.
    /// Established connections to backends that stay are not touched.
    /// `conflict` when a port is held by another program; the other ports are in force all the same.
    func apply(_ state: BalancerState) async throws(ApusError)
}

/// Everything a node balances.
public struct BalancerState: Sendable, Hashable {
    public var ports: [BalancedPort]
    /// The subnets of the networks that the backends are in: clients inside of them need masquerading to get an answer.
    public var subnets: [IPPrefix]
    /// The way between the nodes; `nil` outside of a swarm or while the swarm has no ingress network.
    public var mesh: MeshState?
    /// The containers of this node that are clients of services, sorted by path.
    public var sandboxes: [SandboxState]

    public init(ports: [BalancedPort] = [], subnets: [IPPrefix] = [], mesh: MeshState? = nil, sandboxes: [SandboxState] = []) {
        self.ports = ports
        self.subnets = subnets
        self.mesh = mesh
        self.sandboxes = sandboxes
    }
}

/// One published port.
public struct BalancedPort: Sendable, Hashable {
    public var transport: TransportProtocol
    /// On the node, 1 to 65535.
    public var port: UInt16
    /// The address of the node that answers, or all when absent.
    public var hostAddress: IPAddress?
    /// Empty: connections are refused.
    public var backends: [Backend]

    public init(transport: TransportProtocol, port: UInt16, hostAddress: IPAddress? = nil, backends: [Backend]) {
        self.transport = transport
        self.port = port
        self.hostAddress = hostAddress
        self.backends = backends
    }
}

/// A task that answers: by its address in a network of this node, or on another node by its address in the mesh.
public struct Backend: Sendable, Hashable {
    public var address: IPAddress
    public var port: UInt16

    public init(address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }
}
