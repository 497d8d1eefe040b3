import NFTables
import Namespaces
import Netlink
import NetworkBridge
import NetworkOverlay
import PluginAPI
import Testing

@Suite struct OverlayTests {
    @Test func containersTalkAcrossHostsAndNothingElseIsOnTheWire() async throws {
        try await OverlayLaboratory.run(hosts: 2) { laboratory in
            let network = try overlayNetwork("front", vni: 4097)
            let one = try await laboratory.attach(2, to: network, on: laboratory.hosts[0])
            let two = try await laboratory.attach(3, to: network, on: laboratory.hosts[1])
            let near = try await laboratory.attach(4, to: network, on: laboratory.hosts[0])
            try await laboratory.tellPeers([one, two, near])
            #expect(one.answer.mtu == 1450)
            let servers = try [
                Server("two", in: two.namespace, port: 8080), Server("two6", in: two.namespace, "::", port: 8081),
                Server("near", in: near.namespace, port: 8080),
            ]
            #expect(try await Connection.greeting(from: one.namespace, to: near.address, port: 8080) == ["near", one.address])
            #expect(try await laboratory.wire().vxlan == 0)
            #expect(try await Connection.greeting(from: one.namespace, to: two.address, port: 8080) == ["two", one.address])
            #expect(try await Connection.greeting(from: one.namespace, to: two.addressV6, port: 8081) == ["two6", one.addressV6])
            let connection = try await Connection(from: one.namespace, to: two.address, port: 8080)
            _ = try await connection.readLine()
            #expect(try await connection.transfer(1 << 20))
            // Who is not there is asked for, and so is a group: neither leaves the host.
            #expect(await Connection.error(from: one.namespace, to: "10.77.0.99", port: 8080) != nil)
            #expect(await Connection.error(from: one.namespace, to: "fd77::99", port: 8080) != nil)
            let after = try await laboratory.wire()
            #expect(after.vxlan > 0)
            #expect(after.arp == 0 && after.group == 0 && after.fragments == 0)
            // In the container: one address of each kind, no default route.
            try await NetworkNamespaces.run(in: two.namespace) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                let link = try netlink.link(named: "eth0")
                #expect(link?.macAddress == MACAddress("02:42:0a:4d:00:03") && link?.mtu == 1450)
                let addresses = try netlink.addresses(ofLinkAt: link?.index).map(\.prefix.description)
                #expect(addresses.contains("10.77.0.3/24") && addresses.contains("fd77::3/64"))
                #expect(try !netlink.routes().contains { $0.destination.length == 0 })
            }
            for server in servers { await server.stop() }
        }
    }

    @Test func aPacketOfTheFullLengthGoesWholeAndOneByteMoreDoesNot() async throws {
        try await OverlayLaboratory.run(hosts: 2) { laboratory in
            let network = try overlayNetwork("wide", vni: 4098)
            let one = try await laboratory.attach(2, to: network, on: laboratory.hosts[0])
            let two = try await laboratory.attach(3, to: network, on: laboratory.hosts[1])
            try await laboratory.tellPeers([one, two])
            let server = try Server("two", in: two.namespace, "::", port: 9000, udp: true)
            #expect(try await sendWhole(from: one.namespace, to: two.address, port: 9000, count: 1450 - 28) == true)
            #expect(try await sendWhole(from: one.namespace, to: two.address, port: 9000, count: 1450 - 27) == nil)
            #expect(try await sendWhole(from: one.namespace, to: two.addressV6, port: 9000, count: 1450 - 48) == true)
            #expect(try await laboratory.wire().fragments == 0)
            await server.stop()
        }
    }

    @Test func theUnderlayMayBeIPv6AndTheLengthIsSettable() async throws {
        try await OverlayLaboratory.run(hosts: 2) { laboratory in
            for (vni, options, mtu) in [(UInt32(1), [String: String](), 1430), (2, ["com.docker.network.driver.mtu": "1400"], 1400)] {
                var network = try overlayNetwork("six\(vni)", vni: vni, options: options)
                network.underlay = laboratory.hosts[0].addressV6
                let one = try await laboratory.attach(2, to: network, on: laboratory.hosts[0])
                network.underlay = laboratory.hosts[1].addressV6
                let two = try await laboratory.attach(3, to: network, on: laboratory.hosts[1])
                try await laboratory.tellPeers([one, two])
                #expect(one.answer.mtu == mtu)
                let server = try Server("two", in: two.namespace, port: 8080)
                let datagrams = try Server("two", in: two.namespace, port: 9000, udp: true)
                #expect(try await Connection.greeting(from: one.namespace, to: two.address, port: 8080) == ["two", one.address])
                #expect(try await sendWhole(from: one.namespace, to: two.address, port: 9000, count: mtu - 28) == true)
                #expect(try await laboratory.wire().vxlan > 0)
                await server.stop()
                await datagrams.stop()
            }
        }
    }

    @Test func aPeerThatMovesIsFoundAndOneThatGoesIsNot() async throws {
        try await OverlayLaboratory.run(hosts: 3) { laboratory in
            let network = try overlayNetwork("moving", vni: 4099)
            let one = try await laboratory.attach(2, to: network, on: laboratory.hosts[0])
            let old = try await laboratory.attach(3, to: network, on: laboratory.hosts[1])
            try await laboratory.tellPeers([one, old])
            let first = try Server("old", in: old.namespace, port: 8080)
            #expect(try await Connection.greeting(from: one.namespace, to: old.address, port: 8080).first == "old")
            // The same address, and so the same hardware address, on another host.
            let new = try await laboratory.attach(3, to: network, on: laboratory.hosts[2])
            let second = try Server("new", in: new.namespace, port: 8080)
            try await laboratory.tellPeers([one, new])
            #expect(try await Connection.greeting(from: one.namespace, to: new.address, port: 8080).first == "new")
            let state = try await Self.forwarding(laboratory.hosts[0], network)
            #expect(state.tunnels == [new.request.macAddress: [laboratory.hosts[2].address]])
            // Then to the host of the other: known there before the peers are told.
            try await new.host.driver.detach(new.detach)
            let here = try await laboratory.attach(3, to: network, on: laboratory.hosts[0])
            let third = try Server("here", in: here.namespace, port: 8080)
            #expect(try await Connection.greeting(from: one.namespace, to: here.address, port: 8080).first == "here")
            try await laboratory.tellPeers([one, here])
            #expect(try await Connection.greeting(from: one.namespace, to: here.address, port: 8080).first == "here")
            #expect(try await Self.forwarding(laboratory.hosts[0], network) == ForwardingState())
            try await here.host.driver.detach(here.detach)
            #expect(await Connection.error(from: one.namespace, to: here.address, port: 8080) != nil)
            for server in [first, second, third] { await server.stop() }
        }
    }

    @Test func aNewEngineKeepsConnectionsAndRepairsWhatIsMissing() async throws {
        try await OverlayLaboratory.run(hosts: 2) { laboratory in
            let network = try overlayNetwork("lasting", vni: 4100)
            let one = try await laboratory.attach(2, to: network, on: laboratory.hosts[0])
            let two = try await laboratory.attach(3, to: network, on: laboratory.hosts[1])
            try await laboratory.tellPeers([one, two])
            let server = try Server("two", in: two.namespace, port: 8080)
            let connection = try await Connection(from: one.namespace, to: two.address, port: 8080)
            _ = try await connection.readLine()
            let host = laboratory.hosts[0]
            let path = host.services.runDirectory + "/netns/\(network.id)"
            @Sendable func links() async throws -> Set<Link> {
                try await NetworkNamespaces.run(in: path) { () throws(ApusError) in Set(try NetlinkSocket().links()) }
            }
            let before = try await links()
            try await host.restart()
            #expect(try await connection.echo("between") == "between")
            try await host.driver.create(one.request.network)
            #expect(try await host.driver.attach(one.request) == one.answer)
            try await laboratory.tellPeers([one, two])
            #expect(try await links() == before)
            #expect(try await connection.echo("after") == "after")
            // What someone has taken away comes back.
            try await NetworkNamespaces.run(in: path) { () throws(ApusError) in try NetlinkSocket().removeLink(named: "vxlan0") }
            try await laboratory.tellPeers([one, two])
            #expect(try await connection.echo("repaired") == "repaired")
            await server.stop()
        }
    }

    @Test func networksAreApart() async throws {
        try await OverlayLaboratory.run(hosts: 2) { laboratory in
            // The same addresses, on purpose.
            let front = try overlayNetwork("front", vni: 4101)
            let back = try overlayNetwork("back", vni: 4102)
            let frontOne = try await laboratory.attach(2, to: front, on: laboratory.hosts[0])
            let frontTwo = try await laboratory.attach(3, to: front, on: laboratory.hosts[1])
            let backOne = try await laboratory.attach(2, to: back, on: laboratory.hosts[0])
            let backTwo = try await laboratory.attach(4, to: back, on: laboratory.hosts[1])
            try await laboratory.tellPeers([frontOne, frontTwo])
            try await laboratory.tellPeers([backOne, backTwo])
            let server = try Server("front", in: frontTwo.namespace, port: 8080)
            let other = try Server("back", in: backTwo.namespace, port: 8080)
            #expect(try await Connection.greeting(from: frontOne.namespace, to: "10.77.0.3", port: 8080).first == "front")
            #expect(try await Connection.greeting(from: backOne.namespace, to: "10.77.0.4", port: 8080).first == "back")
            #expect(await Connection.error(from: frontOne.namespace, to: "10.77.0.4", port: 8080) != nil)
            #expect(await Connection.error(from: backOne.namespace, to: "10.77.0.3", port: 8080) != nil)
            // Nor can the host itself, or a machine beside it, reach into one.
            #expect(await Connection.error(from: laboratory.hosts[1].namespace, to: "10.77.0.3", port: 8080) != nil)
            await server.stop()
            await other.stop()
        }
    }

    @Test func aNetworkIsRemovedWhenNobodyIsInIt() async throws {
        try await OverlayLaboratory.run(hosts: 1) { laboratory in
            let host = laboratory.hosts[0]
            let network = try overlayNetwork("short", vni: 4103)
            let one = try await laboratory.attach(2, to: network, on: host)
            let used = await failure { try await host.driver.remove(one.request.network) }
            #expect(used?.code == .conflict)
            // The same number again is refused while it is taken.
            var second = try overlayNetwork("second", vni: 4103)
            second.underlay = host.address
            let taken = await failure { try await host.driver.create(second) }
            #expect(taken?.code == .conflict && taken?.message.contains("4103") == true)
            try NetworkNamespaces.remove(path: one.namespace)
            try await host.driver.detach(one.detach)
            try await host.driver.detach(one.detach)
            try await host.driver.remove(one.request.network)
            try await host.driver.remove(one.request.network)
            #expect(OverlayLaboratory.entries(of: host.services.runDirectory + "/netns") == ["\(second.id)"])
            try await host.driver.create(second)
            try await host.driver.remove(second)
            try await host.driver.detach(one.detach)
            try await host.driver.setSurroundings(NetworkSurroundings())
            try await NetworkNamespaces.run(in: host.namespace) { () throws(ApusError) in
                #expect(try NFTables().run("list ruleset") == "")
                #expect(Set(try NetlinkSocket().links().map(\.name)) == ["lo", "eth0"])
            }
        }
    }

    @Test func badOptionsAndNetworksAreRefusedByName() async throws {
        try await OverlayLaboratory.run(hosts: 1) { laboratory in
            let driver = laboratory.hosts[0].driver
            #expect(driver.scope == .swarm)
            for (option, value) in [
                ("com.docker.network.driver.mtu", "12"), ("com.docker.network.driver.mtu", "65536"), ("com.docker.network.driver.mtu", "many"),
                ("com.docker.network.driver.mtu", "1279"), ("com.docker.network.driver.overlay.vxlanid_list", "16777216"),
                ("com.docker.network.driver.overlay.vxlanid_list", "0"), ("com.docker.network.driver.overlay.vxlanid_list", "4097,4098"),
                ("com.docker.network.driver.overlay.vxlanid_list", ""), ("encrypted", "maybe"), ("com.docker.network.bridge.name", "br0"), ("", "x"),
            ] {
                let network = try overlayNetwork("bad", vni: 0, options: [option: value])
                let error = await failure { try await driver.check(network) }
                #expect(error?.code == .invalidArgument, "\(option)=\(value)")
                #expect(error?.message.contains(option) == true && error?.message.contains("bad") == true, "\(option)=\(value)")
            }
            try await driver.check(
                overlayNetwork(
                    "good", vni: 0, options: ["com.docker.network.driver.mtu": "9000", "com.docker.network.driver.overlay.vxlanid_list": "16777215"]))
            try await driver.check(overlayNetwork("small", vni: 0, v6: nil, options: ["com.docker.network.driver.mtu": "68"]))
            var network = try overlayNetwork("nowhere", vni: 4104)
            let error1 = await failure { try await driver.create(network) }
            #expect(error1?.code == .invalidArgument)
            network.underlay = IPAddress(v4: 192, 0, 2, 1)
            let error8 = await failure { try await driver.create(network) }
            #expect(error8?.code == .unavailable)
            network.underlay = laboratory.hosts[0].address
            network.vni = 1 << 24
            let error2 = await failure { try await driver.create(network) }
            #expect(error2?.code == .invalidArgument)
            network.vni = 4104
            network.id = ID("../escape")
            let error3 = await failure { try await driver.create(network) }
            #expect(error3?.code == .invalidArgument)
            #expect(OverlayLaboratory.entries(of: laboratory.hosts[0].services.runDirectory + "/netns") == [])
        }
    }

    @Test func aPortThatIsTakenIsNamed() async throws {
        try await OverlayLaboratory.run(hosts: 1) { laboratory in
            let host = laboratory.hosts[0]
            var network = try overlayNetwork("late", vni: 4106)
            network.underlay = host.address
            let squatter = try Server("squatter", in: host.namespace, port: 4789, udp: true)
            let error = await failure { try await host.driver.create(network) }
            #expect(error?.message.contains("port 4789") == true && error?.message.contains("late") == true)
            await squatter.stop()
            try await host.driver.create(network)
            try await host.driver.remove(network)
        }
    }

    @Test func aFailedAttachLeavesNothing() async throws {
        try await OverlayLaboratory.run(hosts: 1) { laboratory in
            let host = laboratory.hosts[0]
            let one = try await laboratory.attach(2, to: overlayNetwork("whole", vni: 4105), on: host)
            var request = one.request
            request.containerID = ID.randomContainer()
            let path = host.services.runDirectory + "/netns/\(request.network.id)"
            let before = try await NetworkNamespaces.run(in: path) { () throws(ApusError) in try NetlinkSocket().links().count }
            let error4 = await failure { _ = try await host.driver.attach(request) }
            #expect(error4?.code == .conflict)
            request.sandboxPath = laboratory.directory + "/nowhere"
            let error5 = await failure { _ = try await host.driver.attach(request) }
            #expect(error5?.code == .notFound)
            request.address = try #require(IPPrefix("10.0.0.1/8"))
            let error6 = await failure { _ = try await host.driver.attach(request) }
            #expect(error6?.code == .invalidArgument)
            request.address = one.request.address
            request.addressV6 = IPPrefix("fd78::2/64")
            let error7 = await failure { _ = try await host.driver.attach(request) }
            #expect(error7?.code == .invalidArgument)
            let after = try await NetworkNamespaces.run(in: path) { () throws(ApusError) in try NetlinkSocket().links().count }
            #expect(before == after)
        }
    }

    static func forwarding(_ host: OverlayLaboratory.Host, _ network: LocalNetwork) async throws -> ForwardingState {
        try await NetworkNamespaces.run(in: host.services.runDirectory + "/netns/\(network.id)") { () throws(ApusError) in
            guard let link = try NetlinkSocket().link(named: "vxlan0") else { throw ApusError(.notFound, "vxlan0") }
            return try ForwardingTable(ofDeviceAt: link.index, inNamespace: nil).state()
        }
    }
}
