import BalancerNFTables
import Glibc
import NFTables
import Namespaces
import Netlink
import NetworkBridge
import PluginAPI
import Testing

@Suite struct BalancerTests {
    @Test func theKernelHasWhatItNeedsAndTheProbeLeavesNothing() async throws {
        try await Site.run(containers: 0) { site in
            try await site.balancer.probe()
            #expect(try await !site.ruleset().contains("probe"))
        }
    }

    @Test func allBackendsAnswerInTurnFromEverywhere() async throws {
        try await Site.run(containers: 3) { site in
            // The proxy's only connection is taken, so that it can answer for nobody whom the kernel should serve.
            let balancer = try Site.balancer(site.laboratory, connections: "1")
            try await balancer.apply(site.state(0..<3))
            let proxied = try await Connection(from: site.laboratory.host, to: "::1", port: 80)
            _ = try await proxied.readLine()
            let all: Set<String> = ["c0", "c1", "c2"]
            #expect(try await site.answers(from: site.laboratory.outside, to: "203.0.113.1", times: 3) == all)
            #expect(try await site.answers(from: site.laboratory.host, to: "203.0.113.1", times: 3) == all)
            #expect(try await site.answers(from: site.laboratory.host, to: "172.30.0.1", times: 3) == all)
            #expect(try await site.answers(from: site.laboratory.host, to: "127.0.0.1", times: 3) == all)
            // Hairpin: also to itself.
            #expect(try await site.answers(from: site.containers[0], to: "172.30.0.1", times: 3) == all)
            #expect(try await site.answers(from: site.containers[0], to: "203.0.113.1", times: 3) == all)
            await #expect(throws: ApusError.self) { try await site.answers(from: site.laboratory.host, to: "::1", times: 1) }
            await balancer.shutDown()
        }
    }

    @Test func ipv6ClientsReachIPv4Backends() async throws {
        try await Site.run(containers: 3) { site in
            try await site.balancer.apply(site.state(0..<3))
            #expect(try await site.answers(from: site.laboratory.host, to: "::1", times: 3) == ["c0", "c1", "c2"])
            #expect(try await site.answers(from: site.laboratory.outside, to: "2001:db8:f::1", times: 3) == ["c0", "c1", "c2"])
        }
    }

    @Test func theClientsAddressArrivesFromOutside() async throws {
        try await Site.run(containers: 1) { site in
            try await site.balancer.apply(site.state(0..<1))
            #expect(try await Connection.greeting(from: site.laboratory.outside, to: "203.0.113.1", port: 80) == ["c0", "203.0.113.2"])
            #expect(try await Connection.greeting(from: site.laboratory.host, to: "127.0.0.1", port: 80) == ["c0", "172.30.0.1"])
        }
    }

    @Test func aClientInAnotherNetworkReachesThePublishedPort() async throws {
        try await Site.run(containers: 1) { site in
            let back = try testNetwork("back", "172.31.0.1/16")
            try await site.driver.create(back)
            let client = try await site.laboratory.attach("client", "172.31.0.2/16", to: back, by: site.driver).0.sandboxPath
            var state = site.state(0..<1)
            state.subnets.append(back.gateway)
            try await site.balancer.apply(state)
            #expect(try await Connection.greeting(from: client, to: "172.31.0.1", port: 80).first == "c0")
            #expect(try await Connection.greeting(from: client, to: "203.0.113.1", port: 80).first == "c0")
            #expect(await Connection.error(from: client, to: "172.30.0.2", port: 8080) == .timedOut)
        }
    }

    @Test func connectionsToElsewhereAreNotTouched() async throws {
        try await Site.run(containers: 2) { site in
            let world = try Server("world", in: site.laboratory.outside, port: 80)
            try await site.balancer.apply(site.state(0..<1))
            #expect(try await Connection.greeting(from: site.containers[1], to: "203.0.113.2", port: 80) == ["world", "203.0.113.1"])
            #expect(try await Connection.greeting(from: site.laboratory.host, to: "203.0.113.2", port: 80).first == "world")
            await world.stop()
        }
    }

