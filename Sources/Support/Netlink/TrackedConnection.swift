import CNetlink
import Glibc
import PluginAPI

/// A connection that the kernel's connection tracking remembers.
public struct TrackedConnection: Sendable, Hashable {
    /// One direction of it.
    public struct Direction: Sendable, Hashable {
        public var source: IPAddress
        public var destination: IPAddress
        /// Of the IP header: 6 is TCP, 17 UDP.
        public var transport: UInt8
        /// 0 for protocols without ports.
        public var sourcePort: UInt16
        public var destinationPort: UInt16
        /// Type, code and identifier of ICMP, of either family.
        var echo: Echo?

        struct Echo: Sendable, Hashable {
            var type: UInt8
            var code: UInt8
            var identifier: UInt16
        }
    }

    /// As the first packet came, before any translation.
    public var original: Direction
    /// As answers come: its source is who really answers.
    public var reply: Direction
    /// Whether the destination was translated.
    public var isDestinationTranslated: Bool
    /// The kernel's, in its own byte order.
    var identity: UInt32

    init?(_ header: UnsafeMutablePointer<nlmsghdr>) {
        guard let original = Direction(header, CTA_TUPLE_ORIG), let reply = Direction(header, CTA_TUPLE_REPLY) else { return nil }
        self.original = original
        self.reply = reply
        let status = nlmsg_find_attr(header, netfilterHeaderSize, Int32(CTA_STATUS.rawValue)).map { UInt32(bigEndian: nla_get_u32($0)) } ?? 0
        isDestinationTranslated = status & UInt32(IPS_DST_NAT.rawValue) != 0
        identity = nlmsg_find_attr(header, netfilterHeaderSize, Int32(CTA_ID.rawValue)).map { nla_get_u32($0) } ?? 0
    }
}

/// Of struct nfgenmsg.
private let netfilterHeaderSize: Int32 = 4

extension TrackedConnection.Direction {
    fileprivate init?(_ header: UnsafeMutablePointer<nlmsghdr>, _ type: ctattr_type) {
        guard let tuple = nlmsg_find_attr(header, netfilterHeaderSize, Int32(type.rawValue)),
            let addresses = Self.find(tuple, CTA_TUPLE_IP.rawValue), let ports = Self.find(tuple, CTA_TUPLE_PROTO.rawValue),
            let source = Self.address(addresses, CTA_IP_V4_SRC.rawValue, CTA_IP_V6_SRC.rawValue),
            let destination = Self.address(addresses, CTA_IP_V4_DST.rawValue, CTA_IP_V6_DST.rawValue),
            let transport = Self.find(ports, CTA_PROTO_NUM.rawValue)
        else { return nil }
        self.source = source
        self.destination = destination
        self.transport = nla_get_u8(transport)
        sourcePort = Self.find(ports, CTA_PROTO_SRC_PORT.rawValue).map { UInt16(bigEndian: nla_get_u16($0)) } ?? 0
        destinationPort = Self.find(ports, CTA_PROTO_DST_PORT.rawValue).map { UInt16(bigEndian: nla_get_u16($0)) } ?? 0
        let types = Self.echoTypes(source)
        if let type = Self.find(ports, types.type.rawValue), let code = Self.find(ports, types.code.rawValue),
            let identifier = Self.find(ports, types.identifier.rawValue)
        {
            echo = Echo(type: nla_get_u8(type), code: nla_get_u8(code), identifier: UInt16(bigEndian: nla_get_u16(identifier)))
        }
    }

    private static func echoTypes(_ address: IPAddress) -> (type: ctattr_l4proto, code: ctattr_l4proto, identifier: ctattr_l4proto) {
        address.isIPv4
            ? (CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE, CTA_PROTO_ICMP_ID) : (CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_ICMPV6_CODE, CTA_PROTO_ICMPV6_ID)
    }

    private static func find(_ attribute: UnsafeMutablePointer<nlattr>, _ type: UInt32) -> UnsafeMutablePointer<nlattr>? {
        guard let data = nla_data(attribute) else { return nil }
        return nla_find(data.assumingMemoryBound(to: nlattr.self), nla_len(attribute), Int32(type))
    }

    private static func address(_ attribute: UnsafeMutablePointer<nlattr>, _ v4: UInt32, _ v6: UInt32) -> IPAddress? {
        guard let found = find(attribute, v4) ?? find(attribute, v6), let data = nla_data(found) else { return nil }
        return IPAddress(bytes: [UInt8](UnsafeRawBufferPointer(start: data, count: Int(nla_len(found)))))
    }

    /// Writes it as the direction of answers into a request.
    func putReply(into message: OpaquePointer) {
        let tuple = nla_nest_start(message, Int32(CTA_TUPLE_REPLY.rawValue))
        let addresses = nla_nest_start(message, Int32(CTA_TUPLE_IP.rawValue))
        let sourceType = source.isIPv4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC
        let destinationType = source.isIPv4 ? CTA_IP_V4_DST : CTA_IP_V6_DST
        nla_put(message, Int32(sourceType.rawValue), Int32(source.bytes.count), source.bytes)
        nla_put(message, Int32(destinationType.rawValue), Int32(destination.bytes.count), destination.bytes)
        nla_nest_end(message, addresses)
        let ports = nla_nest_start(message, Int32(CTA_TUPLE_PROTO.rawValue))
        nla_put_u8(message, Int32(CTA_PROTO_NUM.rawValue), transport)
        nla_put_u16(message, Int32(CTA_PROTO_SRC_PORT.rawValue), sourcePort.bigEndian)
        nla_put_u16(message, Int32(CTA_PROTO_DST_PORT.rawValue), destinationPort.bigEndian)
        if let echo {
            let types = Self.echoTypes(source)
            nla_put_u8(message, Int32(types.type.rawValue), echo.type)
            nla_put_u8(message, Int32(types.code.rawValue), echo.code)
            nla_put_u16(message, Int32(types.identifier.rawValue), echo.identifier.bigEndian)
        }
        nla_nest_end(message, ports)
        nla_nest_end(message, tuple)
    }
}
