import Orchestration
import PluginAPI
import Testing

@Suite struct RestartTests {
    /// Tasks made for the service until nothing more happens.
    private func runs(_ image: String, _ policy: RestartPolicy?, for time: Duration = .seconds(200)) -> (count: Int, last: Task?) {
        var swarm = Simulation()
        let id = swarm.add(makeSpec("web", image: image) { $0.task.restartPolicy = policy })
        swarm.advance(time)
        return (swarm.created.count, swarm.tasks(id).last)
    }

    @Test func theReplacementIsReadyAtOnceAndStartsAfterTheDelay() {
        var swarm = Simulation()
        let web = swarm.add(makeSpec("web") { $0.task.restartPolicy = makeRestart(delay: .seconds(10)) })
        swarm.settle()
        swarm.end(swarm.running(web)[0])
        swarm.settle()
        let next = swarm.tasks(web).last
        #expect(next?.desiredState == .ready)
        #expect(next?.status.state == .ready, "it is prepared while it waits")
        swarm.advance(.milliseconds(9500))
        #expect(swarm.running(web).isEmpty)
        swarm.advance(.milliseconds(500))
        #expect(swarm.running(web).map(\.id) == [next?.id])
    }

    @Test func theDelayIsFiveSecondsUnlessSaid() {
        var swarm = Simulation()
        let web = swarm.add(makeSpec("web"))
        swarm.settle()
        swarm.end(swarm.running(web)[0])
        swarm.advance(.milliseconds(4500))
        #expect(swarm.running(web).isEmpty)
        swarm.advance(.milliseconds(500))
        #expect(swarm.running(web).count == 1)
    }

    @Test func noDelayMeansAtOnce() {
        var swarm = Simulation()
        let web = swarm.add(makeSpec("web") { $0.task.restartPolicy = makeRestart(delay: .zero) })
        swarm.settle()
        swarm.end(swarm.running(web)[0])
        swarm.settle()
        #expect(swarm.running(web).count == 1)
    }

    /// A task whose image is missing ends while it is being prepared, before its start is due: that must not lead to a storm.
    @Test func rejectionsKeepTheDelayToo() {
        #expect((11...14).contains(runs("missing", nil, for: .seconds(60)).count))
        #expect(runs("missing", makeRestart(delay: .zero), for: .seconds(10)).count <= 101)
        #expect(runs("missing", makeRestart(delay: .seconds(2), attempts: 3), for: .seconds(60)).count == 4)
    }

    @Test func aManagerThatRestartsKeepsTheDelay() {
        var swarm = Simulation()
        let web = swarm.add(makeSpec("web") { $0.task.restartPolicy = makeRestart(delay: .seconds(10)) })
        swarm.settle()
        swarm.end(swarm.running(web)[0])
        swarm.advance(.seconds(6))
        swarm.restartManager()
        swarm.advance(.seconds(3))
        #expect(swarm.running(web).isEmpty)
        swarm.advance(.seconds(1))
        #expect(swarm.running(web).count == 1)
        #expect(swarm.created.count == 2)
    }

    @Test func conditionNone() {
        #expect(runs("crash", makeRestart(RestartCondition.none)).count == 1)
        #expect(runs("once", makeRestart(RestartCondition.none)).count == 1)
        #expect(runs("missing", makeRestart(RestartCondition.none)).last?.status.state == .rejected)
    }

    @Test func conditionOnFailure() {
        let well = runs("once", makeRestart(.onFailure))
        #expect(well.count == 1)
        #expect(well.last?.status.state == .complete)
        #expect(runs("crash", makeRestart(.onFailure, delay: .seconds(1)), for: .seconds(20)).count > 15)
    }

    @Test func conditionAnyRestartsWhatEndedWell() {
        #expect(runs("once", makeRestart(.any, delay: .seconds(1)), for: .seconds(20)).count >= 10)
        #expect(runs("once", nil, for: .seconds(30)).count >= 5)
    }

    @Test(arguments: [1, 3, 8] as [UInt64])
    func attemptsAreLimited(limit: UInt64) {
        #expect(runs("crash", makeRestart(delay: .seconds(1), attempts: limit)).count == Int(limit) + 1)
        #expect(runs("missing", makeRestart(.onFailure, delay: .zero, attempts: limit)).count == Int(limit) + 1)
    }

