import BalancerNFTables
import PluginAPI
import Testing

/// One change must cost what changed, not what there is. That is checked as a ratio, because other tests run at the same time; the times are printed.
@Suite(.serialized) struct BalancerSpeedTests {
    @Test(arguments: [(1, 1), (1, 50), (50, 50), (500, 10)])
    func aChangeIsFast(ports: Int, backends: Int) async throws {
        try await Site.run(containers: 0) { site in
            func state(_ backendsOfFirst: Int) -> BalancerState {
                BalancerState(
                    ports: (0..<ports).map { port in
                        BalancedPort(
                            transport: .tcp, port: UInt16(10000 + port),
                            backends: (0..<(port == 0 ? backendsOfFirst : backends)).map {
                                Backend(address: IPAddress(v4: 172, 30, UInt8(1 + $0 / 250), UInt8(1 + $0 % 250)), port: 80)
                            })
                    }, subnets: [site.network.gateway])
            }
            let clock = ContinuousClock()
            let full = try await clock.measure { try await site.balancer.apply(state(backends)) }
            var changes: [Duration] = []
            for count in 1...20 { changes.append(try await clock.measure { try await site.balancer.apply(state(backends + count % 2 + 1)) }) }
            let idle = try await clock.measure { try await site.balancer.apply(state(backends + 1)) }
            changes.sort()
            print("balancer, \(ports) ports of \(backends) backends: first \(full), change \(changes[changes.count / 2]) median, no change \(idle)")
            if ports >= 50 { #expect(changes[changes.count / 2] * 2 < full) }
        }
    }

    @Test func fiftyBackendsOneByOne() async throws {
        try await Site.run(containers: 0) { site in
            let clock = ContinuousClock()
            try await site.balancer.apply(site.state(0..<1))
            let total = try await clock.measure { for count in 2...50 { try await site.balancer.apply(site.state(0..<count)) } }
            print("balancer, 49 changes from 1 to 50 backends: \(total)")
            #expect(try await site.ruleset().contains("mod 50"))
        }
    }
}
