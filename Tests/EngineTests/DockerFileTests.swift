import Coding
import Files
import Glibc
import HTTPClient
import PluginAPI
import Processes
import Testing

/// Secrets and configs, by Debian's docker CLI and by hand, against a swarm of one.
@Suite(.serialized, .sharedEngine)
struct DockerFileTests {
    @Test func aServiceReadsThemAndNobodyElse() async throws {
        let engine = try EngineHarness.shared
        let secret = try await engine.docker("secret", "create", "--label", "tier=db", "password", "-", input: Array("hidden word".utf8))
        try await engine.docker("config", "create", "site", "-", input: Array("listen 80\n".utf8))
        #expect(try await engine.docker("secret", "ls", "--format", "{{.Name}} {{.Labels}}", "--filter", "label=tier=db") == "password tier=db")
        #expect(try await engine.docker("secret", "inspect", "--format", "{{.ID}}", "password") == secret)
        #expect(try await !engine.docker("secret", "inspect", "password").contains("Data"))
        #expect(try await engine.docker("config", "inspect", "--format", "{{printf \"%s\" .Spec.Data}}", "site") == "listen 80")

        try await engine.docker(
            "service", "create", "--name", "reader", "--secret", "password", "--secret", "source=password,target=other,uid=33,gid=34,mode=0400",
            "--config", "source=site,target=/etc/site.conf", "--env", "A=1", "nginx:latest")
        let task = try #require(try await engine.waitForTasks(of: "reader", count: 1).first)
        func inside(_ path: String) -> String { "/proc/\(task.process)/root\(path)" }
        #expect(try Files.readText(inside("/run/secrets/password")) == "hidden word")
        #expect(try Files.readText(inside("/etc/site.conf")) == "listen 80\n")
        #expect(try await engine.inNamespace("stat", "-c", "%a %u %g", inside("/run/secrets/other")) == "400 33 34")
        #expect(try await engine.inNamespace("stat", "-c", "%a %u %g", inside("/run/secrets/password")) == "444 0 0")
        let mounts = try Files.readText("/proc/\(task.process)/mountinfo").split(separator: "\n").filter { $0.contains(" /run/secrets/") }
        #expect(mounts.count == 2 && mounts.allSatisfy { $0.contains(" ro,") && $0.contains("- tmpfs ") })
        // It is in no file of the engine: the log is encrypted, and what nodes have is in memory.
        let found = try await engine.inNamespace("sh", "-c", "grep -rl 'hidden word' '\(engine.dataRoot)' || true")
        #expect(found.isEmpty)

        let refusal = try await engine.dockerRefusal("secret", "rm", "password")
        #expect(refusal.contains("secret 'password' is in use by the following service: reader"))
        #expect(try await engine.dockerRefusal("config", "rm", "site").contains("config 'site' is in use by the following service: reader"))

        // An engine that starts anew keeps them.
        #expect(try await engine.stopEngine(SIGKILL) != 0)
        try await engine.startEngine()
        _ = try await engine.waitForTasks(of: "reader", count: 1)
        #expect(try Files.readText(inside("/run/secrets/password")) == "hidden word")

        try await engine.docker("service", "update", "--detach", "--secret-rm", "password", "--config-rm", "site", "reader")
        try await eventually("the new task has none") {
            guard let now = try await engine.runningTasks(of: "reader").first, now.process != task.process else { return false }
            return !Files.exists("/proc/\(now.process)/root/run/secrets/password")
        }
        #expect(try await engine.docker("secret", "rm", "password") == "password")
        try await engine.docker("config", "rm", "site")
        try await engine.removeService("reader")
        try await eventually("nothing is left in memory") { try Files.list("\(engine.executionRoot)/secrets").isEmpty }
    }

    @Test func refusals() async throws {
        let engine = try EngineHarness.shared
        func post(_ path: String, _ body: JSONValue) async throws -> (Int, String) {
            let answer = try await engine.send("POST", path, body)
            return (answer.status, String(decoding: answer.body, as: UTF8.self))
        }
        let word = Base64.encode(Array("x".utf8))
        #expect(try await post("/secrets/create", ["Name": "twice", "Data": .string(word)]).0 == 201)
        #expect(try await post("/secrets/create", ["Name": "twice", "Data": .string(word)]).0 == 409)
        for (body, status) in [
            (["Name": "a b", "Data": .string(word)], 400), (["Name": "empty"], 400), (["Name": "text", "Data": "%%"], 400),
            (["Name": "x", "Data": .string(word), "Templating": ["Name": "golang"]], 501),
            (["Name": "x", "Driver": ["Name": "vault"]], 501), (["Name": "x", "Data": .string(word), "Foo": 1], 400),
            (["Name": "big", "Data": .string(Base64.encode([UInt8](repeating: 0, count: 512_000)))], 400),
        ] as [(JSONValue, Int)] {
            let answer = try await post("/secrets/create", body)
            #expect(answer.0 == status, "\(answer.1)")
        }
        #expect(try await post("/configs/create", ["Name": "big", "Data": .string(Base64.encode([UInt8](repeating: 0, count: 1_023_999)))]).0 == 201)
        #expect(try await engine.send("GET", "/secrets/none").status == 404)
        #expect(try await engine.send("DELETE", "/configs/none").status == 404)
        #expect(try await engine.send("DELETE", "/configs/big").status == 204)
        let secret = try await engine.get("/secrets/twice")
        let index = secret["Version"]?["Index"]?.integer ?? 0
        #expect(try await post("/secrets/twice/update?version=\(index)", ["Name": "twice", "Labels": ["a": "b"]]).0 == 200)
        #expect(try await post("/secrets/twice/update?version=\(index)", ["Name": "twice"]).0 == 409, "out of sequence")
        let now = try await engine.get("/secrets/twice")
        #expect(now["Spec"] == ["Name": "twice", "Labels": ["a": "b"]])
        let next = now["Version"]?["Index"]?.integer ?? 0
        #expect(try await post("/secrets/twice/update?version=\(next)", ["Name": "other"]).0 == 400)
        #expect(try await post("/secrets/twice/update?version=\(next)", ["Name": "twice", "Data": .string(Base64.encode([9]))]).0 == 400)
        #expect(try await engine.get("/secrets", filters: ["names": ["twice"]]).array?.count == 1)
        #expect(try await engine.get("/secrets", filters: ["names": ["twic"]]).array?.isEmpty == true)
        #expect(try await engine.get("/secrets", filters: ["name": ["twic"]]).array?.count == 1)
        let service: JSONValue = [
            "Name": "nothing",
            "TaskTemplate": ["ContainerSpec": ["Image": "nginx:latest", "Secrets": [["SecretName": "none", "File": ["Name": "a", "UID": "0", "GID": "0"]]]]],
        ]
        let refused = try await post("/services/create", service)
        #expect(refused.0 == 400 && refused.1.contains("secret not found: none"))
        #expect(try await engine.send("DELETE", "/secrets/twice").status == 204)
    }
}
