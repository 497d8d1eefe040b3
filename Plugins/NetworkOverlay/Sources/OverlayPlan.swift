import PluginAPI

/// What a network of this driver looks like on the node: names and settings that follow from the network alone.
struct OverlayPlan: Sendable, Hashable {
    static let mtuOption = "com.docker.network.driver.mtu"
    static let vniOption = "com.docker.network.driver.overlay.vxlanid_list"
    /// The same in every network's namespace.
    static let bridge = "br0"
    static let device = "vxlan0"

    let id: ID
    let name: String
    let gateway: IPPrefix
    let gatewayV6: IPPrefix?
    let vni: UInt32
    let port: UInt16
    /// `nil`: the underlay's, less what VXLAN takes.
    let wantedMTU: Int?
    let isEncrypted: Bool
    let isInternal: Bool

    /// - Throws: `invalidArgument` naming the option.
    init(_ network: LocalNetwork) throws(ApusError) {
        func refuse(_ reason: String) -> ApusError { ApusError(.invalidArgument, "network \(network.name): \(reason)") }
        guard !network.id.isEmpty, network.id.text.utf8.count <= 64, network.id.text.utf8.allSatisfy(Self.isPlain) else {
            throw refuse("\"\(network.id)\" is no id of a network")
        }
        guard network.gateway.address.isIPv4, network.gatewayV6.map({ !$0.address.isIPv4 }) ?? true else {
            throw refuse("an overlay needs an IPv4 subnet, and an IPv6 one beside it at most")
        }
        for option in network.options.keys.sorted() where ![Self.mtuOption, Self.vniOption, "encrypted"].contains(option) {
            throw refuse("the driver overlay does not know the option \"\(option)\"; it knows \(Self.mtuOption), \(Self.vniOption) and encrypted")
        }
        if let text = network.options[Self.mtuOption] {
            guard let mtu = Int(text), (network.gatewayV6 == nil ? 68 : 1280)...65485 ~= mtu else {
                throw refuse("\(Self.mtuOption) must be \(network.gatewayV6 == nil ? 68 : 1280) to 65485, not \"\(text)\"")
            }
            wantedMTU = mtu
        } else {
            wantedMTU = nil
        }
        if let text = network.options[Self.vniOption] {
            guard let number = UInt32(text), 1...0xff_ffff ~= number else { throw refuse("\(Self.vniOption) must be one number of 24 bits, not \"\(text)\"") }
        }
        if let text = network.options["encrypted"], !["", "true", "false"].contains(text) {
            throw refuse("the option encrypted must be true or false, not \"\(text)\"")
        }
        id = network.id
        name = network.name
        gateway = network.gateway
        gatewayV6 = network.gatewayV6
        vni = network.vni
        port = network.dataPathPort
        isEncrypted = network.isEncrypted
        isInternal = network.isInternal
    }

    /// What VXLAN puts before a frame: its Ethernet, IP, UDP and VXLAN headers; and what ESP with AES-GCM adds to that at most.
    static func overhead(on underlay: IPAddress, isEncrypted: Bool) -> Int { (underlay.isIPv4 ? 50 : 70) + (isEncrypted ? 38 : 0) }

    /// The container's interface as its network's namespace sees it.
    func portName(for container: ID) -> String { "apo" + Self.digest("\(id)/\(container)") }

    private static func isPlain(_ byte: UInt8) -> Bool {
        UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
    }

    /// 48 bits of FNV-1a, in hexadecimal.
    private static func digest(_ text: String) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        let digits = String((hash ^ hash >> 48) & 0xffff_ffff_ffff, radix: 16)
        return String(repeating: "0", count: 12 - digits.count) + digits
    }
}
