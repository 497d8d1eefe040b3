import Netlink
import PluginAPI

/// What a network of this driver looks like on the node: the names and settings that follow from the network alone.
struct BridgePlan: Sendable, Hashable {
    let id: ID
    let networkName: String
    let bridgeName: String
    let macAddress: MACAddress
    let gateway: IPPrefix
    let gatewayV6: IPPrefix?
    let mtu: Int
    let isInternal: Bool
    /// Whether containers of the network may talk to each other.
    let allowsPeers: Bool
    /// Whether what leaves gets the node's address.
    let masquerades: Bool

    /// - Throws: `invalidArgument` naming the option.
    init(_ network: LocalNetwork) throws(ApusError) {
        guard !network.id.isEmpty, network.id.text.utf8.count <= 64, network.id.text.utf8.allSatisfy({ Self.isPlain($0) }) else {
            throw ApusError(.invalidArgument, "\"\(network.id)\" is no id of a network")
        }
        guard network.gateway.address.isIPv4, network.gatewayV6.map({ !$0.address.isIPv4 }) ?? true else {
            throw ApusError(.invalidArgument, "network \(network.name): a bridge needs an IPv4 gateway, and an IPv6 one beside it at most")
        }
        id = network.id
        networkName = network.name
        bridgeName = network.options["com.docker.network.bridge.name"].flatMap { $0.isEmpty ? nil : $0 } ?? "apus\(network.id.text.prefix(8))"
        guard (1...15).contains(bridgeName.utf8.count), bridgeName.utf8.allSatisfy({ Self.isPlain($0) }), bridgeName != ".", bridgeName != ".." else {
            throw ApusError(
                .invalidArgument,
                "network \(network.name): \"\(bridgeName)\" is no name for a bridge: use 1 to 15 letters, digits, dots, hyphens and underscores")
        }
        gateway = network.gateway
        gatewayV6 = network.gatewayV6
        macAddress = MACAddress(containerWith: network.gateway.address)
        isInternal = network.isInternal
        let mtuText = network.options["com.docker.network.driver.mtu"] ?? "1500"
        guard let mtu = Int(mtuText), (68...65535).contains(mtu) else {
            throw ApusError(.invalidArgument, "network \(network.name): com.docker.network.driver.mtu must be 68 to 65535, not \"\(mtuText)\"")
        }
        self.mtu = mtu
        allowsPeers = try Self.flag("com.docker.network.bridge.enable_icc", network)
        masquerades = try Self.flag("com.docker.network.bridge.enable_ip_masquerade", network)
    }

    /// The interface on the host that belongs to a container's in this network.
    func hostInterface(for container: ID) -> String { SandboxInterface.name(network: id, container: container) }

    private static func flag(_ option: String, _ network: LocalNetwork) throws(ApusError) -> Bool {
        switch network.options[option] {
        case nil, "true", "1": true
        case "false", "0": false
        case let other?: throw ApusError(.invalidArgument, "network \(network.name): \(option) must be true or false, not \"\(other)\"")
        }
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }
}
