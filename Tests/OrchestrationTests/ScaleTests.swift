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

    @Test func tasksThatFitNowhereAreMadeAFewThousandAtATime() {
        var swarm = Simulation(nodes: [makeNode("n1")])
        let web = swarm.add(makeSpec("web", replicas: 5000) { $0.task.placement = makePlacement("node.labels.disk==ssd") })
        swarm.reconcile()
        #expect(swarm.tasks(web).count == 2000 && swarm.tasks(web).allSatisfy { $0.status.state == .pending })
        // They are no obstacle for a spec that fits: other slots are taken at once, and theirs as the update has it.
        swarm.update(web) { $0.task.placement = makePlacement("node.labels.disk==tape") }
        swarm.updateNode("n1") { $0.spec.labels = ["disk": "tape"] }
        swarm.reconcile()
        #expect(swarm.tasks(web).count == 5000 && swarm.tasks(web).count { $0.status.state == .assigned } == 3000)
        swarm.update(web) { $0.update = makeUpdate { $0.parallelism = 0 } }
        swarm.reconcile()
        #expect(swarm.tasks(web).count == 5000 && swarm.tasks(web).allSatisfy { $0.status.state == .assigned })
    }
}
