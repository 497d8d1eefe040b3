import PluginAPI
import PortProxy
import Testing

@testable import BalancerIPVS
@testable import IPVS

/// What needs no kernel: messages, marks, differences, rules.
@Suite struct IPVSPlanTests {
    private static let web = RealServer(address: IPAddress(v4: 10, 0, 0, 2), port: 8080)
    private static let other = RealServer(address: IPAddress(v4: 10, 0, 0, 3), port: 8080)
    private static let server = VirtualServer(mark: 0x2d10_0050, isIPv4: true)

    // MARK: Messages

    @Test func aServiceIsWrittenAsTheKernelReadsIt() {
        let bytes = Self.server.definition
        // Family 2, of 16 bits, padded; the mark.
        #expect(Array(bytes.prefix(16)) == [6, 0, 1, 0, 2, 0, 0, 0, 8, 0, 5, 0, 0x50, 0, 0x10, 0x2d])
        let attributes = Attributes.parse(bytes)
        #expect(attributes[6] == [0x72, 0x72, 0])
        #expect(attributes[7]?.count == 8 && attributes[8] == [0, 0, 0, 0] && attributes[9] == [255, 255, 255, 255])
        #expect(Attributes.parse(VirtualServer(mark: 1, isIPv4: false).definition)[9] == [128, 0, 0, 0])
        #expect(VirtualServer(attributes) == Self.server)
        #expect(VirtualServer(Attributes.parse(VirtualServer(mark: 7, isIPv4: false).identity)) == VirtualServer(mark: 7, isIPv4: false))
    }

