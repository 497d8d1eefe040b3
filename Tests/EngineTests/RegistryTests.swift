import Coding
import Files
import HTTPClient
import PluginAPI
import Processes
import Testing

/// What needs a registry, and what is done with archives of images.
@Suite(.serialized, .sharedEngine)
struct RegistryTests {
    /// Runs Apus's own CLI against the engine.
    private func apus(_ arguments: String..., input: [UInt8] = []) async throws -> ProcessResult {
        let engine = try EngineHarness.shared
        return try await Processes.run(
            ProcessRequest(
                "\(engine.stage)/bin/apus", ["-H", "unix://\(engine.socket)"] + arguments,
                environment: ["PATH=/usr/bin:/bin", "HOME=\(engine.root)", "DOCKER_CONFIG=\(engine.root)/login"], workingDirectory: "/"),
            input: input, outputLimit: 8 << 20, timeout: .seconds(120))
    }

    @Test func login() async throws {
        let engine = try EngineHarness.shared
        let script = EngineHarness.repository + "/contrib/images/registry.sh"
        let (folder, passwords) = ("\(engine.root)/registry/login", "\(engine.root)/htpasswd-login")
        // user, secret
        try Files.writeAtomically(Array("user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n".utf8), to: passwords)
        try await engine.inNamespace("env", "APUS_REGISTRY_HTPASSWD=\(passwords)", script, "start", "5003", folder)
        func auth(_ server: String, _ password: String) async throws -> (status: Int, text: String) {
            let answer = try await engine.send("POST", "/auth", ["username": "user", "password": .string(password), "serveraddress": .string(server)])
            return (answer.status, answer.text)
        }
        for server in ["127.0.0.1:5003", "http://127.0.0.1:5003", "https://127.0.0.1:5003/v2/"] {
            let answer = try await auth(server, "secret")
            #expect(answer.status == 200 && answer.text.contains("Login Succeeded"), "\(server): \(answer)")
        }
        // Also behind a success.
        let refused = try await auth("127.0.0.1:5003", "bad")
        #expect(refused.status == 401 && refused.text.contains("127.0.0.1:5003"), "\(refused)")
        #expect(try await auth("127.0.0.1:5004", "secret").status == 503)
        #expect(try await auth("not a host", "secret").status == 400)
        #expect(try await engine.send("POST", "/auth", ["serveraddress": "127.0.0.1:5003"]).status == 400)
        #expect(try await engine.send("POST", "/auth", ["username": 1]).status == 400)

        let bad = try await apus("login", "-u", "user", "-p", "bad", "127.0.0.1:5003")
        #expect(bad.exitCode == 1 && bad.errorText.contains("wrong") && bad.text.isEmpty, "\(bad.text) \(bad.errorText)")
        #expect(!Files.exists("\(engine.root)/login/config.json"), "what is wrong is not kept")
        let good = try await apus("login", "-u", "user", "--password-stdin", "127.0.0.1:5003", input: Array("secret\n".utf8))
        #expect(good.exitCode == 0 && good.errorText.isEmpty && good.text.hasPrefix("Login succeeded"), "\(good.errorText)")
        let docker = try await engine.runDocker(["login", "-u", "user", "-p", "bad", "127.0.0.1:5003"])
        #expect(docker.exitCode != 0)
        #expect(try await engine.docker("login", "-u", "user", "-p", "secret", "127.0.0.1:5003").contains("Login Succeeded"))
        try await engine.docker("logout", "127.0.0.1:5003")
        try Files.removeTree("\(engine.root)/login")
        try await engine.inNamespace(script, "stop", folder)
    }

    @Test func pullOfAllTags() async throws {
        let engine = try EngineHarness.shared
        for tag in ["a", "b"] {
            try await engine.inNamespace(
                "python3", "\(EngineHarness.repository)/contrib/images/push.py", "/var/cache/apus-images/busybox.tar", engine.registryURL, "many/tools:\(tag)")
        }
        let pulled = try await apus("pull", "-a", "127.0.0.1:5000/many/tools")
        #expect(pulled.exitCode == 0, "\(pulled.errorText)")
        let names = try await engine.docker("images", "--format", "{{.Tag}}", "127.0.0.1:5000/many/tools").lines.sorted()
        #expect(names == ["a", "b"])
        try await engine.docker("rmi", "127.0.0.1:5000/many/tools:a", "127.0.0.1:5000/many/tools:b")
        #expect(try await engine.docker("pull", "--all-tags", "127.0.0.1:5000/many/tools").contains("127.0.0.1:5000/many/tools"))
        #expect(try await engine.docker("images", "--quiet", "127.0.0.1:5000/many/tools").lines.count == 2)
        try await engine.docker("rmi", "127.0.0.1:5000/many/tools:a", "127.0.0.1:5000/many/tools:b")
        let missing = try await engine.send("POST", "/images/create?fromImage=127.0.0.1:5000/many/none")
        #expect(missing.status == 404 && missing.text.contains("many/none"), "\(missing.status) \(missing.text)")
    }

    @Test func whatIsNoArchiveIsTheCallersMistake() async throws {
        let engine = try EngineHarness.shared
        let before = try await engine.inventory()
        for body in [[], Array("this is no archive".utf8), Array("BZh91AY&SY".utf8), [0x1f, 0x8b]] {
            for path in ["/images/load", "/images/create?fromSrc=-&repo=broken"] {
                let answer = try await engine.sendBytes("POST", path, body)
                #expect(answer.status == 400 && answer.text.contains("archive"), "\(path): \(answer.status) \(answer.text)")
            }
        }
        #expect(try await engine.inventory() == before)
    }

    @Test func archivesOfAllKindsOfCompression() async throws {
        let engine = try EngineHarness.shared
        for program in ["gzip", "zstd", "xz", "bzip2"] {
            let packed = try await Processes.run(
                ProcessRequest(program, ["-c", "/var/cache/apus-images/busybox.tar"]), outputLimit: 64 << 20, timeout: .seconds(120))
            #expect(packed.exitCode == 0)
            let loaded = try await apus("load", input: packed.output)
            #expect(loaded.exitCode == 0 && loaded.text.contains("busybox"), "\(program): \(loaded.text) \(loaded.errorText)")
        }
    }

    @Test func diskUsageCountsSharedLayersOnce() async throws {
        let engine = try EngineHarness.shared
        // Both stand on the same base.
        try await engine.docker("pull", "nginx")
        try await engine.docker("pull", "busybox")
        try await engine.docker("create", "--name", "holder", "nginx")
        let usage = try await engine.get("/system/df")
        let images = usage["Images"]?.array ?? []
        let own = images.map { ($0["Size"]?.integer ?? 0) - ($0["SharedSize"]?.integer ?? 0) }
        #expect(images.count >= 2 && images.contains { $0["SharedSize"]?.integer ?? 0 > 0 } && own.allSatisfy { $0 >= 0 })
        #expect(own.reduce(0, +) <= usage["LayersSize"]?.integer ?? 0)
        let shared = try await engine.get("/images/json?shared-size=1").array ?? []
        #expect(shared.contains { $0["SharedSize"]?.integer ?? 0 > 0 })
        let rows = try await engine.docker("system", "df", "--format", "{{.Type}} {{.Reclaimable}}").lines
        #expect(rows.allSatisfy { !$0.contains("-") }, "nothing is negative: \(rows)")
        try await engine.docker("rm", "holder")
    }
}
