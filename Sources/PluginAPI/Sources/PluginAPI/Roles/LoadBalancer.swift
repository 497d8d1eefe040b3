/// Spreads the connections to published ports over the tasks behind them.
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

    public init(ports: [BalancedPort] = [], subnets: [IPPrefix] = []) {
        self.ports = ports
        self.subnets = subnets
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

/// A task that answers.
public struct Backend: Sendable, Hashable {
    public var address: IPAddress
    public var port: UInt16

    public init(address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }
}
