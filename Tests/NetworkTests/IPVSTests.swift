import BalancerIPVS
import Glibc
import IPVS
import NFTables
import Namespaces
import Netlink
import PluginAPI
import Testing

/// Without IPVS the balancer says so.
@Suite struct IPVSProbeTests {
    @Test(.enabled(if: !IPVSSite.isSupported)) func aKernelWithoutIPVSIsNamed() async throws {
        try await Laboratory.run { laboratory in
            let balancer = try IPVSSite.balancer(laboratory)
            let error = await #expect(throws: ApusError.self) { try await balancer.probe() }
            #expect(error?.code == .unavailable && error?.message.contains("IPVS") == true)
            await balancer.shutDown()
        }
    }

    @Test(.withIPVS) func aKernelWithIPVSPassesAndTheProbeLeavesNothing() async throws {
        try await IPVSSite.run(containers: 0) { site in
            try await site.balancer.probe()
            #expect(try await site.table(in: site.laboratory.host).servers.isEmpty)
            let rules = try await NetworkNamespaces.run(in: site.laboratory.host) { () throws(ApusError) in try NFTables().run("list ruleset") }
            #expect(!rules.contains("apus-ipvs") && !rules.contains("probe"))
        }
    }
}

/// Published ports.
@Suite(.withIPVS) struct IPVSPortTests {
    @Test func allBackendsAnswerInTurnFromEverywhereAndSeeTheirClient() async throws {
        try await IPVSSite.run(containers: 3) { site in
            try await site.balancer.apply(site.state(0..<3))
            let (outside, host, inside) = (site.laboratory.outside, site.laboratory.host, site.containers[0])
            let clients = [
                (outside, "203.0.113.1"), (outside, "2001:db8:f::1"), (host, "203.0.113.1"), (host, "172.30.0.1"), (host, "127.0.0.1"),
                (host, "2001:db8:f::1"), (host, "::1"), (inside, "172.30.0.1"), (inside, "203.0.113.1"), (inside, "fd00:30::1"), (inside, "2001:db8:f::1"),
            ]
            for (number, (client, address)) in clients.enumerated() {
                let names = try? await site.answers(from: client, to: address, times: 3)
                #expect(names == ["c0", "c1", "c2"], "client \(number) to \(address)")
            }
            #expect(try await Connection.greeting(from: outside, to: "203.0.113.1", port: 80)[1] == "203.0.113.2")
            #expect(try await Connection.greeting(from: outside, to: "2001:db8:f::1", port: 80)[1] == "2001:db8:f::2")
            #expect(try await Connection.greeting(from: host, to: "127.0.0.1", port: 80)[1] == "172.30.0.1")
        }
    }

    @Test func ipv6ClientsReachIPv4Backends() async throws {
        try await IPVSSite.run(containers: 2) { site in
            try await site.balancer.apply(site.state(0..<2, families: [true]))
            #expect(try await site.answers(from: site.laboratory.outside, to: "2001:db8:f::1", times: 2) == ["c0", "c1"])
            #expect(try await site.answers(from: site.laboratory.host, to: "::1", times: 2) == ["c0", "c1"])
        }
    }

    @Test func changesUnderLoadFailNobody() async throws {
        try await IPVSSite.run(containers: 3) { site in
            try await site.balancer.apply(site.state(0..<3))
            let (outcome, retransmissions) = try await Load.run(from: site.laboratory.outside, to: "203.0.113.1", port: 80) {
                for round in 0..<20 {
                    try await site.balancer.apply(site.state([[0, 1], [1], [1, 2], [2, 0], [0], [0, 1, 2]][round % 6]))
                    try await ConcurrentTask.sleep(for: .milliseconds(30))
                }
            }
            #expect(outcome.failures.isEmpty && outcome.answers.count == 3 && retransmissions == 0, "\(outcome) \(retransmissions)")
        }
    }

