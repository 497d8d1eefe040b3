import Namespaces
import NetworkOverlay
import PluginAPI
import Testing

@testable import Netlink

@Suite struct OverlayForwardingTests {
    private static let nodes = (1...4).map { IPAddress(v4: 192, 0, 2, $0) }
    private static func address(_ number: UInt8) -> IPAddress { IPAddress(v4: 10, 0, 0, number) }
    private static func mac(_ number: UInt8) -> MACAddress { MACAddress(containerWith: address(number)) }

    /// Any state leads to any other, and on the way nothing leads to a place that is neither the old right one nor the new one.
    @Test func everyWayIsRightAtEveryStep() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            func random() -> ForwardingState {
                var state = ForwardingState()
                for number in UInt8(1)...6 where Bool.random(using: &generator) {
                    // Hardware addresses that do not follow from the addresses, so that they change hands.
                    state.add(
                        Self.mac(UInt8.random(in: 1...6, using: &generator)), at: Self.nodes[Int.random(in: 0..<4, using: &generator)],
                        addresses: [Self.address(number)])
                }
                return state
            }
            var current = random()
            if Bool.random(using: &generator), let some = current.tunnels.keys.first { current.tunnels[some]?.append(Self.nodes[3]) }
            let before = current
            let wanted = random()
            for change in current.changes(to: wanted) {
                switch change {
                case .removeNeighbour(let address): current.neighbours[address] = nil
                case .removeTunnel(let mac): current.tunnels[mac] = nil
                case .removePort(let mac): current.ports.remove(mac)
                case .setTunnel(let mac, let node): current.tunnels[mac] = [node]
                case .setPort(let mac): current.ports.insert(mac)
                case .setNeighbour(let address, let mac): current.neighbours[address] = mac
                }
                for (address, mac) in current.neighbours {
                    let places = current.tunnels[mac] ?? []
                    let right = [before, wanted].flatMap { state in state.neighbours[address].flatMap { state.tunnels[$0] } ?? [] }
                    #expect(places.allSatisfy(right.contains), "\(address) led to \(places), between \(before) and \(wanted)")
                }
            }
            #expect(current == wanted)
            #expect(current.changes(to: wanted).isEmpty)
        }
    }

    @Test func attributesOfAnyLengthAreRead() {
        var generator = SystemRandomNumberGenerator()
        var message = NetlinkMessage(0)
        message.attribute(1, [1, 2, 3])
        message.attribute(2, UInt32(7))
        #expect(NetlinkAttributes(message.body[...])[1].map(Array.init) == [1, 2, 3])
        #expect(NetlinkAttributes(message.body[...])[2]?.number(at: 0, as: UInt32.self) == 7)
        for _ in 0..<20_000 {
            var bytes = message.body
            for _ in 0..<Int.random(in: 0...4, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            let attributes = NetlinkAttributes(bytes.dropLast(Int.random(in: 0...bytes.count, using: &generator)))
            for type in 0...4 { #expect((attributes[type]?.count ?? 0) <= bytes.count) }
        }
        #expect([UInt8]([1, 2])[...].number(at: 0, as: UInt32.self) == nil)
        #expect([UInt8]([1, 2])[...].number(at: -1, as: UInt8.self) == nil)
    }

    @Test func refusedEntriesAreToldAndTheOthersAreInForce() async throws {
        try await OverlayLaboratory.run(hosts: 1) { laboratory in
            var network = try overlayNetwork("front", vni: 4301)
            let host = laboratory.hosts[0]
            network.underlay = host.address
            try await host.driver.create(network)
            try await NetworkNamespaces.run(in: host.services.runDirectory + "/netns/\(network.id)") { () throws(ApusError) in
                guard let link = try NetlinkSocket().link(named: "vxlan0"), let group = MACAddress("00:00:00:00:00:00") else {
                    throw ApusError(.notFound, "vxlan0")
                }
                let table = try ForwardingTable(ofDeviceAt: link.index, inNamespace: nil)
                // The bridge takes no such address; what comes before and after it is in force.
                let changes: [ForwardingChange] = [.setTunnel(Self.mac(2), Self.nodes[0]), .setPort(group), .setTunnel(Self.mac(3), Self.nodes[1])]
                #expect { try table.apply(changes) } throws: { "\($0)".contains("1 of 3") && "\($0)".contains("00:00:00:00:00:00") }
                #expect(try table.state().tunnels == [Self.mac(2): [Self.nodes[0]], Self.mac(3): [Self.nodes[1]]])
                try table.apply([.removeTunnel(Self.mac(9)), .removePort(Self.mac(9)), .removeNeighbour(Self.address(9))])
                #expect { try ForwardingTable(ofDeviceAt: 9999, inNamespace: nil).apply([.setTunnel(Self.mac(2), Self.nodes[0])]) } throws: {
                    ($0 as? ApusError)?.code == .notFound
                }
            }
        }
    }

    /// A large network: five thousand peers on a hundred nodes.
    @Test func thousandsOfPeersAreQuick() async throws {
        try await OverlayLaboratory.run(hosts: 1) { laboratory in
            let host = laboratory.hosts[0]
            var network = try overlayNetwork("large", vni: 4302, "10.64.0.1/16")
            network.underlay = host.address
            try await host.driver.create(network)
            func peers(_ shift: Int) -> [NetworkPeer] {
                (0..<5000).map { index in
                    let address = IPAddress(v4: 10, 64, UInt8(1 + index / 250), UInt8(1 + index % 250))
                    let six = IPAddress(bytes: [0xfd, 0x77] + [UInt8](repeating: 0, count: 12) + address.bytes.suffix(2))
                    return NetworkPeer(
                        address: address, addressV6: six, macAddress: MACAddress(containerWith: address),
                        node: IPAddress(v4: 198, 51, 100, UInt8(100 + (index + shift) % 100)))
                }
            }
            let clock = ContinuousClock()
            let first = try await clock.measure { try await host.driver.setPeers(PeersRequest(network: network, peers: peers(0))) }
            let again = try await clock.measure { try await host.driver.setPeers(PeersRequest(network: network, peers: peers(0))) }
            let one = try await clock.measure { try await host.driver.setPeers(PeersRequest(network: network, peers: Array(peers(0).dropLast()))) }
            let moved = try await clock.measure { try await host.driver.setPeers(PeersRequest(network: network, peers: peers(1))) }
            let state = try await OverlayTests.forwarding(host, network)
            #expect(state.tunnels.count == 5000 && state.ports.count == 5000 && state.neighbours.count == 10_000)
            #expect(state.tunnels[MACAddress(containerWith: IPAddress(v4: 10, 64, 1, 1))] == [IPAddress(v4: 198, 51, 100, 101)])
            let gone = try await clock.measure { try await host.driver.setPeers(PeersRequest(network: network, peers: [])) }
            #expect(try await OverlayTests.forwarding(host, network) == ForwardingState())
            print("overlay, 5000 peers: set \(first), nothing new \(again), one gone \(one), all moved \(moved), all gone \(gone)")
            // Generous, for a busy machine: it is some 50 ms.
            #expect(first < .seconds(5))
        }
    }
}
