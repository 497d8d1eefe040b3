import Glibc
import NFTables
import Namespaces
import Netlink
import PluginAPI
import Testing

@testable import NetworkOverlay

/// Whether this machine's kernel can encrypt: most of these tests run in a virtual machine.
private let kernelEncrypts: Bool = {
    do {
        try NetworkNamespaces.runBlocking(in: nil) { () throws(ApusError) in try SecurityTable(mark: 1).probe(isIPv4: true) }
        return true
    } catch { return false }
}()

@Suite struct OverlayEncryptionTests {
    private static func keys(_ numbers: UInt64...) -> [NetworkKey] {
        numbers.map { number in
            var key = NetworkKey()
            key.number = number
            key.key = [UInt8](repeating: UInt8(truncatingIfNeeded: number &* 17), count: 16)
            return key
        }
    }

    private static func network(_ vni: UInt32, _ numbers: UInt64...) throws -> LocalNetwork {
        var network = try overlayNetwork("secret", vni: vni, options: ["encrypted": ""])
        network.isEncrypted = true
        network.keys = numbers.flatMap { keys($0) }
        return network
    }

    private static func associations(_ host: OverlayLaboratory.Host) async throws -> [SecurityTable.Present] {
        try await NetworkNamespaces.run(in: host.namespace) { () throws(ApusError) in
            try SecurityTable(mark: NetworkOverlay.encryptionMark).associations()
        }
    }

    @Test func bothEndsDeriveTheSameAndNobodyElseDoes() throws {
        let one = IPAddress(v4: 198, 51, 100, 1)
        let two = IPAddress(v4: 198, 51, 100, 2)
        let pair = try PairKeys(Self.keys(7, 8, 9))
        let sent = try pair.sending(to: two, from: one)
        #expect(try pair.receiving(from: one, at: two)[1] == sent)
        #expect(sent.key.count == 20)
        #expect(try PairKeys(Self.keys(7)).sendingKey.number == 7 && PairKeys(Self.keys(7, 8)).sendingKey.number == 7)
        var spis: Set<UInt32> = []
        var material: Set<[UInt8]> = []
        for source in (0...255).map({ IPAddress(v4: 198, 51, 100, UInt8($0)) }) where source != two {
            for association in try pair.receiving(from: source, at: two) {
                #expect(association.spi >= 256)
                spis.insert(association.spi)
                material.insert(association.key)
            }
        }
        #expect(spis.count == 255 * 3 && material.count == 255 * 3)
        #expect(try pair.sending(to: one, from: two).key != sent.key)
        #expect(throws: ApusError.self) { try PairKeys([]) }
        #expect(throws: ApusError.self) { try PairKeys([NetworkKey()]) }
        #expect(throws: ApusError.self) { try PairKeys(Self.keys(7, 7)) }
    }

    @Test(.enabled(if: !kernelEncrypts)) func aKernelThatCannotEncryptRefuses() async throws {
        try await OverlayLaboratory.run(hosts: 1) { laboratory in
            let host = laboratory.hosts[0]
            var network = try Self.network(4401, 1)
            network.underlay = host.address
            for error in [await failure { try await host.driver.check(network) }, await failure { try await host.driver.create(network) }] {
                #expect(error?.code == .unavailable)
                #expect(error?.message.contains("CONFIG_INET_ESP") == true)
            }
            network.isEncrypted = false
            // The option alone is enough: nothing may go in the clear because two fields do not agree.
            #expect(await failure { try await host.driver.check(network) }?.code == .unavailable)
        }
    }

    @Test(.enabled(if: kernelEncrypts), arguments: [true, false]) func framesAreEncryptedAndNeverInTheClear(underlayIsIPv4: Bool) async throws {
        try await OverlayLaboratory.run(hosts: 2) { laboratory in
            var network = try Self.network(4402, 1, 2, 3)
            let (first, second) = (laboratory.hosts[0], laboratory.hosts[1])
            try await first.driver.check(network)
            network.underlay = underlayIsIPv4 ? first.address : first.addressV6
            let one = try await laboratory.attach(2, to: network, on: first)
            network.underlay = underlayIsIPv4 ? second.address : second.addressV6
            let two = try await laboratory.attach(3, to: network, on: second)
            try await laboratory.tellPeers([one, two])
            let mtu = underlayIsIPv4 ? 1416 : 1396
            #expect(one.answer.mtu == mtu)
            let servers = try [Server("two", in: two.namespace, "::", port: 8080), Server("two", in: two.namespace, "::", port: 9000, udp: true)]
            #expect(try await Connection.greeting(from: one.namespace, to: two.address, port: 8080) == ["two", one.address])
            let connection = try await Connection(from: one.namespace, to: two.addressV6, port: 8080)
            _ = try await connection.readLine()
            #expect(try await connection.transfer(1 << 18))
            #expect(try await sendWhole(from: one.namespace, to: two.address, port: 9000, count: mtu - 28) == true)
            // One of three keys sends, all three receive.
            #expect(try await Self.associations(first).count == 4)
            // Somebody flushes the rules of the host: the frames stay secret.
            try await NetworkNamespaces.run(in: first.namespace) { () throws(ApusError) in _ = try NFTables().run("flush ruleset") }
            #expect(try await connection.echo("after a flush") == "after a flush")
            // A frame in the clear, of a member, by hand.
            try await laboratory.tellSurroundings()
            try await ForgedFrame.count(in: two.namespace)
            let frame = ForgedFrame(
                vni: 4402, from: one.request.macAddress, one.request.address.address, to: two.request.macAddress, two.request.address.address)
            // Its own host does not let it go, and the other would not take it.
            try await frame.send(from: first.namespace, to: two.peer.node)
            try await NetworkNamespaces.run(in: first.namespace) { () throws(ApusError) in _ = try NFTables().run("flush ruleset") }
            #expect(try await laboratory.wire().vxlan == 0)
            try await frame.send(from: first.namespace, to: two.peer.node)
            #expect(try await eventually { try await laboratory.wire().vxlan == 1 })
            // The associations vanish: nothing is sent at all.
            try await NetworkNamespaces.run(in: first.namespace) { () throws(ApusError) in
                let table = try SecurityTable(mark: NetworkOverlay.encryptionMark)
                try table.remove(try table.associations().map(\.association))
            }
            #expect(await Connection.error(from: one.namespace, to: two.address, port: 8080) != nil)
            let wire = try await laboratory.wire()
            #expect(wire.vxlan == 1 && wire.esp > 100 && wire.fragments == 0)
            #expect(try await ForgedFrame.seen(in: two.namespace) == 0)
            for server in servers { await server.stop() }
        }
    }

