public import PluginAPI

/// The IPv4 addresses of one network, for one allocation.
///
/// Nothing is remembered: what is free follows from what is in use, so that nothing can drift after a crash. The address of the network itself, its
/// broadcast address, the gateway and what is reserved are never given away.
public struct AddressPool: Sendable {
    public let subnet: IPPrefix
    public let gateway: IPAddress
    private let base: UInt32
    private let last: UInt32
    private let taken: Set<UInt32>

    /// - Parameters:
    ///   - subnet: an IPv4 prefix of 1 to 30 bits; bits past the prefix do not matter.
    ///   - gateway: an address inside; the first one when it is `nil`.
    ///   - range: gives addresses from a part of the subnet only.
    ///   - reserved: addresses that are never given away.
    /// - Throws: `invalidArgument` when the subnet is of another family or too small, or the gateway or the range lie outside.
    public init(subnet: IPPrefix, gateway: IPAddress? = nil, range: IPPrefix? = nil, reserved: some Sequence<IPAddress> = []) throws(ApusError) {
        guard subnet.address.isIPv4 else { throw ApusError(.invalidArgument, "the subnet \(subnet) is not an IPv4 network") }
        guard (1...30).contains(subnet.length) else {
            throw ApusError(.invalidArgument, "the subnet \(subnet) has no room for a gateway and a container: its prefix must be of 1 to 30 bits")
        }
        let network = subnet.network
        let first = Self.number(network.address)
        let broadcast = first + (UInt32.max >> UInt32(subnet.length))
        self.subnet = network
        let chosen = gateway ?? Self.address(first + 1)
        guard network.contains(chosen), ![first, broadcast].contains(Self.number(chosen)) else {
            throw ApusError(.invalidArgument, "the gateway \(chosen) is not an address of a host in the subnet \(network)")
        }
        self.gateway = chosen
        if let range {
            guard range.address.isIPv4, range.length >= subnet.length, network.contains(range.address) else {
                throw ApusError(.invalidArgument, "the range \(range) is not inside the subnet \(network)")
            }
            base = max(first + 1, Self.number(range.network.address))
            last = min(broadcast - 1, Self.number(range.network.address) + UInt32(truncatingIfNeeded: UInt64(UInt32.max) >> UInt64(range.length)))
        } else {
            base = first + 1
            last = broadcast - 1
        }
        var taken = Set(reserved.filter(\.isIPv4).map { Self.number($0) })
        taken.insert(Self.number(chosen))
        self.taken = taken
    }

    /// Whether the pool could give this address away: inside its range, and not reserved.
    public func contains(_ address: IPAddress) -> Bool {
        guard address.isIPv4 else { return false }
        let number = Self.number(address)
        return number >= base && number <= last && !taken.contains(number)
    }

    /// The next free address after `previous`, around the end to the start; the lowest free one when `previous` is `nil`.
    ///
    /// Passing the address given last lets an address rest before it is used again, as stale neighbour entries and connections want.
    /// `nil` when all are in use.
    public func next(inUse: Set<IPAddress>, after previous: IPAddress? = nil) -> IPAddress? {
        guard base <= last else { return nil }
        let used = taken.union(inUse.lazy.filter(\.isIPv4).map { Self.number($0) })
        var start = base
        if let previous, previous.isIPv4 {
            let number = Self.number(previous)
            start = number >= base && number < last ? number + 1 : base
        }
        var candidate = start
        // At most as many steps as there are addresses in use: each step that goes on has met another one of them.
        repeat {
            if !used.contains(candidate) { return Self.address(candidate) }
            candidate = candidate == last ? base : candidate + 1
        } while candidate != start
        return nil
    }

    private static func number(_ address: IPAddress) -> UInt32 { address.bytes.reduce(0) { $0 << 8 | UInt32($1) } }

    private static func address(_ number: UInt32) -> IPAddress {
        IPAddress(v4: UInt8(number >> 24), UInt8(number >> 16 & 0xff), UInt8(number >> 8 & 0xff), UInt8(number & 0xff))
    }
}
