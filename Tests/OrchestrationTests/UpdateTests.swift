import Orchestration
import PluginAPI
import Testing

@Suite struct UpdateTests {
    /// Plays an update step by step; returns the fewest that ran and the most that were busy at once.
    private func roll(_ swarm: inout Simulation, _ service: ID, image: String = "steady2", for time: Duration = .seconds(120)) -> (
        least: Int, most: Int
    ) {
        swarm.update(service) { $0.task.container?.image = image }
        var least = Int.max
        var most = 0
        var rest = time
        while rest > .zero {
            for _ in 0..<1000 {
                swarm.reconcile()
                least = min(least, swarm.running(service).count)
                most = max(most, swarm.tasks(service).filter { $0.desiredState <= .running && $0.status.state != .running }.count)
                if !swarm.stepNodes() { break }
            }
            swarm.now = swarm.now + .milliseconds(500)
            rest -= .milliseconds(500)
        }
        return (least, most)
    }

    private func start(_ replicas: UInt64 = 4, nodes: Int = 2, _ change: (inout ServiceSpec) -> Void = { _ in }) -> (Simulation, ID) {
        var swarm = Simulation(nodes: (1...nodes).map { makeNode("n\($0)") })
        let id = swarm.add(makeSpec("web", replicas: replicas, change))
        swarm.settle()
        return (swarm, id)
    }

    @Test func oneAtATimeStopFirst() {
        var (swarm, web) = start()
        swarm.stopTime = .seconds(1)
        let (least, most) = roll(&swarm, web)
        #expect(least == 3)
        #expect(most == 1)
        #expect(swarm.slots(web) == [1, 2, 3, 4])
        #expect(swarm.running(web).allSatisfy { $0.spec.container?.image == "steady2" && $0.specVersion.index == 2 })
        let status = swarm.service(web).updateStatus
        #expect(status?.state == .completed)
        #expect(status?.message == "update completed")
        #expect((status?.completedAt ?? .never) > (status?.startedAt ?? .never))
        #expect(swarm.created.count == 8)
    }

    /// With stop-first the new task never starts before the old one has ended.
    @Test func stopFirstWaitsForTheOldTask() {
        var (swarm, web) = start(1)
        swarm.stopTime = .seconds(8)
        swarm.update(web) { $0.task.container?.image = "steady2" }
        swarm.advance(.seconds(7))
        #expect(swarm.tasks(web).map(\.status.state) == [.running, .ready])
        swarm.advance(.seconds(2))
        #expect(swarm.tasks(web).map(\.status.state) == [.shutdown, .running])
    }

    @Test func aNodeThatNeverStopsTheOldTaskDoesNotHoldTheUpdateForEver() {
        var (swarm, web) = start(1)
        swarm.stopTime = .seconds(100_000)
        swarm.update(web) { $0.task.container?.image = "steady2" }
        swarm.advance(.seconds(59))
        #expect(swarm.running(web).isEmpty)
        swarm.advance(.seconds(2))
        #expect(swarm.running(web).count == 1)
    }

    @Test func parallelism() {
        var (swarm, web) = start(6) { $0.update = makeUpdate { $0.parallelism = 3 } }
        #expect(roll(&swarm, web) == (3, 3))
        (swarm, web) = start(6) { $0.update = makeUpdate { $0.parallelism = 0 } }
        #expect(roll(&swarm, web) == (0, 6))
        #expect(swarm.service(web).updateStatus?.state == .completed)
    }

    @Test func startFirstNeverHasFewer() {
        var (swarm, web) = start(4) { $0.update = makeUpdate { $0.order = .startFirst } }
        let (least, most) = roll(&swarm, web)
        #expect(least >= 4)
        #expect(most == 1)
        #expect(swarm.slots(web) == [1, 2, 3, 4])
        #expect(swarm.running(web).allSatisfy { $0.spec.container?.image == "steady2" })
        #expect(swarm.service(web).updateStatus?.state == .completed)
    }

    @Test func theDelayLiesBetweenTasks() {
        var (swarm, web) = start(3) { $0.update = makeUpdate { $0.delay = .seconds(10) } }
        swarm.update(web) { $0.task.container?.image = "steady2" }
        func renewed() -> Int { swarm.running(web).filter { $0.spec.container?.image == "steady2" }.count }
        swarm.settle()
        #expect(renewed() == 1)
        swarm.advance(.milliseconds(9500))
        #expect(renewed() == 1)
        swarm.advance(.milliseconds(500))
        #expect(renewed() == 2)
        swarm.restartManager()
        swarm.advance(.milliseconds(9500))
        #expect(renewed() == 2)
        swarm.advance(.milliseconds(500))
        #expect(renewed() == 3)
    }

    @Test func forceReplacesEqualTasks() {
        var (swarm, web) = start(2)
        let before = Set(swarm.running(web).map(\.id))
        swarm.update(web) { $0.task.forceUpdate += 1 }
        swarm.advance(.seconds(10))
        #expect(before.isDisjoint(with: swarm.running(web).map(\.id)))
        #expect(swarm.service(web).updateStatus?.state == .completed)
    }

    @Test func labelsOfTheServiceReplaceNothing() {
        var (swarm, web) = start(2)
        let before = swarm.running(web).map(\.id)
        swarm.update(web) { $0.labels = ["team": "birds"] }
        swarm.advance(.seconds(10))
        #expect(swarm.running(web).map(\.id) == before)
        #expect(swarm.service(web).specVersion?.index == 1)
    }

