import Coding
import Files
import Glibc
import HTTPClient
import PluginAPI
import Processes
import Testing

/// What containers notice of an engine that ends and starts again: nothing.
@Suite(.serialized, .sharedEngine)
struct RestartTests {
    /// The engine, which a test that failed may have left stopped.
    private func runningEngine() async throws -> EngineHarness {
        let engine = try EngineHarness.shared
        if await !engine.isAnswering { try await engine.startEngine() }
        return engine
    }

    /// Asks a port again and again from a program of its own; the engine need not run.
    private func askingAllTheTime(_ engine: EngineHarness, port: Int, _ body: () async throws -> Void) async throws -> [String] {
        let log = "\(engine.root)/answers-\(port)"
        let script = "while [ -e \(log).go ]; do curl -sS --max-time 5 http://127.0.0.1:\(port)/ 2>&1 | tr -d '\\n'; echo; done >>\(log)"
        for path in [log, "\(log).go"] { try Files.overwriteNew("", at: path) }
        let asker = try Processes.spawn(ProcessRequest("nsenter", ["--net=/run/netns/\(engine.namespace)", "sh", "-c", script]))
        do {
            try await body()
        } catch {
            try? Files.removeTree("\(log).go")
            _ = try await Processes.wait(asker)
            throw error
        }
        let before = try Files.readText(log).split(separator: "\n").count
        try await eventually("some more requests are answered") { try Files.readText(log).split(separator: "\n").count > before + 20 }
        try Files.removeTree("\(log).go")
        _ = try await Processes.wait(asker)
        return try Files.readText(log).split(separator: "\n").map(String.init)
    }

    @Test(arguments: [SIGKILL, SIGTERM])
    func containersDoNotNotice(signal: Int32) async throws {
        let engine = try await runningEngine()
        let name = "steady-\(signal)"
        let port = 8100 + Int(signal)
        _ = try await engine.createService(EngineHarness.spec(name, replicas: 5, port: Int64(port)))
        let before = try await engine.waitForTasks(of: name, count: 5)
        for _ in 0..<10 { _ = try await engine.ask(port: port) }
        let answers = try await askingAllTheTime(engine, port: port) {
            let code = try await engine.stopEngine(signal)
            #expect(code == (signal == SIGTERM ? 0 : 128 + signal))
            #expect(await engine.isAnswering == false)
            for task in before { #expect(kill(task.process, 0) == 0, "the process of \(task.slot) goes on") }
            let seen = try Files.readText("\(engine.root)/answers-\(port)").split(separator: "\n").count
            try await eventually("requests are answered while no engine runs") {
                try Files.readText("\(engine.root)/answers-\(port)").split(separator: "\n").count > seen + 20
            }
            try await engine.startEngine()
            let after = try await engine.waitForTasks(of: name, count: 5)
            #expect(after == before, "the same tasks, containers and processes")
        }
        let hosts = Set(before.map { String($0.container.prefix(12)) })
        let wrong = answers.filter { !hosts.contains($0) }
        #expect(wrong.isEmpty, "\(wrong.count) of \(answers.count) requests were not answered: \(wrong.first ?? "")")
        #expect(Set(answers) == hosts, "all five answer")
        try await engine.removeService(name)
    }

    @Test func containerThatDiesIsReplaced() async throws {
        let engine = try await runningEngine()
        _ = try await engine.createService(EngineHarness.spec("mortal", replicas: 3))
        let before = try await engine.waitForTasks(of: "mortal", count: 3)
        kill(before[1].process, SIGKILL)
        try await eventually("the task of the dead container is over") { try await !engine.runningTasks(of: "mortal").contains(before[1]) }
        let after = try await engine.waitForTasks(of: "mortal", count: 3)
        #expect(after.map(\.slot) == [1, 2, 3])
        #expect(after[0] == before[0] && after[2] == before[2], "the others go on")
        #expect(after[1].id != before[1].id)
        let dead = try await engine.get("/tasks/\(before[1].id)")
        #expect(dead["Status"]?["State"] == "failed" && dead["Status"]?["ContainerStatus"]?["ExitCode"] == 137)
        try await engine.removeService("mortal")
    }

    @Test func containerThatDiesWhileTheEngineIsAway() async throws {
        let engine = try await runningEngine()
        _ = try await engine.createService(EngineHarness.spec("unwatched", replicas: 3))
        let before = try await engine.waitForTasks(of: "unwatched", count: 3)
        try await engine.stopEngine(SIGKILL)
        kill(before[0].process, SIGKILL)
        try await eventually("the process is gone") { kill(before[0].process, 0) != 0 }
        try await engine.startEngine()
        try await eventually("the engine has noticed") { try await !engine.runningTasks(of: "unwatched").contains(before[0]) }
        let after = try await engine.waitForTasks(of: "unwatched", count: 3)
        #expect(after[0].id != before[0].id)
        #expect(after[1] == before[1] && after[2] == before[2])
        let dead = try await engine.get("/tasks/\(before[0].id)")
        #expect(dead["Status"]?["State"] == "failed" && dead["Status"]?["ContainerStatus"]?["ExitCode"] == 137, "\(dead.text())")
        try await engine.removeService("unwatched")
    }

    @Test func containersOfNoServiceAreKept() async throws {
        let engine = try await runningEngine()
        try await engine.docker("run", "--detach", "--name", "lonely", "--publish", "9010:80", "nginx")
        try await engine.docker("run", "--detach", "--name", "again", "--restart", "always", "busybox", "sleep", "600")
        _ = try await engine.ask(port: 9010)
        let process = try await engine.docker("inspect", "--format", "{{.State.Pid}}", "lonely")
        let other = try #require(Int32(try await engine.docker("inspect", "--format", "{{.State.Pid}}", "again")))
        try await engine.stopEngine(SIGKILL)
        kill(other, SIGKILL)
        try await engine.startEngine()
        #expect(try await engine.docker("inspect", "--format", "{{.State.Pid}} {{.State.Status}}", "lonely") == "\(process) running")
        #expect(try await engine.inNamespace("curl", "-fsS", "--max-time", "10", "http://127.0.0.1:9010/").count == 12)
        try await eventually("the policy restarts what died meanwhile") {
            let now = try await engine.docker("inspect", "--format", "{{.State.Status}} {{.State.Pid}}", "again")
            return now.hasPrefix("running ") && now != "running \(other)"
        }
        try await engine.docker("rm", "--force", "lonely", "again")
    }

    @Test func serviceThatWasRemovedWhileItStopped() async throws {
        let engine = try await runningEngine()
        _ = try await engine.createService(EngineHarness.spec("leftover", replicas: 3))
        try await engine.waitForTasks(of: "leftover", count: 3)
        // The answer says that it is decided; the engine dies before it is done.
        try await engine.json("DELETE", "/services/leftover")
        try await engine.stopEngine(SIGKILL)
        try await engine.startEngine()
        try await eventually("nothing is left of it") {
            let (containers, tasks) = (try await engine.get("/containers/json?all=1"), try await engine.get("/tasks"))
            return containers == [] && tasks == []
        }
        #expect(try await engine.send("GET", "/services/leftover").status == 404)
    }
}

extension Files {
    /// Writes a small file that nobody needs after a crash.
    static func overwriteNew(_ text: String, at path: String) throws(ApusError) {
        try writeAtomically(Array(text.utf8), to: path, sync: false)
    }
}
