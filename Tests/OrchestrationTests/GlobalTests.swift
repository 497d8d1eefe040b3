import Orchestration
import PluginAPI
import Testing

@Suite struct GlobalTests {
    @Test func oneTaskOnEveryNode() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2"), makeNode("n3", state: .down)])
        let agent = swarm.add(makeSpec("agent", replicas: nil))
        swarm.settle()
        #expect(swarm.perNode(agent) == ["n1": 1, "n2": 1])
        #expect(swarm.running(agent).allSatisfy { $0.slot == 0 })
        swarm.updateNode("n3") { $0.status.state = .ready }
        swarm.change { $0.put(makeNode("n4")) }
        swarm.settle()
        #expect(swarm.perNode(agent) == ["n1": 1, "n2": 1, "n3": 1, "n4": 1])
        swarm.change { $0.removeNode("n4") }
        swarm.settle()
        #expect(swarm.perNode(agent) == ["n1": 1, "n2": 1, "n3": 1])
        #expect(!swarm.tasks(agent).contains { $0.nodeID == "n4" })
    }

    @Test func constraintsChooseTheNodes() {
        var swarm = Simulation(nodes: [makeNode("n1", labels: ["zone": "a"]), makeNode("n2", labels: ["zone": "b"]), makeNode("n3", role: .manager)])
        let agent = swarm.add(makeSpec("agent", replicas: nil) { $0.task.placement = makePlacement("node.labels.zone==a") })
        swarm.settle()
        #expect(swarm.perNode(agent) == ["n1": 1])
        swarm.updateNode("n2") { $0.spec.labels = ["zone": "A"] }
        swarm.updateNode("n1") { $0.spec.labels = [:] }
        swarm.settle()
        #expect(swarm.perNode(agent) == ["n2": 1])
    }

    @Test func drainEndsTheTaskAndActiveBringsItBack() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        let agent = swarm.add(makeSpec("agent", replicas: nil))
        swarm.settle()
        swarm.updateNode("n1") { $0.spec.availability = .drain }
        swarm.settle()
        #expect(swarm.perNode(agent) == ["n2": 1])
        #expect(!swarm.tasks(agent).contains { $0.nodeID == "n1" && $0.desiredState <= .running })
        swarm.updateNode("n1") { $0.spec.availability = .active }
        swarm.settle()
        #expect(swarm.perNode(agent) == ["n1": 1, "n2": 1])
    }

    @Test func pauseKeepsTheTask() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2", availability: .pause)])
        let agent = swarm.add(makeSpec("agent", replicas: nil))
        swarm.settle()
        #expect(swarm.perNode(agent) == ["n1": 1])
        swarm.updateNode("n1") { $0.spec.availability = .pause }
        swarm.advance(.seconds(10))
        #expect(swarm.perNode(agent) == ["n1": 1])
    }

    @Test func aNodeThatIsMerelyUnknownKeepsItsTask() {
        var swarm = Simulation(nodes: [makeNode("n1")])
        let agent = swarm.add(makeSpec("agent", replicas: nil))
        swarm.settle()
        swarm.updateNode("n1") { $0.status.state = .unknown }
        swarm.settle()
        #expect(swarm.perNode(agent) == ["n1": 1])
    }

    @Test func diesAndComesBackOnItsNode() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        let agent = swarm.add(makeSpec("agent", replicas: nil))
        swarm.settle()
        guard let victim = swarm.running(agent).first(where: { $0.nodeID == "n2" }) else { return #expect(Bool(false)) }
        swarm.end(victim)
        swarm.advance(.seconds(4))
        #expect(swarm.perNode(agent) == ["n1": 1])
        swarm.advance(.seconds(2))
        #expect(swarm.perNode(agent) == ["n1": 1, "n2": 1])
    }

    @Test func waitsForResourcesOnItsOwnNode() {
        var swarm = Simulation(nodes: [makeNode("n1", memory: 1 << 30), makeNode("n2", memory: 4 << 30)])
        let agent = swarm.add(makeSpec("agent", replicas: nil) { $0.task.resources = makeTask("x", memory: 2 << 30).spec.resources })
        swarm.settle()
        #expect(swarm.perNode(agent) == ["n2": 1])
        #expect(swarm.tasks(agent).first { $0.nodeID == "n1" }?.status.error == "no suitable node (1 node with insufficient memory)")
        swarm.updateNode("n1") { $0.description.resources.memoryBytes = 8 << 30 }
        swarm.settle()
        #expect(swarm.perNode(agent) == ["n1": 1, "n2": 1])
    }

    @Test func isUpdatedNodeByNode() {
        var swarm = Simulation(nodes: (1...3).map { makeNode("n\($0)") })
        let agent = swarm.add(makeSpec("agent", replicas: nil))
        swarm.settle()
        swarm.update(agent) { $0.task.container?.arguments = ["--new"] }
        var least = 3
        for _ in 0..<200 {
            swarm.reconcile()
            least = min(least, swarm.running(agent).count)
            if !swarm.stepNodes() { break }
        }
        swarm.advance(.seconds(6))
        #expect(least == 2)
        #expect(swarm.running(agent).count == 3)
        #expect(swarm.running(agent).allSatisfy { $0.spec.container?.arguments == ["--new"] })
        #expect(swarm.service(agent).updateStatus?.state == .completed)
    }
}
