import Glibc
import PluginAPI

/// A service of IPVS that balances the packets with a firewall mark, of one IP family, in rounds.
public struct VirtualServer: Sendable, Hashable {
    /// Not 0.
    public var mark: UInt32
    public var isIPv4: Bool

    public init(mark: UInt32, isIPv4: Bool) {
        self.mark = mark
        self.isIPv4 = isIPv4
    }
}

/// Where a virtual server may send a connection, as a place: two of one server differ in it.
public struct RealServer: Sendable, Hashable {
    /// Of the virtual server's family.
    public var address: IPAddress
    /// 0: the port to which the client came.
    public var port: UInt16

    public init(address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }
}

/// A real server as the kernel tells of it.
public struct RealServerState: Sendable, Hashable {
    public var server: RealServer
    /// 0: new connections go to the others, established ones stay.
    public var weight: UInt32
    /// Established ones.
    public var activeConnections: UInt32
    /// Those that are being made or have ended, in part or of late.
    public var inactiveConnections: UInt32

    public init(server: RealServer, weight: UInt32, activeConnections: UInt32 = 0, inactiveConnections: UInt32 = 0) {
        self.server = server
        self.weight = weight
        self.activeConnections = activeConnections
        self.inactiveConnections = inactiveConnections
    }
}

/// The numbers of linux/ip_vs.h. Enumerations without a name there, which would come to Swift as integers of changing types.
enum Protocol {
    static let family = "IPVS"
    static let version: UInt8 = 1

    enum Command: UInt8 {
        case newService = 1
        case deleteService = 3
        case getService = 4
        case newDestination = 5
        case setDestination = 6
        case deleteDestination = 7
        case getDestination = 8
    }

    /// Of a message: both hold attributes.
    static let service: UInt16 = 1
    static let destination: UInt16 = 2

    enum Service {
        static let family: UInt16 = 1
        static let mark: UInt16 = 5
        static let scheduler: UInt16 = 6
        static let flags: UInt16 = 7
        static let timeout: UInt16 = 8
        static let netmask: UInt16 = 9
    }

    enum Destination {
        static let address: UInt16 = 1
        static let port: UInt16 = 2
        static let method: UInt16 = 3
        static let weight: UInt16 = 4
        static let upperThreshold: UInt16 = 5
        static let lowerThreshold: UInt16 = 6
        static let activeConnections: UInt16 = 7
        static let inactiveConnections: UInt16 = 8
        static let family: UInt16 = 11
    }
}

extension VirtualServer {
    /// The attributes that name the service.
    var identity: [UInt8] {
        var bytes: [UInt8] = []
        Attributes.put(Protocol.Service.family, UInt16(isIPv4 ? AF_INET : AF_INET6), into: &bytes)
        Attributes.put(Protocol.Service.mark, mark, into: &bytes)
        return bytes
    }

    /// All that a new service needs: in rounds, without persistence, each connection for itself.
    var definition: [UInt8] {
        var bytes = identity
        Attributes.put(Protocol.Service.scheduler, "rr", into: &bytes)
        // The flags and a mask of those that count.
        Attributes.put(Protocol.Service.flags, UInt64(0), into: &bytes)
        Attributes.put(Protocol.Service.timeout, UInt32(0), into: &bytes)
        // The whole address: a mask in IPv4, a length in IPv6.
        Attributes.put(Protocol.Service.netmask, isIPv4 ? UInt32.max : 128, into: &bytes)
        return bytes
    }

    /// `nil` for a service by address and port, which is somebody else's.
    init?(_ attributes: [UInt16: [UInt8]]) {
        guard let family = attributes[Protocol.Service.family].flatMap({ Attributes.integer($0, as: UInt16.self) }),
            let mark = attributes[Protocol.Service.mark].flatMap({ Attributes.integer($0, as: UInt32.self) }), mark != 0,
            [AF_INET, AF_INET6].contains(Int32(family))
        else { return nil }
        self.init(mark: mark, isIPv4: Int32(family) == AF_INET)
    }
}

extension RealServer {
    /// The attributes that name the destination.
    var identity: [UInt8] {
        var bytes: [UInt8] = []
        Attributes.put(Protocol.Destination.family, UInt16(address.isIPv4 ? AF_INET : AF_INET6), into: &bytes)
        // The kernel has one form for both families.
        Attributes.put(Protocol.Destination.address, address.bytes + [UInt8](repeating: 0, count: 16 - address.bytes.count), into: &bytes)
        Attributes.put(Protocol.Destination.port, port.bigEndian, into: &bytes)
        return bytes
    }

    /// All that a destination needs: its address is translated to, without a limit of connections.
    func definition(weight: UInt32) -> [UInt8] {
        var bytes = identity
        Attributes.put(Protocol.Destination.method, UInt32(0), into: &bytes)
        Attributes.put(Protocol.Destination.weight, weight, into: &bytes)
        Attributes.put(Protocol.Destination.upperThreshold, UInt32(0), into: &bytes)
        Attributes.put(Protocol.Destination.lowerThreshold, UInt32(0), into: &bytes)
        return bytes
    }
}

extension RealServerState {
    /// - Parameter isIPv4: the service's family, for kernels that do not tell the destination's.
    init?(_ attributes: [UInt16: [UInt8]], isIPv4: Bool) {
        func number(_ type: UInt16) -> UInt32? { attributes[type].flatMap { Attributes.integer($0, as: UInt32.self) } }
        let family = attributes[Protocol.Destination.family].flatMap { Attributes.integer($0, as: UInt16.self) }
        let size = family.map { Int32($0) == AF_INET } ?? isIPv4 ? 4 : 16
        guard let bytes = attributes[Protocol.Destination.address], bytes.count >= size, let address = IPAddress(bytes: Array(bytes.prefix(size))),
            let port = attributes[Protocol.Destination.port].flatMap({ Attributes.integer($0, as: UInt16.self) }),
            let weight = number(Protocol.Destination.weight)
        else { return nil }
        self.init(
            server: RealServer(address: address, port: UInt16(bigEndian: port)), weight: weight,
            activeConnections: number(Protocol.Destination.activeConnections) ?? 0,
            inactiveConnections: number(Protocol.Destination.inactiveConnections) ?? 0)
    }
}
