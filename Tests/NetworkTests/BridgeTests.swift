import NFTables
import Namespaces
import Netlink
import NetworkBridge
import PluginAPI
import Testing

@Suite struct BridgeTests {
    @Test func attachGivesTheContainerItsAddressRouteAndHardwareAddress() async throws {
        try await Laboratory.run { laboratory in
            // A new namespace begins with the machine's own setting, which an engine may have changed already.
            try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in try SystemSetting.write("net/ipv4/ip_forward", "0") }
            let driver = try NetworkBridge(host: laboratory.services)
            let network = try testNetwork("front", "172.30.0.1/16")
            try await driver.create(network)
            let (request, answer) = try await laboratory.attach("one", "172.30.0.2/16", to: network, by: driver)
            #expect(answer.mtu == 1500)
            try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                let bridge = try netlink.link(named: "apus" + network.id.text.prefix(8))
                #expect(bridge?.isUp == true)
                #expect(bridge?.macAddress == MACAddress("02:42:ac:1e:00:01"))
                let port = try netlink.link(named: answer.hostInterface)
                #expect(port?.isUp == true)
                #expect(port?.masterIndex == bridge?.index)
                #expect(SystemSetting.read("net/ipv4/ip_forward") == "1")
            }
            try await NetworkNamespaces.run(in: request.sandboxPath) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                let link = try netlink.link(named: "eth0")
                #expect(link?.isUp == true)
                #expect(link?.macAddress == MACAddress("02:42:ac:1e:00:02"))
                #expect(try netlink.addresses(ofLinkAt: link?.index).map(\.prefix.description) == ["172.30.0.2/16"])
                let gateways = try netlink.routes().filter { $0.destination.length == 0 }.map(\.gateway)
                #expect(gateways == [IPAddress(v4: 172, 30, 0, 1)])
                #expect(try netlink.link(named: "lo")?.isUp == true)
            }
            #expect(laboratory.services.messages(.info).contains { $0.contains("ip_forward") })
            await driver.shutDown()
        }
    }

    @Test func containersTalkToEachOtherAndToTheOutsideByTheNodesAddress() async throws {
        try await Laboratory.run { laboratory in
            let driver = try NetworkBridge(host: laboratory.services)
            let network = try testNetwork("front", "172.30.0.1/16")
            try await driver.create(network)
            let one = try await laboratory.attach("one", "172.30.0.2/16", to: network, by: driver).0.sandboxPath
            let two = try await laboratory.attach("two", "172.30.0.3/16", to: network, by: driver).0.sandboxPath
            let peer = try Server("peer", in: two, port: 8080)
            let world = try Server("world", in: laboratory.outside, port: 8080)
            #expect(try await Connection.greeting(from: one, to: "172.30.0.3", port: 8080) == ["peer", "172.30.0.2"])
            #expect(try await Connection.greeting(from: laboratory.host, to: "172.30.0.3", port: 8080) == ["peer", "172.30.0.1"])
            #expect(try await Connection.greeting(from: one, to: "203.0.113.2", port: 8080) == ["world", "203.0.113.1"])
            await peer.stop()
            await world.stop()
            await driver.shutDown()
        }
    }

    @Test func nobodyComesInFromOutsideWithoutAPublishedPort() async throws {
        try await Laboratory.run { laboratory in
            let driver = try NetworkBridge(host: laboratory.services)
            let network = try testNetwork("front", "172.30.0.1/16")
            try await driver.create(network)
            let one = try await laboratory.attach("one", "172.30.0.2/16", to: network, by: driver).0.sandboxPath
            let server = try Server("peer", in: one, port: 8080)
            // A neighbour on the wire that sends packets for the subnet to the host.
            try await NetworkNamespaces.run(in: laboratory.outside) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                guard let link = try netlink.link(named: "eth0"), let subnet = IPPrefix("172.30.0.0/16") else { throw ApusError(.notFound, "eth0") }
                try netlink.setRoute(Route(destination: subnet, gateway: Laboratory.hostAddress, linkIndex: link.index))
            }
            #expect(await Connection.error(from: laboratory.outside, to: "172.30.0.2", port: 8080) == .timedOut)
            await server.stop()
            await driver.shutDown()
        }
    }

    @Test func twoNetworksCannotReachEachOther() async throws {
        try await Laboratory.run { laboratory in
            let driver = try NetworkBridge(host: laboratory.services)
            let front = try testNetwork("front", "172.30.0.1/16")
            let back = try testNetwork("back", "172.31.0.1/16")
            try await driver.create(front)
            try await driver.create(back)
            let one = try await laboratory.attach("one", "172.30.0.2/16", to: front, by: driver).0.sandboxPath
            let two = try await laboratory.attach("two", "172.31.0.2/16", to: back, by: driver).0.sandboxPath
            let server = try Server("back", in: two, port: 8080)
            #expect(await Connection.error(from: one, to: "172.31.0.2", port: 8080) == .timedOut)
            #expect(await Connection.error(from: laboratory.host, to: "172.31.0.2", port: 8080) == nil)
            await server.stop()
            await driver.shutDown()
        }
    }

    @Test func anInternalNetworkHasNoWayOut() async throws {
        try await Laboratory.run { laboratory in
            let driver = try NetworkBridge(host: laboratory.services)
            let network = try testNetwork("inside", "172.30.0.1/16", isInternal: true)
            try await driver.create(network)
            let one = try await laboratory.attach("one", "172.30.0.2/16", to: network, by: driver).0.sandboxPath
            let two = try await laboratory.attach("two", "172.30.0.3/16", to: network, by: driver).0.sandboxPath
            let server = try Server("two", in: two, port: 8080)
            let world = try Server("world", in: laboratory.outside, port: 8080)
            #expect(try await Connection.greeting(from: one, to: "172.30.0.3", port: 8080) == ["two", "172.30.0.2"])
            #expect(await Connection.error(from: one, to: "203.0.113.2", port: 8080) == .failed)
            // Also not with a route that the container has made for itself.
            try await NetworkNamespaces.run(in: one) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                guard let link = try netlink.link(named: "eth0"), let route = Route.byDefault(gateway: network.gateway.address, linkIndex: link.index)
                else { throw ApusError(.notFound, "eth0") }
                try netlink.setRoute(route)
            }
            #expect(await Connection.error(from: one, to: "203.0.113.2", port: 8080) == .timedOut)
            await server.stop()
            await world.stop()
            await driver.shutDown()
        }
    }

    @Test func peersAreSeparatedOnRequest() async throws {
        try await Laboratory.run { laboratory in
            let driver = try NetworkBridge(host: laboratory.services)
            let network = try testNetwork("shy", "172.30.0.1/16", options: ["com.docker.network.bridge.enable_icc": "false"])
            try await driver.create(network)
            let one = try await laboratory.attach("one", "172.30.0.2/16", to: network, by: driver).0.sandboxPath
            let two = try await laboratory.attach("two", "172.30.0.3/16", to: network, by: driver).0.sandboxPath
            let server = try Server("two", in: two, port: 8080)
            let world = try Server("world", in: laboratory.outside, port: 8080)
            #expect(await Connection.error(from: one, to: "172.30.0.3", port: 8080) != nil)
            #expect(try await Connection.greeting(from: one, to: "203.0.113.2", port: 8080).first == "world")
            await server.stop()
            await world.stop()
            await driver.shutDown()
        }
    }

    @Test func flushedRulesAndAMissingBridgeAreRepaired() async throws {
        try await Laboratory.run { laboratory in
            let driver = try NetworkBridge(host: laboratory.services)
            let network = try testNetwork("front", "172.30.0.1/16")
            try await driver.create(network)
            let one = try await laboratory.attach("one", "172.30.0.2/16", to: network, by: driver).0.sandboxPath
            let world = try Server("world", in: laboratory.outside, port: 8080)
            try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in
                try NFTables().run("flush ruleset")
                try SystemSetting.write("net/ipv4/ip_forward", "0")
                let netlink = try NetlinkSocket()
                guard let bridge = try netlink.links().first(where: { $0.kind == "bridge" }) else { throw ApusError(.notFound, "bridge") }
                try netlink.change(linkAt: bridge.index, LinkChange(isUp: false))
                try netlink.removeAddress(network.gateway, fromLinkAt: bridge.index)
            }
            #expect(await Connection.error(from: one, to: "203.0.113.2", port: 8080) != nil)
            try await driver.create(network)
            try await driver.create(network)
            // The first try may still hear of the neighbour that was not found before.
            #expect(await eventually { (try? await Connection.greeting(from: one, to: "203.0.113.2", port: 8080)) == ["world", "203.0.113.1"] })
            await world.stop()
            await driver.shutDown()
        }
    }

    @Test func removeIsRefusedWhileInUseAndLeavesNothing() async throws {
        try await Laboratory.run { laboratory in
            let driver = try NetworkBridge(host: laboratory.services)
            let front = try testNetwork("front", "172.30.0.1/16")
            let back = try testNetwork("back", "172.31.0.1/16")
            try await driver.create(front)
            try await driver.create(back)
            let (request, answer) = try await laboratory.attach("one", "172.30.0.2/16", to: front, by: driver)
            await #expect { try await driver.remove(front) } throws: { ($0 as? ApusError)?.code == .conflict }
            let detach = DetachRequest(network: front, containerID: request.containerID, sandboxPath: request.sandboxPath)
            try NetworkNamespaces.remove(path: request.sandboxPath)
            try await driver.detach(detach)
            try await driver.detach(detach)
            try await driver.remove(front)
            try await driver.remove(front)
            let between = try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in
                #expect(try NetlinkSocket().link(named: answer.hostInterface) == nil)
                return try NFTables().run("list ruleset")
            }
            #expect(between.contains(back.id.text))
            #expect(!between.contains(front.id.text))
            try await driver.remove(back)
            try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in
                #expect(try NFTables().run("list ruleset") == "")
                #expect(Set(try NetlinkSocket().links().map(\.name)) == ["lo", "wan0"])
            }
            await driver.shutDown()
        }
    }

    @Test func aFailedAttachLeavesNothing() async throws {
        try await Laboratory.run { laboratory in
            let driver = try NetworkBridge(host: laboratory.services)
            let network = try testNetwork("front", "172.30.0.1/16")
            try await driver.create(network)
            var (request, _) = try await laboratory.attach("one", "172.30.0.2/16", to: network, by: driver)
            request.containerID = ID.randomContainer()
            let before = try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in try NetlinkSocket().links().count }
            // eth0 is there already.
            await #expect { try await driver.attach(request) } throws: { ($0 as? ApusError)?.code == .conflict }
            request.sandboxPath = laboratory.directory + "/nowhere"
            await #expect { try await driver.attach(request) } throws: { ($0 as? ApusError)?.code == .notFound }
            request.address = try #require(IPPrefix("10.0.0.1/8"))
            await #expect { try await driver.attach(request) } throws: { ($0 as? ApusError)?.code == .invalidArgument }
            let after = try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in try NetlinkSocket().links().count }
            #expect(before == after)
            await driver.shutDown()
        }
    }

    @Test func attachAgainKeepsAWholeConnection() async throws {
        try await Laboratory.run { laboratory in
            let driver = try NetworkBridge(host: laboratory.services)
            let network = try testNetwork("front", "172.30.0.1/16")
            try await driver.create(network)
            let (request, answer) = try await laboratory.attach("one", "172.30.0.2/16", to: network, by: driver)
            let server = try Server("one", in: request.sandboxPath, port: 8080)
            let connection = try await Connection(from: laboratory.host, to: "172.30.0.2", port: 8080)
            _ = try await connection.readLine()
            #expect(try await driver.attach(request) == answer)
            #expect(try await connection.echo("still here") == "still here")
            await server.stop()
            await driver.shutDown()
        }
    }

    @Test func aTakenSubnetAndBadOptionsAreRefused() async throws {
        try await Laboratory.run { laboratory in
            let driver = try NetworkBridge(host: laboratory.services)
            let taken = try testNetwork("taken", "203.0.113.129/25")
            await #expect { try await driver.create(taken) } throws: { error in
                (error as? ApusError)?.code == .conflict && "\(error)".contains("wan0")
            }
            for (option, value) in [
                ("com.docker.network.bridge.name", "a/b"), ("com.docker.network.bridge.name", "much-too-long-a-name"),
                ("com.docker.network.driver.mtu", "1"), ("com.docker.network.bridge.enable_icc", "perhaps"),
            ] {
                let network = try testNetwork("bad", "172.30.0.1/16", options: [option: value])
                await #expect { try await driver.create(network) } throws: { ($0 as? ApusError)?.code == .invalidArgument }
            }
            try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in
                #expect(Set(try NetlinkSocket().links().map(\.name)) == ["lo", "wan0"])
            }
            await driver.shutDown()
        }
    }

    @Test func anotherProgramsDroppingChainIsNamed() async throws {
        try await Laboratory.run { laboratory in
            let driver = try NetworkBridge(host: laboratory.services)
            try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in
                _ = try NFTables().run("add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
            }
            let network = try testNetwork("front", "172.30.0.1/16")
            try await driver.create(network)
            try await driver.create(network)
            let warnings = laboratory.services.messages(.warning)
            #expect(warnings.count == 1)
            #expect(warnings.first?.contains("FORWARD of the nftables table ip filter") == true)
            await driver.shutDown()
        }
    }
}

