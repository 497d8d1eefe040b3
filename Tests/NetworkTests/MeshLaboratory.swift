import BalancerIPVS
import BalancerNFTables
import Glibc
import NFTables
import Namespaces
import Netlink
import NetworkBridge
import PluginAPI

/// Engines around a router, each a namespace with a balancer and a network for its tasks, and a client behind the router.
///
/// Engine n is 198.51.100.n and 2001:db8:e::n, the client 192.0.2.9 and 2001:db8:c::9. All engines have the same network for tasks, 172.18.0.0/16.
/// Task n has the address 10.0.1.n in the mesh, and serves on TCP and UDP 8080 by the name `tn`, and on SCTP where the kernel has it.
final class MeshSite: Sendable {
    static let client = "192.0.2.9"
    static let clientV6 = "2001:db8:c::9"
    /// The plugins of the engines, in turn. APUS_MESH_BALANCERS names others than nftables, such as `ipvs,nftables`, where the kernel has them.
    @TaskLocal static var balancers = getenv("APUS_MESH_BALANCERS").map { String(cString: $0).split(separator: ",").map(String.init) } ?? ["nftables"]

    let laboratory: Laboratory
    let client: String
    let router: String
    let engines: [Engine]

    final class Engine: Sendable {
        let index: Int
        let namespace: String
        let driver: NetworkBridge
        let network: LocalNetwork
        let services: TestServices
        var address: String { "198.51.100.\(index)" }
        var addressV6: String { "2001:db8:e::\(index)" }
        /// In the mesh.
        var meshAddress: String { "10.0.0.\(index)" }
        var meshAddressV6: String { "fd00:aa::\(index)" }

        init(index: Int, namespace: String, directory: String) throws {
            self.index = index
            self.namespace = namespace
            services = TestServices(configuration: ["host-namespace": namespace], directory: directory)
            driver = try NetworkBridge(host: services)
            var network = try testNetwork("gwbridge", "172.18.0.1/16")
            network.gatewayV6 = IPPrefix("fd00:18::1/64")
            self.network = network
        }

        func balancer() throws -> any LoadBalancer {
            let kinds = MeshSite.balancers
            return kinds[(index - 1) % kinds.count] == "ipvs" ? try BalancerIPVS(host: services) : try BalancerNFTables(host: services)
        }
    }

    struct MeshTask: Sendable {
        var number: Int
        /// Its engine's index.
        var engine: Int
        var sandbox: String
        var servers: [Server]
        var mesh: IPAddress { IPAddress(v4: 10, 0, 1, UInt8(number)) }
        var meshV6: IPAddress? { IPAddress("fd00:aa::1:\(number)") }
        var target: IPAddress { IPAddress(v4: 172, 18, 0, UInt8(number + 1)) }
        var targetV6: IPAddress? { IPAddress("fd00:18::\(number + 1)") }
    }

    static func run(engines count: Int = 2, mtu: Int = 1500, strict: Bool = false, _ body: (MeshSite) async throws -> Void) async throws {
        try await Laboratory.run { laboratory in
            let site = try await MeshSite(laboratory, count, mtu: mtu, strict: strict)
            do {
                try await body(site)
            } catch {
                for engine in site.engines { await engine.driver.shutDown() }
                throw error
            }
            for engine in site.engines { await engine.driver.shutDown() }
        }
    }