    @Test func aChangeKeepsConnectionsToBackendsThatStayAndToThoseThatLeave() async throws {
        try await Site.run(containers: 2) { site in
            try await site.balancer.apply(site.state(0..<1))
            let first = try await Connection(from: site.laboratory.outside, to: "203.0.113.1", port: 80)
            #expect(try await first.readLine() == "c0 203.0.113.2")
            try await site.balancer.apply(site.state(0..<2))
            #expect(try await first.echo("one") == "one")
            try await site.balancer.apply(site.state(1..<2))
            #expect(try await first.echo("two") == "two")
            #expect(try await site.answers(from: site.laboratory.outside, to: "203.0.113.1", times: 4) == ["c1"])
            // A new engine starts from nothing, and replaces what it finds.
            await site.balancer.shutDown()
            #expect(try await site.answers(from: site.laboratory.outside, to: "203.0.113.1", times: 2) == ["c1"])
            let next = try Site.balancer(site.laboratory)
            try await next.apply(site.state(0..<2))
            #expect(try await first.echo("three") == "three")
            #expect(try await site.answers(from: site.laboratory.outside, to: "203.0.113.1", times: 2) == ["c0", "c1"])
            #expect(try await site.answers(from: site.laboratory.host, to: "::1", times: 2) == ["c0", "c1"])
            await next.shutDown()
        }
    }

    @Test func withoutBackendsConnectionsAreRefusedAtOnce() async throws {
        try await Site.run(containers: 1) { site in
            try await site.balancer.apply(site.state(0..<1))
            try await site.balancer.apply(site.state(0..<0))
            let clients = [
                (site.laboratory.outside, "203.0.113.1"), (site.laboratory.outside, "2001:db8:f::1"), (site.laboratory.host, "127.0.0.1"),
                (site.laboratory.host, "::1"), (site.containers[0], "172.30.0.1"),
            ]
            for (client, address) in clients {
                #expect(await Connection.error(from: client, to: address, port: 80) == .permissionDenied, "\(address)")
            }
            try await site.balancer.apply(site.state(0..<1))
            for (client, address) in clients { #expect(await Connection.error(from: client, to: address, port: 80) == nil, "\(address)") }
        }
    }

    @Test func aPortThatIsTakenIsNamedAndTheOthersWork() async throws {
        try await Site.run(containers: 1) { site in
            let other = try Server("other", in: site.laboratory.host, "127.0.0.1", port: 80)
            var state = site.state(0..<1)
            state.ports.append(BalancedPort(transport: .tcp, port: 81, backends: site.backends(0..<1)))
            await #expect { try await site.balancer.apply(state) } throws: { error in
                (error as? ApusError)?.code == .conflict && "\(error)".contains("port 80/tcp")
            }
            #expect(try await site.answers(from: site.laboratory.outside, to: "203.0.113.1", port: 81, times: 1) == ["c0"])
            #expect(try await site.answers(from: site.laboratory.host, to: "127.0.0.1", times: 1) == ["other"])
            await other.stop()
            try await site.balancer.apply(state)
            #expect(try await site.answers(from: site.laboratory.host, to: "127.0.0.1", times: 1) == ["c0"])
            // Now nobody else gets it.
            for (address, udp) in [("0.0.0.0", false), ("127.0.0.1", false), ("::1", false)] {
                #expect(throws: ApusError.self) { _ = try Server("thief", in: site.laboratory.host, address, port: 80, udp: udp) }
            }
            try await site.balancer.apply(BalancerState())
            let after = try Server("after", in: site.laboratory.host, port: 80)
            await after.stop()
        }
    }

    @Test func aPortOnOneAddressAnswersThereAlone() async throws {
        try await Site.run(containers: 1) { site in
            var state = site.state(0..<1)
            state.ports[0].hostAddress = IPAddress(v4: 127, 0, 0, 1)
            try await site.balancer.apply(state)
            #expect(try await site.answers(from: site.laboratory.host, to: "127.0.0.1", times: 1) == ["c0"])
            #expect(await Connection.error(from: site.laboratory.outside, to: "203.0.113.1", port: 80) == .permissionDenied)
            state.ports[0].hostAddress = Laboratory.hostAddress
            try await site.balancer.apply(state)
            #expect(try await site.answers(from: site.laboratory.outside, to: "203.0.113.1", times: 1) == ["c0"])
            #expect(await Connection.error(from: site.laboratory.host, to: "127.0.0.1", port: 80) == .permissionDenied)
            state.ports[0].hostAddress = IPAddress(v4: 198, 51, 100, 7)
            await #expect { try await site.balancer.apply(state) } throws: { ($0 as? ApusError)?.code == .conflict }
        }
    }

    @Test func aPortMovesBetweenOneAddressAndAll() async throws {
        try await Site.run(containers: 1) { site in
            for address in [IPAddress(v4: 127, 0, 0, 1), nil, Laboratory.hostAddress, nil] {
                var state = site.state(0..<1)
                state.ports[0].hostAddress = address
                try await site.balancer.apply(state)
                try await site.balancer.apply(state)
                for target in address.map({ ["\($0)"] }) ?? ["127.0.0.1", "203.0.113.1", "::1"] {
                    #expect(try await site.answers(from: site.laboratory.host, to: target, times: 1) == ["c0"])
                    #expect(throws: ApusError.self) { _ = try Server("thief", in: site.laboratory.host, target, port: 80) }
                }
            }
        }
    }

