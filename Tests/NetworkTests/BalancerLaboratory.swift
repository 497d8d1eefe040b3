import BalancerNFTables
import Glibc
import NFTables
import Namespaces
import Netlink
import NetworkBridge
import PluginAPI

/// A laboratory with a network, a balancer, and containers that each serve on TCP 8080.
final class Site: Sendable {
    let laboratory: Laboratory
    let driver: NetworkBridge
    let balancer: BalancerNFTables
    let network: LocalNetwork
    /// The namespaces of the containers; number n has the address 172.30.0.n+2.
    let containers: [String]
    let servers: [Server]

    /// Runs a test with `count` containers and takes everything down afterwards.
    static func run(containers count: Int, cleanup: Bool = false, _ body: (Site) async throws -> Void) async throws {
        try await Laboratory.run { laboratory in
            let site = try await Site(laboratory, count, cleanup: cleanup)
            do {
                try await body(site)
            } catch {
                await site.end()
                throw error
            }
            await site.end()
        }
    }

    private init(_ laboratory: Laboratory, _ count: Int, cleanup: Bool) async throws {
        self.laboratory = laboratory
        driver = try NetworkBridge(host: laboratory.services)
        balancer = try Self.balancer(laboratory, cleanup: cleanup)
        network = try testNetwork("front", "172.30.0.1/16")
        try await driver.create(network)
        var containers: [String] = []
        var servers: [Server] = []
        for index in 0..<count {
            let sandbox = try await laboratory.attach("c\(index)", "172.30.0.\(index + 2)/16", to: network, by: driver).0.sandboxPath
            containers.append(sandbox)
            servers.append(try Server("c\(index)", in: sandbox, port: 8080))
        }
        self.containers = containers
        self.servers = servers
    }

    static func balancer(_ laboratory: Laboratory, cleanup: Bool = false, connections: String? = nil) throws -> BalancerNFTables {
        var configuration = laboratory.services.configuration
        configuration["proxy-connections"] = connections
        configuration["cleanup"] = cleanup ? "true" : nil
        return try BalancerNFTables(host: TestServices(configuration: configuration, directory: laboratory.directory))
    }

    private func end() async {
        await balancer.shutDown()
        for server in servers { await server.stop() }
        await driver.shutDown()
    }

    func backends(_ numbers: some Sequence<Int>, port: UInt16 = 8080) -> [Backend] {
        numbers.map { Backend(address: IPAddress(v4: 172, 30, 0, UInt8($0 + 2)), port: port) }
    }

    /// Port 80 over TCP to these containers.
    func state(_ numbers: some Sequence<Int>, port: UInt16 = 80) -> BalancerState {
        BalancerState(ports: [BalancedPort(transport: .tcp, port: port, backends: backends(numbers))], subnets: [network.gateway])
    }

    func ruleset() async throws -> String {
        try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in try NFTables().run("list ruleset") }
    }

    /// Who answers, in as many connections.
    func answers(from namespace: String, to address: String, port: UInt16 = 80, times: Int) async throws -> Set<String> {
        var names: Set<String> = []
        for _ in 0..<times { names.insert(try await Connection.greeting(from: namespace, to: address, port: port).first ?? "") }
        return names
    }
}