    @Test(.enabled(if: kernelEncrypts)) func keysChangeWithoutLossAndEnginesStartAgain() async throws {
        try await OverlayLaboratory.run(hosts: 2) { laboratory in
            let network = try Self.network(4403, 1)
            let one = try await laboratory.attach(2, to: network, on: laboratory.hosts[0])
            let two = try await laboratory.attach(3, to: network, on: laboratory.hosts[1])
            let server = try Server("two", in: two.namespace, port: 9000, udp: true)
            let client = try await DatagramClient(from: one.namespace, to: two.address, port: 9000)
            func tell(_ keys: [NetworkKey], to host: OverlayLaboratory.Host) async throws {
                let (own, other) = host === laboratory.hosts[0] ? (one, two) : (two, one)
                var network = own.request.network
                network.keys = keys
                try await host.driver.setPeers(PeersRequest(network: network, peers: [other.peer]))
                // Every datagram arrives, whichever of the two has heard of the keys.
                for _ in 0..<5 { #expect(try await client.ask().first == "two") }
            }
            try await laboratory.tellPeers([one, two])
            for keys in [Self.keys(1, 2), Self.keys(1, 2, 3), Self.keys(2, 3, 4), Self.keys(3, 4, 5)] {
                for host in laboratory.hosts { try await tell(keys, to: host) }
            }
            // What is older than what is known is ignored.
            try await tell(Self.keys(1, 2), to: laboratory.hosts[0])
            let before = Set(try await Self.associations(laboratory.hosts[0]).map(\.association))
            #expect(before.count == 4)
            try await laboratory.hosts[0].restart()
            try await laboratory.tellSurroundings()
            #expect(try await client.ask().first == "two")
            try await tell(Self.keys(3, 4, 5), to: laboratory.hosts[0])
            let after = try await Self.associations(laboratory.hosts[0])
            #expect(Set(after.map(\.association)) == before)
            // They are those of before, not new ones: they have counted.
            #expect(after.contains { $0.packets >= 10 })
            #expect(try await laboratory.wire().vxlan == 0)
            await server.stop()
            for container in [one, two] {
                try await container.host.driver.detach(container.detach)
                try await container.host.driver.remove(container.request.network)
                #expect(try await Self.associations(container.host) == [])
            }
        }
    }

    /// A machine that starts again has the same keys and counts from one: the kernel must put the nonces elsewhere.
    @Test(.enabled(if: kernelEncrypts)) func aMachineThatStartsAgainUsesNoNonceTwice() async throws {
        try await OverlayLaboratory.run(hosts: 2) { laboratory in
            let network = try Self.network(4404, 1)
            let one = try await laboratory.attach(2, to: network, on: laboratory.hosts[0])
            let two = try await laboratory.attach(3, to: network, on: laboratory.hosts[1])
            try await laboratory.tellPeers([one, two])
            let server = try Server("two", in: two.namespace, port: 9000, udp: true)
            let client = try await DatagramClient(from: one.namespace, to: two.address, port: 9000)
            let listener = try await NetworkNamespaces.run(in: laboratory.hosts[1].namespace) { () throws(ApusError) in
                socket(AF_INET, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), Int32(IPPROTO_ESP))
            }
            defer { close(listener) }
            var seen: [(number: UInt32, nonce: [UInt8])] = []
            for _ in 0..<2 {
                #expect(try await client.ask().first == "two")
                // Behind the IP header: the association, the packet's number, and the eight bytes of the nonce.
                var packet = [UInt8](repeating: 0, count: 2000)
                while recv(listener, &packet, packet.count, Int32(MSG_DONTWAIT)) >= 36 {
                    seen.append((packet[24..<28].reduce(0) { $0 << 8 | UInt32($1) }, Array(packet[28..<36])))
                }
                try await NetworkNamespaces.run(in: laboratory.hosts[0].namespace) { () throws(ApusError) in
                    let table = try SecurityTable(mark: NetworkOverlay.encryptionMark)
                    try table.remove(try table.associations().map(\.association))
                    try table.remove(try table.policies())
                }
                try await laboratory.hosts[0].restart()
                try await laboratory.tellSurroundings()
                try await laboratory.tellPeers([one, two])
            }
            let first = seen.filter { $0.number == 1 }
            #expect(first.count == 2)
            #expect(Set(first.map { Array($0.nonce.prefix(4)) }).count == 2)
            #expect(Set(seen.map(\.nonce)).count == seen.count)
            await server.stop()
        }
    }
}
