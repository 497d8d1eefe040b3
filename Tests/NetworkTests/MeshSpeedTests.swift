import BalancerNFTables
import NFTables
import Namespaces
import NetworkBridge
import PluginAPI
import Testing

/// One change must cost what changed, not what there is; checked as a ratio, because other tests run at the same time. The times are printed.
@Suite(.serialized) struct MeshSpeedTests {
    @Test(arguments: [10, 1000]) func aSandboxOfManyServices(count: Int) async throws {
        try await Site.run(containers: 1) { site in
            func state(_ backends: Int) -> BalancerState {
                let services = (0..<count).map { (number: Int) -> VirtualService in
                    let members = number == 0 ? backends : 3
                    let block = UInt8(number / 250)
                    return VirtualService(
                        address: IPAddress(v4: 10, 1, block, UInt8(number % 250 + 1)),
                        backends: (1...members).map { IPAddress(v4: 10, 2, block, UInt8($0)) })
                }
                return BalancerState(sandboxes: [SandboxState(path: site.containers[0], services: services)])
            }
            let clock = ContinuousClock()
            let first = try await clock.measure { try await site.balancer.apply(state(3)) }
            var changes: [Duration] = []
            for round in 0..<10 { changes.append(try await clock.measure { try await site.balancer.apply(state(4 + round % 2)) }) }
            let idle = try await clock.measure { try await site.balancer.apply(state(5)) }
            changes.sort()
            let rules = try await lines("list ruleset", in: site.containers[0])
            print("sandbox, \(count) services of 3: first \(first), change \(changes[5]) median, no change \(idle), \(rules) lines of rules")
            if count >= 1000 { #expect(changes[5] * 2 < first) }
        }
    }

    @Test(arguments: [10, 1000]) func aMeshOfManyTasksAndPorts(count: Int) async throws {
        try await MeshSite.run(engines: 2) { site in
            let balancer = try site[1].balancer()
            let remote = (0..<count * 2).map { (number: Int) -> MeshState.RemoteTask in
                let address = IPAddress(v4: 10, 0, UInt8(10 + number / 250), UInt8(number % 250 + 1))
                return MeshState.RemoteTask(address: address, addressV6: IPAddress("fd00:aa::1:\(String(number + 1, radix: 16))"), nodeIndex: 2)
            }
            func state(_ tasks: Int) throws -> BalancerState {
                var state = try site.state(of: 1, serving: [])
                state.mesh?.networkID = "speed"
                state.mesh?.remoteTasks = Array(remote.prefix(tasks))
                state.ports = (0..<count).map { (number: Int) -> BalancedPort in
                    let members = number == 0 ? remote[(tasks - 2)..<tasks] : remote[(number * 2 - 2)..<(number * 2)]
                    let backends = members.map { Backend(address: $0.address, port: 80) }
                    return BalancedPort(transport: .tcp, port: UInt16(10000 + number), backends: backends)
                }
                return state
            }
            let clock = ContinuousClock()
            let first = try await clock.measure { try await balancer.apply(state(count * 2 - 1)) }
            var changes: [Duration] = []
            for round in 0..<10 { changes.append(try await clock.measure { try await balancer.apply(state(count * 2 - round % 2)) }) }
            let idle = try await clock.measure { try await balancer.apply(state(count * 2 - 1)) }
            changes.sort()
            let rules = try await lines("list ruleset", in: site[1].namespace)
            print("mesh, \(count) ports and \(count * 2) tasks: first \(first), change \(changes[5]) median, no change \(idle), \(rules) lines of rules")
            if count >= 1000 { #expect(changes[5] * 2 < first) }
            await balancer.shutDown()
        }
    }

    private func lines(_ command: String, in namespace: String) async throws -> Int {
        try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in try NFTables().run(command).split(separator: "\n").count }
    }
}
