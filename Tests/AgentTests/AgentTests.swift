import PluginAPI
import Synchronization
import Testing
import Wire

@testable import Agent
@testable import Dispatcher

@Suite struct AgentTests {
    @Test func runsATask() async throws {
        try await House.with { house in
            let engine = try house.engine
            house.runtime.publish("nginx:latest")
            let source = FakeSource()
            var task = House.task("task1")
            task.spec.container?.environment = ["NODE={{.Node.ID}}", "NAME={{.Task.Name}}"]
            task.spec.container?.hostname = "{{.Service.Name}}-{{.Task.Slot}}"
            task.spec.container?.labels = ["own": "label"]
            var limits = Resources()
            limits.memoryBytes = 64 << 20
            limits.nanoCPUs = 500_000_000
            limits.pids = 10
            task.spec.resources = ResourceRequirements()
            task.spec.resources?.limits = limits
            source.add(task)
            try house.hire(source)
            #expect(await source.until("task1", .running))
            let details = try engine.inspect("web.1.task1")
            let configuration = details.configuration
            #expect(configuration.labels["com.docker.swarm.task.id"] == "task1")
            #expect(configuration.labels["com.docker.swarm.service.name"] == "web")
            #expect(configuration.labels["com.docker.swarm.node.id"] == "node")
            #expect(configuration.labels["own"] == "label")
            #expect(configuration.hostname == "web-1")
            #expect(configuration.environment.contains("NODE=node"))
            #expect(configuration.environment.contains("NAME=web.1.task1"))
            #expect(configuration.resources.memoryBytes == 64 << 20)
            #expect(configuration.resources.nanoCPUs == 500_000_000)
            #expect(configuration.resources.processes == 10)
            let status = try #require(source.status("task1"))
            #expect(status.container?.containerID == details.id)
            #expect(status.container?.processID == details.state.processID)
            #expect(status.message == "started")
            #expect(source.states("task1") == source.states("task1").sorted())
            #expect(house.runtime.calls(.pull) == 1)

            source.desire(.shutdown, "task1")
            #expect(await source.until("task1", .shutdown))
            #expect(source.status("task1")?.container?.exitCode == 143)
            #expect(engine.list().count == 1)
            source.remove("task1")
            #expect(await eventually { engine.list().isEmpty })
            #expect(house.network.state.withLock { $0.attached.isEmpty })
        }
    }

    @Test func aMissingImageRejects() async throws {
        try await House.with { house in
            let engine = try house.engine
            let source = FakeSource()
            source.add(House.task("task1", image: "nowhere"))
            try house.hire(source)
            #expect(await source.until("task1", .rejected))
            #expect(source.status("task1")?.error == "No such image: nowhere:latest")
            #expect(engine.list().isEmpty)
        }
    }

    @Test func anUnreachableRegistrySaysSo() async throws {
        try await House.with { house in
            let source = FakeSource()
            house.runtime.fail(.pull, ApusError(.unavailable, "connection refused"))
            source.add(House.task("task1", image: "nowhere"))
            try house.hire(source)
            #expect(await source.until("task1", .rejected))
            #expect(source.status("task1")?.error == "No such image: nowhere:latest (it could not be pulled: connection refused)")
        }
    }

