import Orchestration
import PluginAPI
import SchedulerSpread
import Testing

@Suite struct DrainTests {
    private func drain(_ swarm: inout Simulation, _ node: ID, _ availability: NodeAvailability = .drain) {
        guard let old = swarm.state.nodes[node] else { return }
        var spec = old.spec
        spec.availability = availability
        guard let new = try? NodeDraft.update(old, to: spec, in: swarm.state, now: swarm.now) else { return }
        swarm.change { $0.put(new) }
    }

    /// A swarm whose service runs on n1 while n2 does not take anything yet.
    private func makeSwarm(image: String = "steady") -> (Simulation, ID) {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2", availability: .pause)])
        swarm.stopTime = .seconds(2)
        let web = swarm.add(makeSpec("web", image: image, replicas: 3))
        swarm.settle()
        return (swarm, web)
    }

    @Test func theOldTasksRunUntilTheNewOnesDo() {
        var (swarm, web) = makeSwarm()
        drain(&swarm, "n1")
        swarm.advance(.seconds(30))
        #expect(swarm.perNode(web) == ["n1": 3], "there is no room elsewhere yet")
        #expect(swarm.tasks(web).filter { $0.status.state == .pending }.count == 3)
        drain(&swarm, "n2", .active)
        swarm.settle()
        #expect(swarm.perNode(web) == ["n2": 3])
        swarm.advance(.seconds(3))
        #expect(swarm.state.tasks(onNode: "n1").allSatisfy { $0.status.state.isTerminal })
    }

    @Test func aDrainIsNotPatientForEver() {
        var (swarm, web) = makeSwarm()
        drain(&swarm, "n1")
        swarm.advance(.seconds(118))
        #expect(swarm.perNode(web) == ["n1": 3])
        swarm.advance(.seconds(6))
        #expect(swarm.running(web).isEmpty)
        #expect(swarm.state.tasks(onNode: "n1").allSatisfy { $0.status.state.isTerminal })
        #expect(swarm.tasks(web).filter { $0.status.state == .pending }.count == 3)
    }

    @Test func replacementsThatFailDoNotKeepTheNodeForEver() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        let web = swarm.add(makeSpec("web", image: "fragile-1", replicas: 1) { $0.task.restartPolicy = makeRestart(delay: .seconds(1)) })
        swarm.settle()
        guard let node = swarm.running(web).first?.nodeID else { return #expect(Bool(false), "nothing runs") }
        drain(&swarm, node)
        swarm.advance(.seconds(130))
        #expect(swarm.state.tasks(onNode: node).allSatisfy { $0.status.state.isTerminal })
    }

    @Test func aNodeThatIsTakenBackKeepsItsTasks() {
        var (swarm, web) = makeSwarm()
        let before = Set(swarm.running(web).map(\.id))
        drain(&swarm, "n1")
        swarm.advance(.seconds(5))
        drain(&swarm, "n1", .active)
        swarm.advance(.seconds(5))
        #expect(Set(swarm.running(web).map(\.id)) == before)
        #expect(swarm.tasks(web).count { $0.desiredState <= .running } == 3, "the replacements are given up")
    }

    @Test func aNewLeaderGoesOnWithTheDrain() {
        var (swarm, web) = makeSwarm()
        drain(&swarm, "n1")
        swarm.advance(.seconds(100))
        swarm.restartManager()
        swarm.advance(.seconds(10))
        #expect(swarm.perNode(web) == ["n1": 3])
        swarm.advance(.seconds(20))
        #expect(swarm.running(web).isEmpty)
    }

    @Test func tasksOfANodeThatStaysDownAreOrphanedAfterADay() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        let web = swarm.add(makeSpec("web", replicas: 2))
        swarm.settle()
        swarm.silent = ["n1"]
        let now = swarm.now
        swarm.updateNode("n1") {
            $0.status.state = .down
            $0.status.since = now
        }
        swarm.settle()
        #expect(swarm.perNode(web) == ["n2": 2])
        let lost = swarm.state.tasks(onNode: "n1").map(\.id)
        #expect(lost.count == 1)
        swarm.now = now + .seconds(86_399)
        swarm.settle()
        #expect(lost.allSatisfy { swarm.state.tasks[$0]?.status.state == .running })
        swarm.now = now + .seconds(86_400)
        swarm.settle()
        #expect(lost.allSatisfy { swarm.state.tasks[$0]?.status.state == .orphaned })
    }

    @Test func surplusStopsWhenALostNodeComesBack() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        let web = swarm.add(makeSpec("web", replicas: 4))
        swarm.settle()
        swarm.silent = ["n1"]
        swarm.updateNode("n1") { $0.status.state = .down }
        swarm.settle()
        #expect(swarm.perNode(web) == ["n2": 4])
        #expect(swarm.state.tasks(onNode: "n1").count { $0.status.state == .running } == 2, "the node cannot be told")
        swarm.silent = []
        swarm.updateNode("n1") { $0.status.state = .ready }
        swarm.settle()
        #expect(swarm.state.tasks(onNode: "n1").count { $0.status.state == .running } == 0)
        #expect(swarm.perNode(web) == ["n2": 4])
    }

    @Test func anUnknownNodeKeepsItsTasks() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        let web = swarm.add(makeSpec("web", replicas: 4))
        swarm.settle()
        for state in [NodeState.unknown, .disconnected] {
            swarm.updateNode("n1") { $0.status.state = state }
            swarm.advance(.seconds(60))
            #expect(swarm.perNode(web) == ["n1": 2, "n2": 2])
        }
    }

    @Test func nodesAreRemovedAndDemotedWithCare() {
        var state = MemoryState()
        func put(_ node: Node) { state.nodes[node.id] = node }
        put(makeNode("m1", role: .manager))
        put(makeNode("w1"))
        put(makeNode("w2", state: .down))
        func refusal(_ node: ID, force: Bool = false) -> String? {
            do throws(ApusError) {
                try NodeDraft.checkRemoval(of: state.nodes[node] ?? Node(), force: force, in: state)
                return nil
            } catch {
                return error.message
            }
        }
        #expect(refusal("w2") == nil)
        #expect(refusal("w1")?.contains("--force") == true)
        #expect(refusal("w1", force: true) == nil)
        #expect(refusal("m1", force: true)?.contains("last manager") == true)
        put(makeNode("m2", role: .manager))
        #expect(refusal("m1", force: true)?.contains("demote") == true)
        var spec = makeNode("m1").spec
        spec.role = .worker
        #expect(throws: Never.self) { try NodeDraft.update(state.nodes["m1"] ?? Node(), to: spec, in: state, now: .never) }
        state.nodes["m2"] = nil
        #expect(throws: ApusError.self) { try NodeDraft.update(state.nodes["m1"] ?? Node(), to: spec, in: state, now: .never) }
    }

    @Test func aSchedulerForgetsTheSwarmBefore() throws {
        let scheduler = SpreadScheduler()
        scheduler.apply([.node(makeNode("old"))])
        var state = MemoryState()
        state.nodes["new"] = makeNode("new")
        var reconciler = Reconciler(scheduler: scheduler)
        reconciler.load(state)
        let answer = try scheduler.schedule(ScheduleRequest(tasks: (0..<4).map { makeTask("t\($0)") }, now: .never))
        #expect(Set(answer.placements.values) == ["new"])
    }
}
