import PluginAPI
import Synchronization
import Testing

@testable import Agent

@Suite struct AgentRecoveryTests {
    @Test func runningTasksAreTakenBack() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            source.add(House.task("task1"), House.task("task2", slot: 2), House.task("task3", slot: 3), House.task("task4", slot: 4))
            try house.hire(source, tables: AgentTests.tables(8080))
            for id in ["task1", "task2", "task3", "task4"] as [ID] { #expect(await source.until(id, .running)) }
            let before = source.status("task1")
            let ended = try house.engine.inspect("web.2.task2").id
            let applied = house.balancer.last
            await house.halt()
            house.runtime.end(ended, exitCode: 9)
            source.remove("task3")
            let starts = house.runtime.calls(.start)
            let reports = source.state.withLock { $0.reports["task1"]?.count }
            try await house.boot()
            // Before the agent has spoken no port is taken away; what has ended takes no connections.
            #expect(await eventually { house.balancer.last.ports.first?.backends.count == 3 })
            #expect(applied.ports.first?.backends.count == 4)
            try house.hire(source, tables: AgentTests.tables(8080))
            let engine = try house.engine
            #expect(await source.until("task2", .failed))
            #expect(source.status("task2")?.container?.exitCode == 9)
            #expect(await eventually { engine.list().count == 3 })
            #expect(await eventually { house.balancer.backends(8080) == 2 })
            #expect(try engine.inspect("web.1.task1").state.processID == before?.container?.processID)
            #expect(source.state.withLock { $0.reports["task1"]?.count } == reports)
            #expect(house.runtime.calls(.start) == starts)
            #expect(throws: ApusError.self) { try engine.inspect("web.3.task3") }
        }
    }

    @Test func anInterruptedPreparationIsFinished() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            let gate = Gate()
            house.runtime.state.withLock { $0.gates[.start] = gate }
            let source = FakeSource()
            source.add(House.task("task1"))
            try house.hire(source)
            #expect(await eventually { gate.waiting == 1 })
            let id = try house.engine.inspect("web.1.task1").id
            // The first engine ends in the middle of the start.
            async let halted: Void = house.halt()
            house.runtime.state.withLock { $0.gates[.start] = nil }
            gate.open()
            await halted
            try await house.boot()
            try house.hire(source)
            #expect(await source.until("task1", .running))
            #expect(try house.engine.inspect("web.1.task1").id == id)
        }
    }

    @Test func aContainerThatTheUserRemovesFails() async throws {
        try await House.with { house in
            let engine = try house.engine
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            source.add(House.task("task1"))
            try house.hire(source)
            #expect(await source.until("task1", .running))
            try await engine.remove("web.1.task1", force: true)
            #expect(await source.until("task1", .failed))
            source.desire(.shutdown, "task1")
            source.remove("task1")
            #expect(engine.list().isEmpty)
        }
    }

    @Test func aHundredAtOnce() async throws {
        try await House.with { house in
            let engine = try house.engine
            house.runtime.publish("nginx:latest")
            let source = FakeSource()
            source.set { tasks in for slot in 1...100 { tasks[ID("task\(slot)")] = House.task(ID("task\(slot)"), slot: UInt64(slot)) } }
            try house.hire(source, tables: AgentTests.tables(8080)) { $0.concurrency = 6 }
            #expect(await eventually { source.state.withLock { $0.reports.values.count { $0.last?.state == .running } } == 100 })
            #expect(house.runtime.calls(.pull) == 1)
            #expect(house.runtime.calls(.create) == 100)
            #expect(house.runtime.calls(.start) == 100)
            #expect(house.runtime.state.withLock { $0.mostConcurrentCreates } <= 6)
            #expect(Set(engine.list().compactMap { $0.configuration.endpoints.first?.address }).count == 100)
            #expect(house.balancer.backends(8080) == 100)
            source.set { tasks in for id in tasks.keys { tasks[id]?.desiredState = .remove } }
            #expect(await eventually { engine.list().isEmpty })
            #expect(await eventually { source.state.withLock { $0.reports.values.count { $0.last?.state == .shutdown } } == 100 })
            #expect(house.balancer.backends(8080) == 0)
            #expect(house.sandboxes.paths.withLock { $0.isEmpty })
        }
    }

    @Test func aNodeThatLeavesKeepsItsOwnContainers() async throws {
        try await House.with { house in
            let engine = try house.engine
            _ = try await house.run("own")
            let source = FakeSource()
            source.add(House.task("task1"))
            try house.hire(source)
            #expect(await source.until("task1", .running))
            await engine.removeTaskContainers()
            #expect(engine.list().map(\.name) == ["own"])
        }
    }
}
