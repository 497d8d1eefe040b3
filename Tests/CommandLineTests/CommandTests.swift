import Coding
import Glibc
import PluginAPI
import Testing

@testable import CommandLine

@Suite struct CommandTests {
    private func task(_ state: String, desired: String = "running", error: String = "") -> JSONValue {
        [
            "ID": "t1", "ServiceID": "s1", "Slot": 1, "NodeID": "n1", "DesiredState": .string(desired), "CreatedAt": "2026-01-31T11:59:00Z",
            "Spec": ["ContainerSpec": ["Image": "nginx"]],
            "Status": ["State": .string(state), "Timestamp": "2026-01-31T11:59:30Z", "Err": .string(error)],
        ]
    }

    private let service: JSONValue = [
        "ID": "s1", "Version": ["Index": 7],
        "Spec": [
            "Name": "web", "Labels": [:], "TaskTemplate": ["ContainerSpec": ["Image": "nginx"]], "Mode": ["Replicated": ["Replicas": 1]],
        ], "Endpoint": ["Spec": [:], "Ports": [["Protocol": "tcp", "TargetPort": 80, "PublishedPort": 80, "PublishMode": "ingress"]]],
        "ServiceStatus": ["RunningTasks": 1, "DesiredTasks": 1],
    ]

    @Test func createFollowsUntilTheServiceConverged() async throws {
        let run = FakeRun()
        run.engine.answer("POST /services/create", ["ID": "s1"], status: 201)
        run.engine.answer("GET /services/s1", service)
        for state in ["new", "preparing", "running"] { run.engine.answer("GET /tasks", [task(state)]) }
        #expect(await run("service", "create", "--name", "web", "--limit-memory", "64m", "nginx", "-g", "daemon off;") == 0)
        #expect(try run.engine.body(of: "POST /services/create")["TaskTemplate"]?["ContainerSpec"]?["Args"] == ["-g", "daemon off;"])
        let lines = run.console.output.split(separator: "\n").map { String($0) }
        #expect(lines.first == "s1" && lines.contains("1/1: preparing") && lines.last == "verify: Service web converged")
        #expect(run.engine.requests.dropFirst().allSatisfy { $0.target.hasPrefix("/v1.50/") })
    }

    @Test func createDetachedAsksOnlyWhichImageIsMeant() async {
        let run = FakeRun()
        run.engine.answer("GET /distribution/nginx/json", ["Descriptor": ["digest": "sha256:ab"]])
        run.engine.answer("POST /services/create", ["ID": "s1", "Warnings": ["careful"]], status: 201)
        #expect(await run("service", "create", "-d", "nginx") == 0)
        #expect(run.console.output == "s1\n" && run.console.errors == "apus: warning: careful\n")
        #expect(run.engine.requests.map(\.method) == ["GET", "GET", "POST"])
    }

    @Test func controlCLeavesItGoing() async {
        var run = FakeRun()
        run.presses = true
        run.engine.answer("POST /services/create", ["ID": "s1"], status: 201)
        run.engine.answer("GET /services/s1", service)
        run.engine.answer("GET /tasks", [task("preparing")])
        #expect(await run("service", "create", "nginx") == 130)
        #expect(run.console.errors.contains("apus service ps s1"))
    }

    @Test func aTaskThatIsNotReplacedEndsTheWait() async {
        let run = FakeRun()
        run.engine.answer("POST /services/create", ["ID": "s1"], status: 201)
        run.engine.answer("GET /services/s1", service)
        run.engine.answer("GET /tasks", [task("rejected", desired: "shutdown", error: "No such image: nginx")])
        #expect(await run("service", "create", "nginx") == 1)
        #expect(run.console.errors.contains("No such image: nginx"))
    }

