import PluginAPI

/// What a network of this driver looks like on every node: the names and settings that follow from the network alone.
struct OverlayPlan: Sendable, Hashable {
    /// In the network's own namespace.
    static let bridgeName = "bridge0"
    static let deviceName = "vxlan0"
    static let mtuOption = "com.docker.network.driver.mtu"
    static let vniOption = "com.docker.network.driver.overlay.vxlanid_list"
    static let encryptionOption = "encrypted"

    let id: ID
    let networkName: String
    let gateway: IPPrefix
    let gatewayV6: IPPrefix?
    /// `nil`: what the underlay leaves.
    let requestedMTU: Int?
    let isEncrypted: Bool
    let macAddress: MACAddress

    /// - Throws: `invalidArgument` naming the option.
    init(_ network: LocalNetwork) throws(ApusError) {
        guard (1...64).contains(network.id.text.utf8.count), network.id.text.utf8.allSatisfy(Self.isPlain) else {
            throw ApusError(.invalidArgument, "\"\(network.id)\" is no id of a network")
        }
        guard network.gateway.address.isIPv4, network.gatewayV6.map({ !$0.address.isIPv4 }) ?? true else {
            throw ApusError(.invalidArgument, "network \(network.name): an overlay needs an IPv4 subnet, and an IPv6 one beside it at most")
        }
        id = network.id
        networkName = network.name
        gateway = network.gateway
        gatewayV6 = network.gatewayV6
        macAddress = MACAddress(containerWith: network.gateway.address)
        var mtu: Int?
        var isEncrypted = network.isEncrypted
        for (option, value) in network.options.sorted(by: { $0.key < $1.key }) {
            switch option {
            case Self.mtuOption:
                // IPv6 does not work below 1280.
                let least = network.gatewayV6 == nil ? 68 : 1280
                guard let number = Int(value), (least...65535).contains(number) else {
                    throw ApusError(.invalidArgument, "network \(network.name): \(option) must be \(least) to 65535, not \"\(value)\"")
                }
                mtu = number
            case Self.vniOption:
                guard let number = UInt32(value), (1...0xff_ffff).contains(number) else {
                    throw ApusError(.invalidArgument, "network \(network.name): \(option) must be a number from 1 to 16777215, not \"\(value)\"")
                }
            case Self.encryptionOption:
                switch value {
                case "", "true", "1": isEncrypted = true
                case "false", "0": break
                default: throw ApusError(.invalidArgument, "network \(network.name): \(option) must be true or false, not \"\(value)\"")
                }
            default:
                throw ApusError(
                    .invalidArgument,
                    "network \(network.name): the driver overlay has no option \"\(option)\"; it has \(Self.mtuOption), \(Self.vniOption) and \(Self.encryptionOption)"
                )
            }
        }
        requestedMTU = mtu
        self.isEncrypted = isEncrypted
    }

    /// What a packet of a container may have, in bytes.
    ///
    /// VXLAN takes the outer IP header, 8 bytes of UDP, 8 of its own, and the frame's 14. ESP with AES-GCM takes 16 bytes before and 16 behind, and fills
    /// the packet and its own two last bytes up to a multiple of four.
    func mtu(ofUnderlay underlay: Int, isIPv4: Bool) -> Int {
        if let requestedMTU { return requestedMTU }
        let payload = underlay - (isIPv4 ? 20 : 40)
        return isEncrypted ? (payload - 32) / 4 * 4 - 32 : payload - 30
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }
}
