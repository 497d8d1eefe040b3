import Glibc
import PluginAPI
import Swarm

/// The body of `POST /swarm/init`.
struct SwarmInitRequest: FieldCoded {
    var listenAddress = ""
    var advertiseAddress = ""
    var dataPathAddress = ""
    var dataPathPort: UInt64 = 0
    var defaultAddressPool: [String] = []
    var subnetSize: UInt64 = 0
    var forceNewCluster = false
    var spec = ClusterSpec()
    var autoLockManagers = false
    var availability: NodeAvailability = .active

    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "ListenAddr", &listenAddress)
        try coder.field(2, "AdvertiseAddr", &advertiseAddress)
        try coder.field(3, "DataPathAddr", &dataPathAddress)
        try coder.field(4, "DataPathPort", &dataPathPort)
        try coder.field(5, "DefaultAddrPool", &defaultAddressPool)
        try coder.field(6, "SubnetSize", &subnetSize)
        try coder.field(7, "ForceNewCluster", &forceNewCluster)
        try coder.field(8, "Spec", &spec)
        try coder.field(9, "AutoLockManagers", &autoLockManagers)
        try coder.field(10, "Availability", &availability)
    }

    /// What is to be made.
    /// - Throws: `invalidArgument` with the option that is wrong.
    func beginning() throws(ApusError) -> SwarmBeginning {
        if dataPathPort != 0, !(1024...49151).contains(dataPathPort) {
            throw ApusError(.invalidArgument, "--data-path-port \(dataPathPort) is not between 1024 and 49151")
        }
        let pools = try pools()
        try spec.check()
        let addresses = try SwarmAddresses(listen: listenAddress, advertise: advertiseAddress)
        var cluster = Cluster()
        cluster.spec = spec.normalized()
        if autoLockManagers { cluster.spec.encryption.autoLockManagers = true }
        cluster.dataPathPort = dataPathPort == 0 ? 4789 : dataPathPort
        cluster.defaultAddressPool = pools.map(\.description)
        cluster.subnetSize = subnetSize == 0 ? Self.defaultSubnetSize : subnetSize
        var beginning = SwarmBeginning(
            listen: addresses.listen, advertise: addresses.advertise, cluster: cluster, availability: availability, isForced: forceNewCluster)
        beginning.dataPathAddress = try SwarmAddresses.dataPath(dataPathAddress)
        return beginning
    }

    private static var defaultSubnetSize: UInt64 { 24 }

    /// The networks that subnets are taken from.
    private func pools() throws(ApusError) -> [IPPrefix] {
        guard subnetSize <= 30 else { throw ApusError(.invalidArgument, "--default-addr-pool-mask-length \(subnetSize) is longer than 30") }
        let size = Int(subnetSize == 0 ? Self.defaultSubnetSize : subnetSize)
        var pools: [IPPrefix] = []
        for text in defaultAddressPool.isEmpty ? ["10.0.0.0/8"] : defaultAddressPool {
            guard let pool = IPPrefix(text)?.network, pool.address.isIPv4, pool.length > 0 else {
                throw ApusError(.invalidArgument, "--default-addr-pool \(text) is not an IPv4 network such as 10.20.0.0/16")
            }
            guard pool.length <= size else {
                throw ApusError(.invalidArgument, "--default-addr-pool \(pool) has no room for a subnet of /\(size) (--default-addr-pool-mask-length)")
            }
            if let other = pools.first(where: { $0.overlaps(pool) }) {
                throw ApusError(.invalidArgument, "--default-addr-pool \(pool) overlaps \(other)")
            }
            pools.append(pool)
        }
        return pools
    }
}

/// The body of `POST /swarm/join`.
struct SwarmJoinRequest: FieldCoded {
    var listenAddress = ""
    var advertiseAddress = ""
    var dataPathAddress = ""
    var remoteAddresses: [String] = []
    var joinToken = ""
    var availability: NodeAvailability = .active

    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "ListenAddr", &listenAddress)
        try coder.field(2, "AdvertiseAddr", &advertiseAddress)
        try coder.field(3, "DataPathAddr", &dataPathAddress)
        try coder.field(4, "RemoteAddrs", &remoteAddresses)
        try coder.field(5, "JoinToken", &joinToken)
        try coder.field(6, "Availability", &availability)
    }

    /// - Throws: `invalidArgument` with the option that is wrong.
    func joining() throws(ApusError) -> SwarmJoining {
        guard let first = remoteAddresses.first else {
            throw ApusError(.invalidArgument, "the address of a manager is missing: apus swarm join --token … HOST:2377")
        }
        guard !joinToken.isEmpty else {
            throw ApusError(.invalidArgument, "the join token is missing: a manager shows it with \"apus swarm join-token worker\"")
        }
        let addresses = try SwarmAddresses(listen: listenAddress, advertise: advertiseAddress, toward: try NodeAddress(first).host)
        var joining = SwarmJoining(
            listen: addresses.listen, advertise: addresses.advertise, managers: remoteAddresses, token: joinToken, availability: availability)
        joining.dataPathAddress = try SwarmAddresses.dataPath(dataPathAddress)
        return joining
    }
}

/// Where this node listens for managers, and where others reach it.
struct SwarmAddresses: Sendable {
    var listen: NodeAddress
    var advertise: NodeAddress

