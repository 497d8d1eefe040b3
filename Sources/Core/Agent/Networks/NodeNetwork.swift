public import PluginAPI

/// A network of this node alone (Engine API `Network` with scope `local`).
public struct NodeNetwork: FieldCoded {
    /// 64 hexadecimal digits.
    public var id: ID = ""
    public var name: String = ""
    /// `bridge`, `host` or `null`, or another driver's name.
    public var driver: String = ""
    /// The subnet with the gateway's address: `172.30.0.1/16`; empty for `host` and `none`.
    public var gateway: String = ""
    /// The same of IPv6; a container's address there has its IPv4 address for its last 32 bits.
    public var gatewayV6: String = ""
    /// Without a way out.
    public var isInternal: Bool = false
    public var labels: [String: String] = [:]
    public var options: [String: String] = [:]
    public var createdAt: Timestamp = .never

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Id", &id, .always)
        try coder.field(2, "Name", &name, .always)
        try coder.field(3, "Driver", &driver, .always)
        try coder.field(4, "Gateway", &gateway)
        try coder.field(5, "Internal", &isInternal)
        try coder.field(6, "Labels", &labels)
        try coder.field(7, "Options", &options)
        try coder.field(8, "Created", &createdAt, .always)
        try coder.field(9, "GatewayV6", &gatewayV6)
    }

    /// The subnet with the gateway's address; `nil` for `host` and `none`.
    public var gatewayPrefix: IPPrefix? { IPPrefix(gateway) }

    /// The name of the network by which tasks in networks of the swarm reach the world, and are reached by published ports. Containers
    /// cannot talk to each other there.
    public static let gatewayName = "apus_gwbridge"

    /// Whether the engine made it, and it cannot be removed.
    public var isPredefined: Bool { ["bridge", "host", "none", Self.gatewayName].contains(name) }

    /// The IPv6 address that goes with an IPv4 address of this network.
    func addressV6(for address: IPAddress) -> IPPrefix? {
        guard address.isIPv4, let gateway = IPPrefix(gatewayV6), gateway.length <= 96 else { return nil }
        let bytes = gateway.network.address.bytes.prefix(12) + address.bytes
        return IPAddress(bytes: Array(bytes)).flatMap { IPPrefix($0, length: gateway.length) }
    }

    /// As its driver sees it; `nil` for `host` and `none`.
    var local: LocalNetwork? {
        guard let gatewayPrefix else { return nil }
        var network = LocalNetwork(id: id, name: name, gateway: gatewayPrefix)
        network.gatewayV6 = IPPrefix(gatewayV6)
        network.isInternal = isInternal
        network.options = options
        return network
    }
}

/// A network that somebody wants (Engine API `POST /networks/create`).
public struct NodeNetworkRequest: Sendable {
    public var name: String
    /// Empty: `bridge`.
    public var driver = ""
    /// With a length; `nil`: one that is free is chosen.
    public var subnet: IPPrefix?
    /// `nil`: the first of the subnet.
    public var gateway: IPAddress?
    /// The IPv6 subnet with the gateway's address, at most 96 bits of prefix; `nil`: none.
    public var gatewayV6: IPPrefix?
    public var isInternal = false
    public var labels: [String: String] = [:]
    public var options: [String: String] = [:]

    public init(name: String) { self.name = name }
}

/// What `networks.json` holds.
struct NodeNetworkTable: FieldCoded {
    var networks: [NodeNetwork] = []

    init() {}

    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Networks", &networks, .always)
    }
}

/// Which subnets and addresses are free. Pure.
enum AddressChoice {
    /// The subnet of `bridge`, where nothing overlaps it.
    static let preferred = IPPrefix(IPAddress(v4: 172, 30, 0, 0), length: 16)

    /// Subnets for networks that name none, best first.
    static var candidates: [IPPrefix] {
        let wide = [30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 31].compactMap { IPPrefix(IPAddress(v4: 172, $0, 0, 0), length: 16) }
        let narrow = stride(from: 0, to: 256, by: 16).compactMap { IPPrefix(IPAddress(v4: 192, 168, UInt8($0), 0), length: 20) }
        return wide + narrow
    }

    /// A unique local prefix of 64 bits (RFC 4193) with the address of its gateway, and as many bits of chance as it has.
    static func uniqueLocal(using generator: inout some RandomNumberGenerator) -> IPPrefix? {
        var bytes: [UInt8] = [0xfd]
        for _ in 0..<7 { bytes.append(UInt8.random(in: .min ... .max, using: &generator)) }
        bytes += [UInt8](repeating: 0, count: 7) + [1]
        return IPAddress(bytes: bytes).flatMap { IPPrefix($0, length: 64) }
    }

    static func subnet(avoiding taken: [IPPrefix]) throws(ApusError) -> IPPrefix {
        guard let free = candidates.first(where: { candidate in !taken.contains { $0.overlaps(candidate) } }) else {
            throw ApusError(.unavailable, "all predefined subnets overlap networks or routes of this host; name a subnet with --subnet")
        }
        return free
    }

    /// The gateway's prefix of a subnet: its first address unless one is named.
    static func gateway(of subnet: IPPrefix, named gateway: IPAddress?) throws(ApusError) -> IPPrefix {
        guard subnet.address.isIPv4 else { throw ApusError(.unimplemented, "local networks of IPv6 are not supported yet: \(subnet)") }
        guard subnet.length <= 29 else { throw ApusError(.invalidArgument, "the subnet \(subnet) is too small: /29 is the smallest") }
        guard let address = gateway ?? subnet.network.address.advanced(by: 1), let prefix = IPPrefix(address, length: subnet.length),
            subnet.contains(address)
        else {
            throw ApusError(.invalidArgument, "the gateway is not in the subnet \(subnet)")
        }
        return prefix
    }

    /// Destinations of `/proc/net/route`, the default route left out.
    static func routes(_ text: String) -> [IPPrefix] {
        text.split(whereSeparator: \.isNewline).dropFirst().compactMap { line in
            let fields = line.split { $0 == "\t" || $0 == " " }
            guard fields.count >= 8, let destination = UInt32(fields[1], radix: 16), let mask = UInt32(fields[7], radix: 16), mask != 0 else {
                return nil
            }
            let bytes = withUnsafeBytes(of: destination) { Array($0) }
            guard let address = IPAddress(bytes: bytes) else { return nil }
            return IPPrefix(address, length: mask.nonzeroBitCount)
        }
    }
}
