import PluginAPI
import Synchronization
import Testing

@testable import Agent

@Suite struct ContainerEndTests {
    private static func healthcheck(_ interval: Duration = .seconds(5), retries: Int64 = 2) -> Healthcheck {
        var check = Healthcheck()
        check.test = ["CMD", "check"]
        check.interval = interval
        check.retries = retries
        return check
    }

    // MARK: - Ends

    @Test func restartPolicyWithBackoff() async throws {
        try await House.with { house in
            let engine = try house.engine
            let id = try await house.run("web") { $0.restartPolicy = ContainerRestartPolicy(name: .always) }
            for (round, delay) in [100, 200, 400].enumerated() {
                house.runtime.end(id, exitCode: 1)
                #expect(await eventually { house.clock.pending == [.milliseconds(delay)] })
                #expect(try engine.inspect("web").isRestarting)
                #expect(house.runtime.calls(.start) == round + 1)
                house.clock.advance(by: .milliseconds(delay))
                #expect(await eventually { (try? engine.inspect("web").state.phase) == .running })
                #expect(try engine.inspect("web").restartCount == round + 1)
            }
            house.clock.advance(by: .seconds(11))
            house.runtime.end(id, exitCode: 0)
            #expect(await eventually { house.clock.pending == [.milliseconds(100)] })
            try await engine.stop("web")
            #expect(await eventually { house.clock.pending.isEmpty })
            #expect(try !engine.inspect("web").isRestarting)
            #expect(house.runtime.calls(.start) == 4)
        }
    }

    @Test func onFailureGivesUp() async throws {
        try await House.with { house in
            let engine = try house.engine
            let id = try await house.run("web") { $0.restartPolicy = ContainerRestartPolicy(name: .onFailure, maximumRetryCount: 1) }
            house.runtime.end(id, exitCode: 1)
            #expect(await eventually { house.clock.pending.count == 1 })
            house.clock.advance(by: .seconds(1))
            #expect(await eventually { (try? engine.inspect("web").state.phase) == .running })
            house.runtime.end(id, exitCode: 1)
            #expect(await eventually { house.network.state.withLock { $0.attached.isEmpty } })
            #expect(try !engine.inspect("web").isRestarting)
            #expect(house.clock.pending.isEmpty)
        }
    }

    @Test func aFailedRestartIsTriedAgain() async throws {
        try await House.with { house in
            let engine = try house.engine
            let id = try await house.run("web") { $0.restartPolicy = ContainerRestartPolicy(name: .always) }
            house.runtime.fail(.start, ApusError(.failed, "not now"))
            house.runtime.end(id, exitCode: 1)
            #expect(await eventually { house.clock.pending == [.milliseconds(100)] })
            house.clock.advance(by: .milliseconds(100))
            #expect(await eventually { house.clock.pending == [.milliseconds(200)] })
            house.clock.advance(by: .milliseconds(200))
            #expect(await eventually { (try? engine.inspect("web").state.phase) == .running })
        }
    }

    @Test func killMeansStop() async throws {
        try await House.with { house in
            let engine = try house.engine
            _ = try await house.run("web") { $0.restartPolicy = ContainerRestartPolicy(name: .always) }
            try await engine.kill("web")
            #expect(try engine.inspect("web").state.exitCode == 137)
            #expect(try !engine.inspect("web").isRestarting)
            let error = await #expect(throws: ApusError.self) { try await engine.kill("web") }
            #expect(error?.code == .conflict)
            await #expect(throws: ApusError.self) { try await engine.kill("web", signal: "NOPE") }
        }
    }