    @Test func withoutTheRegistryTheLocalImageServes() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            house.runtime.fail(.pull, ApusError(.unavailable, "connection refused"))
            let source = FakeSource()
            source.set { tasks in for slot in 1...10 { tasks[ID("task\(slot)")] = House.task(ID("task\(slot)"), slot: UInt64(slot)) } }
            try house.hire(source)
            for slot in 1...10 { #expect(await source.until(ID("task\(slot)"), .running)) }
            #expect(house.runtime.calls(.pull) == 1)
        }
    }

    @Test func aSlowRegistryIsNotWaitedFor() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            let gate = Gate()
            house.runtime.state.withLock { $0.gates[.pull] = gate }
            let source = FakeSource()
            source.add(House.task("task1"))
            try house.hire(source)
            #expect(await eventually { gate.waiting == 1 && house.clock.pending == [.seconds(5)] })
            #expect(source.status("task1")?.state != .running)
            house.clock.advance(by: .seconds(5))
            #expect(await source.until("task1", .running))
            gate.open()
        }
    }

    @Test func aDigestThatIsHereIsNotPulled() async throws {
        try await House.with { house in
            let reference = "nginx@sha256:" + String(repeating: "a", count: 64)
            house.runtime.add(reference)
            let source = FakeSource()
            source.add(House.task("task1", image: reference))
            try house.hire(source)
            #expect(await source.until("task1", .running))
            #expect(house.runtime.calls(.pull) == 0)
        }
    }

    @Test func aPullThatHangsHoldsNobodyElseUp() async throws {
        try await House.with { house in
            let engine = try house.engine
            house.runtime.add("here:1")
            let reference = "here@sha256:" + String(repeating: "b", count: 64)
            house.runtime.add(reference)
            let gate = Gate()
            house.runtime.state.withLock { $0.gates[.pull] = gate }
            let source = FakeSource()
            source.set { tasks in
                for number in 1...20 { tasks[ID("slow\(number)")] = House.task(ID("slow\(number)"), slot: UInt64(number), image: "far:\(number)") }
                tasks["quick"] = House.task("quick", slot: 99, image: reference)
            }
            try house.hire(source) { $0.concurrency = 2 }
            #expect(await source.until("quick", .running))
            #expect(engine.list().count == 1)
            // Their wish can be taken back although the pull still hangs.
            source.desire(.shutdown, "slow1")
            #expect(await source.until("slow1", .shutdown))
            gate.open()
        }
    }

    @Test func whatIsNotSupportedIsRejectedWithTheReason() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            var withSecret = House.task("task1")
            var secret = SecretReference()
            secret.secretName = "key"
            withSecret.spec.container?.secrets = [secret]
            var withOverlay = House.task("task2", slot: 2)
            var network = NetworkAttachmentSpec()
            network.target = "overlay1"
            withOverlay.spec.networks = [network]
            var withMistake = House.task("task3", slot: 3)
            withMistake.spec.container?.hostname = "{{.Task.Nope}}"
            source.add(withSecret, withOverlay, withMistake)
            try house.hire(source)
            for (id, word) in [("task1", "secret key is not there"), ("task2", "overlay1"), ("task3", ".Task.Nope")] {
                #expect(await source.until(ID(id), .rejected))
                #expect(source.status(ID(id))?.error.contains(word) == true)
            }
            #expect(house.runtime.calls(.pull) == 0)
        }
    }

    @Test(arguments: [FakeRuntime.Call.create, .start]) func failurePoints(_ call: FakeRuntime.Call) async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            house.runtime.fail(call, ApusError(.failed, "broken"))
            let source = FakeSource()
            source.add(House.task("task1"))
            try house.hire(source)
            #expect(await source.until("task1", call == .create ? .rejected : .failed))
            #expect(source.status("task1")?.error == "broken")
            #expect(house.network.state.withLock { $0.attached.isEmpty })
        }
    }

    @Test func attachFails() async throws {
        try await House.with { house in
            let engine = try house.engine
            house.runtime.add("nginx:latest")
            house.network.state.withLock { $0.attachFailures = [ApusError(.failed, "no bridge")] }
            let source = FakeSource()
            source.add(House.task("task1"))
            try house.hire(source)
            #expect(await source.until("task1", .rejected))
            #expect(source.status("task1")?.error == "no bridge")
            #expect(engine.list().isEmpty)
            #expect(house.runtime.state.withLock { $0.containers.isEmpty })
        }
    }

    @Test func endsAtOnceAndLater() async throws {
        try await House.with { house in
            let engine = try house.engine
            house.runtime.add("nginx:latest")
            house.runtime.state.withLock { $0.endsAtOnce = 3 }
            let source = FakeSource()
            source.add(House.task("task1"))
            try house.hire(source)
            #expect(await source.until("task1", .failed))
            #expect(source.status("task1")?.error == "task: non-zero exit (3)")
            #expect(source.status("task1")?.container?.exitCode == 3)
            house.runtime.state.withLock { $0.endsAtOnce = nil }
            source.add(House.task("task2", slot: 2))
            #expect(await source.until("task2", .running))
            house.runtime.end(try engine.inspect("web.2.task2").id, exitCode: 0)
            #expect(await source.until("task2", .complete))
        }
    }

    @Test func aStopThatFailsIsRepeated() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            source.add(House.task("task1"))
            try house.hire(source)
            #expect(await source.until("task1", .running))
            house.runtime.fail(.stop, ApusError(.timedOut, "it does not end"), ApusError(.timedOut, "it does not end"))
            source.desire(.shutdown, "task1")
            for delay in [100, 200] {
                #expect(await eventually { house.clock.pending == [.milliseconds(delay)] })
                #expect(source.status("task1")?.state == .running)
                house.clock.advance(by: .milliseconds(delay))
            }
            #expect(await source.until("task1", .shutdown))
        }
    }

    @Test func reportsAreRepeatedUntilTheyAreTaken() async throws {
        try await House.with { house in
            let engine = try house.engine
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            source.state.withLock { $0.failures = 2 }
            source.add(House.task("task1"))
            try house.hire(source)
            for _ in 0..<2 {
                #expect(await eventually { house.clock.pending.count == 1 })
                house.clock.advance(by: .seconds(8))
            }
            #expect(await source.until("task1", .running))
            #expect(engine.list().count == 1)
        }
    }

    @Test func healthDecidesWhenItRunsAndWhenItFails() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            var check = Healthcheck()
            check.test = ["CMD", "check"]
            check.interval = .seconds(5)
            check.retries = 1
            var task = House.task("task1")
            task.spec.container?.healthcheck = check
            let source = FakeSource()
            source.add(task)
            try house.hire(source, tables: Self.tables(8080))
            #expect(await eventually { house.clock.pending == [.seconds(5)] })
            #expect(await source.until("task1", .starting))
            #expect(await eventually { house.balancer.backends(8080) == 0 })
            house.clock.advance(by: .seconds(5))
            #expect(await source.until("task1", .running))
            #expect(source.status("task1")?.health == .healthy)
            #expect(house.balancer.backends(8080) == 1)
            house.runtime.state.withLock { $0.health = .success(1) }
            #expect(await eventually { house.clock.pending == [.seconds(5)] })
            house.clock.advance(by: .seconds(5))
            #expect(await source.until("task1", .failed))
            #expect(source.status("task1")?.error == "task: non-zero exit (143): unhealthy container")
            #expect(house.balancer.backends(8080) == 0)
        }
    }

    static func tables(_ published: UInt64...) -> AsyncStream<EndpointUpdate> {
        let (stream, continuation) = AsyncStream.makeStream(of: EndpointUpdate.self)
        var service = EndpointService()
        service.id = "service"
        service.name = "web"
        service.ports = published.map { ContainerEngineTests.ingress($0, 80) }
        var table = EndpointTable()
        table.services[service.id] = service
        continuation.yield(EndpointUpdate(table: table, number: 1))
        return stream
    }

    private static func publishing(_ id: ID) -> Task {
        var (task, port) = (House.task(id), PortConfig())
        port.targetPort = 80
        port.publishedPort = 8080
        task.ports = [port]
        return task
    }

    @Test func aTaskRunsWhenItListensOnThePortsThatItPublishes() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            house.listening.withLock { $0 = [] }
            let source = FakeSource()
            source.add(House.task("task1"))
            try house.hire(source, tables: Self.tables(8080))
            #expect(await eventually { house.clock.pending == [.milliseconds(5)] })
            #expect(source.status("task1")?.state == .starting)
            #expect(await eventually { house.balancer.backends(8080) == 0 })
            house.clock.advance(by: .milliseconds(5))
            #expect(await eventually { house.clock.pending == [.milliseconds(10)] })
            house.listening.withLock { $0 = nil }
            house.clock.advance(by: .milliseconds(10))
            #expect(await source.until("task1", .running))
            #expect(house.balancer.backends(8080) == 1)
        }
    }

    @Test func aTaskThatNeverListensRunsAfterAWhile() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            house.listening.withLock { $0 = [] }
            let source = FakeSource()
            source.add(Self.publishing("task1"))
            try house.hire(source) { $0.listeningPatience = .milliseconds(12) }
            #expect(await eventually { house.clock.pending == [.milliseconds(5)] })
            house.clock.advance(by: .milliseconds(5))
            #expect(await eventually { house.clock.pending == [.milliseconds(10)] })
            house.clock.advance(by: .milliseconds(10))
            #expect(await source.until("task1", .running))
        }
    }

    @Test func aTaskThatIsNotWantedAnyMoreIsNotWaitedFor() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            house.listening.withLock { $0 = [] }
            let source = FakeSource()
            source.add(Self.publishing("task1"))
            try house.hire(source)
            #expect(await eventually { house.clock.pending == [.milliseconds(5)] })
            source.desire(.shutdown, "task1")
            #expect(await source.until("task1", .shutdown))
        }
    }

    @Test func aTaskLeavesTheBalancerBeforeItIsStopped() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            source.add(House.task("task1"), House.task("task2", slot: 2))
            try house.hire(source, tables: Self.tables(8080)) { $0.withdrawalPatience = .seconds(2) }
            #expect(await source.until("task1", .running))
            #expect(await source.until("task2", .running))
            #expect(house.balancer.backends(8080) == 2)
            let gate = Gate()
            house.balancer.state.withLock { $0.gate = gate }
            source.desire(.shutdown, "task1")
            #expect(await eventually { gate.waiting == 1 })
            #expect(house.runtime.calls(.stop) == 0)
            gate.open()
            #expect(await eventually { house.clock.pending == [.seconds(2)] })
            #expect(house.balancer.backends(8080) == 1)
            #expect(house.runtime.calls(.stop) == 0)
            house.clock.advance(by: .seconds(2))
            #expect(await source.until("task1", .shutdown))
            #expect(house.runtime.calls(.stop) == 1)
        }
    }

    @Test func aTaskGoesWhenAllHaveWithdrawnItAndItsClientsHaveGone() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            source.add(House.task("task1"))
            try house.hire(source, tables: Self.tables(8080)) { $0.withdrawalPatience = .seconds(2) }
            #expect(await source.until("task1", .running))
            house.connections.withLock { $0 = 1 }
            source.desire(.shutdown, "task1")
            #expect(await eventually { house.clock.pending == [.seconds(2)] })
            house.withdrawn.yield.yield(["task1"])
            // Now it looks for connections, again and again.
            #expect(await eventually { house.clock.pending == [.milliseconds(50)] })
            #expect(house.runtime.calls(.stop) == 0)
            house.connections.withLock { $0 = 0 }
            house.clock.advance(by: .milliseconds(50))
            #expect(await source.until("task1", .shutdown))
            #expect(house.runtime.calls(.stop) == 1)
        }
    }

    @Test func aClientThatStaysHoldsATaskForItsGracePeriodAlone() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            var task = House.task("task1")
            task.spec.container?.stopGracePeriod = .seconds(1)
            source.add(task)
            try house.hire(source, tables: Self.tables(8080))
            #expect(await source.until("task1", .running))
            house.connections.withLock { $0 = 1 }
            source.desire(.shutdown, "task1")
            for _ in 0..<20 {
                #expect(await eventually { house.clock.pending == [.milliseconds(50)] })
                #expect(house.runtime.calls(.stop) == 0)
                house.clock.advance(by: .milliseconds(50))
            }
            #expect(await source.until("task1", .shutdown))
        }
    }

    @Test func hostPortsAreTheTasksOwn() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            var port = ContainerEngineTests.ingress(8443, 443)
            port.publishMode = .host
            var first = House.task("task1")
            first.ports = [port]
            var second = House.task("task2", slot: 2)
            second.ports = [port]
            source.add(first)
            try house.hire(source)
            #expect(await source.until("task1", .running))
            #expect(source.status("task1")?.ports.ports == [port])
            #expect(await eventually { house.balancer.backends(8443) == 1 })
            source.add(second)
            #expect(await source.until("task2", .failed))
            #expect(source.status("task2")?.error.contains("port is already allocated") == true)
        }
    }
}
