import Glibc
import PluginAPI

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

    /// - Throws: `invalidArgument`, or `unimplemented` with what is missing.
    func check() throws(ApusError) {
        if forceNewCluster { throw ApusError(.unimplemented, "--force-new-cluster is not in this version of Apus") }
        if dataPathPort != 0, !(1024...49151).contains(dataPathPort) {
            throw ApusError(.invalidArgument, "--data-path-port \(dataPathPort) is not between 1024 and 49151")
        }
        for pool in defaultAddressPool where IPPrefix(pool) == nil {
            throw ApusError(.invalidArgument, "--default-addr-pool \(pool) is not a network such as 10.20.0.0/16")
        }
        if subnetSize > 30 { throw ApusError(.invalidArgument, "--default-addr-pool-mask-length \(subnetSize) is longer than 30") }
        if autoLockManagers || spec.encryption.autoLockManagers { throw ApusError(.unimplemented, "--autolock is not in this version of Apus") }
        try spec.check()
    }

    /// The address that other nodes will use: as given, an interface's, or that of the first interface that is not loopback.
    func address() throws(ApusError) -> String {
        guard !advertiseAddress.isEmpty else { return NodeAddresses.first() ?? "127.0.0.1" }
        var host = advertiseAddress
        if let colon = host.lastIndex(of: ":"), !host.hasSuffix("]"), host.filter({ $0 == ":" }).count == 1 || host.hasPrefix("[") {
            guard UInt16(host[host.index(after: colon)...]) != nil else {
                throw ApusError(.invalidArgument, "--advertise-addr \(advertiseAddress): the port is not a number up to 65535")
            }
            host = String(host[..<colon])
        }
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        if let address = IPAddress(host) { return address.description }
        if let address = NodeAddresses.first(ofInterface: host) { return address }
        throw ApusError(.invalidArgument, "--advertise-addr \(advertiseAddress) is neither an address nor an interface of this machine")
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
        if !ca.externalCAs.isEmpty { throw ApusError(.unimplemented, "an external CA is not in this version of Apus") }
        if !ca.signingKey.isEmpty || !ca.signingCertificate.isEmpty || ca.forceRotate != 0 {
            throw ApusError(.unimplemented, "rotating the root certificate is not in this version of Apus")
        }
        if encryption.autoLockManagers { throw ApusError(.unimplemented, "autolock is not in this version of Apus") }
    }
}

/// The addresses of this machine's interfaces.
enum NodeAddresses {
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