    /// - Parameter toward: A machine that must reach this one; the address that faces it is the one to give, if none is named.
    init(listen: String, advertise: String, toward remote: String? = nil) throws(ApusError) {
        self.listen = try Self.endpoint(listen.isEmpty ? "0.0.0.0:\(NodeAddress.defaultPort)" : listen, "--listen-addr")
        if advertise.isEmpty {
            let isAny = ["0.0.0.0", "::"].contains(self.listen.host)
            let host = isAny ? remote.flatMap { NodeAddresses.facing($0) } ?? NodeAddresses.first() ?? "127.0.0.1" : self.listen.host
            self.advertise = NodeAddress(host: host, port: self.listen.port)
        } else {
            self.advertise = try Self.endpoint(advertise, "--advertise-addr", defaultPort: self.listen.port)
        }
    }

    /// Where VXLAN reaches this node; empty when nothing is said.
    static func dataPath(_ text: String) throws(ApusError) -> String {
        if text.isEmpty { return "" }
        if let address = IPAddress(text) ?? NodeAddresses.first(ofInterface: text).flatMap({ IPAddress($0) }), !address.isUnspecified {
            return address.description
        }
        throw ApusError(.invalidArgument, "--data-path-addr \(text) is neither an address nor an interface of this machine")
    }

    private static func endpoint(_ text: String, _ option: String, defaultPort: Int = NodeAddress.defaultPort) throws(ApusError) -> NodeAddress {
        var endpoint: NodeAddress
        do throws(ApusError) { endpoint = try NodeAddress(text, defaultPort: defaultPort) } catch {
            throw ApusError(.invalidArgument, "\(option) \(text): it is neither an address nor an interface, or its port is not a number up to 65535")
        }
        if let address = IPAddress(endpoint.host) {
            endpoint.host = address.description
        } else if let address = NodeAddresses.first(ofInterface: endpoint.host) {
            endpoint.host = address
        } else {
            throw ApusError(.invalidArgument, "\(option) \(text) is neither an address nor an interface of this machine")
        }
        return endpoint
    }
}

extension ClusterSpec {
    /// The spec with swarm's defaults where it says nothing.
    func normalized() -> ClusterSpec {
        var spec = self
        if spec.name.isEmpty { spec.name = "default" }
        if spec.orchestration.taskHistoryLimit == nil { spec.orchestration.taskHistoryLimit = 5 }
        if spec.raft.snapshotInterval == 0 { spec.raft.snapshotInterval = 10000 }
        if spec.raft.keepOldSnapshots == nil { spec.raft.keepOldSnapshots = 0 }
        if spec.raft.logEntriesForSlowFollowers == 0 { spec.raft.logEntriesForSlowFollowers = 500 }
        if spec.raft.electionTick == 0 { spec.raft.electionTick = 10 }
        if spec.raft.heartbeatTick == 0 { spec.raft.heartbeatTick = 1 }
        if spec.dispatcher.heartbeatPeriod == .zero { spec.dispatcher.heartbeatPeriod = .seconds(5) }
        if spec.ca.nodeCertificateExpiry == .zero { spec.ca.nodeCertificateExpiry = .seconds(7_776_000) }
        return spec
    }

    func check() throws(ApusError) {
        if ca.nodeCertificateExpiry != .zero, ca.nodeCertificateExpiry < .seconds(1800) {
            throw ApusError(.invalidArgument, "certificate expiry \(ca.nodeCertificateExpiry) is too short; it must be 30 minutes at least")
        }
        if let limit = orchestration.taskHistoryLimit, limit < 0 {
            throw ApusError(.invalidArgument, "the task history limit is \(limit); it cannot be negative")
        }
        if dispatcher.heartbeatPeriod < .zero { throw ApusError(.invalidArgument, "the heartbeat period cannot be negative") }
        // A dead node is noticed after three of them.
        if dispatcher.heartbeatPeriod != .zero, !(Duration.milliseconds(100)...Duration.seconds(3600)).contains(dispatcher.heartbeatPeriod) {
            throw ApusError(.invalidArgument, "the heartbeat period is \(dispatcher.heartbeatPeriod); it is from 100 ms to an hour")
        }
    }
}

extension IPAddress {
    fileprivate var isUnspecified: Bool { bytes.allSatisfy { $0 == 0 } }
}

/// The addresses of this machine's interfaces.
enum NodeAddresses {
    /// The address that this machine speaks to another one from; `nil` when there is no way.
    static func facing(_ remote: String) -> String? {
        guard let address = IPAddress(remote), address.isIPv4 else { return nil }
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = UInt16(1).bigEndian
        guard inet_pton(AF_INET, address.description, &name.sin_addr) == 1 else { return nil }
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isFound = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0 }
        }
        guard isFound else { return nil }
        return IPAddress(bytes: withUnsafeBytes(of: name.sin_addr) { Array($0) })?.description
    }

    /// The first IPv4 address that is not a loopback's; of one interface, if named.
    static func first(ofInterface wanted: String? = nil) -> String? {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return nil }
        defer { freeifaddrs(list) }
        var next = list
        while let entry = next {
            next = entry.pointee.ifa_next
            let isLoopback = entry.pointee.ifa_flags & UInt32(IFF_LOOPBACK) != 0
            guard let address = entry.pointee.ifa_addr, address.pointee.sa_family == sa_family_t(AF_INET) else { continue }
            let name = String(cString: entry.pointee.ifa_name)
            // A bridge of containers is no way to reach this node.
            guard wanted.map({ $0 == name }) ?? (!isLoopback && !name.hasPrefix("apus") && !name.hasPrefix("docker")) else { continue }
            let bytes = address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { pointer in
                withUnsafeBytes(of: pointer.pointee.sin_addr) { Array($0) }
            }
            if let address = IPAddress(bytes: bytes) { return address.description }
        }
        return nil
    }
}
