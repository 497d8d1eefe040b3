import Files
import Glibc
import PluginAPI
import Testing

@testable import RuntimeOCI

@Suite struct ContainersLifeTests {
    @Test func runsAProgramAndKeepsItsExitCodeAndOutput() async throws {
        let test = try TestRuntime()
        let result = try await test.run("echo out; echo err >&2; exit 7")
        #expect(result.state.phase == .exited)
        #expect(result.state.exitCode == 7)
        #expect(result.output == "out\n")
        #expect(result.errors == "err\n")
        #expect(!result.state.startedAt.isNever)
        #expect(result.state.finishedAt >= result.state.startedAt)
        try await test.finish()
    }

    @Test func aContainerGoesThroughItsPhases() async throws {
        let test = try TestRuntime()
        let id = try await test.create(["/bin/sleep", "1000"])
        #expect(try await test.runtime.container(id).state.phase == .created)
        #expect(try await test.runtime.wait(id).phase == .created, "a container that does not run is not waited for")
        let running = try await test.runtime.start(id)
        #expect(running.phase == .running)
        #expect(running.processID > 1)
        try await eventually("its program runs") { try Files.readText("/proc/\(running.processID)/cmdline").hasPrefix("/bin/sleep") }
        await #expect { try await test.runtime.start(id) } throws: { ($0 as? ApusError)?.code == .conflict }
        await #expect { try await test.runtime.remove(id) } throws: { ($0 as? ApusError)?.code == .conflict }
        async let ended = test.runtime.wait(id)
        try await test.runtime.signal(id, SIGKILL)
        #expect(try await ended.exitCode == 137)
        await #expect { try await test.runtime.signal(id, SIGTERM) } throws: { ($0 as? ApusError)?.code == .conflict }
        let again = try await test.runtime.start(id)
        #expect(again.processID != running.processID)
        #expect(again.exitCode == 0)
        try await test.finish()
    }

    @Test func theWritableLayerLivesAsLongAsTheContainer() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sh", "-c", "cat /note 2>/dev/null; echo written >>/note"])
        _ = try await test.runtime.wait(id)
        _ = try await test.runtime.start(id)
        _ = try await test.runtime.wait(id)
        #expect(try await test.log(id).output == "written\n")
        try await test.finish()
    }

    @Test func stopSendsTheStopSignalThenKills() async throws {
        let test = try TestRuntime()
        let polite = try await test.start(["/bin/sh", "-c", "trap 'exit 3' USR1; echo ready; while :; do sleep 0.05; done"]) {
            $0.stopSignal = "SIGUSR1"
        }
        try await eventually("it is ready") { try await test.log(polite).output == "ready\n" }
        #expect(try await test.runtime.stop(StopRequest(id: polite)).exitCode == 3)
        #expect(try await test.runtime.stop(StopRequest(id: polite)).exitCode == 3, "stopping an ended container succeeds")
        // Process 1 of its namespace ignores what it does not handle.
        let deaf = try await test.start(["/bin/sleep", "1000"]) { $0.stopGracePeriod = .milliseconds(300) }
        let before = ContinuousClock.now
        #expect(try await test.runtime.stop(StopRequest(id: deaf)).exitCode == 137)
        #expect(ContinuousClock.now - before >= .milliseconds(300))
        try await test.finish()
    }

    @Test func oneThatHasNoHandlerYetHearsTheStopSignalLater() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sh", "-c", "sleep 0.5; trap 'exit 5' TERM; while :; do sleep 0.05; done"]) {
            $0.stopGracePeriod = .seconds(100)
        }
        #expect(try await test.runtime.stop(StopRequest(id: id)).exitCode == 5, "it is not killed at the end of its grace period")
        try await test.finish()
    }

    @Test func waitIsCancelled() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sleep", "1000"])
        let waiting = ConcurrentTask { try await test.runtime.wait(id) }
        waiting.cancel()
        await #expect { try await waiting.value } throws: { ($0 as? ApusError)?.code == .cancelled }
        try await test.finish()
    }

    @Test func eventsTellStartsAndEnds() async throws {
        let test = try TestRuntime()
        let stream = test.runtime.events()
        let id = try await test.start(["/bin/sh", "-c", "exit 4"])
        var kinds: [RuntimeEvent.Kind] = []
        for await event in stream where event.containerID == id {
            kinds.append(event.kind)
            if event.kind == .ended {
                #expect(event.state.exitCode == 4)
                break
            }
        }
        #expect(kinds == [.started, .ended])
        try await test.finish()
    }

    @Test func twentyAtOnce() async throws {
        let test = try TestRuntime()
        let ids = try await withThrowingTaskGroup(of: ID.self) { group in
            for number in 0..<20 { group.addTask { try await test.start(["/bin/sh", "-c", "echo \(number); exec sleep 1000"]) } }
            var ids: [ID] = []
            for try await id in group { ids.append(id) }
            return ids
        }
        #expect(try await test.runtime.containers().filter { $0.state.phase == .running }.count == 20)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for id in ids {
                group.addTask {
                    _ = try await test.runtime.stop(StopRequest(id: id, gracePeriod: .zero))
                    try await test.runtime.remove(id)
                }
            }
            try await group.waitForAll()
        }
        #expect(try await test.runtime.containers().isEmpty)
        try await test.finish()
    }

    @Test func statisticsCountMemoryAndProcesses() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sh", "-c", "sleep 1000 & i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; wait"]) {
            $0.resources.memoryBytes = 64 << 20
        }
        try await eventually("it has worked") { try await test.log(id).output == "done\n" }
        let statistics = try await test.runtime.statistics(id)
        #expect(statistics.processorTime > .zero)
        #expect(statistics.memoryBytes > 0)
        #expect(statistics.memoryLimitBytes == 64 << 20)
        #expect(statistics.processes == 2)
        try await test.finish()
    }

    @Test func informationNamesThePrograms() async throws {
        let test = try TestRuntime()
        let information = try await test.runtime.information()
        #expect(information.monitor.hasPrefix("conmon 2"))
        #expect(information.ociRuntime.hasPrefix(information.cgroupVersion == 2 ? "crun" : "runc"))
        try await test.finish()
    }
}
