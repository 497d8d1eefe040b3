import Orchestration
import PluginAPI
import Testing

/// Orders of growth: generous limits that only a plan of quadratic cost misses.
@Suite struct ScaleTests {
    @Test func aLargeServiceIsPlannedInAboutLinearTime() {
        func time(_ replicas: UInt64) -> Duration {
            var swarm = Simulation(nodes: (0..<50).map { makeNode("n\($0)") })
            let clock = ContinuousClock()
            let web = swarm.add(makeSpec("web", replicas: replicas))
            let time = clock.measure { swarm.reconcile() }
            #expect(swarm.tasks(web).count == Int(replicas))
            return time
        }
        let small = time(500)
        let large = time(8000)
        #expect(large < small * 100, "\(small) for 500 and \(large) for 8000")
    }
}
