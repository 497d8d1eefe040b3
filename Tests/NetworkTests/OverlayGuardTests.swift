import NFTables
import Namespaces
import Netlink
import NetworkBridge
import NetworkOverlay
import PluginAPI
import Testing

/// Who may not get a frame into a network.
@Suite struct OverlayGuardTests {
    /// Two hosts are members; the third is a stranger on the same wire, with the members' way of writing frames.
    @Test func framesOfAMachineThatIsNoMemberAreDropped() async throws {
        try await OverlayLaboratory.run(hosts: 3) { laboratory in
            let network = try overlayNetwork("front", vni: 4201)
            let one = try await laboratory.attach(2, to: network, on: laboratory.hosts[0])
            let two = try await laboratory.attach(3, to: network, on: laboratory.hosts[1])
            try await laboratory.tellPeers([one, two])
            try await laboratory.tellSurroundings(members: 2)
            let frame = Self.frame(from: one, to: two)
            try await ForgedFrame.count(in: two.namespace)
            try await frame.send(from: laboratory.hosts[2].namespace, to: laboratory.hosts[1].address)
            try await frame.send(from: laboratory.hosts[2].namespace, to: laboratory.hosts[1].addressV6)
            // From itself, by its own loopback.
            try await frame.send(from: laboratory.hosts[1].namespace, to: laboratory.hosts[1].address)
            // The same bytes of a member arrive: they are well made, and what was sent before would have arrived before.
            try await frame.send(from: laboratory.hosts[0].namespace, to: laboratory.hosts[1].address)
            #expect(try await eventually { try await ForgedFrame.seen(in: two.namespace) >= 1 })
            #expect(try await ForgedFrame.seen(in: two.namespace) == 1)
            // A new member is heard at once, one that has left no more.
            try await laboratory.tellSurroundings(members: 3)
            try await frame.send(from: laboratory.hosts[2].namespace, to: laboratory.hosts[1].address)
            #expect(try await eventually { try await ForgedFrame.seen(in: two.namespace) == 2 })
            try await laboratory.tellSurroundings(members: 2)
            try await frame.send(from: laboratory.hosts[2].namespace, to: laboratory.hosts[1].address)
            try await frame.send(from: laboratory.hosts[0].namespace, to: laboratory.hosts[1].address)
            #expect(try await eventually { try await ForgedFrame.seen(in: two.namespace) >= 3 })
            #expect(try await ForgedFrame.seen(in: two.namespace) == 3)
        }
    }

    /// What is flushed is made again with the next change.
    @Test func flushedRulesAreRepaired() async throws {
        try await OverlayLaboratory.run(hosts: 1) { laboratory in
            let host = laboratory.hosts[0]
            var network = try overlayNetwork("front", vni: 4202)
            network.underlay = host.address
            try await host.driver.create(network)
            try await NetworkNamespaces.run(in: host.namespace) { () throws(ApusError) in _ = try NFTables().run("flush ruleset") }
            try await host.driver.setPeers(PeersRequest(network: network, peers: []))
            let rules = try await NetworkNamespaces.run(in: host.namespace) { () throws(ApusError) in try NFTables().run("list ruleset") }
            #expect(rules.contains("apus-overlay"))
            #expect(host.services.messages(.warning).contains { $0.contains("flush") })
        }
    }