    @Test func anUpdateSendsTheVersionAndFailsWhenItIsPaused() async throws {
        let run = FakeRun()
        var paused = service
        paused["UpdateStatus"] = ["State": "paused", "Message": "update paused due to failure"]
        run.engine.answer("GET /services/web", service)
        run.engine.answer("GET /services/web", paused)
        run.engine.answer("GET /tasks", [task("running")])
        run.engine.answer("POST /services/s1/update", [:])
        #expect(await run("service", "update", "--image", "nginx:2", "web") == 1)
        #expect(run.engine.requests.contains { $0.target == "/v1.50/services/s1/update?version=7" })
        #expect(run.console.errors.contains("update paused due to failure"))
    }

    @Test func aFieldThatIsNotKnownIsNeverLost() async {
        let run = FakeRun()
        var newer = service
        newer["Spec"]?["Novelty"] = 1
        run.engine.answer("GET /services/web", newer)
        #expect(await run("service", "update", "--image", "x", "web") == 1)
        #expect(run.console.errors.contains("Novelty") && !run.engine.requests.contains { $0.method == "POST" })
    }

    @Test func scaleChangesEach() async throws {
        let run = FakeRun()
        for name in ["a", "b"] {
            run.engine.answer("GET /services/\(name)", service)
        }
        run.engine.answer("GET /tasks", [task("running")])
        run.engine.answer("POST /services/s1/update", [:])
        #expect(await run("service", "scale", "-d", "a=3", "b=4") == 0)
        #expect(run.console.output == "a scaled to 3\nb scaled to 4\n")
        #expect(try run.engine.body(of: "POST /services/s1/update")["Mode"] == ["Replicated": ["Replicas": 4]])
        for bad in ["a", "a=-1", "a=x", "=3"] { #expect(await run("service", "scale", bad) == 1, "\(bad)") }
    }

    @Test func listsAsTablesAndJSON() async {
        let run = FakeRun()
        run.engine.answer("GET /services", [service])
        run.engine.answer("GET /nodes", [["ID": "n1", "Description": ["Hostname": "box"]]])
        run.engine.answer("GET /services/web", service)
        run.engine.answer("GET /tasks", [task("running")])
        #expect(await run("service", "ls", "--filter", "name=web") == 0)
        #expect(
            run.console.output == """
                ID   NAME   MODE         REPLICAS   IMAGE   PORTS
                s1   web    replicated   1/1        nginx   *:80->80/tcp

                """)
        let second = FakeRun()
        second.engine.answer("GET /services/web", service)
        second.engine.answer("GET /services", [service])
        second.engine.answer("GET /nodes", [["ID": "n1", "Description": ["Hostname": "box"]]])
        second.engine.answer("GET /tasks", [task("running")])
        #expect(await second("service", "ps", "--format", "json", "web") == 0)
        #expect(
            second.console.output.hasPrefix(
                #"{"ID":"t1","Name":"web.1","Image":"nginx","Node":"box","DesiredState":"Running","CurrentState":"Running 30 seconds ago""#))
        #expect(second.engine.requests.contains { $0.target.contains("filters=%7B%22service%22%3A%7B%22s1%22%3Atrue%7D%7D") })
    }

    @Test func plugins() async {
        let run = FakeRun()
        run.engine.answer(
            "GET /apus/plugins",
            [
                [
                    "Role": "", "Name": "broken.so", "Version": "", "State": "refused", "Reason": "it is not an ELF file", "Enabled": false,
                    "Default": false,
                ],
                ["Role": "scheduler", "Name": "spread", "Version": "0.1.0", "State": "active", "Reason": "", "Enabled": true, "Default": true],
            ])
        #expect(await run("plugin", "ls") == 0)
        #expect(
            run.console.output == """
                PLUGIN             VERSION   STATE     ENABLED   DEFAULT   REASON
                scheduler/spread   0.1.0     active    true      true
                broken.so                    refused   false     false     it is not an ELF file

                """)
        run.engine.answer("POST /plugins/scheduler/binpack/enable", .null)
        #expect(await run("plugin", "enable", "scheduler/binpack:latest") == 0)
        #expect(await run("plugin", "enable", "binpack") == 1)
        #expect(run.console.errors.contains("role/name"))
    }

