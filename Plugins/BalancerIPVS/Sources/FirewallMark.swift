import PluginAPI
import PortProxy

/// The mark by which rules tell IPVS to which virtual server a packet goes. A packet has it from just before IPVS until it leaves.
///
/// From the top: 8 bits that are the same in all, 1 for IPv6, 1 where the value is an arbitrary one, 2 for the transport, 20 of value. The value of
/// a port that is published on all addresses is the port, so that an engine that starts anew finds what an earlier one has left.
struct FirewallMark: Sendable, Hashable {
    /// Bits that routing rules of others should leave alone, and that the mesh does not use.
    static let prefix: UInt32 = 0x2d00_0000
    static let prefixMask: UInt32 = 0xff00_0000
    private static let isIPv6: UInt32 = 1 << 23
    private static let isArbitrary: UInt32 = 1 << 22
    private static let transportShift: UInt32 = 20
    private static let valueMask: UInt32 = (1 << 20) - 1

    /// What shares a mark.
    enum Subject: Sendable, Hashable {
        case port(PortKey, isIPv4: Bool)
        /// All ports of a virtual address over TCP and SCTP.
        case streams(IPAddress)
        /// All ports of a virtual address over UDP.
        case datagrams(IPAddress)
    }

    /// Of no subject: port 0.
    static let probe = mark(true, .tcp, 0)

    var value: UInt32

    init(_ value: UInt32) { self.value = value }

    /// Whether it is one of these marks.
    var isOurs: Bool { value & Self.prefixMask == Self.prefix }

    /// Whether flows with it have no end that IPVS could see.
    var isDatagram: Bool { value >> Self.transportShift & 3 == Transport.udp.rawValue }

    private enum Transport: UInt32 {
        case streams = 0
        case tcp = 1
        case udp = 2
        case sctp = 3
    }

    /// A mark for each subject. Known ones stay as they are; of subjects that come to the same value, a later one gets the next that is free.
    static func assign(_ subjects: Set<Subject>, known: [Subject: FirewallMark]) -> [Subject: FirewallMark] {
        var marks = known.filter { subjects.contains($0.key) }
        var taken = Set(marks.values)
        for (natural, subject) in subjects.filter({ marks[$0] == nil }).map({ (natural($0), $0) }).sorted(by: { order($0, $1) }) {
            var mark = natural
            while !taken.insert(mark).inserted { mark.value = mark.value & ~valueMask | (mark.value + 1) & valueMask }
            marks[subject] = mark
        }
        return marks
    }

    private static func order(_ left: (FirewallMark, Subject), _ right: (FirewallMark, Subject)) -> Bool {
        left.0.value != right.0.value ? left.0.value < right.0.value : text(left.1) < text(right.1)
    }

    private static func text(_ subject: Subject) -> String {
        switch subject {
        case .port(let key, let isIPv4): "\(key) \(isIPv4)"
        case .streams(let address): "\(address)"
        case .datagrams(let address): "\(address)"
        }
    }

    /// The mark that a subject has when nobody else has it.
    private static func natural(_ subject: Subject) -> FirewallMark {
        switch subject {
        case .port(let key, let isIPv4):
            let transport: Transport = key.transport == .udp ? .udp : key.transport == .sctp ? .sctp : .tcp
            guard let address = key.address else { return mark(isIPv4, transport, UInt32(key.port)) }
            return mark(isIPv4, transport, hash(address.bytes + [UInt8(key.port >> 8), UInt8(key.port & 0xff)]), isArbitrary: true)
        case .streams(let address): return mark(address.isIPv4, .streams, hash(address.bytes), isArbitrary: true)
        case .datagrams(let address): return mark(address.isIPv4, .udp, hash(address.bytes), isArbitrary: true)
        }
    }

    private static func mark(_ isIPv4: Bool, _ transport: Transport, _ value: UInt32, isArbitrary: Bool = false) -> FirewallMark {
        FirewallMark(
            prefix | (isIPv4 ? 0 : isIPv6) | (isArbitrary ? Self.isArbitrary : 0) | transport.rawValue << transportShift | value & valueMask)
    }

    /// FNV-1a, folded to the size of a value.
    private static func hash(_ bytes: [UInt8]) -> UInt32 {
        let hash = bytes.reduce(UInt32(2_166_136_261)) { ($0 ^ UInt32($1)) &* 16_777_619 }
        return (hash >> 20 ^ hash) & valueMask
    }
}

extension FirewallMark: CustomStringConvertible {
    /// As rules state it.
    var description: String { "0x" + String(value, radix: 16) }
}
