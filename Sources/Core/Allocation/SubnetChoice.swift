public import PluginAPI

/// Which subnets and numbers of networks are free. Pure.
public enum SubnetChoice {
    /// The first number of a network in VXLAN that is given away, as swarm has it.
    public static var firstVNI: UInt64 { 4096 }
    public static var lastVNI: UInt64 { 0xff_ffff }

    /// The next free subnet of a length in the pools after `previous`, around the end to the start.
    ///
    /// Pools that are smaller than that are left out. `nil` when all are in use.
    public static func subnet(from pools: [IPPrefix], length: Int, avoiding taken: [IPPrefix], after previous: IPPrefix? = nil) -> IPPrefix? {
        let pools = pools.map(\.network).filter { $0.length <= length && length <= $0.address.bytes.count * 8 }
        guard let first = pools.first else { return nil }
        let start = pools.firstIndex { pool in previous.map { pool.contains($0.address) } ?? false }
        if let start, let previous, let next = after(previous, length: length), pools[start].contains(next.address),
            let found = free(in: pools[start], from: next, avoiding: taken)
        {
            return found
        }
        let order = start.map { pools[($0 + 1)...] + pools[...$0] } ?? pools[...]
        for pool in order.isEmpty ? [first][...] : order {
            guard let lowest = IPPrefix(pool.address, length: length) else { continue }
            if let found = free(in: pool, from: lowest, avoiding: taken) { return found }
        }
        return nil
    }

    /// Each step that does not find one leaps over a subnet that is in use, so there are at most as many steps as there are of those.
    private static func free(in pool: IPPrefix, from start: IPPrefix, avoiding taken: [IPPrefix]) -> IPPrefix? {
        var candidate = start
        while pool.contains(candidate.address) {
            guard let obstacle = taken.filter({ $0.overlaps(candidate) }).min(by: { $0.length < $1.length }) else { return candidate }
            guard let next = after(obstacle.length < candidate.length ? obstacle.network : candidate, length: candidate.length),
                next.address > candidate.address
            else { return nil }
            candidate = next
        }
        return nil
    }

    /// The subnet of a length that begins behind this one.
    private static func after(_ subnet: IPPrefix, length: Int) -> IPPrefix? {
        var bytes = subnet.network.address.bytes
        // The step is at the last bit of the shorter one.
        let step = min(subnet.length, length)
        guard step > 0 else { return nil }
        var index = (step - 1) / 8
        var sum = UInt16(bytes[index]) + (1 << UInt16(7 - (step - 1) % 8))
        bytes[index] = UInt8(truncatingIfNeeded: sum)
        while sum > 0xff {
            guard index > 0 else { return nil }
            index -= 1
            sum = UInt16(bytes[index]) + 1
            bytes[index] = UInt8(truncatingIfNeeded: sum)
        }
        guard let address = IPAddress(bytes: bytes), let next = IPPrefix(address, length: length) else { return nil }
        return next.network
    }

    /// The next free number after that of the newest network, around the end to the start: so a number rests before it is used again.
    public static func vni(avoiding taken: Set<UInt64>, after previous: UInt64?) -> UInt64? {
        let start = previous.map { $0 >= firstVNI && $0 < lastVNI ? $0 + 1 : firstVNI } ?? firstVNI
        var candidate = start
        repeat {
            if !taken.contains(candidate) { return candidate }
            candidate = candidate == lastVNI ? firstVNI : candidate + 1
        } while candidate != start
        return nil
    }

    /// A /64 of the swarm's own unique local addresses (RFC 4193), whose global id follows from the swarm's id.
    public static func uniqueLocal(of cluster: ID, number: UInt16) -> IPPrefix? {
        // FNV-1a: the id is random already, this only folds it.
        let hash = cluster.text.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        let global = stride(from: 32, through: 0, by: -8).map { UInt8(truncatingIfNeeded: hash >> UInt64($0)) }
        let bytes = [0xfd] + global + [UInt8(number >> 8), UInt8(number & 0xff)] + [UInt8](repeating: 0, count: 8)
        return IPAddress(bytes: bytes).flatMap { IPPrefix($0, length: 64) }
    }
}