    /// A value that begins with a dash is a value, and the reason says what is wrong with it.
    @Test(arguments: [
        (["service", "create", "--replicas", "-1", "nginx"], "--replicas"), (["service", "update", "--replicas", "-1", "web"], "--replicas"),
        (["service", "create", "--limit-memory", "-5m", "nginx"], "--limit-memory"), (["run", "-m", "-5m", "nginx"], "-m"),
        (["run", "--cpus", "-1", "nginx"], "--cpus"), (["service", "create", "--update-delay", "-5s", "nginx"], "--update-delay"),
    ])
    func negativeValuesAreRefusedAsSuch(arguments: [String], flag: String) async {
        let run = FakeRun()
        #expect(await run(arguments) != 0)
        #expect(run.console.errors.contains(flag) && !run.console.errors.contains("issing value"), "\(run.console.errors)")
        #expect(run.engine.requests.isEmpty)
    }

    @Test func warningsOfTheEngineSayOnceWhatTheyAre() async {
        let run = FakeRun()
        run.engine.answer("GET /info", ["ServerVersion": "1", "Warnings": ["WARNING: No swap limit support", "another"]])
        #expect(await run("info") == 0)
        #expect(run.console.errors == "apus: warning: No swap limit support\napus: warning: another\n")
    }

    @Test func refusedCredentialsAreNotKept() async {
        let run = FakeRun()
        run.engine.answer("POST /auth", ["message": "127.0.0.1:5000 refuses the login"], status: 401)
        #expect(await run("login", "-u", "ann", "-p", "bad", "127.0.0.1:5000") == 1)
        #expect(run.console.output.isEmpty && run.console.errors.contains("refuses the login"))
    }

    @Test func pullShowsErrorsOfTheStream() async {
        let run = FakeRun()
        run.engine.answer(
            "POST /images/create",
            bytes: Array(
                "{\"status\":\"Pulling\",\"id\":\"a\"}\r\n{\"errorDetail\":{\"message\":\"no such image\"},\"error\":\"no such image\"}".utf8))
        #expect(await run("pull", "nginx") == 1)
        #expect(run.console.output == "a: Pulling\n")
        #expect(run.console.errors == "apus: no such image\n")
        #expect(run.engine.requests.last?.target == "/v1.50/images/create?fromImage=nginx&tag=latest")
    }

    @Test func runPullsWhatIsMissing() async {
        let run = FakeRun()
        run.engine.answer("POST /containers/create", ["message": "No such image: nginx:latest"], status: 404)
        run.engine.answer("POST /containers/create", ["Id": "c1"], status: 201)
        run.engine.answer("POST /images/create", bytes: Array("{\"status\":\"Pulling\"}".utf8))
        run.engine.answer("POST /containers/c1/start", bytes: [], status: 204)
        #expect(await run("run", "-d", "-p", "80:80", "nginx", "--not-ours=true") == 0)
        #expect(run.console.output == "c1\n")
        #expect((try? run.engine.body(of: "POST /containers/create")["Cmd"]) == ["--not-ours=true"])
    }

    @Test func runInTheForegroundReturnsTheContainersCode() async {
        let run = FakeRun()
        run.engine.answer("POST /containers/create", ["Id": "c1"], status: 201)
        run.engine.answer("POST /containers/c1/start", bytes: [], status: 204)
        run.engine.answer("GET /containers/c1/logs", bytes: [1, 0, 0, 0, 0, 0, 0, 3, 104, 105, 10, 2, 0, 0, 0, 0, 0, 0, 1, 33])
        run.engine.answer("POST /containers/c1/wait", ["StatusCode": 3])
        run.engine.answer("DELETE /containers/c1", bytes: [], status: 204)
        #expect(await run("run", "--rm", "nginx") == 3)
        #expect(run.console.output == "hi\n" && run.console.errors == "!")
        #expect(run.engine.requests.contains { $0.method == "DELETE" })
    }

