import Coding
import HTTPClient
import PluginAPI
import Testing

/// The Engine API over plain HTTP, beyond what the docker CLI of Debian asks for.
@Suite(.serialized, .sharedEngine)
struct APITests {
    // MARK: Versions

    @Test(arguments: ["1.24", "1.30", "1.41", "1.44", "1.50"])
    func versionIsAccepted(version: String) async throws {
        let answer = try await EngineHarness.shared.send("GET", "/v\(version)/version")
        #expect(answer.status == 200)
        let json = try JSONValue.parse(answer.body)
        #expect(json["ApiVersion"] == "1.50" && json["MinAPIVersion"] == "1.24")
        #expect(answer.headers["Api-Version"] == "1.50")
    }

    @Test(arguments: [("1.23", "too old"), ("0.9", "too old"), ("1.51", "too new"), ("2.0", "too new")])
    func versionIsRefused(version: String, word: String) async throws {
        for path in ["version", "_ping", "containers/json"] {
            let answer = try await EngineHarness.shared.send("GET", "/v\(version)/\(path)")
            #expect(answer.status == 400)
            #expect(try JSONValue.parse(answer.body)["message"]?.string?.contains("client version \(version) is \(word)") == true)
        }
    }

    @Test func ping() async throws {
        let engine = try EngineHarness.shared
        for method in ["GET", "HEAD"] {
            let answer = try await engine.send(method, "/_ping")
            #expect(answer.status == 200)
            #expect(answer.text == (method == "GET" ? "OK" : ""))
            let expected = [
                "Api-Version": "1.50", "Docker-Experimental": "false", "Ostype": "linux", "Swarm": "active/manager", "Builder-Version": "1",
                "Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache",
            ]
            for (name, value) in expected { #expect(answer.headers[name] == value, "\(method) \(name)") }
            #expect(answer.headers["Server"]?.hasPrefix("Apus/") == true)
        }
    }

    // MARK: What is not there

    @Test(arguments: [
        "POST /build", "POST /commit", "GET /images/search?term=x", "GET /images/get", "POST /images/x/push", "POST /images/prune", "POST /containers/x/attach",
        "POST /containers/x/exec", "POST /exec/x/start", "POST /containers/x/pause", "POST /containers/x/update", "GET /containers/x/stats",
        "GET /containers/x/top", "GET /containers/x/changes", "GET /containers/x/export", "PUT /containers/x/archive?path=/",
        "GET /containers/x/archive?path=/",
        "POST /containers/prune", "POST /networks/x/connect", "POST /volumes/prune", "POST /plugins/pull?remote=x",
        "POST /session",
    ])
    func missing(request: String) async throws {
        let words = request.split(separator: " ").map(String.init)
        let answer = try await EngineHarness.shared.send(words[0], "/v1.50" + words[1])
        #expect(answer.status == 501)
        let message = try JSONValue.parse(answer.body)["message"]?.string ?? ""
        #expect(message.count > 20, "it says what is missing: \(message)")
    }

    @Test func pageNotFound() async throws {
        let engine = try EngineHarness.shared
        for path in ["/", "/nothing", "/v1.41/nothing", "/v1.41", "/containers/json/more/of/it", "/v1.41/v1.41/info"] {
            let answer = try await engine.send("GET", path)
            #expect(answer.status == 404 && answer.text.contains("page not found"), "\(path): \(answer.status) \(answer.text)")
        }
        for (method, path) in [
            ("GET", "/containers/nope/json"), ("GET", "/services/nope"), ("DELETE", "/volumes/nope"), ("GET", "/images/nope/json"), ("GET", "/tasks/nope"),
        ] {
            let answer = try await engine.send(method, path)
            #expect(answer.status == 404 && answer.text.contains("nope"), "\(path): \(answer.status) \(answer.text)")
        }
    }

    // MARK: Services and tasks

    @Test func listWithStatusAndUpToDateTasks() async throws {
        let engine = try EngineHarness.shared
        let id = try await engine.createService(EngineHarness.spec("counted", replicas: 2))
        try await engine.waitForTasks(of: "counted", count: 2)
        let plain = try await engine.get("/services", filters: ["name": ["counted"]])
        #expect(plain[0]?["ServiceStatus"] == nil)
        let counted = try await engine.get("/services?status=true", filters: ["name": ["counted"]])
        #expect(counted[0]?["ServiceStatus"] == ["RunningTasks": 2, "DesiredTasks": 2, "CompletedTasks": 0])
        #expect(counted[0]?["ID"]?.string == id)

        func tasks(_ upToDate: String) async throws -> Int? {
            try await engine.get("/tasks", filters: ["service": ["counted"], "_up-to-date": [.string(upToDate)]]).array?.count
        }
        #expect(try await tasks("true") == 2)
        #expect(try await tasks("false") == 0)
        try await engine.updateService("counted") { $0["TaskTemplate"]?["ForceUpdate"] = 1 }
        try await eventually("both are replaced") {
            let counts = (try await tasks("false"), try await tasks("true"))
            return counts == (2, 2)
        }
        try await engine.waitForTasks(of: "counted", count: 2)
        try await engine.removeService("counted")
    }

    @Test func staleVersionIsRefused() async throws {
        let engine = try EngineHarness.shared
        _ = try await engine.createService(EngineHarness.spec("stale"))
        try await engine.waitForTasks(of: "stale", count: 1)
        let version = try #require(try await engine.get("/services/stale")["Version"]?["Index"]?.integer)
        try await engine.updateService("stale") { $0["Labels"] = ["written": "first"] }
        let answer = try await engine.send("POST", "/services/stale/update?version=\(version)", EngineHarness.spec("stale", labels: ["written": "second"]))
        #expect([400, 409].contains(answer.status) && answer.text.contains("update out of sequence"), "\(answer.status) \(answer.text)")
        #expect(try await engine.get("/services/stale")["Spec"]?["Labels"] == ["written": "first"])
        for version in ["", "?version=", "?version=-1", "?version=x", "?version=18446744073709551616"] {
            #expect(try await engine.send("POST", "/services/stale/update\(version)", EngineHarness.spec("stale")).status == 400, "\(version)")
        }
        try await engine.removeService("stale")
    }

    @Test func resultsOfTasksAreInEveryForm() async throws {
        let engine = try EngineHarness.shared
        _ = try await engine.createService(EngineHarness.spec("formed", replicas: 1, port: 8090))
        let task = try await engine.waitForTasks(of: "formed", count: 1)[0]
        let json = try await engine.get("/tasks/\(task.id)")
        let (service, node) = (try await engine.get("/services/formed"), try await engine.get("/nodes/self"))
        #expect(json["ServiceID"] == service["ID"] && json["NodeID"] == node["ID"])
        #expect(json["DesiredState"] == "running" && json["Slot"] == 1)
        let container = try await engine.get("/containers/\(task.container)/json")
        #expect(container["Name"]?.string == "/formed.1.\(task.id)")
        let labels = container["Config"]?["Labels"]
        #expect(labels?["com.docker.swarm.task.id"]?.string == task.id && labels?["com.docker.swarm.service.name"] == "formed")
        #expect(try await engine.get("/tasks/\(task.id.prefix(12))")["ID"]?.string == task.id, "the beginning of an id is enough")
        let ports = try await engine.get("/services/formed")["Endpoint"]?["Ports"]
        #expect(ports?[0]?["PublishedPort"] == 8090 && ports?[0]?["TargetPort"] == 80)
        try await engine.removeService("formed")
    }

    // MARK: Containers

    private func create(_ name: String, _ command: [String], _ host: JSONValue = [:]) async throws -> String {
        let engine = try EngineHarness.shared
        let answer = try await engine.send("POST", "/images/create?fromImage=busybox&tag=latest")
        #expect(answer.status == 200 && !answer.text.contains("\"error\""))
        let body: JSONValue = ["Image": "busybox", "Cmd": JSONValue(command), "HostConfig": host]
        return try #require(try await engine.json("POST", "/containers/create?name=\(name)", body, status: 201)["Id"]?.string)
    }

    @Test func waitConditions() async throws {
        let engine = try EngineHarness.shared
        let id = try await create("waited", ["sleep", "600"])
        // Not running: answers at once, as it has not begun.
        #expect(try await engine.json("POST", "/containers/\(id)/wait?condition=not-running")["StatusCode"] == 0)
        async let ended = engine.json("POST", "/containers/\(id)/wait?condition=next-exit")
        async let removed = engine.json("POST", "/containers/\(id)/wait?condition=removed")
        try await eventually("it is started") { try await [204, 304].contains(engine.send("POST", "/containers/\(id)/start").status) }
        #expect(try await engine.send("POST", "/containers/\(id)/start").status == 304, "it runs already")
        try await engine.json("POST", "/containers/\(id)/kill", status: 204)
        let atEnd = try await ended["StatusCode"]
        #expect(atEnd == 137)
        let code = try await engine.json("POST", "/containers/\(id)/wait")["StatusCode"]
        #expect(code == 137)
        #expect(try await engine.send("POST", "/containers/\(id)/stop").status == 304, "it has ended already")
        try await engine.json("DELETE", "/containers/\(id)", status: 204)
        let atRemoval = try await removed["StatusCode"]
        #expect(atRemoval == 137)
        #expect(try await engine.send("POST", "/containers/\(id)/wait").status == 404)
        let other = try await create("waited", ["true"])
        let answer = try await engine.send("POST", "/containers/\(other)/wait?condition=full-moon")
        #expect(answer.status == 400 && answer.text.contains("full-moon"))
        try await engine.json("DELETE", "/containers/\(other)", status: 204)
    }

    @Test func waitAnswersItsHeadAtOnce() async throws {
        // docker run sends start only when it has seen the head of wait's answer.
        let engine = try EngineHarness.shared
        let id = try await create("head-first", ["true"])
        let connection = try RawConnection(engine.socket)
        defer { connection.close() }
        await connection.write("POST /v1.41/containers/\(id)/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        #expect(try await connection.read(until: "\r\n\r\n").hasPrefix("HTTP/1.1 200 "))
        try await engine.json("POST", "/containers/\(id)/start", status: 204)
        #expect(try await connection.read(until: "StatusCode").contains("\"StatusCode\":0"))
        try await engine.json("DELETE", "/containers/\(id)", status: 204)
    }

    @Test func logsOfBothKinds() async throws {
        let engine = try EngineHarness.shared
        let id = try await create("framed", ["sh", "-c", "printf out; printf err >&2"])
        try await engine.json("POST", "/containers/\(id)/start", status: 204)
        #expect(try await engine.json("POST", "/containers/\(id)/wait")["StatusCode"] == 0)
        let answer = try await engine.send("GET", "/v1.50/containers/\(id)/logs?stdout=1&stderr=1")
        #expect(answer.headers["Content-Type"] == "application/vnd.docker.multiplexed-stream")
        let frames: [[UInt8]] = [[1, 0, 0, 0, 0, 0, 0, 3] + Array("out".utf8), [2, 0, 0, 0, 0, 0, 0, 3] + Array("err".utf8)]
        #expect(answer.body == frames[0] + frames[1] || answer.body == frames[1] + frames[0])
        #expect(try await engine.send("GET", "/v1.41/containers/\(id)/logs?stdout=1").headers["Content-Type"] == "application/vnd.docker.raw-stream")
        #expect(try await engine.send("GET", "/containers/\(id)/logs").status == 400, "one of the streams must be asked for")
        try await engine.json("DELETE", "/containers/\(id)", status: 204)
    }

    // MARK: Images

    @Test func pullTellsItsProgress() async throws {
        let engine = try EngineHarness.shared
        let answer = try await engine.send("POST", "/images/create?fromImage=nginx&tag=latest")
        #expect(answer.status == 200 && answer.headers["Content-Type"] == "application/json")
        let lines = try answer.text.lines.map { try JSONValue.parse($0) }
        #expect(lines.first?["status"] == "Pulling from library/nginx" || lines.first?["status"]?.string?.contains("up to date") == true)
        #expect(lines.last?["status"]?.string?.hasPrefix("Status: ") == true, "\(lines.last?.text() ?? "")")
        let missing = try await engine.send("POST", "/images/create?fromImage=\(percentEncoded("127.0.0.1:5000/library/nothing"))&tag=latest")
        #expect(missing.status == 404 || missing.text.contains("errorDetail"), "\(missing.status) \(missing.text)")
        #expect(try await engine.send("POST", "/images/create").status == 400)
        let upper = try await engine.send("POST", "/images/create?fromImage=library/UPPER")
        #expect(upper.status == 400, "\(upper.text)")
    }
}
