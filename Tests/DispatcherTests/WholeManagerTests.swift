import Orchestration
import PluginAPI
import Testing

/// Store, reconciler, sessions, assignments and nodes, on a virtual clock.
@Suite struct WholeManagerTests {
    private func makeSwarm(nodes: Int, seed: UInt64 = 1, services: Int = 1, replicas: UInt64) -> VirtualSwarm {
        var virtual = VirtualSwarm(nodes: nodes, seed: seed)
        for number in 0..<services { virtual.swarm.add(makeSpec("s\(number)", replicas: replicas)) }
        virtual.advance(.seconds(10))
        return virtual
    }

    @Test func aServiceSpreadsOverTheNodesThatCame() {
        let virtual = makeSwarm(nodes: 5, replicas: 10)
        #expect(virtual.defects() == [])
        #expect(virtual.machines.values.allSatisfy { $0.containers.count == 2 })
    }

    /// Three heartbeats and two seconds; and when it comes back the surplus stops.
    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func anUnpluggedWorkerIsReplacedInTime(seed: UInt64) {
        var virtual = makeSwarm(nodes: 4, seed: seed, replicas: 8)
        virtual.advance(.milliseconds(Int64(seed) * 700))
        virtual.plug("n1", false)
        virtual.advance(.seconds(17))
        let elsewhere = virtual.running().filter { $0.value.contains { $0 != "n1" } }
        #expect(elsewhere.count == 8, "seed \(seed)")
        #expect(virtual.machines["n1"]?.containers.values.contains { $0.isRunning } == true, "nobody told it")
        virtual.plug("n1", true)
        virtual.advance(.seconds(10))
        #expect(virtual.defects() == [], "seed \(seed)")
        #expect(virtual.violations == [], "seed \(seed)")
    }

    @Test func anEngineThatIsRestartedInTimeKeepsItsTasks() {
        var virtual = makeSwarm(nodes: 3, replicas: 6)
        let before = Set(virtual.swarm.state.tasks.keys)
        for politely in [true, false] {
            virtual.stopEngine("n1", politely: politely)
            virtual.advance(.seconds(8))
            virtual.startEngine("n1")
            virtual.advance(.seconds(20))
        }
        #expect(Set(virtual.swarm.state.tasks.keys) == before, "no task was replaced")
        #expect(virtual.defects() == [])
    }

    @Test func aNewLeaderReplacesNobodyWhoIsThere() {
        var virtual = makeSwarm(nodes: 5, replicas: 10)
        let before = Set(virtual.swarm.state.tasks.keys)
        for _ in 0..<5 {
            virtual.changeLeader()
            virtual.advance(.seconds(40))
        }
        #expect(Set(virtual.swarm.state.tasks.keys) == before)
        #expect(virtual.defects() == [])
    }

    @Test func aNodeThatWentWithTheLeaderIsReplaced() {
        var virtual = makeSwarm(nodes: 3, replicas: 6)
        virtual.plug("n1", false)
        virtual.changeLeader()
        virtual.advance(.seconds(35))
        #expect(virtual.running().filter { $0.value.contains { $0 != "n1" } }.count == 6)
    }

    /// Everything at once; a seed repeats it.
    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func whateverFailsTheSwarmBecomesWhole(seed: UInt64) {
        var virtual = makeSwarm(nodes: 6, seed: seed, services: 3, replicas: 5)
        let nodes = virtual.machines.keys.sorted()
        for _ in 0..<60 {
            fail(&virtual, nodes)
            virtual.advance(.milliseconds(Int.random(in: 100...6000, using: &virtual.generator)))
        }
        for node in nodes {
            virtual.plug(node, true)
            virtual.startEngine(node)
            virtual.swarm.updateNode(node) { $0.spec.availability = .active }
        }
        virtual.advance(.seconds(60))
        #expect(virtual.defects() == [], "seed \(seed)")
        #expect(virtual.violations == [], "seed \(seed)")
        #expect(virtual.swarm.state.allNodes.allSatisfy { $0.status.state == .ready }, "seed \(seed)")
    }

    private func fail(_ virtual: inout VirtualSwarm, _ nodes: [ID]) {
        guard let node = nodes.randomElement(using: &virtual.generator) else { return }
        switch Int.random(in: 0..<14, using: &virtual.generator) {
        case 0...2: virtual.plug(node, false)
        case 3...6: virtual.plug(node, true)
        case 7: virtual.stopEngine(node, politely: Bool.random(using: &virtual.generator))
        case 8, 9: virtual.startEngine(node)
        case 10: virtual.changeLeader()
        case 11: virtual.swarm.updateNode(node) { $0.spec.availability = .drain }
        case 12: virtual.swarm.updateNode(node) { $0.spec.availability = .active }
        default:
            let replicas = UInt64.random(in: 1...8, using: &virtual.generator)
            virtual.swarm.update("s0") { $0.mode.replicated?.replicas = replicas }
        }
    }
}
