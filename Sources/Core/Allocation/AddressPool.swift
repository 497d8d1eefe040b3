public import PluginAPI

/// The addresses of one subnet, for one allocation.
///
/// Nothing is remembered: what is free follows from what is in use, so that nothing can drift after a crash. The address of the network itself, its
/// broadcast address, the gateway and what is reserved are never given away.
public struct AddressPool: Sendable {
    /// The lengths that a subnet may have: room for a gateway and a container, and a host part of at most 64 bits.
    public static func lengths(isIPv4: Bool) -> ClosedRange<Int> { isIPv4 ? 1...30 : 64...126 }

    public let subnet: IPPrefix
    public let gateway: IPAddress
    /// The first and the last host part that may be given away.
    private let base: UInt64
    private let last: UInt64
    /// Host parts that are never given away.
    private let taken: Set<UInt64>

    /// - Parameters:
    ///   - subnet: an IPv4 prefix of 1 to 30 bits, or an IPv6 prefix of 64 to 126; bits past the prefix do not matter.
    ///   - gateway: an address inside; the first one when it is `nil`.
    ///   - range: gives addresses from a part of the subnet only.
    ///   - reserved: addresses that are never given away; those outside do not matter.
    /// - Throws: `invalidArgument` when the subnet is too small or too large, or the gateway or the range lie outside.
    public init(subnet: IPPrefix, gateway: IPAddress? = nil, range: IPPrefix? = nil, reserved: some Sequence<IPAddress> = []) throws(ApusError) {
        let lengths = Self.lengths(isIPv4: subnet.address.isIPv4)
        guard subnet.length <= lengths.upperBound else {
            throw ApusError(
                .invalidArgument,
                "the subnet \(subnet) has no room for a gateway and a container: its prefix must be of \(lengths.lowerBound) to \(lengths.upperBound) bits")
        }
        guard subnet.length >= lengths.lowerBound else {
            throw ApusError(
                .invalidArgument, "the subnet \(subnet) is too large: its prefix must be of \(lengths.lowerBound) to \(lengths.upperBound) bits")
        }
        let network = subnet.network
        self.subnet = network
        let end = Self.hostMask(network)
        // IPv6 has no broadcast address.
        let highest = network.address.isIPv4 ? end - 1 : end
        guard let chosen = gateway ?? network.address.advanced(by: 1), network.contains(chosen), (1...highest).contains(Self.host(chosen, in: network))
        else {
            throw ApusError(
                .invalidArgument, "the gateway \(gateway?.description ?? "") is not an address of a host in the subnet \(network)")
        }
        self.gateway = chosen
        if let range {
            guard range.length >= network.length, network.contains(range.address) else {
                throw ApusError(.invalidArgument, "the range \(range) is not inside the subnet \(network)")
            }
            let start = Self.host(range.network.address, in: network)
            base = max(1, start)
            last = min(highest, start | Self.hostMask(range))
        } else {
            base = 1
            last = highest
        }
        var taken = Set(reserved.lazy.filter { network.contains($0) }.map { Self.host($0, in: network) })
        taken.insert(Self.host(chosen, in: network))
        self.taken = taken
    }

    /// Whether the pool could give this address away: inside its range, and not reserved.
    public func contains(_ address: IPAddress) -> Bool {
        guard subnet.contains(address) else { return false }
        let host = Self.host(address, in: subnet)
        return host >= base && host <= last && !taken.contains(host)
    }

    /// The next free address after `previous`, around the end to the start; the lowest free one when `previous` is `nil`.
    ///
    /// Passing the address given last lets an address rest before it is used again, as stale neighbour entries and connections want.
    /// `nil` when all are in use.
    public func next(inUse: Set<IPAddress>, after previous: IPAddress? = nil) -> IPAddress? {
        guard base <= last else { return nil }
        var start = base
        if let previous, subnet.contains(previous) {
            let host = Self.host(previous, in: subnet)
            start = host >= base && host < last ? host + 1 : base
        }
        var candidate = start
        // At most as many steps as there are addresses in use: each step that goes on has met another one of them.
        repeat {
            if !taken.contains(candidate), case let address = address(ofHost: candidate), !inUse.contains(address) { return address }
            candidate = candidate == last ? base : candidate + 1
        } while candidate != start
        return nil
    }

    /// The address in this subnet with the host part of another one, if the pool could give it away.
    public func counterpart(of other: IPAddress, in network: IPPrefix) -> IPAddress? {
        let host = Self.host(other, in: network)
        guard host <= Self.hostMask(subnet), case let address = address(ofHost: host), contains(address) else { return nil }
        return address
    }

    /// All bits of the host part.
    private static func hostMask(_ subnet: IPPrefix) -> UInt64 {
        let bits = subnet.address.bytes.count * 8 - subnet.length
        return bits >= 64 ? .max : 1 << UInt64(bits) - 1
    }

    private static func host(_ address: IPAddress, in subnet: IPPrefix) -> UInt64 {
        address.bytes.suffix(8).reduce(0) { $0 << 8 | UInt64($1) } & hostMask(subnet)
    }

    private func address(ofHost host: UInt64) -> IPAddress {
        var bytes = subnet.address.bytes
        var rest = host
        for index in bytes.indices.reversed() where rest > 0 {
            bytes[index] |= UInt8(truncatingIfNeeded: rest)
            rest >>= 8
        }
        return IPAddress(bytes: bytes) ?? subnet.address
    }
}