/// Fifty tasks start at about the same time.
@Suite struct BridgeSpeedTests {
    @Test func fiftyContainersAttachAtOnce() async throws {
        try await Laboratory.run { laboratory in
            let driver = try NetworkBridge(host: laboratory.services)
            let network = try testNetwork("front", "172.30.0.1/16")
            try await driver.create(network)
            let requests = try (0..<50).map { index in
                let address = IPAddress(v4: 172, 30, 1, UInt8(index + 1))
                return AttachRequest(
                    network: network, containerID: ID.randomContainer(),
                    sandboxPath: try laboratory.makeNamespace("c\(index)"), interfaceName: "eth0",
                    address: try #require(IPPrefix(address, length: 16)),
                    macAddress: MACAddress(containerWith: address), isDefaultRoute: true)
            }
            let duration = try await ContinuousClock().measure {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for request in requests { group.addTask { _ = try await driver.attach(request) } }
                    try await group.waitForAll()
                }
            }
            print("bridge, 50 containers attached at once: \(duration)")
            let again = try await ContinuousClock().measure { try await driver.create(network) }
            print("bridge, create again with 50 containers: \(again)")
            try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in
                #expect(try NetlinkSocket().links().filter { $0.masterIndex != nil }.count == 50)
            }
            for request in requests {
                try await driver.detach(DetachRequest(network: network, containerID: request.containerID, sandboxPath: request.sandboxPath))
            }
            try await driver.remove(network)
            await driver.shutDown()
        }
    }
}