    /// A container on a bridge of the driver `bridge` sends frames to its own host and to the other one, whose member its host is.
    @Test(arguments: [true, false]) func aContainerCannotInjectFrames(bridgeIsOurs: Bool) async throws {
        try await OverlayLaboratory.run(hosts: 2) { laboratory in
            let host = laboratory.hosts[0]
            let network = try overlayNetwork("front", vni: 4203)
            let one = try await laboratory.attach(2, to: network, on: host)
            let two = try await laboratory.attach(3, to: network, on: laboratory.hosts[1])
            try await laboratory.tellPeers([one, two])
            let bridge = try NetworkBridge(host: host.services)
            var local = try testNetwork("bridge", "172.30.0.1/16")
            local.gatewayV6 = IPPrefix("fd30::1/64")
            try await bridge.create(local)
            let attacker = try laboratory.makeNamespace("attacker")
            var request = AttachRequest(
                network: local, containerID: ID.randomContainer(), sandboxPath: attacker, interfaceName: "eth0",
                address: try #require(IPPrefix("172.30.0.2/16")), macAddress: try #require(MACAddress("02:42:ac:1e:00:02")), isDefaultRoute: true)
            request.addressV6 = IPPrefix("fd30::2/64")
            _ = try await bridge.attach(request)
            let own = request.address
            let bridgeName = "apus\(local.id.text.prefix(8))"
            try await ForgedFrame.count(in: one.namespace)
            try await ForgedFrame.count(in: two.namespace)
            let world = try Server("world", in: laboratory.hosts[1].namespace, "::", port: 8080)
            #expect(try await Connection.greeting(from: attacker, to: "198.51.100.2", port: 8080) == ["world", "198.51.100.1"])
            if bridgeIsOurs {
                var surroundings = NetworkSurroundings()
                surroundings.address = host.address
                surroundings.members = [laboratory.hosts[1].address]
                try await bridge.setSurroundings(surroundings)
            }
            let inward = Self.frame(from: two, to: one)
            let outward = Self.frame(from: one, to: two)
            for address in [host.address, host.addressV6, IPAddress(v4: 172, 30, 0, 1)] { try await inward.send(from: attacker, to: address) }
            for address in [laboratory.hosts[1].address, laboratory.hosts[1].addressV6] { try await outward.send(from: attacker, to: address) }
            // With the other host's address as its own, for what is checked by address.
            try await NetworkNamespaces.run(in: attacker) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                guard let link = try netlink.link(named: "eth0"), let spoofed = IPPrefix("198.51.100.2/32"), let gateway = IPAddress("172.30.0.1"),
                    let target = IPPrefix("198.51.100.1/32")
                else { throw ApusError(.notFound, "eth0") }
                try netlink.addAddress(spoofed, toLinkAt: link.index)
                try netlink.removeAddress(own, fromLinkAt: link.index)
                try netlink.setRoute(Route(destination: try Self.host("172.30.0.1"), linkIndex: link.index))
                try netlink.setRoute(Route(destination: target, gateway: gateway, linkIndex: link.index))
            }
            try await NetworkNamespaces.run(in: host.namespace) { () throws(ApusError) in
                for name in ["all", bridgeName] { try SystemSetting.write("net/ipv4/conf/\(name)/rp_filter", "0") }
            }
            try await inward.send(from: attacker, to: host.address)
            // The host's own frames arrive, after all those.
            try await outward.send(from: host.namespace, to: laboratory.hosts[1].address)
            try await inward.send(from: laboratory.hosts[1].namespace, to: host.address)
            #expect(try await eventually { try await ForgedFrame.seen(in: two.namespace) >= 1 })
            #expect(try await eventually { try await ForgedFrame.seen(in: one.namespace) >= 1 })
            #expect(try await ForgedFrame.seen(in: two.namespace) == 1)
            #expect(try await ForgedFrame.seen(in: one.namespace) == 1)
            await world.stop()
            await bridge.shutDown()
        }
    }

    private static func frame(from source: OverlayLaboratory.Container, to target: OverlayLaboratory.Container) -> ForgedFrame {
        ForgedFrame(
            vni: target.request.network.vni, from: source.request.macAddress, source.request.address.address, to: target.request.macAddress,
            target.request.address.address)
    }

    private static func host(_ text: String) throws(ApusError) -> IPPrefix {
        guard let prefix = IPPrefix(text + "/32") else { throw ApusError(.invalidArgument, text) }
        return prefix
    }
}