    @Test func datagramsGoToBackendsAndLeaveThoseThatAreGone() async throws {
        try await Site.run(containers: 2) { site in
            let servers = [
                try Server("u0", in: site.containers[0], port: 5300, udp: true), try Server("u1", in: site.containers[1], port: 5300, udp: true),
            ]
            func state(_ numbers: [Int]) -> BalancerState {
                BalancerState(
                    ports: [BalancedPort(transport: .udp, port: 53, backends: site.backends(numbers, port: 5300))], subnets: [site.network.gateway])
            }
            // Tracked before the port was published, so without a backend.
            let early = try await DatagramClient(from: site.laboratory.outside, to: "203.0.113.1", port: 53)
            await #expect(throws: ApusError.self) { try await early.ask() }
            try await site.balancer.apply(state([0]))
            #expect(try await early.ask() == ["u0", "203.0.113.2"])
            let local = try await DatagramClient(from: site.laboratory.host, to: "127.0.0.1", port: 53)
            #expect(try await local.ask() == ["u0", "172.30.0.1"])
            let inside = try await DatagramClient(from: site.containers[0], to: "172.30.0.1", port: 53)
            #expect(try await inside.ask().first == "u0")
            try await site.balancer.apply(state([1]))
            #expect(try await early.ask() == ["u1", "203.0.113.2"])
            #expect(try await local.ask().first == "u1")
            try await site.balancer.apply(state([]))
            await #expect { try await early.ask() } throws: { ($0 as? ApusError)?.code == .permissionDenied }
            #expect(throws: ApusError.self) { _ = try Server("thief", in: site.laboratory.host, port: 53, udp: true) }
            for server in servers { await server.stop() }
        }
    }

    @Test func aFlushedRulesetIsRepairedByItself() async throws {
        try await Site.run(containers: 2) { site in
            try await site.balancer.apply(site.state(0..<2))
            try await NetworkNamespaces.run(in: site.laboratory.host) { () throws(ApusError) in _ = try NFTables().run("flush ruleset") }
            try await site.driver.create(site.network)
            // Until then the proxy stands in, but hides the client.
            let isRepaired = try await eventually {
                try await Connection.greeting(from: site.laboratory.outside, to: "203.0.113.1", port: 80).last == "203.0.113.2"
            }
            #expect(isRepaired)
            // Someone has taken a part of the table: the change finds that out.
            try await NetworkNamespaces.run(in: site.laboratory.host) { () throws(ApusError) in
                _ = try NFTables().run("flush map inet apus-balancer published; delete chain inet apus-balancer tcp-80")
            }
            try await site.balancer.apply(site.state(0..<1))
            #expect(try await Connection.greeting(from: site.laboratory.outside, to: "203.0.113.1", port: 80) == ["c0", "203.0.113.2"])
        }
    }