    @Test func whoLeavesKeepsConnectionsAndGetsNoNewOnes() async throws {
        try await IPVSSite.run(containers: 2) { site in
            try await site.balancer.apply(site.state(0..<1))
            let first = try await Connection(from: site.laboratory.outside, to: "203.0.113.1", port: 80)
            #expect(try await first.readLine() == "c0 203.0.113.2")
            try await site.balancer.apply(site.state(1..<2))
            #expect(try await first.echo("one") == "one")
            #expect(try await site.answers(from: site.laboratory.outside, to: "203.0.113.1", times: 4) == ["c1"])
            // With nobody left, new connections are refused, and that one goes on.
            try await site.balancer.apply(site.state(0..<0))
            #expect(await Connection.error(from: site.laboratory.outside, to: "203.0.113.1", port: 80) == .permissionDenied)
            #expect(try await first.echo("two") == "two")
            // Also when the port is not published any more.
            try await site.balancer.apply(BalancerState())
            #expect(try await first.echo("three") == "three")
            #expect(await Connection.error(from: site.laboratory.outside, to: "203.0.113.1", port: 80) == .permissionDenied)
            // A new engine starts from nothing, and takes over what it finds.
            await site.balancer.shutDown()
            let next = try IPVSSite.balancer(site.laboratory)
            try await next.apply(site.state(0..<2))
            #expect(try await first.echo("four") == "four")
            #expect(try await site.answers(from: site.laboratory.outside, to: "203.0.113.1", times: 2) == ["c0", "c1"])
            await next.shutDown()
        }
    }