    @Test func theMonitorEndsTheUpdate() {
        var (swarm, web) = start(1)
        swarm.update(web) { $0.task.container?.image = "steady2" }
        swarm.advance(.milliseconds(4500))
        #expect(swarm.service(web).updateStatus?.state == .updating)
        swarm.advance(.seconds(1))
        #expect(swarm.service(web).updateStatus?.state == .completed)
    }

    @Test(arguments: ["crash", "missing", "fragile-2"])
    func aFailingImagePausesTheUpdate(image: String) {
        var (swarm, web) = start(4)
        _ = roll(&swarm, web, image: image, for: .seconds(60))
        let status = swarm.service(web).updateStatus
        #expect(status?.state == .paused)
        #expect(status?.message.hasPrefix("update paused due to failure or early termination of task ") == true)
        if image != "fragile-2" {
            let old = swarm.running(web).filter { $0.spec.container?.image == "steady" }
            #expect(old.count == 3, "what was not reached yet goes on")
        }
        // A corrected spec takes over.
        swarm.update(web) { $0.task.container?.image = "steady3" }
        swarm.advance(.seconds(60))
        #expect(swarm.slots(web) == [1, 2, 3, 4])
        #expect(swarm.running(web).allSatisfy { $0.spec.container?.image == "steady3" })
        #expect(swarm.service(web).updateStatus?.state == .completed)
    }

    @Test func failuresAfterTheMonitorDoNotCount() {
        var (swarm, web) = start(2) { spec in
            spec.update = makeUpdate {
                $0.monitor = .seconds(3); $0.delay = .seconds(1)
            }
            spec.task.restartPolicy = makeRestart(delay: .seconds(1))
        }
        _ = roll(&swarm, web, image: "fragile-6", for: .seconds(30))
        #expect(swarm.service(web).updateStatus?.state == .completed)
    }

    @Test func aToleratedShareDoesNotPause() {
        var (swarm, web) = start(4) { spec in
            spec.update = makeUpdate { $0.maxFailureRatio = 0.3 }
        }
        swarm.update(web) { $0.task.container?.image = "steady2" }
        swarm.settle()
        guard let fresh = swarm.running(web).first(where: { $0.spec.container?.image == "steady2" }) else { return #expect(Bool(false)) }
        swarm.end(fresh)
        swarm.advance(.seconds(60))
        #expect(swarm.service(web).updateStatus?.state == .completed)
        #expect(swarm.slots(web) == [1, 2, 3, 4])
    }

    @Test func continueGoesOnAllTheSame() {
        var (swarm, web) = start(3) { $0.update = makeUpdate { $0.failureAction = .continue } }
        _ = roll(&swarm, web, image: "crash", for: .seconds(60))
        #expect(swarm.running(web).isEmpty)
        #expect(swarm.service(web).updateStatus?.state == .completed)
    }

    @Test func rollbackByItself() {
        var (swarm, web) = start(4) { $0.update = makeUpdate { $0.failureAction = .rollback } }
        let kept = Set(swarm.running(web).map(\.id))
        _ = roll(&swarm, web, image: "crash", for: .seconds(60))
        let service = swarm.service(web)
        #expect(service.updateStatus?.state == .rollbackCompleted)
        #expect(service.spec.task.container?.image == "steady")
        #expect(service.previousSpec == nil)
        #expect(swarm.slots(web) == [1, 2, 3, 4])
        #expect(kept.intersection(swarm.running(web).map(\.id)).count == 3, "tasks that were not touched stay")
    }

    @Test func rollbackByHand() throws {
        var (swarm, web) = start(3)
        _ = roll(&swarm, web)
        let back = try ServiceDraft.rollback(swarm.service(web), now: swarm.now)
        #expect(back.previousSpec?.task.container?.image == "steady2")
        swarm.change { $0.put(back) }
        swarm.advance(.seconds(30))
        #expect(swarm.running(web).allSatisfy { $0.spec.container?.image == "steady" })
        #expect(swarm.service(web).updateStatus?.state == .rollbackCompleted)
        #expect(throws: ApusError.self) { _ = try ServiceDraft.rollback(ServiceDraft.create(makeSpec("new")), now: swarm.now) }
    }

    @Test func hostPortsAreHandedOver() {
        var (swarm, web) = start(2) { $0.endpoint = makeEndpoint(makePort(80, 8080, .host)) }
        swarm.stopTime = .seconds(1)
        #expect(swarm.perNode(web) == ["n1": 1, "n2": 1])
        _ = roll(&swarm, web)
        #expect(swarm.perNode(web) == ["n1": 1, "n2": 1])
        #expect(swarm.running(web).allSatisfy { $0.spec.container?.image == "steady2" })
    }

    @Test func aChangeDuringAnUpdateWins() {
        var (swarm, web) = start(6) { $0.update = makeUpdate { $0.delay = .seconds(5) } }
        swarm.update(web) { $0.task.container?.image = "steady2" }
        swarm.advance(.seconds(8))
        swarm.update(web) {
            $0.task.container?.image = "steady3"
            $0.mode.replicated?.replicas = 4
        }
        swarm.advance(.seconds(60))
        #expect(swarm.running(web).count == 4)
        #expect(swarm.running(web).allSatisfy { $0.spec.container?.image == "steady3" })
        #expect(swarm.service(web).updateStatus?.state == .completed)
    }
}