    private init(_ laboratory: Laboratory, _ count: Int, mtu: Int, strict: Bool) async throws {
        self.laboratory = laboratory
        router = try laboratory.makeNamespace("router")
        client = try laboratory.makeNamespace("client")
        let router = router
        try await NetworkNamespaces.run(in: router) { () throws(ApusError) in
            let netlink = try NetlinkSocket()
            try netlink.createBridge(named: "lan", macAddress: nil, mtu: mtu)
            try Self.configure("lan", "198.51.100.254/24", "2001:db8:e::fe/64")
            try SystemSetting.write("net/ipv4/ip_forward", "1")
            try SystemSetting.write("net/ipv6/conf/all/forwarding", "1")
        }
        try await Self.wire(router, "client", client, "eth0", mtu: 1500)
        try await NetworkNamespaces.run(in: router) { () throws(ApusError) in try Self.configure("client", "192.0.2.254/24", "2001:db8:c::fe/64") }
        try await NetworkNamespaces.run(in: client) { () throws(ApusError) in
            try Self.configure("eth0", "192.0.2.9/24", "2001:db8:c::9/64", gateways: ["192.0.2.254", "2001:db8:c::fe"])
        }
        var engines: [Engine] = []
        for index in 1...count {
            let namespace = try laboratory.makeNamespace("engine\(index)")
            try await Self.wire(router, "engine\(index)", namespace, "eth0", mtu: mtu)
            try await NetworkNamespaces.run(in: router) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                guard let port = try netlink.link(named: "engine\(index)"), let bridge = try netlink.link(named: "lan") else { return }
                try netlink.change(linkAt: port.index, LinkChange(isUp: true, masterIndex: bridge.index))
            }
            try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in
                if strict {
                    for name in ["all", "default", "eth0"] { try SystemSetting.write("net/ipv4/conf/\(name)/rp_filter", "1") }
                }
                try Self.configure(
                    "eth0", "198.51.100.\(index)/24", "2001:db8:e::\(index)/64", gateways: ["198.51.100.254", "2001:db8:e::fe"])
            }
            let engine = try Engine(index: index, namespace: namespace, directory: laboratory.directory)
            try await engine.driver.create(engine.network)
            engines.append(engine)
        }
        self.engines = engines
    }

    /// The engine of an index, from 1.
    subscript(index: Int) -> Engine { engines[index - 1] }

    private static func wire(_ one: String, _ name: String, _ other: String, _ otherName: String, mtu: Int) async throws {
        try await NetworkNamespaces.run(in: one) { () throws(ApusError) in
            let descriptor = open(other, O_RDONLY | O_CLOEXEC)
            defer { close(descriptor) }
            var pair = VethPair(name: name, peerName: otherName, mtu: mtu)
            pair.peerNamespace = descriptor
            try NetlinkSocket().createVethPair(pair)
        }
    }

    /// Gives an interface of the calling thread's namespace addresses, and sets it up.
    static func configure(_ name: String, _ addresses: String..., gateways: [String] = []) throws(ApusError) {
        let netlink = try NetlinkSocket()
        guard let link = try netlink.link(named: name) else { throw ApusError(.notFound, name) }
        try SystemSetting.ensure("net/ipv6/conf/\(name)/accept_dad", "0")
        for text in addresses {
            guard let prefix = IPPrefix(text) else { throw ApusError(.invalidArgument, text) }
            try netlink.addAddress(prefix, toLinkAt: link.index)
        }
        try netlink.change(linkAt: link.index, LinkChange(isUp: true))
        for text in gateways {
            if let gateway = IPAddress(text), let route = Route.byDefault(gateway: gateway, linkIndex: link.index) { try netlink.setRoute(route) }
        }
    }

    /// Starts a task on an engine.
    func task(_ number: Int, on index: Int) async throws -> MeshTask {
        let sandbox = try laboratory.makeNamespace("task\(number)")
        let network = self[index].network
        guard let address = IPPrefix("172.18.0.\(number + 1)/16") else { throw ApusError(.invalidArgument, "\(number)") }
        var request = AttachRequest(
            network: network, containerID: ID.randomContainer(), sandboxPath: sandbox, interfaceName: "eth0", address: address,
            macAddress: MACAddress(containerWith: address.address), isDefaultRoute: true)
        request.addressV6 = IPPrefix("fd00:18::\(number + 1)/64")
        _ = try await self[index].driver.attach(request)
        var servers = [
            try Server("t\(number)", in: sandbox, "::", port: 8080), try Server("t\(number)", in: sandbox, "::", port: 8080, udp: true),
        ]
        if Association.isInKernel { servers.append(try Server("t\(number)", in: sandbox, "::", port: 8080, sctp: true)) }
        return MeshTask(number: number, engine: index, sandbox: sandbox, servers: servers)
    }

    /// What an engine balances: TCP 80, UDP 53 and SCTP 36412 to the tasks that serve. All that are there are in the mesh.
    func state(
        of index: Int, serving: [MeshTask], present: [MeshTask]? = nil, subnets: [String] = [], families: Set<Bool> = [true, false]
    ) throws -> BalancerState {
        let engine = self[index]
        guard let underlay = IPAddress(engine.address), let address = IPPrefix(engine.meshAddress + "/16") else { throw ApusError(.failed, "\(index)") }
        var mesh = MeshState(networkID: ID.random(), vni: 4096, underlay: underlay, address: address)
        mesh.addressV6 = IPPrefix(engine.meshAddressV6 + "/64")
        for other in engines where other.index != index {
            guard let address = IPAddress(other.meshAddress), let underlay = IPAddress(other.address) else { continue }
            mesh.nodes.append(
                .init(index: UInt16(other.index), address: address, addressV6: IPAddress(other.meshAddressV6), underlay: underlay))
        }
        for task in present ?? serving {
            if task.engine == index {
                mesh.localTasks.append(.init(address: task.mesh, addressV6: task.meshV6, target: task.target, targetV6: task.targetV6))
            } else {
                mesh.remoteTasks.append(.init(address: task.mesh, addressV6: task.meshV6, nodeIndex: UInt16(task.engine)))
            }
        }
        let addresses = serving.flatMap { task in task.engine == index ? [task.target, task.targetV6] : [task.mesh, task.meshV6] }.compactMap { $0 }
        let backends = addresses.filter { families.contains($0.isIPv4) }.map { Backend(address: $0, port: 8080) }
        return BalancerState(
            ports: [
                BalancedPort(transport: .tcp, port: 80, backends: backends), BalancedPort(transport: .udp, port: 53, backends: backends),
                BalancedPort(transport: .sctp, port: 36412, backends: backends),
            ],
            subnets: ([engine.network.gateway, engine.network.gatewayV6] + subnets.map { IPPrefix($0) }).compactMap { $0 }, mesh: mesh)
    }

    /// A balancer on each engine, with these tasks behind the port.
    func balancers(serving tasks: [MeshTask], subnets: [String] = []) async throws -> [any LoadBalancer] {
        var balancers: [any LoadBalancer] = []
        for engine in engines {
            let balancer = try engine.balancer()
            try await balancer.apply(state(of: engine.index, serving: tasks, subnets: subnets))
            balancers.append(balancer)
        }
        return balancers
    }

    /// Ends what a test started.
    func end(_ balancers: [any LoadBalancer], _ tasks: [MeshTask]) async {
        for balancer in balancers { await balancer.shutDown() }
        for task in tasks { for server in task.servers { await server.stop() } }
    }

    func ruleset(of namespace: String) async throws -> String {
        try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in try NFTables().run("list ruleset") }
    }
}
