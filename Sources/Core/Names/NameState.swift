public import PluginAPI

/// Everything that the name servers of a node's sandboxes answer.
public struct NameState: Sendable, Hashable {
    public var networks: [ID: NetworkNames]
    /// By the path at which the sandbox's network namespace is pinned.
    public var sandboxes: [String: SandboxNames]

    public init(networks: [ID: NetworkNames] = [:], sandboxes: [String: SandboxNames] = [:]) {
        self.networks = networks
        self.sandboxes = sandboxes
    }
}

/// The names of one network.
public struct NetworkNames: Sendable, Hashable {
    /// The network's own: behind a dot it may follow every name of the network. Empty when it has none.
    public var name: String
    /// In lower case and without a trailing dot, such as `frontend` and `tasks.frontend`. A name without addresses is known all the same, and is never
    /// asked for elsewhere.
    public var names: [String: [IPAddress]]
    /// The name that each address has.
    public var pointers: [IPAddress: String]
    /// An address in here that has no name has none elsewhere either. All other addresses are asked for upstream.
    public var subnets: [IPPrefix]

    public init(name: String, names: [String: [IPAddress]] = [:], pointers: [IPAddress: String] = [:], subnets: [IPPrefix] = []) {
        self.name = name
        self.names = names
        self.pointers = pointers
        self.subnets = subnets
    }
}

/// What one sandbox can ask for.
public struct SandboxNames: Sendable, Hashable {
    /// In order of precedence: a name is taken from the first that knows it.
    public var networks: [ID]
    /// Whom to ask for everything else, in order; empty where nobody is to be asked, which fails such queries at once.
    public var upstream: [UpstreamServer]
    /// Names that this sandbox alone knows, such as links; they go before those of its networks. In lower case and without a trailing dot.
    public var ownNames: [String: [IPAddress]]

    public init(networks: [ID] = [], upstream: [UpstreamServer] = [], ownNames: [String: [IPAddress]] = [:]) {
        self.networks = networks
        self.upstream = upstream
        self.ownNames = ownNames
    }
}

/// A name server outside of the sandboxes, as it is reached from the engine's own network namespace.
public struct UpstreamServer: Sendable, Hashable, CustomStringConvertible {
    public var address: IPAddress
    public var port: UInt16
    /// The interface that a link-local IPv6 address belongs to, by name or number; empty for all others.
    public var zone: String

    public init(_ address: IPAddress, port: UInt16 = 53, zone: String = "") {
        self.address = address
        self.port = port
        self.zone = zone
    }

    /// Reads an address, with `%` and an interface behind it where it needs one, as resolv.conf(5) has it; `nil` for anything else.
    public init?(_ text: String) {
        let parts = text.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = parts.first.flatMap({ IPAddress(String($0)) }) else { return nil }
        guard parts.count == 1 || !address.isIPv4 && !parts[1].isEmpty else { return nil }
        self.init(address, zone: parts.count == 2 ? String(parts[1]) : "")
    }

    public var description: String {
        let host = zone.isEmpty ? "\(address)" : "\(address)%\(zone)"
        return address.isIPv4 ? "\(host):\(port)" : "[\(host)]:\(port)"
    }
}
