import PluginAPI

/// A published port's identity on the node.
public struct PortKey: Sendable, Hashable, CustomStringConvertible {
    public var transport: TransportProtocol
    public var port: UInt16
    /// `nil`: all of the node's.
    public var address: IPAddress?

    public init(transport: TransportProtocol, port: UInt16, address: IPAddress? = nil) {
        self.transport = transport
        self.port = port
        self.address = address
    }

    public var description: String { (address.map { $0.isIPv4 ? "\($0):" : "[\($0)]:" } ?? "") + "\(port)/\(transport.rawValue)" }

    /// The name of the port's chain in a table of rules: `tcp-80`, or `tcp-80-10.0.0.1`.
    public var chain: String {
        "\(transport.rawValue)-\(port)" + (address.map { "-" + $0.description.map { $0 == ":" ? "_" : String($0) }.joined() } ?? "")
    }

    /// Of the IP header. Numbers, because rules with names would be looked up in /etc/protocols. `nil` for what a later version of the API may add.
    public var protocolNumber: UInt8? {
        switch transport {
        case .tcp: 6
        case .udp: 17
        case .sctp: 132
        @unknown default: nil
        }
    }
}
