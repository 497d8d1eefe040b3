import Orchestration
import PluginAPI
import SchedulerBinpack
import SchedulerSpread
import Testing

@Suite struct ReplicatedTests {
    @Test func createsAsManyAsDeclared() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        let web = swarm.add(makeSpec("web", replicas: 5))
        swarm.settle()
        #expect(swarm.slots(web) == [1, 2, 3, 4, 5])
        #expect(swarm.perNode(web).values.sorted() == [2, 3])
        #expect(swarm.created.count == 5)
        #expect(swarm.service(web).updateStatus == nil)
    }

    /// One commit leads from a new service to a task on a node: nothing waits for another round.
    @Test func placesInTheSamePlan() {
        var swarm = Simulation()
        swarm.add(makeSpec("web"))
        let events = swarm.pending
        swarm.pending = []
        swarm.reconciler.note(events, in: swarm.state)
        let plan = swarm.reconciler.plan(swarm.state, now: swarm.now)
        let created = plan.units.joined().compactMap { change in if case .create(let task) = change { task } else { nil } }
        #expect(created.count == 1)
        #expect(created.first?.status.state == .assigned)
        #expect(created.first?.nodeID == "n1")
        #expect(created.first?.desiredState == .running)
    }

    @Test func absentModeIsOneReplica() {
        var swarm = Simulation()
        let web = swarm.add(makeSpec("web") { $0.mode = ServiceMode() })
        swarm.settle()
        #expect(swarm.slots(web) == [1])
    }

    @Test func scalesUpAndDown() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        let web = swarm.add(makeSpec("web", replicas: 2))
        swarm.settle()
        let first = Set(swarm.running(web).map(\.id))
        swarm.update(web) { $0.mode.replicated?.replicas = 6 }
        swarm.settle()
        #expect(swarm.slots(web) == [1, 2, 3, 4, 5, 6])
        #expect(first.isSubset(of: Set(swarm.running(web).map(\.id))), "scaling must not touch what runs")
        #expect(swarm.service(web).updateStatus == nil, "scaling is no update")
        swarm.update(web) { $0.mode.replicated?.replicas = 2 }
        swarm.settle()
        #expect(swarm.running(web).count == 2)
        #expect(swarm.perNode(web) == ["n1": 1, "n2": 1])
        #expect(swarm.tasks(web).count == 2, "removed slots leave nothing behind")
        swarm.update(web) { $0.mode.replicated?.replicas = 0 }
        swarm.settle()
        #expect(swarm.tasks(web).isEmpty)
    }

    @Test func scalingDownTakesWhatDoesNotRunFirst() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2", cpus: 1)])
        let web = swarm.add(makeSpec("web", replicas: 4))
        swarm.settle()
        // Slot 1 fails and waits for its restart delay.
        guard let victim = swarm.running(web).first(where: { $0.slot == 1 }) else { return #expect(Bool(false)) }
        swarm.end(victim)
        swarm.settle()
        #expect(swarm.slots(web) == [2, 3, 4])
        swarm.update(web) { $0.mode.replicated?.replicas = 3 }
        swarm.settle()
        #expect(swarm.slots(web) == [2, 3, 4])
        #expect(!swarm.tasks(web).contains { $0.slot == 1 })
    }

    @Test func scalingDownTakesFromTheFullestNode() {
        var swarm = Simulation(nodes: [makeNode("n1")])
        let web = swarm.add(makeSpec("web", replicas: 4))
        swarm.settle()
        swarm.change { $0.put(makeNode("n2")) }
        swarm.update(web) { $0.mode.replicated?.replicas = 6 }
        swarm.settle()
        #expect(swarm.perNode(web) == ["n1": 4, "n2": 2])
        swarm.update(web) { $0.mode.replicated?.replicas = 4 }
        swarm.settle()
        #expect(swarm.perNode(web) == ["n1": 2, "n2": 2])
    }

    @Test func anyTaskThatDiesIsReplacedInItsSlot() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        let web = swarm.add(makeSpec("web", replicas: 3))
        swarm.settle()
        for end in [TaskState.failed, .complete, .rejected, .shutdown, .orphaned] {
            guard let victim = swarm.running(web).first(where: { $0.slot == 2 }) else { return #expect(Bool(false), "slot 2 is empty after \(end)") }
            swarm.end(victim, end)
            swarm.advance(.seconds(6))
            #expect(swarm.slots(web) == [1, 2, 3], "after \(end)")
            #expect(swarm.state.tasks[victim.id]?.desiredState == .shutdown)
        }
    }

    /// A slot in the middle of holes keeps its number.
    @Test func aRestartKeepsTheSlot() {
        var swarm = Simulation(nodes: [makeNode("n1")])
        let web = swarm.add(makeSpec("web", replicas: 5))
        swarm.settle()
        for slot in [1, 2] as [UInt64] {
            if let task = swarm.running(web).first(where: { $0.slot == slot }) { swarm.end(task) }
        }
        swarm.update(web) { $0.mode.replicated?.replicas = 3 }
        swarm.settle()
        #expect(swarm.slots(web) == [3, 4, 5])
        if let task = swarm.running(web).first(where: { $0.slot == 4 }) { swarm.end(task) }
        swarm.advance(.seconds(6))
        #expect(swarm.slots(web) == [3, 4, 5])
    }

    @Test func removedServiceLeavesNothing() {
        var swarm = Simulation()
        swarm.stopTime = .seconds(3)
        let web = swarm.add(makeSpec("web", replicas: 3))
        let waiting = swarm.add(makeSpec("waiting") { $0.task.placement = makePlacement("node.labels.none==here") })
        swarm.settle()
        swarm.change { try? $0.removeService(web) }
        var other = swarm.service(waiting)
        other.pendingDelete = true
        swarm.change { $0.put(other) }
        swarm.settle()
        #expect(swarm.tasks(waiting).isEmpty)
        #expect(swarm.state.services.isEmpty, "the one that waited for its tasks to go is gone too")
        #expect(swarm.tasks(web).allSatisfy { $0.desiredState == .remove && $0.status.state == .running })
        swarm.advance(.seconds(4))
        #expect(swarm.state.tasks.isEmpty)
    }

    @Test func drainMovesTasks() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        swarm.stopTime = .seconds(2)
        let web = swarm.add(makeSpec("web", replicas: 4) { $0.task.restartPolicy = makeRestart(RestartCondition.none) })
        swarm.settle()
        swarm.updateNode("n1") { $0.spec.availability = .drain }
        swarm.settle()
        #expect(swarm.perNode(web) == ["n2": 4], "the replacements run before the old tasks have stopped")
        swarm.advance(.seconds(3))
        #expect(swarm.perNode(web) == ["n2": 4])
        #expect(swarm.state.tasks(onNode: "n1").allSatisfy { $0.status.state.isTerminal })
        swarm.updateNode("n1") { $0.spec.availability = .active }
        swarm.advance(.seconds(3))
        #expect(swarm.perNode(web) == ["n2": 4], "nothing moves back by itself")
    }

    @Test func aPausedNodeKeepsItsTasksAndTakesNoNewOnes() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        let web = swarm.add(makeSpec("web", replicas: 2))
        swarm.settle()
        swarm.updateNode("n1") { $0.spec.availability = .pause }
        swarm.update(web) { $0.mode.replicated?.replicas = 4 }
        swarm.settle()
        #expect(swarm.perNode(web) == ["n1": 1, "n2": 3])
    }

    @Test func tasksOfALostNodeAreReplacedAtOnce() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        let web = swarm.add(makeSpec("web", replicas: 4))
        swarm.settle()
        swarm.silent = ["n1"]
        swarm.updateNode("n1") { $0.status.state = .down }
        swarm.settle()
        #expect(swarm.running(web).filter { $0.nodeID == "n2" }.count == 4)
        // It comes back, and ends what was replaced.
        swarm.silent = []
        swarm.updateNode("n1") { $0.status.state = .ready }
        swarm.settle()
        #expect(swarm.perNode(web) == ["n2": 4])
        // It is removed for good.
        swarm.change { $0.removeNode("n2") }
        swarm.settle()
        #expect(swarm.perNode(web) == ["n1": 4])
        #expect(swarm.tasks(web).filter { $0.nodeID == "n2" }.allSatisfy { $0.status.state == .orphaned })
    }

    @Test func tasksLeaveANodeThatNoLongerMeetsTheConstraints() {
        var swarm = Simulation(nodes: [makeNode("n1", labels: ["disk": "ssd"]), makeNode("n2", labels: ["disk": "ssd"])])
        let web = swarm.add(makeSpec("web", replicas: 2) { $0.task.placement = makePlacement("node.labels.disk==ssd") })
        swarm.settle()
        swarm.updateNode("n1") { $0.spec.labels = [:] }
        swarm.settle()
        #expect(swarm.perNode(web) == ["n2": 2])
    }

    @Test func whatCannotBePlacedSaysWhyAndComesWhenItCan() {
        var swarm = Simulation(nodes: [makeNode("n1", memory: 1 << 30), makeNode("n2", state: .down), makeNode("n3", availability: .drain)])
        let web = swarm.add(makeSpec("web") { $0.task.resources = makeTask("x", memory: 2 << 30).spec.resources })
        swarm.settle()
        #expect(swarm.tasks(web).first?.status.state == .pending)
        #expect(
            swarm.tasks(web).first?.status.error
                == "no suitable node (1 node not available for new tasks, 1 not ready, 1 with insufficient memory)")
        let plans = swarm.planCount
        swarm.settle()
        #expect(swarm.planCount == plans, "an explained task is left alone until something changes")
        swarm.change { $0.put(makeNode("n4", memory: 4 << 30)) }
        swarm.settle()
        #expect(swarm.perNode(web) == ["n4": 1])
        #expect(swarm.running(web).first?.status.error == "")
    }

    @Test func freedResourcesGoToWhoWaits() {
        var swarm = Simulation(nodes: [makeNode("n1", memory: 4 << 30)])
        swarm.stopTime = .seconds(2)
        let heavy = makeTask("x", memory: 3 << 30).spec.resources
        let first = swarm.add(makeSpec("first") { $0.task.resources = heavy })
        swarm.settle()
        let second = swarm.add(makeSpec("second") { $0.task.resources = heavy })
        swarm.settle()
        #expect(swarm.running(second).isEmpty)
        swarm.update(first) { $0.mode.replicated?.replicas = 0 }
        swarm.settle()
        #expect(swarm.running(second).isEmpty, "memory is in use until the task has really ended")
        swarm.advance(.seconds(3))
        #expect(swarm.running(second).count == 1)
    }

    @Test func anotherSchedulerMovesNothing() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2"), makeNode("n3")])
        let web = swarm.add(makeSpec("web", replicas: 6) { $0.task.resources = makeTask("x", memory: 1 << 30).spec.resources })
        swarm.settle()
        let before = swarm.running(web).map { [$0.id, $0.nodeID] }
        swarm.reconciler.load(swarm.state, scheduler: BinpackScheduler())
        swarm.settle()
        #expect(swarm.running(web).map { [$0.id, $0.nodeID] } == before)
        swarm.update(web) { $0.mode.replicated?.replicas = 9 }
        swarm.settle()
        #expect(swarm.perNode(web).values.sorted() == [2, 2, 5], "binpack fills one node")
        swarm.reconciler.load(swarm.state, scheduler: SpreadScheduler())
        swarm.update(web) { $0.mode.replicated?.replicas = 12 }
        swarm.settle()
        #expect(swarm.perNode(web).values.sorted() == [3, 4, 5])
    }
}