    @Test func aDestinationIsWrittenAsTheKernelReadsIt() throws {
        let attributes = Attributes.parse(Self.web.definition(weight: 1))
        #expect(attributes[1] == [10, 0, 0, 2] + [UInt8](repeating: 0, count: 12))
        #expect(attributes[2] == [0x1f, 0x90] && attributes[3] == [0, 0, 0, 0] && attributes[4] == [1, 0, 0, 0])
        #expect(RealServerState(attributes, isIPv4: true) == RealServerState(server: Self.web, weight: 1))
        let six = RealServer(address: try #require(IPAddress("fd00::2")), port: 0)
        #expect(RealServerState(Attributes.parse(six.definition(weight: 0)), isIPv4: false) == RealServerState(server: six, weight: 0))
        // Old kernels do not say the family.
        var old = attributes
        old[11] = nil
        #expect(RealServerState(old, isIPv4: true)?.server == Self.web)
    }

    @Test func servicesByAddressAreNobodysBusiness() {
        var attributes = Attributes.parse(Self.server.definition)
        attributes[5] = nil
        #expect(VirtualServer(attributes) == nil)
        attributes[5] = [0, 0, 0, 0]
        #expect(VirtualServer(attributes) == nil)
    }

    @Test func anyBytesAreParsedWithoutATrap() {
        var generator = SystemRandomNumberGenerator()
        let whole = Self.server.definition + Self.web.definition(weight: 1)
        for _ in 0..<20_000 {
            var bytes = Bool.random() ? whole : (0..<Int.random(in: 0...64)).map { _ in UInt8.random(in: 0...255, using: &generator) }
            for _ in 0..<Int.random(in: 0...4) where !bytes.isEmpty { bytes[Int.random(in: 0..<bytes.count)] = UInt8.random(in: 0...255) }
            let attributes = Attributes.parse(bytes.prefix(Int.random(in: 0...bytes.count)))
            _ = VirtualServer(attributes)
            _ = RealServerState(attributes, isIPv4: Bool.random())
            for value in attributes.values { _ = Attributes.parse(value) }
        }
    }

    // MARK: Differences

    private func difference(_ table: IPVSTable, _ wanted: [VirtualServer: Set<RealServer>], drains: Bool = true) -> IPVSTable.Difference {
        table.difference(to: wanted, isOurs: { FirewallMark($0.mark).isOurs }, drains: { _ in drains })
    }

    @Test func fromNothingEverythingIsMadeBeforeTheRules() {
        let difference = difference(IPVSTable(), [Self.server: [Self.web, Self.other]])
        #expect(difference.preparing == [.addServer(Self.server), .add(Self.web, Self.server), .add(Self.other, Self.server)])
        #expect(difference.finishing.isEmpty && !difference.isDraining)
    }

    @Test func whatIsThereIsLeftAlone() {
        let table = IPVSTable(servers: [Self.server: [RealServerState(server: Self.web, weight: 1, activeConnections: 3)]])
        #expect(difference(table, [Self.server: [Self.web]]).isEmpty)
        let foreign = IPVSTable(servers: [VirtualServer(mark: 256, isIPv4: true): [RealServerState(server: Self.web, weight: 1)]])
        #expect(difference(foreign, [:]).isEmpty)
    }

    @Test func whoLeavesDrainsUntilNobodyIsLeft() {
        var table = IPVSTable(servers: [Self.server: [RealServerState(server: Self.web, weight: 1), RealServerState(server: Self.other, weight: 1)]])
        var step = difference(table, [Self.server: [Self.other]])
        #expect(step.preparing.isEmpty && step.finishing == [.setWeight(0, Self.web, Self.server)] && step.isDraining)
        table.servers[Self.server] = [RealServerState(server: Self.web, weight: 0, inactiveConnections: 1), RealServerState(server: Self.other, weight: 1)]
        step = difference(table, [Self.server: [Self.other]])
        #expect(step.isEmpty && step.isDraining)
        // Back before it was gone.
        #expect(difference(table, [Self.server: [Self.web, Self.other]]).preparing == [.setWeight(1, Self.web, Self.server)])
        table.servers[Self.server] = [RealServerState(server: Self.web, weight: 0)]
        step = difference(table, [:])
        #expect(step.finishing == [.remove(Self.web, Self.server), .removeServer(Self.server)] && !step.isDraining)
        // Of an empty one that is wanted, the server stays, and refuses.
        step = difference(table, [Self.server: []])
        #expect(step.finishing == [.remove(Self.web, Self.server)])
    }

    @Test func datagramsDoNotDrain() {
        let table = IPVSTable(servers: [Self.server: [RealServerState(server: Self.web, weight: 1, inactiveConnections: 5)]])
        let step = difference(table, [:], drains: false)
        #expect(step.finishing == [.remove(Self.web, Self.server), .removeServer(Self.server)] && !step.isDraining)
    }

    /// Whatever the kernel has: steps lead to what is wanted, no destination with connections is cut, and nothing of others is touched.
    @Test func randomTablesBecomeWhatIsWanted() {
        let servers = (0..<4).map { VirtualServer(mark: FirewallMark.prefix | UInt32($0), isIPv4: true) } + [VirtualServer(mark: 99, isIPv4: true)]
        let places = (2..<8).map { RealServer(address: IPAddress(v4: 10, 0, 0, $0), port: 80) }
        for _ in 0..<2000 {
            var table = IPVSTable()
            for server in servers where Bool.random() {
                table.servers[server] = places.filter { _ in Bool.random() }.map {
                    RealServerState(server: $0, weight: .random(in: 0...1), activeConnections: .random(in: 0...1), inactiveConnections: .random(in: 0...1))
                }
            }
            let foreign = table.servers[servers[4]]
            var wanted: [VirtualServer: Set<RealServer>] = [:]
            for server in servers.dropLast() where Bool.random() { wanted[server] = Set(places.filter { _ in Bool.random() }) }
            let step = difference(table, wanted)
            var last = step
            for change in step.preparing + step.finishing { Self.make(change, &table) }
            for _ in 0..<2 {
                for server in table.servers.keys where FirewallMark(server.mark).isOurs {
                    table.servers[server] = table.servers[server]?.map { RealServerState(server: $0.server, weight: $0.weight) }
                }
                last = difference(table, wanted)
                for change in last.preparing + last.finishing { Self.make(change, &table) }
            }
            #expect(!last.isDraining && table.servers[servers[4]] == foreign)
            table.servers[servers[4]] = nil
            #expect(table.servers.mapValues { Set($0.map(\.server)) } == wanted)
        }
    }

    private static func make(_ change: IPVSChange, _ table: inout IPVSTable) {
        switch change {
        case .addServer(let server): table.servers[server] = []
        case .removeServer(let server):
            #expect(table.servers[server]?.isEmpty == true)
            table.servers[server] = nil
        case .add(let place, let server): table.servers[server]?.append(RealServerState(server: place, weight: 1))
        case .setWeight(let weight, let place, let server):
            for index in (table.servers[server] ?? []).indices where table.servers[server]?[index].server == place {
                table.servers[server]?[index].weight = weight
            }
        case .remove(let place, let server):
            #expect(table.servers[server]?.contains { $0.server == place && $0.activeConnections + $0.inactiveConnections == 0 } == true)
            table.servers[server]?.removeAll { $0.server == place }
        }
    }

    // MARK: Marks

    @Test func marksOfPortsAreFoundAgain() {
        let key = PortKey(transport: .tcp, port: 80)
        let marks = FirewallMark.assign([.port(key, isIPv4: true), .port(key, isIPv4: false)], known: [:])
        #expect(marks[.port(key, isIPv4: true)]?.description == "0x2d100050")
        #expect(marks[.port(key, isIPv4: false)]?.description == "0x2d900050")
        #expect(FirewallMark.probe.isOurs && !FirewallMark(256).isOurs && !FirewallMark(0x0100_0001).isOurs)
    }

    @Test func marksAreApartAndStay() {
        var subjects: Set<FirewallMark.Subject> = []
        for number in 0..<3000 {
            let address = IPAddress(v4: 10, 1, UInt8(number / 250), UInt8(number % 250))
            subjects.formUnion([.streams(address), .datagrams(address), .port(PortKey(transport: .udp, port: 53, address: address), isIPv4: true)])
        }
        let marks = FirewallMark.assign(subjects, known: [:])
        #expect(Set(marks.values).count == subjects.count)
        #expect(marks.allSatisfy { $0.value.isOurs })
        #expect(marks.allSatisfy { subject, mark in if case .streams = subject { !mark.isDatagram } else { mark.isDatagram } })
        let fewer = subjects.filter { _ in Bool.random() }
        #expect(FirewallMark.assign(fewer, known: marks).allSatisfy { marks[$0.key] == $0.value })
        #expect(FirewallMark.assign(subjects, known: [:]) == marks)
    }

    // MARK: Plans

    @Test func aPortHasAVirtualServerForEachFamilyOfItsBackends() throws {
        let six = try #require(IPAddress("fd00::2"))
        let four = IPAddress(v4: 10, 0, 0, 2)
        let backends = [Backend(address: four, port: 80), Backend(address: six, port: 80), Backend(address: four, port: 80)]
        let bound = IPAddress(v4: 192, 0, 2, 1)
        let plan = try HostPlan(
            BalancerState(ports: [
                BalancedPort(transport: .tcp, port: 8080, backends: backends),
                BalancedPort(transport: .tcp, port: 81, hostAddress: bound, backends: backends),
                BalancedPort(transport: .udp, port: 53, backends: []),
            ]))
        let marks = FirewallMark.assign(plan.subjects, known: [:])
        #expect(marks.count == 3)
        let servers = plan.servers(marks)
        #expect(servers[VirtualServer(mark: 0x2d10_1f90, isIPv4: true)] == [RealServer(address: four, port: 80)])
        #expect(servers[VirtualServer(mark: 0x2d90_1f90, isIPv4: false)] == [RealServer(address: six, port: 80)])
        let rules = HostRules.replaceAll(by: plan, marks: marks)
        #expect(rules.contains("add element inet apus-ipvs published { 6 . 8080 : 0x2d101f90 }"))
        #expect(rules.contains("add element inet apus-ipvs bound { 192.0.2.1 . 6 . 81 : "))
        #expect(rules.contains("add element inet apus-ipvs refused { 17 . 53 }"))
        #expect(rules.contains("add rule inet apus-ipvs tcp-8080 meta l4proto 6 dnat ip to numgen inc mod 1 map { 0 : 10.0.0.2 . 80 }"))
        #expect(!rules.contains("tcp-81-"), "a port on another address has nothing on the loopback")
    }

    @Test func badPortsAreRefused() {
        for port in [BalancedPort(transport: .tcp, port: 0, backends: []), BalancedPort(transport: .tcp, port: 1, backends: [Backend(address: IPAddress(v4: 1, 2, 3, 4), port: 0)])] {
            #expect { try HostPlan(BalancerState(ports: [port])) } throws: { ($0 as? ApusError)?.code == .invalidArgument }
        }
    }

    @Test func aVirtualAddressHasOneMarkForStreamsAndOneForDatagrams() throws {
        let address = IPAddress(v4: 10, 0, 1, 5)
        let six = try #require(IPAddress("fd00::5"))
        let plan = SandboxPlan(
            SandboxState(
                path: "/nowhere",
                services: [
                    VirtualService(address: address, backends: [IPAddress(v4: 10, 0, 1, 7), IPAddress(v4: 10, 0, 1, 6), six]),
                    VirtualService(address: six, backends: []),
                ]))
        let marks = FirewallMark.assign(plan.subjects, known: [:])
        let servers = plan.servers(marks)
        #expect(servers.count == 4 && servers.filter { $0.value.count == 2 && $0.key.isIPv4 }.count == 2)
        let rules = SandboxRules.replaceAll(by: plan, marks: marks)
        #expect(rules.contains("dnat ip to numgen inc mod 2 map { 0 : 10.0.1.6, 1 : 10.0.1.7 }"))
        #expect(rules.contains("add element inet apus-ipvs portless { 10.0.1.5 : goto to-10.0.1.5 }"))
        #expect(rules.contains("add element inet apus-ipvs refused6 { fd00::5 }"))
    }
}