    @Test func autoRemove() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest") { $0.volumes = ["/data": ""] }
            let engine = try house.engine
            var request = ContainerRequest(image: "nginx:latest", name: "once")
            request.configuration.removeWhenEnded = true
            let id = try await engine.create(request)
            try await engine.start("once")
            #expect(house.runtime.state.withLock { $0.volumes.count } == 1)
            async let waited = engine.wait("once", .removed)
            #expect(await eventually { engine.state.withLock { !$0.waiters.isEmpty } })
            house.runtime.end(id, exitCode: 5)
            #expect(try await waited.exitCode == 5)
            #expect(engine.list().isEmpty)
            #expect(house.runtime.state.withLock { $0.volumes.isEmpty })
        }
    }

    @Test func waitConditions() async throws {
        try await House.with { house in
            let engine = try house.engine
            let id = try await house.run("web")
            async let notRunning = engine.wait("web")
            async let nextExit = engine.wait("web", .nextExit)
            async let removed = engine.wait("web", .removed)
            #expect(await eventually { engine.state.withLock { $0.waiters[id]?.count } == 3 })
            house.runtime.end(id, exitCode: 4)
            #expect(try await notRunning.exitCode == 4)
            #expect(try await nextExit.exitCode == 4)
            #expect(try await engine.wait("web").exitCode == 4)
            let again = ConcurrentTask { try await engine.wait("web", .nextExit) }
            #expect(await eventually { engine.state.withLock { $0.waiters[id]?.count } == 2 })
            again.cancel()
            let cancelled = await again.result
            #expect(throws: ApusError.self) { try cancelled.get() }
            try await engine.remove("web")
            #expect(try await removed.exitCode == 4)
        }
    }

    @Test func aWaitThatWasBegunKnowsTheEndOfARemovedContainer() async throws {
        try await House.with { house in
            let engine = try house.engine
            let id = try await house.run("web")
            let waiting = try engine.beginWait("web", .nextExit)
            house.runtime.end(id, exitCode: 6)
            #expect(await eventually { (try? engine.inspect("web").state.phase) == .exited })
            try await engine.remove("web")
            #expect(try await waiting().exitCode == 6)
            #expect(engine.state.withLock { $0.observers.isEmpty && $0.waiters.isEmpty })
        }
    }

    @Test func nothingIsLeftBehind() async throws {
        try await House.with { house in
            let engine = try house.engine
            engine.setServicePorts(["a": [ContainerEngineTests.ingress(80, 80)]])
            #expect(await eventually { house.balancer.last.ports.count == 1 })
            try await engine.removeNetworksAndPorts()
            #expect(house.balancer.last == BalancerState())
            #expect(house.network.state.withLock { $0.networks.isEmpty })
        }
    }

    @Test func removeOfARunningOne() async throws {
        try await House.with { house in
            let engine = try house.engine
            let id = try await house.run("web")
            let error = await #expect(throws: ApusError.self) { try await engine.remove("web") }
            #expect(error?.code == .conflict)
            try await engine.remove("web", force: true)
            #expect(engine.list().isEmpty)
            #expect(house.actions(of: id).suffix(2) == ["die", "destroy"])
        }
    }

    @Test func aForcedRemovalDoesNotWaitForAStop() async throws {
        try await House.with { house in
            let engine = try house.engine
            let id = try await house.run("web")
            let gate = Gate()
            house.runtime.state.withLock { $0.gates[.stop] = gate }
            let stop = ConcurrentTask { try await engine.stop("web") }
            #expect(await eventually { gate.waiting == 1 })
            let removal = ConcurrentTask { try await engine.remove("web", force: true) }
            #expect(await eventually { (try? engine.inspect(id.text).state.phase) == .exited })
            gate.open()
            _ = try await stop.value
            try await removal.value
            #expect(engine.list().isEmpty)
        }
    }

    @Test func aFailedRemovalCanBeRepeated() async throws {
        try await House.with { house in
            let engine = try house.engine
            _ = try await house.run("web")
            house.runtime.fail(.remove, ApusError(.failed, "busy"))
            await #expect(throws: ApusError.self) { try await engine.remove("web", force: true) }
            #expect(try !engine.inspect("web").isBeingRemoved)
            try await engine.remove("web")
            #expect(engine.list().isEmpty)
        }
    }

    // MARK: - Health

    @Test func healthChecks() async throws {
        try await House.with { house in
            let engine = try house.engine
            let id = try await house.run("web") { $0.configuration.healthcheck = Self.healthcheck() }
            #expect(try engine.inspect("web").health?.status == .starting)
            #expect(await eventually { house.clock.pending == [.seconds(5)] })
            house.clock.advance(by: .seconds(5))
            #expect(await eventually { (try? engine.inspect("web").health?.status) == .healthy })
            #expect(try engine.inspect("web").health?.log.first?.output == "checked")
            house.runtime.state.withLock { $0.health = .failure(ApusError(.timedOut, "too slow")) }
            for streak in 1...2 {
                #expect(await eventually { house.clock.pending == [.seconds(5)] })
                house.clock.advance(by: .seconds(5))
                #expect(await eventually { (try? engine.inspect("web").health?.failingStreak) == streak })
            }
            #expect(try engine.inspect("web").health?.status == .unhealthy)
            #expect(house.actions(of: id).filter { $0.hasPrefix("health") } == ["health_status: healthy", "health_status: unhealthy"])
            try await engine.stop("web")
            #expect(await eventually { house.clock.pending.isEmpty })
        }
    }

    // MARK: - The engine's own restart

    @Test func containersAreTakenBack() async throws {
        try await House.with { house in
            let running = try await house.run("running") { $0.publishedPorts = [House.port(8080, 80)] }
            let process = try house.engine.inspect("running").state.processID
            let ended = try await house.run("ended")
            let always = try await house.run("always") { $0.restartPolicy = ContainerRestartPolicy(name: .always) }
            let unless = try await house.run("unless") { $0.restartPolicy = ContainerRestartPolicy(name: .unlessStopped) }
            _ = try await house.run("stopped") { $0.restartPolicy = ContainerRestartPolicy(name: .unlessStopped) }
            try await house.engine.stop("stopped")
            await house.halt()
            for id in [ended, always, unless] { house.runtime.end(id, exitCode: 9) }
            let starts = house.runtime.calls(.start)
            try await house.boot()
            let engine = try house.engine
            #expect(try engine.inspect("running").state.processID == process)
            #expect(try engine.inspect("running").id == running)
            #expect(await eventually { house.runtime.calls(.start) == starts + 2 })
            #expect(
                await eventually {
                    (try? engine.inspect("always").state.phase) == .running && (try? engine.inspect("unless").state.phase) == .running
                })
            #expect(try engine.inspect("ended").state.exitCode == 9)
            #expect(try engine.inspect("stopped").state.phase == .exited)
            #expect(await eventually { house.network.state.withLock { $0.attached[ended] == nil } })
            // Its port is still its own.
            let error = await #expect(throws: ApusError.self) { try await house.run("rival") { $0.publishedPorts = [House.port(8080, 80)] } }
            #expect(error?.code == .conflict)
            // And its address.
            #expect(Set(engine.list().compactMap { $0.configuration.endpoints.first?.address }).count == engine.list().count)
        }
    }

    @Test func aLateReportOfAnEarlierRunIsIgnored() async throws {
        try await House.with { house in
            let engine = try house.engine
            let id = try await house.run("web")
            house.runtime.end(id, exitCode: 1)
            #expect(await eventually { (try? engine.inspect("web").state.phase) == .exited })
            let old = try engine.inspect("web").state
            try await engine.start("web")
            engine.received(RuntimeEvent(kind: .ended, containerID: id, state: old))
            #expect(try engine.inspect("web").state.phase == .running)
            #expect(house.actions(of: id).count { $0 == "die" } == 1)
        }
    }

    @Test func endsBeforeTheStartReturns() async throws {
        try await House.with { house in
            let engine = try house.engine
            house.runtime.state.withLock { $0.endsAtOnce = 3 }
            let id = try await house.run("web")
            #expect(await eventually { (try? engine.inspect("web").state.phase) == .exited })
            #expect(try engine.inspect("web").state.exitCode == 3)
            #expect(await eventually { house.network.state.withLock { $0.attached.isEmpty } })
            #expect(house.actions(of: id).count { $0 == "die" } == 1)
        }
    }

    // MARK: - The balancer's loop

    @Test func applicationsAreSerializedAndCoalesced() async throws {
        try await House.with { house in
            let engine = try house.engine
            #expect(await eventually { house.balancer.state.withLock { $0.applied.count } == 1 })
            let gate = Gate()
            house.balancer.state.withLock { $0.gate = gate }
            engine.setServicePorts(["a": [ContainerEngineTests.ingress(1, 1)]])
            #expect(await eventually { gate.waiting == 1 })
            for port in 2...50 { engine.setServicePorts(["a": [ContainerEngineTests.ingress(UInt64(port), 1)]]) }
            let waited = ConcurrentTask { await engine.balanced() }
            gate.open()
            #expect(await waited.value == nil)
            #expect(house.balancer.last.ports.map(\.port) == [50])
            #expect(house.balancer.state.withLock { $0.applied.count } <= 4)
        }
    }

    @Test func aFailedApplicationIsRepeated() async throws {
        try await House.with { house in
            let engine = try house.engine
            #expect(await eventually { house.balancer.state.withLock { $0.applied.count } == 1 })
            house.balancer.state.withLock { $0.failures = [ApusError(.conflict, "port 80 is held by nginx")] }
            engine.setServicePorts(["a": [ContainerEngineTests.ingress(80, 80)]])
            #expect(await eventually { house.clock.pending == [.seconds(5)] })
            house.clock.advance(by: .seconds(5))
            #expect(await eventually { house.balancer.last.ports.map(\.port) == [80] })
        }
    }
}
