import Glibc
import NFTables
import Namespaces
import Netlink
import NetworkOverlay
import PluginAPI
import Synchronization

/// Machines on a wire for one test: namespaces that stand for hosts, joined by one that stands for a switch, and containers.
///
/// Host n has 198.51.100.n/24 and 2001:db8:51::n/64, and a driver of its own. The switch counts what goes by.
final class OverlayLaboratory: Sendable {
    final class Host: Sendable {
        let number: Int
        let namespace: String
        let services: TestServices
        private let current: Mutex<NetworkOverlay>

        init(_ number: Int, _ namespace: String, _ directory: String) throws(ApusError) {
            self.number = number
            self.namespace = namespace
            services = TestServices(configuration: ["host-namespace": namespace], directory: directory)
            current = Mutex(try NetworkOverlay(host: services))
        }

        var driver: NetworkOverlay { current.withLock { $0 } }
        var address: IPAddress { IPAddress(v4: 198, 51, 100, UInt8(number)) }
        var addressV6: IPAddress { IPAddress(bytes: [0x20, 0x01, 0x0d, 0xb8, 0, 0x51] + [UInt8](repeating: 0, count: 9) + [UInt8(number)]) ?? address }

        /// As an engine that ends and starts again.
        func restart() async throws(ApusError) {
            await driver.shutDown()
            let next = try NetworkOverlay(host: services)
            current.withLock { $0 = next }
        }
    }

    /// A container in a network of the swarm.
    struct Container: Sendable {
        let host: Host
        let request: AttachRequest
        let answer: AttachAnswer
        var namespace: String { request.sandboxPath }
        var address: String { "\(request.address.address)" }
        var addressV6: String { request.addressV6.map { "\($0.address)" } ?? "" }
        var peer: NetworkPeer {
            NetworkPeer(
                address: request.address.address, addressV6: request.addressV6?.address, macAddress: request.macAddress,
                node: request.network.underlay ?? host.address)
        }
        var detach: DetachRequest { DetachRequest(network: request.network, containerID: request.containerID, sandboxPath: request.sandboxPath) }
    }

    let directory: String
    let hosts: [Host]
    private let names: Mutex<[String]>

    private init(_ directory: String, hosts count: Int) throws {
        self.directory = directory
        var names: [String] = []
        func make(_ name: String) throws -> String {
            let path = "\(directory)/\(name)"
            try NetworkNamespaces.create(path: path)
            names.append(path)
            return path
        }
        do {
            let wire = try make("switch")
            let paths = try (1...count).map { try make("host\($0)") }
            hosts = try paths.enumerated().map { index, path in
                let folder = "\(directory)/run\(index + 1)"
                mkdir(folder, 0o700)
                return try Host(index + 1, path, folder)
            }
            try Self.connect(paths, to: wire)
            self.names = Mutex(names)
        } catch {
            for path in names { try? NetworkNamespaces.remove(path: path) }
            throw error
        }
    }

    /// Runs a test in a laboratory of its own, and takes it down whatever happens.
    static func run(hosts: Int, _ body: (OverlayLaboratory) async throws -> Void) async throws {
        var template = Array("/run/apus-overlay-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw ApusError(.failed, "mkdtemp: errno \(errno)") }
        let laboratory = try OverlayLaboratory(String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self), hosts: hosts)
        do {
            try await laboratory.tellSurroundings()
            try await body(laboratory)
        } catch {
            await laboratory.tearDown()
            throw error
        }
        await laboratory.tearDown()
    }