    @Test func attemptsAreCountedAcrossManagers() {
        var swarm = Simulation()
        swarm.add(makeSpec("web", image: "crash") { $0.task.restartPolicy = makeRestart(delay: .seconds(1), attempts: 4) })
        for _ in 0..<20 {
            swarm.advance(.milliseconds(1500))
            swarm.restartManager()
        }
        swarm.advance(.seconds(60))
        #expect(swarm.created.count == 5)
    }

    /// It runs for 8 s and rests for 2: in any 15 s there is one attempt at most, and so it never reaches two.
    @Test func theWindowForgets() {
        #expect(runs("fragile-8", makeRestart(delay: .seconds(2), attempts: 2, window: .seconds(15)), for: .seconds(200)).count >= 19)
        #expect(runs("fragile-8", makeRestart(delay: .seconds(2), attempts: 2, window: .seconds(45)), for: .seconds(200)).count == 3)
    }

    @Test func anUpdateStartsAgainWhatHadGivenUp() {
        var swarm = Simulation()
        let web = swarm.add(makeSpec("web", image: "crash", replicas: 2) { $0.task.restartPolicy = makeRestart(delay: .seconds(1), attempts: 2) })
        swarm.advance(.seconds(30))
        #expect(swarm.created.count == 6)
        #expect(swarm.running(web).isEmpty)
        swarm.update(web) { $0.task.container?.image = "steady" }
        swarm.advance(.seconds(10))
        #expect(swarm.slots(web) == [1, 2])
    }

    @Test func scalingDoesNotReviveWhatHasGivenUp() {
        var swarm = Simulation()
        let web = swarm.add(makeSpec("web", image: "once", replicas: 2) { $0.task.restartPolicy = makeRestart(RestartCondition.none) })
        swarm.advance(.seconds(5))
        swarm.update(web) { $0.mode.replicated?.replicas = 3 }
        swarm.advance(.seconds(5))
        #expect(swarm.created.count == 3)
    }

    @Test func theHistoryIsLimited() {
        for limit in [0, 1, 3, 5] as [Int64] {
            var swarm = Simulation()
            var cluster = Cluster()
            cluster.spec.orchestration.taskHistoryLimit = limit
            swarm.change { $0.put(cluster) }
            let web = swarm.add(makeSpec("web", image: "fragile-1", replicas: 2) { $0.task.restartPolicy = makeRestart(delay: .seconds(1)) })
            swarm.advance(.seconds(40))
            for slot in [1, 2] as [UInt64] {
                let tasks = swarm.tasks(web).filter { $0.slot == slot }
                #expect(tasks.count == max(1, Int(limit)), "limit \(limit)")
                #expect(tasks.last?.desiredState ?? .shutdown <= .running)
            }
        }
    }

    @Test func theDefaultHistoryIsFive() {
        var swarm = Simulation()
        let web = swarm.add(makeSpec("web", image: "crash") { $0.task.restartPolicy = makeRestart(delay: .seconds(1)) })
        swarm.advance(.seconds(40))
        #expect(swarm.created.count > 20)
        #expect(swarm.tasks(web).count == 5)
    }

    @Test func aSmallerLimitIsAppliedToWhatIsThere() {
        var swarm = Simulation()
        let web = swarm.add(makeSpec("web", image: "fragile-1") { $0.task.restartPolicy = makeRestart(delay: .seconds(1)) })
        swarm.advance(.seconds(40))
        #expect(swarm.tasks(web).count == 5)
        var cluster = Cluster()
        cluster.spec.orchestration.taskHistoryLimit = 2
        swarm.change { $0.put(cluster) }
        swarm.settle()
        #expect(swarm.tasks(web).count == 2)
    }

    @Test func theSchedulerAvoidsANodeThatKeepsFailing() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        // n2 is fuller: it is chosen only because n1 has failed five times.
        let filler = swarm.add(makeSpec("filler", replicas: 3) { $0.task.placement = makePlacement("node.id==n2") })
        swarm.settle()
        #expect(swarm.perNode(filler) == ["n2": 3])
        let web = swarm.add(makeSpec("web", image: "fragile-1") { $0.task.restartPolicy = makeRestart(delay: .seconds(1)) })
        swarm.advance(.seconds(30))
        let nodes = swarm.created.filter { $0.serviceID == web }.map(\.nodeID.text)
        #expect(nodes.prefix(5) == ["n1", "n1", "n1", "n1", "n1"])
        #expect(nodes.contains("n2"))
    }
}
