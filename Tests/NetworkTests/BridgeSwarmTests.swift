import NFTables
import Namespaces
import Netlink
import NetworkBridge
import PluginAPI
import Testing

/// Networks of the driver `bridge` in a swarm: IPv6 beside IPv4, and what containers have no business with.
@Suite struct BridgeSwarmTests {
    private static func network(_ name: String, _ number: Int, options: [String: String] = [:]) throws -> LocalNetwork {
        var network = try testNetwork(name, "172.\(number).0.1/16", options: options)
        network.gatewayV6 = IPPrefix("fd\(number)::1/64")
        return network
    }

    private static func attach(_ laboratory: Laboratory, _ number: UInt8, to network: LocalNetwork, by driver: NetworkBridge) async throws -> String {
        let gateway = network.gateway.address.bytes
        let address = IPAddress(v4: gateway[0], gateway[1], 0, number)
        let namespace = try laboratory.makeNamespace("\(network.name)-\(number)")
        var request = AttachRequest(
            network: network, containerID: ID.randomContainer(), sandboxPath: namespace, interfaceName: "eth0",
            address: try #require(IPPrefix(address, length: 16)), macAddress: MACAddress(containerWith: address), isDefaultRoute: true)
        request.addressV6 = IPPrefix("fd\(gateway[1])::\(number)/64")
        _ = try await driver.attach(request)
        return namespace
    }

    /// As the network through which tasks reach the world: without talk among each other.
    @Test func iPv6LeavesByTheNodesAddressAndNobodyComesIn() async throws {
        try await Laboratory.run { laboratory in
            try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in
                try SystemSetting.ensure("net/ipv6/conf/all/forwarding", "0")
                try SystemSetting.write("net/ipv6/conf/wan0/accept_ra", "1")
            }
            let driver = try NetworkBridge(host: laboratory.services)
            let gateway = try Self.network(
                "gateway", 32, options: ["com.docker.network.bridge.name": "apus_gwbridge", "com.docker.network.bridge.enable_icc": "false"])
            let other = try Self.network("other", 33)
            try await driver.create(gateway)
            try await driver.create(other)
            let one = try await Self.attach(laboratory, 2, to: gateway, by: driver)
            let two = try await Self.attach(laboratory, 3, to: gateway, by: driver)
            let third = try await Self.attach(laboratory, 2, to: other, by: driver)
            let world = try Server("world", in: laboratory.outside, "::", port: 8080)
            let servers = try [world, Server("two", in: two, "::", port: 8080), Server("third", in: third, "::", port: 8080)]
            #expect(try await Connection.greeting(from: one, to: "2001:db8:f::2", port: 8080) == ["world", "2001:db8:f::1"])
            #expect(try await Connection.greeting(from: one, to: "203.0.113.2", port: 8080) == ["world", "203.0.113.1"])
            // Among each other, and from one network to another, in neither family; also not when the gateway is asked to pass it on.
            await withTaskGroup(of: Void.self) { group in
                for address in ["172.32.0.3", "fd32::3", "172.33.0.2", "fd33::2"] {
                    group.addTask {
                        let error = await Connection.error(from: one, to: address, port: 8080)
                        #expect(error != nil, "\(address)")
                    }
                }
            }
            try await NetworkNamespaces.run(in: one) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                guard let link = try netlink.link(named: "eth0"), let target = IPPrefix("fd32::3/128"), let router = IPAddress("fd32::1")
                else { throw ApusError(.notFound, "eth0") }
                try netlink.setRoute(Route(destination: target, gateway: router, linkIndex: link.index))
            }
            #expect(await Connection.error(from: one, to: "fd32::3", port: 8080) != nil)
            // A neighbour on the wire that sends packets for the subnets to the host.
            try await NetworkNamespaces.run(in: laboratory.outside) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                guard let link = try netlink.link(named: "eth0"), let subnet = IPPrefix("fd32::/64"), let host = IPAddress("2001:db8:f::1")
                else { throw ApusError(.notFound, "eth0") }
                try netlink.setRoute(Route(destination: subnet, gateway: host, linkIndex: link.index))
            }
            #expect(await Connection.error(from: laboratory.outside, to: "fd32::3", port: 8080) == .timedOut)
            // A machine that forwards would lose the default route that its router announces.
            try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in
                #expect(SystemSetting.read("net/ipv6/conf/wan0/accept_ra") == "2")
            }
            for server in servers { await server.stop() }
            await driver.shutDown()
        }
    }

    @Test func managersAndTheDataPathAreOutOfReach() async throws {
        try await Laboratory.run { laboratory in
            let driver = try NetworkBridge(host: laboratory.services)
            var surroundings = NetworkSurroundings()
            surroundings.address = Laboratory.hostAddress
            surroundings.members = [Laboratory.outsideAddress]
            func socket(_ address: String, _ port: UInt16) throws -> NetworkSocket { NetworkSocket(address: try #require(IPAddress(address)), port: port) }
            surroundings.managers = try [socket("203.0.113.1", 2377), socket("203.0.113.2", 2377), socket("2001:db8:f::2", 2377)]
            // Told before there is a network.
            try await driver.setSurroundings(surroundings)
            let network = try Self.network("front", 34)
            try await driver.create(network)
            let one = try await Self.attach(laboratory, 2, to: network, by: driver)
            let servers = try [laboratory.host, laboratory.outside].flatMap { place in
                try [
                    Server("manager", in: place, "::", port: 2377), Server("other", in: place, "::", port: 2378),
                    Server("vxlan", in: place, "::", port: 4789, udp: true), Server("dns", in: place, "::", port: 53, udp: true),
                ]
            }
            let everywhere = ["203.0.113.1", "203.0.113.2", "2001:db8:f::1", "2001:db8:f::2", "172.34.0.1", "fd34::1"]
            try await withThrowingTaskGroup(of: Void.self) { group in
                for address in everywhere {
                    group.addTask {
                        #expect(await Connection.error(from: one, to: address, port: 2377) == .timedOut, "\(address)")
                        #expect(try await Connection.greeting(from: one, to: address, port: 2378).first == "other", "\(address)")
                        let client = try await DatagramClient(from: one, to: address, port: 4789)
                        let error = await failure { _ = try await client.ask() }
                        #expect(error?.code == .timedOut, "\(address)")
                    }
                }
                try await group.waitForAll()
            }
            // Not by the host's address on the wire: a server of datagrams answers with the one that is next to the client.
            for address in ["203.0.113.2", "2001:db8:f::2", "172.34.0.1", "fd34::1"] {
                #expect(try await DatagramClient(from: one, to: address, port: 53).ask().first == "dns", "\(address)")
            }
            // The host itself, and a manager that has moved.
            #expect(try await Connection.greeting(from: laboratory.host, to: "203.0.113.2", port: 2377).first == "manager")
            surroundings.managers = try [socket("203.0.113.2", 2378)]
            surroundings.dataPathPort = 4790
            try await driver.setSurroundings(surroundings)
            #expect(try await Connection.greeting(from: one, to: "203.0.113.2", port: 2377).first == "manager")
            #expect(await Connection.error(from: one, to: "203.0.113.2", port: 2378) == .timedOut)
            #expect(try await DatagramClient(from: one, to: "203.0.113.2", port: 4789).ask().first == "vxlan")
            // A new engine that has not been told yet leaves what is in force.
            let next = try NetworkBridge(host: laboratory.services)
            try await next.create(network)
            #expect(await Connection.error(from: one, to: "203.0.113.2", port: 2378) == .timedOut)
            try await next.setSurroundings(NetworkSurroundings())
            #expect(try await Connection.greeting(from: one, to: "203.0.113.2", port: 2378).first == "other")
            for server in servers { await server.stop() }
            await driver.shutDown()
            await next.shutDown()
        }
    }
}