    /// A client that uses its port again while the last connection from it still lingers, with a backend that has left.
    @Test func aPortThatIsUsedAgainGetsAnAnswerAtOnce() async throws {
        try await IPVSSite.run(containers: 2) { site in
            try await site.balancer.apply(site.state(0..<1))
            let (outcome, retransmissions) = try await Load.run(from: site.laboratory.outside, to: "203.0.113.1", port: 80) {
                for round in 1...6 {
                    #expect(try await NetworkNamespaces.run(in: site.laboratory.outside) { () throws(ApusError) in
                        try Self.greeting(fromPort: 40_404, to: Laboratory.hostAddress, port: 80)
                    } == "c\((round + 1) % 2)")
                    try await site.balancer.apply(site.state([round % 2]))
                }
            }
            #expect(outcome.failures.isEmpty && retransmissions == 0, "\(outcome) \(retransmissions)")
        }
    }

    @Test func withoutBackendsConnectionsAreRefusedAtOnce() async throws {
        try await IPVSSite.run(containers: 1) { site in
            try await site.balancer.apply(site.state(0..<0))
            let clients = [
                (site.laboratory.outside, "203.0.113.1"), (site.laboratory.outside, "2001:db8:f::1"), (site.laboratory.host, "127.0.0.1"),
                (site.laboratory.host, "::1"), (site.containers[0], "172.30.0.1"),
            ]
            for (client, address) in clients {
                #expect(await Connection.error(from: client, to: address, port: 80) == .permissionDenied, "\(address)")
            }
            try await site.balancer.apply(site.state(0..<0, .udp))
            let datagrams = try await DatagramClient(from: site.laboratory.outside, to: "203.0.113.1", port: 80)
            await #expect { try await datagrams.ask() } throws: { ($0 as? ApusError)?.code == .permissionDenied }
        }
    }

    @Test func aFlowOfDatagramsStaysUntilItsBackendLeaves() async throws {
        try await IPVSSite.run(containers: 3) { site in
            try await site.balancer.apply(site.state(0..<3, .udp))
            for (address, own) in [("203.0.113.1", "203.0.113.2"), ("2001:db8:f::1", "2001:db8:f::2")] {
                var names: Set<String> = []
                for _ in 0..<3 {
                    let client = try await DatagramClient(from: site.laboratory.outside, to: address, port: 80)
                    let answer = try await client.ask()
                    #expect(answer[1] == own)
                    for _ in 0..<3 { #expect(try await client.ask() == answer) }
                    names.insert(answer[0])
                }
                #expect(names == ["c0", "c1", "c2"])
            }
            let client = try await DatagramClient(from: site.laboratory.outside, to: "203.0.113.1", port: 80)
            let first = try await client.ask()[0]
            let rest = (0..<3).filter { "c\($0)" != first }
            try await site.balancer.apply(site.state(rest, .udp))
            let second = try await client.ask()[0]
            #expect(rest.map { "c\($0)" }.contains(second))
            try await site.balancer.apply(site.state(0..<3, .udp))
            #expect(try await client.ask()[0] == second)
            // From the node itself.
            let local = try await DatagramClient(from: site.laboratory.host, to: "127.0.0.1", port: 80)
            #expect(try await local.ask().count == 2)
        }
    }

    @Test func aPortOnOneAddressIsOnNoOther() async throws {
        try await IPVSSite.run(containers: 2) { site in
            var state = try site.state(0..<1)
            state.ports[0].hostAddress = Laboratory.hostAddress
            state.ports.append(BalancedPort(transport: .tcp, port: 81, hostAddress: IPAddress(v4: 127, 0, 0, 1), backends: state.ports[0].backends))
            try await site.balancer.apply(state)
            #expect(try await site.answers(from: site.laboratory.outside, to: "203.0.113.1", times: 2) == ["c0"])
            #expect(await Connection.error(from: site.containers[1], to: "172.30.0.1", port: 80) == .permissionDenied)
            #expect(try await site.answers(from: site.laboratory.host, to: "127.0.0.1", port: 81, times: 2) == ["c0"])
            #expect(await Connection.error(from: site.laboratory.outside, to: "203.0.113.1", port: 81) == .permissionDenied)
        }
    }

    @Test func whatOthersTookAwayIsMadeAnew() async throws {
        try await IPVSSite.run(containers: 1) { site in
            try await site.balancer.apply(site.state(0..<1))
            try await NetworkNamespaces.run(in: site.laboratory.host) { () throws(ApusError) in
                try NFTables().run("delete table inet apus-ipvs")
                let socket = try IPVSSocket()
                for server in try socket.servers() { try socket.make(.removeServer(server)) }
                // Somebody else's stays.
                try socket.make(.addServer(VirtualServer(mark: 256, isIPv4: true)))
            }
            try await site.balancer.apply(site.state(0..<1))
            #expect(try await site.answers(from: site.laboratory.outside, to: "203.0.113.1", times: 1) == ["c0"])
            #expect(try await site.table(in: site.laboratory.host).servers[VirtualServer(mark: 256, isIPv4: true)] != nil)
        }
    }

    @Test func cleanUpLeavesNothing() async throws {
        try await IPVSSite.run(containers: 1, cleanup: true) { site in
            var state = try site.state(0..<1)
            state.sandboxes = try site.virtualState(0..<1).sandboxes
            try await site.balancer.apply(state)
            let open = try await Connection(from: site.laboratory.outside, to: "203.0.113.1", port: 80)
            _ = try await open.readLine()
            await site.balancer.shutDown()
            for namespace in [site.laboratory.host, site.containers[0]] {
                #expect(try await site.table(in: namespace).servers.isEmpty)
                let rules = try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in try NFTables().run("list ruleset") }
                #expect(!rules.contains("apus-ipvs"))
            }
        }
    }

    /// One connection from a port of one's own choice; what the server says first.
    private static func greeting(fromPort local: UInt16, to address: IPAddress, port: UInt16) throws(ApusError) -> String {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        defer { close(descriptor) }
        var one: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        // The client forgets the connection when it closes it, those on the way do not.
        var now = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
        guard SocketAddress(Laboratory.outsideAddress, local).with({ bind(descriptor, $0, $1) }) == 0,
            SocketAddress(address, port).with({ connect(descriptor, $0, $1) }) == 0
        else { throw ApusError(.failed, "connect: errno \(errno)") }
        var buffer = [UInt8](repeating: 0, count: 100)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self).split(separator: " ").first.map(String.init) ?? ""
    }
}
