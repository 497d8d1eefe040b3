import Allocation
import Orchestration
import PluginAPI
import Testing

@Suite struct AddressPoolTests {
    private func pool(_ subnet: String, gateway: String? = nil, range: String? = nil, reserved: [String] = []) throws -> AddressPool {
        try AddressPool(
            subnet: #require(IPPrefix(subnet)), gateway: gateway.flatMap { IPAddress($0) }, range: range.flatMap { IPPrefix($0) },
            reserved: reserved.compactMap { IPAddress($0) })
    }

    private func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

    @Test func givesEveryAddressOnceAndThenNone() throws {
        let pool = try pool("10.9.0.0/28")
        #expect(pool.gateway == (try address("10.9.0.1")))
        var used: Set<IPAddress> = []
        var last: IPAddress?
        while let next = pool.next(inUse: used, after: last) {
            #expect(used.insert(next).inserted)
            last = next
        }
        #expect(used.count == 13)
        #expect(used.min() == (try address("10.9.0.2")))
        #expect(used.max() == (try address("10.9.0.14")))
        let freed = try address("10.9.0.7")
        used.remove(freed)
        #expect(pool.next(inUse: used, after: last) == freed)
    }

    @Test func goesOnAfterTheLastAndAround() throws {
        let pool = try pool("10.9.0.0/29", gateway: "10.9.0.6")
        #expect(pool.next(inUse: []) == (try address("10.9.0.1")))
        #expect(pool.next(inUse: [], after: try address("10.9.0.3")) == (try address("10.9.0.4")))
        #expect(pool.next(inUse: [], after: try address("10.9.0.5")) == (try address("10.9.0.1")))
        #expect(pool.next(inUse: [], after: try address("192.168.0.1")) == (try address("10.9.0.1")))
    }

    @Test func rangesAndReservations() throws {
        let ranged = try pool("10.9.0.0/24", range: "10.9.0.128/30", reserved: ["10.9.0.129"])
        #expect(ranged.next(inUse: []) == (try address("10.9.0.128")))
        #expect(ranged.next(inUse: [try address("10.9.0.128")]) == (try address("10.9.0.130")))
        #expect(!ranged.contains(try address("10.9.0.129")))
        #expect(!ranged.contains(try address("10.9.0.5")))
        let top = try pool("10.9.0.0/24", range: "10.9.0.252/30")
        #expect(top.next(inUse: [], after: try address("10.9.0.254")) == (try address("10.9.0.252")), "the broadcast address is nobody's")
    }

    @Test func hostPartOfTheSubnetDoesNotMatter() throws {
        #expect(try pool("172.17.0.1/16", gateway: "172.17.0.1").next(inUse: []) == (try address("172.17.0.2")))
    }

    @Test(arguments: ["10.0.0.0/31", "10.0.0.0/32", "10.0.0.0/0", "fd00::/127", "fd00::/48"])
    func refusesSubnets(subnet: String) {
        #expect(throws: ApusError.self) { _ = try pool(subnet) }
    }

    @Test func refusesGatewaysAndRangesOutside() {
        for gateway in ["10.9.1.1", "10.9.0.0", "10.9.0.255", "fd00::1"] {
            #expect(throws: ApusError.self) { _ = try pool("10.9.0.0/24", gateway: gateway) }
        }
        for range in ["10.9.0.0/16", "10.10.0.0/28"] {
            #expect(throws: ApusError.self) { _ = try pool("10.9.0.0/24", range: range) }
        }
    }

    @Test func aLargePoolIsQuick() throws {
        let pool = try pool("10.0.0.0/8")
        var used: Set<IPAddress> = []
        for _ in 0..<200 { if let next = pool.next(inUse: used) { used.insert(next) } }
        #expect(used.count == 200)
    }
}

@Suite struct PortAllocationTests {
    private func service(_ name: String, _ ports: PortConfig..., allocated: [PortConfig] = []) -> Service {
        var service = ServiceDraft.create(makeSpec(name) { $0.endpoint = EndpointSpec() }, id: ID(name))
        service.spec.endpoint?.ports = ports
        service.endpoint.ports = allocated
        return service
    }