    private static func connect(_ hosts: [String], to wire: String) throws {
        try NetworkNamespaces.runBlocking(in: wire) { () throws(ApusError) in
            let netlink = try NetlinkSocket()
            // Where bridge netfilter is on, the counters would see only some.
            for setting in ["iptables", "ip6tables", "arptables"] { try SystemSetting.ensure("net/bridge/bridge-nf-call-\(setting)", "0") }
            try netlink.createBridge(named: "switch", macAddress: nil)
            guard let bridge = try netlink.link(named: "switch") else { throw ApusError(.notFound, "switch") }
            try netlink.change(linkAt: bridge.index, LinkChange(isUp: true))
            for (index, host) in hosts.enumerated() {
                let descriptor = open(host, O_RDONLY | O_CLOEXEC)
                defer { close(descriptor) }
                var pair = VethPair(name: "port\(index + 1)", peerName: "eth0")
                pair.masterIndex = bridge.index
                pair.peerNamespace = descriptor
                try netlink.createVethPair(pair)
            }
            try NFTables().run(Wire.rules)
        }
        for (index, host) in hosts.enumerated() {
            try NetworkNamespaces.runBlocking(in: host) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                guard let link = try netlink.link(named: "eth0") else { throw ApusError(.notFound, "eth0") }
                for text in ["198.51.100.\(index + 1)/24", "2001:db8:51::\(index + 1)/64"] {
                    guard let prefix = IPPrefix(text) else { throw ApusError(.invalidArgument, text) }
                    try netlink.addAddress(prefix, toLinkAt: link.index)
                }
                try netlink.change(linkAt: link.index, LinkChange(isUp: true))
            }
        }
    }

    /// Tells the hosts who else there is; the first `count` are members.
    func tellSurroundings(members count: Int? = nil) async throws {
        let members = hosts.prefix(count ?? hosts.count)
        for host in members {
            var surroundings = NetworkSurroundings()
            surroundings.address = host.address
            surroundings.members = members.filter { $0 !== host }.flatMap { [$0.address, $0.addressV6] }.sorted()
            try await host.driver.setSurroundings(surroundings)
        }
    }

    /// A container's namespace, without anything but loopback.
    func makeNamespace(_ name: String) throws -> String {
        let path = "\(directory)/\(name)"
        try NetworkNamespaces.create(path: path)
        names.withLock { $0.append(path) }
        return path
    }

    /// A container `n.n.n.number` of a network, named by its host and number.
    func attach(_ number: UInt8, to network: LocalNetwork, on host: Host, reuse namespace: String? = nil) async throws -> Container {
        var network = network
        network.underlay = network.underlay ?? host.address
        try await host.driver.create(network)
        func address(_ gateway: IPPrefix) throws -> IPPrefix {
            guard let address = IPAddress(bytes: Array(gateway.address.bytes.dropLast()) + [number]), let prefix = IPPrefix(address, length: gateway.length)
            else { throw ApusError(.invalidArgument, "\(gateway)") }
            return prefix
        }
        let own = try address(network.gateway)
        var request = AttachRequest(
            network: network, containerID: ID.randomContainer(),
            sandboxPath: try namespace ?? makeNamespace("c\(network.vni)-\(host.number)-\(number)"), interfaceName: "eth0", address: own,
            macAddress: MACAddress(containerWith: own.address), isDefaultRoute: false)
        request.addressV6 = try network.gatewayV6.map(address)
        return Container(host: host, request: request, answer: try await host.driver.attach(request))
    }

    /// Tells every host about the containers of the others.
    func tellPeers(_ containers: [Container]) async throws {
        for host in hosts {
            guard let own = containers.first(where: { $0.host === host }) else { continue }
            try await host.driver.setPeers(PeersRequest(network: own.request.network, peers: containers.filter { $0.host !== host }.map(\.peer)))
        }
    }

    /// What has gone by on the switch.
    func wire() async throws -> Wire {
        try await NetworkNamespaces.run(in: directory + "/switch") { () throws(ApusError) in
            Wire(listing: try NFTables().run("list chain bridge wire forward"))
        }
    }

    private func tearDown() async {
        for host in hosts {
            await host.driver.shutDown()
            let folder = host.services.runDirectory + "/netns"
            for name in Self.entries(of: folder) { remove("\(folder)/\(name)") }
            rmdir(folder)
            rmdir(host.services.runDirectory)
        }
        for path in names.withLock({ $0 }) { remove(path) }
        rmdir(directory)
    }

    private func remove(_ path: String) {
        do { try NetworkNamespaces.remove(path: path) } catch { print("left behind: \(error)") }
    }

    static func entries(of folder: String) -> [String] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }
}

/// Packets that the switch has seen.
struct Wire: Sendable {
    let vxlan: Int
    /// Of those, with questions and answers of ARP.
    let arp: Int
    /// Of those, with frames to everybody or to a group.
    let group: Int
    /// IP fragments.
    let fragments: Int
    let esp: Int

    static let rules = """
        table bridge wire {
            chain forward {
                type filter hook forward priority 0;
                ip frag-off & 0x3fff != 0 counter comment "fragments"
                meta l4proto 50 counter comment "esp"
                udp dport 4789 counter comment "vxlan"
                udp dport 4789 @th,128,8 & 1 == 1 counter comment "group"
                udp dport 4789 @th,224,16 0x0806 counter comment "arp"
            }
        }
        """

    init(listing: String) {
        func packets(_ name: String) -> Int {
            let rule = listing.split(separator: "\n").first { $0.contains("comment \"\(name)\"") } ?? ""
            let words = rule.split(separator: " ").map(String.init)
            guard let place = words.firstIndex(of: "packets"), words.indices.contains(place + 1) else { return -1 }
            return Int(words[place + 1]) ?? -1
        }
        vxlan = packets("vxlan")
        arp = packets("arp")
        group = packets("group")
        fragments = packets("fragments")
        esp = packets("esp")
    }
}

/// A network of the swarm.
func overlayNetwork(
    _ name: String, vni: UInt32, _ gateway: String = "10.77.0.1/24", v6: String? = "fd77::1/64", options: [String: String] = [:]
) throws -> LocalNetwork {
    guard let prefix = IPPrefix(gateway) else { throw ApusError(.invalidArgument, gateway) }
    var network = LocalNetwork(id: ID.random(), name: name, gateway: prefix)
    network.gatewayV6 = v6.flatMap { IPPrefix($0) }
    network.vni = vni
    network.options = options
    return network
}
