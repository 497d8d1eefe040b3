import Coding
import Files
import Glibc
import PluginAPI
import Processes
import Testing

@testable import RuntimeOCI

/// Containers outlive the engine.
@Suite struct ContainersRecoveryTests {
    @Test func aRunningContainerIsTakenBackWithItsProcess() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sh", "-c", "trap 'exit 9' TERM; echo one; while :; do sleep 0.05; done"])
        // It has set its trap.
        try await eventually("it is ready") { try await test.log(id).output == "one\n" }
        let before = try await test.runtime.container(id)
        try await test.restart()
        let after = try await test.runtime.container(id)
        #expect(after == before)
        let stream = test.runtime.events()
        #expect(try await test.runtime.stop(StopRequest(id: id)).exitCode == 9)
        for await event in stream {
            #expect(event.kind == .ended && event.containerID == id)
            break
        }
        #expect(try await test.log(id).output == "one\n")
        try await test.finish()
    }

    @Test func oneThatEndsMeanwhileHasItsExitCode() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sh", "-c", "while [ ! -e /go ]; do sleep 0.02; done; exit 6"])
        let process = try await test.runtime.container(id).state.processID
        try await test.restart {
            try Files.writeAtomically([], to: "/proc/\(process)/root/go", sync: false)
            try await eventually("it has ended") { kill(pid_t(process), 0) != 0 && Files.exists("\(test.folder)/state/containers/\(id)/exit") }
        }
        let state = try await test.runtime.wait(id)
        #expect(state.phase == .exited)
        #expect(state.exitCode == 6)
        try await test.finish()
    }

    @Test func anEndedAndACreatedOneAreKnownAgain() async throws {
        let test = try TestRuntime()
        let ended = try await test.start(["/bin/sh", "-c", "exit 3"])
        _ = try await test.runtime.wait(ended)
        let created = try await test.create(["/bin/echo", "later"])
        try await test.restart()
        #expect(try await test.runtime.container(ended).state.exitCode == 3)
        #expect(try await test.runtime.container(created).state.phase == .created)
        _ = try await test.runtime.start(created)
        #expect(try await test.runtime.wait(created).exitCode == 0)
        #expect(try await test.log(created).output == "later\n")
        try await test.finish()
    }

    @Test func halfMadeOnesAreTakenAway() async throws {
        let test = try TestRuntime()
        let id = try await test.create(["/bin/sleep", "1000"])
        let half = ID.randomContainer()
        try await test.restart {
            // As if the engine had been killed between the folder and the record,
            try Files.makeDirectory("\(test.folder)/state/containers/\(half)/upper")
            // and another between the creation and the start.
            let layout = RuntimeLayout(state: "\(test.folder)/state", run: "\(test.folder)/run")
            let configuration = try ContainerRecord.read(layout.home(id.text).record).configuration
            let cgroups = Cgroups()
            let tools = try RuntimeTools.find(configuration: [:], cgroupVersion: cgroups.version)
            let bundle = layout.bundle(id.text)
            try Files.makeDirectory(bundle.root, permissions: 0o755)
            try Overlay.mount(layers: BusyboxImage.layers, home: layout.home(id.text), at: bundle.root)
            let specification = try Specification(
                configuration: configuration,
                context: .init(
                    cgroupVersion: cgroups.version, cgroupPath: "\(test.cgroupParent)/\(id)", capabilities: 0x7ff, kernel: .running,
                    seccompSupported: false,
                    swapLimits: false, rootPath: bundle.root, user: ProcessUser(), files: [:], mounts: [], devices: []))
            try Files.writeAtomically(try specification.json().bytes(), to: bundle.specification)
            let conmon = Conmon(tools: tools, layout: layout, cgroups: cgroups, cgroup: "\(test.cgroupParent)/conmon")
            guard case .created(let launched) = try conmon.launch(configuration) else {
                Issue.record("it was not created")
                return
            }
            #expect(launched.process.isRunning)
        }
        #expect(try await test.runtime.containers().map(\.configuration.id) == [id])
        #expect(try await test.runtime.container(id).state.phase == .created)
        #expect(!Files.exists("\(test.folder)/state/containers/\(half)"))
        #expect(!test.remains().contains { $0.hasPrefix("mount") || $0.hasPrefix("process") || $0.hasPrefix("run/") }, "\(test.remains())")
        _ = try await test.runtime.start(id)
        try await test.finish()
    }

    /// The engine of `aKilledEngineLosesNothing`, in a process of its own.
    @Test(.enabled(if: getenv("APUS_TEST_ENGINE") != nil)) func engineThatIsKilled() async throws {
        let folder = String(cString: try #require(getenv("APUS_TEST_ENGINE")))
        let layers = String(cString: try #require(getenv("APUS_TEST_LAYERS"))).split(separator: ":").map(String.init)
        let test = try TestRuntime(folder: folder, layers: layers)
        // Its parent, should that be killed, kills it no more.
        let parent = getppid()
        while getppid() == parent {
            let id = try await test.start(["/bin/sleep", "1000"])
            try Files.writeAtomically([], to: "\(folder)/started-\(id)", sync: false)
        }
        try await test.finish()
    }

    @Test(arguments: 0..<4) func aKilledEngineLosesNothing(_ round: Int) async throws {
        let test = try TestRuntime()
        try await test.restart {
            var environment = ["APUS_TEST_ENGINE=\(test.folder)", "APUS_TEST_LAYERS=\(BusyboxImage.layers.joined(separator: ":"))"]
            for name in ["PATH", "LD_LIBRARY_PATH", "HOME"] {
                if let value = getenv(name) { environment.append("\(name)=\(String(cString: value))") }
            }
            let engine = try Processes.spawn(
                ProcessRequest(
                    "/proc/\(getpid())/exe", ["--testing-library", "swift-testing", "--filter", "engineThatIsKilled"], environment: environment))
            // Wherever it is with the next one.
            try await eventually("some were started") {
                try Files.list(test.folder).filter { $0.hasPrefix("started-") }.count >= 2 + round
            }
            try await ConcurrentTask.sleep(for: .milliseconds(round * 13))
            kill(engine, SIGKILL)
            _ = try await Processes.wait(engine)
        }
        let started = try Files.list(test.folder).filter { $0.hasPrefix("started-") }.map { ID(String($0.dropFirst(8))) }
        for id in started {
            let container = try await test.runtime.container(id)
            #expect(container.state.phase == .running)
            #expect(ProcessIdentity(running: Int32(container.state.processID)) != nil)
        }
        for container in try await test.runtime.containers() where container.state.phase == .created {
            #expect(try await test.runtime.start(container.configuration.id).phase == .running)
        }
        try await test.finish()
    }

    @Test func oneWhoseMonitorIsKilledEnds() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sleep", "1000"])
        let monitor = try #require(Int32(try Files.readText("\(test.folder)/run/bundles/\(id)/conmon.pid")))
        kill(monitor, SIGKILL)
        let state = try await test.runtime.wait(id)
        #expect(state.phase == .exited)
        #expect(state.exitCode == 137)
        #expect(state.error.contains("conmon"))
        try await test.finish()
    }

    @Test func anotherProcessWithTheNumberIsNotTheContainer() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sleep", "1000"])
        let process = try #require(ProcessIdentity(running: Int32(try await test.runtime.container(id).state.processID)))
        #expect(process.isRunning)
        #expect(!ProcessIdentity(number: process.number, start: process.start + 1).isRunning)
        #expect(!ProcessIdentity(number: process.number, start: process.start + 1).signal(SIGKILL))
        #expect(process.isRunning)
        try await test.finish()
    }
}