    @Test func loopbackAddressesAreNotReachableFromOutside() async throws {
        try await Site.run(containers: 1) { site in
            try await site.balancer.apply(site.state(0..<1))
            let secret = try Server("secret", in: site.laboratory.host, "127.0.0.1", port: 9000)
            // A container that sends packets for the host's loopback address to the host, as route_localnet would let in.
            try await NetworkNamespaces.run(in: site.containers[0]) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                guard let link = try netlink.link(named: "eth0"), let loopback = try netlink.link(named: "lo"), let all = IPPrefix("127.0.0.0/8"),
                    let own = IPPrefix("127.0.0.1/8"), let target = IPPrefix("127.0.0.1/32")
                else { throw ApusError(.notFound, "eth0") }
                _ = all
                try SystemSetting.write("net/ipv4/conf/eth0/route_localnet", "1")
                try netlink.removeAddress(own, fromLinkAt: loopback.index)
                try netlink.setRoute(Route(destination: target, gateway: IPAddress(v4: 172, 30, 0, 1), linkIndex: link.index))
            }
            #expect(await Connection.error(from: site.containers[0], to: "127.0.0.1", port: 9000) == .timedOut)
            // Without the guard the same packets arrive, so this test can fail.
            try await NetworkNamespaces.run(in: site.laboratory.host) { () throws(ApusError) in
                _ = try NFTables().run("flush chain inet apus-balancer guard")
            }
            #expect(await Connection.error(from: site.containers[0], to: "127.0.0.1", port: 9000) == nil)
            await secret.stop()
        }
    }

    @Test func nothingIsLeftAfterwards() async throws {
        try await Site.run(containers: 1, cleanup: true) { site in
            try await site.balancer.apply(site.state(0..<1))
            #expect(try await site.ruleset().contains("apus-balancer"))
            try await site.balancer.apply(BalancerState(subnets: [site.network.gateway]))
            #expect(try await !site.ruleset().contains("apus-balancer"))
            let bridge = "apus" + site.network.id.text.prefix(8)
            try await NetworkNamespaces.run(in: site.laboratory.host) { () throws(ApusError) in
                #expect(SystemSetting.read("net/ipv4/conf/\(bridge)/route_localnet") == "0")
            }
            try await site.balancer.apply(site.state(0..<1))
            #expect(try await site.ruleset().contains("apus-balancer"))
            await site.balancer.shutDown()
            #expect(try await !site.ruleset().contains("apus-balancer"))
        }
    }

    @Test func ipv6BackendsAreBalancedInTheKernelAndSeeTheClient() async throws {
        try await Site.run(containers: 0) { site in
            var network = try testNetwork("dual", "172.31.0.1/16")
            network.gatewayV6 = IPPrefix("fd00:30::1/64")
            try await site.driver.create(network)
            let gatewayV6 = try #require(network.gatewayV6)
            var request = AttachRequest(
                network: network, containerID: ID.randomContainer(), sandboxPath: try site.laboratory.makeNamespace("dual"),
                interfaceName: "eth0", address: try #require(IPPrefix("172.31.0.2/16")),
                macAddress: MACAddress(containerWith: IPAddress(v4: 172, 31, 0, 2)), isDefaultRoute: true)
            request.addressV6 = IPPrefix("fd00:30::2/64")
            _ = try await site.driver.attach(request)
            let server = try Server("six", in: request.sandboxPath, "::", port: 8080)
            let world = try Server("world", in: site.laboratory.outside, "::", port: 8080)
            let backend = Backend(address: try #require(IPAddress("fd00:30::2")), port: 8080)
            try await site.balancer.apply(
                BalancerState(ports: [BalancedPort(transport: .tcp, port: 80, backends: [backend])], subnets: [network.gateway, gatewayV6]))
            #expect(try await Connection.greeting(from: site.laboratory.outside, to: "2001:db8:f::1", port: 80) == ["six", "2001:db8:f::2"])
            #expect(try await Connection.greeting(from: site.laboratory.host, to: "::1", port: 80) == ["six", "fd00:30::1"])
            #expect(try await Connection.greeting(from: request.sandboxPath, to: "fd00:30::1", port: 80) == ["six", "fd00:30::1"])
            #expect(try await Connection.greeting(from: site.laboratory.outside, to: "203.0.113.1", port: 80).first == "six")
            #expect(try await Connection.greeting(from: request.sandboxPath, to: "2001:db8:f::2", port: 8080) == ["world", "2001:db8:f::1"])
            await server.stop()
            await world.stop()
        }
    }

    @Test func theProxyPassesOnLargeDataBothWays() async throws {
        try await Site.run(containers: 1) { site in
            try await site.balancer.apply(site.state(0..<1))
            let connection = try await Connection(from: site.laboratory.host, to: "::1", port: 80)
            _ = try await connection.readLine()
            for size in [1, 1000, 300_000] {
                let text = String(repeating: "x", count: size)
                #expect(try await connection.echo(text) == text)
            }
        }
    }

    @Test func theProxysConnectionsAreBounded() async throws {
        try await Site.run(containers: 1) { site in
            #expect(throws: ApusError.self) { _ = try Site.balancer(site.laboratory, connections: "many") }
            let balancer = try Site.balancer(site.laboratory, connections: "2")
            try await balancer.apply(site.state(0..<1))
            var open: [Connection] = []
            for _ in 0..<2 {
                open.append(try await Connection(from: site.laboratory.host, to: "::1", port: 80))
                _ = try await open.last?.readLine()
            }
            let excess = try await Connection(from: site.laboratory.host, to: "::1", port: 80)
            await #expect(throws: ApusError.self) { _ = try await excess.readLine() }
            #expect(try await open[0].echo("still here") == "still here")
            open.removeLast()
            #expect(await eventually { (try? await Connection.greeting(from: site.laboratory.host, to: "::1", port: 80).first) == "c0" })
            await balancer.shutDown()
        }
    }

    @Test func aPortOfZeroIsRefused() async throws {
        try await Site.run(containers: 0) { site in
            await #expect { try await site.balancer.apply(site.state(0..<1, port: 0)) } throws: { ($0 as? ApusError)?.code == .invalidArgument }
        }
    }
}
