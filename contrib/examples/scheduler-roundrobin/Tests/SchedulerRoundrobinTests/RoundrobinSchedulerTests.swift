import PluginAPI
import Testing

@testable import SchedulerRoundrobin

/// What the engine hands to a plugin, for tests.
private struct TestHost: HostServices {
    var engineVersion: String { "test" }
    var configuration: [String: String] { [:] }
    var stateDirectory: String { "/tmp" }
    var runDirectory: String { "/tmp" }
    func log(_ level: LogLevel, _ message: String) {}
    func count(_ counter: String, by amount: Int) {}
}

@Suite struct RoundrobinSchedulerTests {
    private func node(_ id: ID, cpus: Int64 = 4) -> Node {
        var node = Node()
        node.id = id
        node.spec.availability = .active
        node.status.state = .ready
        node.description.resources.nanoCPUs = cpus * 1_000_000_000
        node.description.resources.memoryBytes = 1 << 30
        return node
    }

    private func task(_ id: ID, cpus: Int64 = 0, node: ID = "") -> Task {
        var task = Task()
        task.id = id
        task.serviceID = "service"
        task.nodeID = node
        if cpus > 0 {
            var wanted = Resources()
            wanted.nanoCPUs = cpus * 1_000_000_000
            task.spec.resources = ResourceRequirements()
            task.spec.resources?.reservations = wanted
        }
        return task
    }

    private func scheduler(_ nodes: [Node]) -> RoundrobinScheduler {
        let scheduler = RoundrobinScheduler(host: TestHost())
        scheduler.apply(nodes.map { .node($0) })
        return scheduler
    }

    private func place(_ tasks: [Task], _ scheduler: RoundrobinScheduler) throws -> [ID?] {
        let answer = try scheduler.schedule(ScheduleRequest(tasks: tasks, now: .never))
        return tasks.map { answer.placements[$0.id] }
    }

    @Test func nodesTakeTurns() throws {
        let scheduler = scheduler([node("b"), node("a"), node("c")])
        #expect(try place((1...4).map { task(ID("\($0)")) }, scheduler) == ["a", "b", "c", "a"])
        // The turn is kept from one batch to the next.
        #expect(try place([task("5")], scheduler) == ["b"])
    }

    @Test func aFullNodeIsPassedOver() throws {
        let scheduler = scheduler([node("a", cpus: 1), node("b", cpus: 4)])
        #expect(try place((1...4).map { task(ID("\($0)"), cpus: 1) }, scheduler) == ["a", "b", "b", "b"])
    }

    @Test func aTaskThatNamesItsNodeCostsNoTurn() throws {
        let scheduler = scheduler([node("a"), node("b")])
        #expect(try place([task("1"), task("2", node: "b"), task("3")], scheduler) == ["a", "b", "b"])
    }

    @Test func withoutNodesEveryTaskHasAReason() throws {
        let answer = try scheduler([]).schedule(ScheduleRequest(tasks: [task("1")], now: .never))
        #expect(answer.placements.isEmpty)
        #expect(answer.reasons["1"]?.isEmpty == false)
    }

    @Test func aRemovedNodeGetsNothing() throws {
        let scheduler = scheduler([node("a"), node("b")])
        scheduler.apply([.nodeRemoved("a")])
        #expect(try place([task("1"), task("2")], scheduler) == ["b", "b"])
    }
}
