import BalancerIPVS
import Glibc
import IPVS
import NFTables
import Namespaces
import Netlink
import NetworkBridge
import PluginAPI
import Synchronization
import Testing

extension Trait where Self == ConditionTrait {
    /// Where the kernel has IPVS; `Tests/VM/balancer.sh` runs these tests where it has.
    static var withIPVS: Self { .enabled(if: IPVSSite.isSupported, "this kernel has no IPVS; Tests/VM/balancer.sh runs this under another") }
}

/// A laboratory with a network, the balancer ipvs, and containers that each serve on TCP and UDP 8080, over IPv4 and IPv6.
///
/// The containers' addresses are 172.30.0.n+2 and fd00:30::n+2.
final class IPVSSite: Sendable {
    static let isSupported = (try? IPVSSocket()) != nil

    let laboratory: Laboratory
    let driver: NetworkBridge
    let balancer: BalancerIPVS
    let network: LocalNetwork
    let containers: [String]
    private let servers: [Server]

    static func run(containers count: Int, cleanup: Bool = false, _ body: (IPVSSite) async throws -> Void) async throws {
        try await Laboratory.run { laboratory in
            let site = try await IPVSSite(laboratory, count, cleanup: cleanup)
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
        var network = try testNetwork("front", "172.30.0.1/16")
        network.gatewayV6 = IPPrefix("fd00:30::1/64")
        try await driver.create(network)
        self.network = network
        var containers: [String] = []
        var servers: [Server] = []
        for index in 0..<count {
            var request = AttachRequest(
                network: network, containerID: ID.randomContainer(), sandboxPath: try laboratory.makeNamespace("c\(index)"), interfaceName: "eth0",
                address: try #require(IPPrefix("172.30.0.\(index + 2)/16")),
                macAddress: MACAddress(containerWith: IPAddress(v4: 172, 30, 0, UInt8(index + 2))), isDefaultRoute: true)
            request.addressV6 = IPPrefix("fd00:30::\(index + 2)/64")
            _ = try await driver.attach(request)
            containers.append(request.sandboxPath)
            for udp in [false, true] { servers.append(try Server("c\(index)", in: request.sandboxPath, "::", port: 8080, udp: udp)) }
        }
        self.containers = containers
        self.servers = servers
    }

    static func balancer(_ laboratory: Laboratory, cleanup: Bool = false) throws -> BalancerIPVS {
        var configuration = laboratory.services.configuration
        configuration["cleanup"] = cleanup ? "true" : nil
        return try BalancerIPVS(host: TestServices(configuration: configuration, directory: laboratory.directory))
    }

    private func end() async {
        await balancer.shutDown()
        for server in servers { await server.stop() }
        await driver.shutDown()
    }

    static func address(_ number: Int, isIPv4: Bool = true) -> IPAddress {
        isIPv4 ? IPAddress(v4: 172, 30, 0, UInt8(number + 2)) : IPAddress(bytes: [0xfd, 0, 0, 0x30] + [UInt8](repeating: 0, count: 11) + [UInt8(number + 2)])
            ?? IPAddress(v4: 0, 0, 0, 0)
    }

    /// Published ports to these containers: port 80, by both families.
    func state(_ numbers: some Sequence<Int>, _ transport: TransportProtocol = .tcp, families: [Bool] = [true, false]) throws -> BalancerState {
        let backends = families.flatMap { family in numbers.map { Backend(address: Self.address($0, isIPv4: family), port: 8080) } }
        return BalancerState(
            ports: [BalancedPort(transport: transport, port: 80, backends: backends)], subnets: [network.gateway, try #require(network.gatewayV6)])
    }

    static let virtual = IPAddress(v4: 172, 30, 1, 1)
    static let virtualV6 = "fd00:30::1:1"

    /// Virtual addresses of these containers in container 0, by both families.
    func virtualState(_ numbers: some Sequence<Int>, in client: Int = 0) throws -> BalancerState {
        BalancerState(sandboxes: [
            SandboxState(
                path: containers[client],
                services: [
                    VirtualService(address: Self.virtual, backends: numbers.map { Self.address($0) }),
                    VirtualService(address: try #require(IPAddress(Self.virtualV6)), backends: numbers.map { Self.address($0, isIPv4: false) }),
                ])
        ])
    }

    /// Who answers, in as many connections.
    func answers(from namespace: String, to address: String, port: UInt16 = 80, times: Int) async throws -> Set<String> {
        var names: Set<String> = []
        for _ in 0..<times { names.insert(try await Connection.greeting(from: namespace, to: address, port: port).first ?? "") }
        return names
    }

    func table(in namespace: String) async throws -> IPVSTable {
        try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in try IPVSSocket().table { _ in true } }
    }
}

/// Clients that connect one after the other for as long as it lasts, and what became of it.
final class Load: Sendable {
    struct Outcome {
        var answers: [String: Int] = [:]
        var failures: [String] = []
    }

    private let outcome = Mutex(Outcome())
    private let isEnding = Mutex(false)

    /// Runs `body` under load from a namespace to an address, by two clients.
    /// - Returns: what the clients met, and how many segments that open a connection were sent again meanwhile.
    static func run(
        from namespace: String, to address: String, port: UInt16, _ body: () async throws -> Void
    ) async throws -> (outcome: Outcome, retransmissions: Int) {
        let load = Load()
        let before = try await retransmissions(in: namespace)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<2 {
                group.addTask {
                    while !load.isEnding.withLock({ $0 }) {
                        do throws(ApusError) {
                            let name = try await Connection.greeting(from: namespace, to: address, port: port).first ?? ""
                            load.outcome.withLock { $0.answers[name, default: 0] += 1 }
                        } catch {
                            load.outcome.withLock { $0.failures.append("\(error)") }
                        }
                    }
                }
            }
            defer { load.isEnding.withLock { $0 = true } }
            try await body()
        }
        return (load.outcome.withLock { $0 }, try await retransmissions(in: namespace) - before)
    }

    private static func retransmissions(in namespace: String) async throws -> Int {
        try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in
            let lines = readAll("/proc/thread-self/net/netstat").split(separator: "\n").filter { $0.hasPrefix("TcpExt:") }
            guard lines.count == 2 else { throw ApusError(.failed, "netstat") }
            let names = lines[0].split(separator: " ")
            let values = lines[1].split(separator: " ")
            return zip(names, values).first { $0.0 == "TCPSynRetrans" }.flatMap { Int($0.1) } ?? 0
        }
    }

    private static func readAll(_ path: String) -> String {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return "" }
        defer { close(file) }
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(file, &buffer, buffer.count)
            guard count > 0 else { return String(decoding: text, as: UTF8.self) }
            text += buffer.prefix(count)
        }
    }
}