    @Test func errorsSayWhatToDo() async {
        let run = FakeRun()
        run.engine.answer("GET /services", ["message": "This node is not a swarm manager."], status: 503)
        #expect(await run("service", "ls") == 1)
        #expect(
            run.console.errors == "apus: This node is not a swarm manager. Make this node a swarm with `apus swarm init`, "
                + "or take it into one with `apus swarm join`\n")
        #expect(await run("service", "create", "--limit-memory", "5x", "nginx") == 125)
        #expect(run.console.errors.contains("--limit-memory"))
        #expect(await run("bogus") == 125)
        #expect(await run("service", "create", "-p", "99999:80", "nginx") == 1)
        #expect(run.console.errors.contains("--publish 99999:80"))
        #expect(await run("--version") == 0 && run.console.output == "apus version \(CommandLineTool.version)\n")
    }

    @Test func aMissingSocketSaysHowToStartTheEngine() async throws {
        let connection = HTTPEngineConnection(host: .unix(path: "/nonexistent/apus.sock"), tls: nil)
        let error = await #expect(throws: ApusError.self) { try await EngineClient(connection: connection).get("/info") }
        #expect(error?.message.contains("apusd") == true && error?.code == .unavailable)
    }

    @Test func hosts() throws {
        #expect(try EngineHost("unix:///run/x.sock") == .unix(path: "/run/x.sock"))
        #expect(
            try EngineHost("tcp://10.0.0.1:2376") == .tcp(authority: "10.0.0.1:2376") && EngineHost("tcp://[::1]") == .tcp(authority: "[::1]:2376"))
        for bad in ["", "/run/x", "unix://x", "ssh://x", "tcp://", "tcp://a/b"] { #expect(throws: ApusError.self, "\(bad)") { try EngineHost(bad) } }
        #expect(try GlobalArguments(["-H", "tcp://a:1", "ps"], environment: [:]).host == .tcp(authority: "a:1"))
        #expect(try GlobalArguments(["ps"], environment: ["DOCKER_HOST": "tcp://a:1", "APUS_HOST": "tcp://b:1"]).host == .tcp(authority: "b:1"))
        #expect(try GlobalArguments(["--host=unix:///x", "run", "-H"], environment: [:]).rest == ["run", "-H"])
        #expect(throws: ApusError.self) { try GlobalArguments(["--host"], environment: [:]) }
    }

    @Test func credentialsAreKeptAsOthersKeepThem() throws {
        var template = Array("/tmp/apus-test-XXXXXX".utf8CString)
        guard let made = template.withUnsafeMutableBufferPointer({ buffer in buffer.baseAddress.flatMap { mkdtemp($0) } }) else {
            throw ApusError(.failed, "no folder")
        }
        let folder = String(cString: made)
        defer {
            unlink(folder + "/config.json")
            rmdir(folder)
        }
        let environment = ["DOCKER_CONFIG": folder]
        try RegistryCredentials(content: ["HttpHeaders": ["A": "b"]], path: folder + "/config.json").setting(
            registry: "r.io:5000", name: "me", password: "a:b"
        ).save()
        var loaded = try RegistryCredentials.load(environment)
        #expect(loaded.credentials(registry: "r.io:5000")?.password == "a:b" && loaded.credentials(registry: "docker.io") == nil)
        #expect(try JSONValue.parse(LocalFile.bytes(folder + "/config.json"))["HttpHeaders"] == ["A": "b"])
        let header = try #require(loaded.headers(image: "r.io:5000/x")["X-Registry-Auth"])
        #expect(try JSONValue.parse(#require(Base64.decode(header)))["username"] == "me")
        #expect(loaded.remove(registry: "r.io:5000") && !loaded.remove(registry: "r.io:5000"))
        #expect(RegistryCredentials.key("docker.io") == RegistryCredentials.hub && RegistryCredentials.key("https://r.io/v1/") == "r.io")
        var status = stat()
        #expect(stat(folder + "/config.json", &status) == 0 && status.st_mode & 0o777 == 0o600)
    }
}
