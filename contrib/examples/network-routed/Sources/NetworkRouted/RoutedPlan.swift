import PluginAPI

/// A routed network on one node: the names and the commands of ip(8) that follow from it alone. Pure.
///
/// Each container has a pair of interfaces of its own, one end in its namespace, one on the node, and no bridge: the node has a route of 32 bits
/// to each container, the container one to the whole network by way of its node. A container of another node is a route by way of that node.
struct RoutedPlan: Sendable, Hashable {
    /// The option for the size of packets, which every driver has under the same name.
    static let mtuOption = "com.docker.network.driver.mtu"
    /// What the managers note in every network of a swarm, and what has no meaning without VXLAN.
    static let ignoredOption = "com.docker.network.driver.overlay.vxlanid_list"
    /// Marks this driver's own routes (rtnetlink's protocol number; from 128 on they are for whoever wants one). The kernel takes the
    /// routes to the containers of this node away with their interfaces, so that these are told apart.
    static let peersProtocol = 142
    static let subnetProtocol = 143

    let name: String
    let gateway: IPAddress
    let subnet: IPPrefix
    let mtu: Int
    private let prefix: String

    /// - Throws: `invalidArgument` naming what this driver cannot do.
    init(_ network: LocalNetwork) throws(ApusError) {
        func refused(_ what: String) -> ApusError { ApusError(.invalidArgument, "network \(network.name): \(what)") }
        guard network.id.text.utf8.count >= 5, network.id.text.utf8.allSatisfy({ Self.isPlain($0) }) else { throw refused("\"\(network.id)\" is no id") }
        guard network.gateway.address.isIPv4, network.gatewayV6 == nil else {
            throw refused("the driver routed has IPv4 alone; leave --ipv6 out")
        }
        guard network.gateway.length <= 30 else { throw refused("\(network.gateway.network) has no room for containers") }
        guard !network.isEncrypted else { throw refused("the driver routed sends packets as they are; leave encrypted out, or use overlay") }
        guard !network.isInternal else {
            throw refused("the driver routed keeps nobody off: whoever has a route to a container reaches it; leave --internal out, or use overlay")
        }
        var mtu = 1500
        for (option, value) in network.options.sorted(by: { $0.key < $1.key }) where option != Self.ignoredOption {
            guard option == Self.mtuOption else { throw refused("the driver routed does not know the option \(option); it has \(Self.mtuOption)") }
            guard let number = Int(value), (68...65535).contains(number) else { throw refused("\(option) is 68 to 65535, not \"\(value)\"") }
            mtu = number
        }
        name = network.name
        gateway = network.gateway.address
        subnet = network.gateway.network
        self.mtu = mtu
        prefix = "rt\(network.id.text.prefix(5))-"
    }

    /// The node's end of a container's pair; 15 characters at most are allowed.
    func hostInterface(of container: ID) -> String { prefix + container.text.prefix(7) }

    /// Whether the interface belongs to this network.
    func owns(_ interface: String) -> Bool { interface.hasPrefix(prefix) }

    /// On the node. What has no better route is nobody: without this it would leave by the default route.
    var creation: [String] { ["route replace unreachable \(subnet) metric 4096 proto \(Self.subnetProtocol)"] }

    /// On the node: makes the pair, with one end where it belongs.
    func pair(_ request: AttachRequest) -> [String] {
        [
            "link add dev \(hostInterface(of: request.containerID)) mtu \(mtu) type veth peer name \(request.interfaceName) "
                + "address \(request.macAddress) mtu \(mtu) netns \(request.sandboxPath)"
        ]
    }

    /// In the container's namespace. May be run again.
    func inside(_ request: AttachRequest) -> [String] {
        let interface = request.interfaceName
        var commands = [
            "address replace \(request.address.address)/32 dev \(interface)", "link set dev \(interface) up",
            "route replace \(gateway) dev \(interface) scope link", "route replace \(subnet) via \(gateway) dev \(interface)",
        ]
        if request.isDefaultRoute { commands.append("route replace default via \(gateway) dev \(interface)") }
        return commands
    }

    /// On the node, when the container's end is ready. May be run again.
    func outside(_ request: AttachRequest) -> [String] {
        let interface = hostInterface(of: request.containerID)
        return [
            "address replace \(gateway)/32 dev \(interface)", "link set dev \(interface) up",
            "route replace \(request.address.address)/32 dev \(interface) src \(gateway)",
        ]
    }

    /// What turns the routes to containers of other nodes that there are into those that are wanted; nothing of a route that is right is touched.
    func changes(from present: [HostRoute], to peers: [NetworkPeer]) -> [String] {
        let wanted = Set(peers.filter(\.address.isIPv4).map { HostRoute(address: $0.address, node: $0.node) })
        let addresses = Set(wanted.map(\.address))
        let stale = present.filter { !addresses.contains($0.address) }
        let new = wanted.subtracting(present).sorted()
        return stale.map { "route delete \($0.address)/32 proto \(Self.peersProtocol)" }
            + new.map { "route replace \($0.address)/32 via \($0.node) proto \(Self.peersProtocol)" }
    }

    private static func isPlain(_ byte: UInt8) -> Bool { (48...57).contains(byte) || (97...122).contains(byte) }
}

/// A route to a container of another node.
struct HostRoute: Hashable, Comparable, Sendable {
    var address: IPAddress
    var node: IPAddress

    static func < (left: HostRoute, right: HostRoute) -> Bool { (left.address, left.node) < (right.address, right.node) }
}

/// What ip(8) prints with `-o`, a line for each thing.
enum Listing {
    /// `10.9.0.7 via 192.168.1.2 dev eth0`; other lines are passed over.
    static func routes(_ text: String) -> [HostRoute] {
        lines(text).compactMap { words in
            guard words.count >= 3, words[1] == "via", let address = IPAddress(words[0]), let node = IPAddress(words[2]) else { return nil }
            return HostRoute(address: address, node: node)
        }
    }

    /// `3: eth0    inet 10.9.0.1/24 brd … scope global eth0\ …`
    static func addresses(_ text: String) -> [(interface: String, prefix: IPPrefix)] {
        lines(text).compactMap { words in
            guard words.count >= 4, words[2] == "inet", let prefix = IPPrefix(words[3]) else { return nil }
            return (words[1], prefix)
        }
    }

    /// `3: rtabcde-0123456@if2: <BROADCAST,…> mtu 1500 …`
    static func interfaces(_ text: String) -> [String] {
        lines(text).compactMap { words in
            guard words.count >= 2, words[1].hasSuffix(":") else { return nil }
            return String(words[1].dropLast().prefix { $0 != "@" })
        }
    }

    private static func lines(_ text: String) -> [[String]] {
        text.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    }
}