    @Test func choosesFreePortsAndKeepsThem() throws {
        var allocator = PortAllocator([service("other", makePort(1), allocated: [makePort(1, 30000)])])
        let web = service("web", makePort(80), makePort(81), makePort(82, 30002), makePort(53, 0, .host))
        let ports = try allocator.allocate(web)
        #expect(ports.map(\.publishedPort) == [30001, 30003, 30002, 0])
        var later = web
        later.endpoint.ports = ports
        later.spec.endpoint?.ports = [makePort(81), makePort(83)]
        var again = PortAllocator([later])
        #expect(try again.allocate(later).map(\.publishedPort) == [30003, 30000])
    }

    @Test func tcpAndUDPAreDifferent() throws {
        var allocator = PortAllocator([service("other", makePort(1), allocated: [makePort(1, 30000)])])
        #expect(try allocator.allocate(service("dns", makePort(53, 0, .ingress, .udp))).map(\.publishedPort) == [30000])
    }

    @Test func clashesAreConflicts() {
        var allocator = PortAllocator([service("other", makePort(1, 80), allocated: [makePort(1, 80)])])
        do throws(ApusError) {
            _ = try allocator.allocate(service("web", makePort(80, 80)))
            Issue.record("the port was given twice")
        } catch {
            #expect(error.code == .conflict)
            #expect(error.message == "port 80/tcp is already in use by service \"other\" (other) as an ingress port")
        }
    }

    @Test func runsOut() {
        let all = (30000...32767).map { makePort(1, $0) }
        var allocator = PortAllocator([service("other", allocated: all)])
        #expect(throws: ApusError(.unavailable, "all ports from 30000 to 32767 are in use; name a published port")) {
            _ = try allocator.allocate(service("web", makePort(80)))
        }
    }

    @Test func theSwarmAllocatesBeforeItPlaces() {
        var swarm = Simulation()
        let web = swarm.add(makeSpec("web") { $0.endpoint = makeEndpoint(makePort(80), makePort(81, 8081)) })
        swarm.settle()
        #expect(swarm.service(web).endpoint.ports.map(\.publishedPort) == [30000, 8081])
        #expect(swarm.service(web).endpoint.spec.ports.map(\.publishedPort) == [0, 8081])
        #expect(swarm.running(web).count == 1)
        let plans = swarm.planCount
        swarm.settle()
        #expect(swarm.planCount == plans)
    }

    /// The API refuses this; two requests at the same moment may slip through.
    @Test func aServiceWaitsForAPortOfAnother() {
        var swarm = Simulation()
        let first = swarm.add(makeSpec("first") { $0.endpoint = makeEndpoint(makePort(80, 80)) })
        swarm.settle()
        let second = swarm.add(makeSpec("second") { $0.endpoint = makeEndpoint(makePort(80, 80)) })
        swarm.settle()
        #expect(swarm.running(second).isEmpty)
        #expect(swarm.tasks(second).first?.status.error == "port 80/tcp is already in use by service \"first\" (first) as an ingress port")
        swarm.change { try? $0.removeService(first) }
        swarm.settle()
        #expect(swarm.running(second).count == 1)
        #expect(swarm.service(second).endpoint.ports.map(\.publishedPort) == [80])
    }

    @Test func portsFollowTheSpecWithoutReplacingTasks() {
        var swarm = Simulation()
        let web = swarm.add(makeSpec("web") { $0.endpoint = makeEndpoint(makePort(80)) })
        swarm.settle()
        let task = swarm.running(web).map(\.id)
        swarm.update(web) { $0.endpoint = makeEndpoint(makePort(80), makePort(443, 443)) }
        swarm.settle()
        #expect(swarm.service(web).endpoint.ports.map(\.publishedPort) == [30000, 443])
        swarm.update(web) { $0.endpoint = nil }
        swarm.settle()
        #expect(swarm.service(web).endpoint.ports.isEmpty)
        #expect(swarm.running(web).map(\.id) == task)
    }
}
