import Coding
import Glibc
import PluginAPI
import Testing

@testable import CommandLine

@Suite struct SwarmFileTests {
    @Test func createSendsAFile() async throws {
        var path = Array("/tmp/apus-secret-XXXXXX".utf8CString)
        let descriptor = mkstemp(&path)
        try #require(descriptor >= 0)
        let name = String(decoding: path.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            close(descriptor)
            unlink(name)
        }
        let data: [UInt8] = [0, 1, 255]
        try #require(write(descriptor, data, 3) == 3)
        for (kind, path) in [("secret", "/secrets/create"), ("config", "/configs/create")] {
            let run = FakeRun()
            run.engine.answer("POST \(path)", ["ID": "f1"], status: 201)
            #expect(await run(kind, "create", "--label", "a=b", "key", name) == 0)
            #expect(run.console.output == "f1\n")
            let body = try run.engine.body(of: "POST \(path)")
            #expect(body == ["Name": "key", "Labels": ["a": "b"], "Data": "AAH/"], "\(body.text())")
        }
        let run = FakeRun()
        run.engine.answer("POST /secrets/create", ["ID": "f1"], status: 201)
        #expect(await run("secret", "create", "--template-driver", "golang", "--driver", "vault", "key", name) == 0)
        let body = try run.engine.body(of: "POST /secrets/create")
        #expect(body["Driver"] == ["Name": "vault"] && body["Templating"] == ["Name": "golang"])
        #expect(await run("secret", "create", "key", "/nonexistent/file") == 1)
    }

    @Test func listInspectAndRemove() async {
        let run = FakeRun()
        let file: JSONValue = [
            "ID": "f1", "CreatedAt": "2026-01-31T11:00:00Z", "UpdatedAt": "2026-01-31T11:59:00Z", "Spec": ["Name": "key", "Labels": ["a": "b"]],
        ]
        run.engine.answer("GET /secrets", [file])
        run.engine.answer("GET /secrets/key", file)
        run.engine.answer("DELETE /secrets/key", bytes: [], status: 204)
        #expect(await run("secret", "ls", "--filter", "name=key") == 0)
        #expect(run.console.output.contains("f1") && run.console.output.contains("key") && run.console.output.contains("ago"))
        #expect(run.engine.requests.last?.target.contains("filters=") == true)
        #expect(await run("secret", "ls", "-q") == 0)
        #expect(run.console.output.hasSuffix("f1\n"))
        #expect(await run("secret", "ls", "--format", "{{.Name}} {{.Labels}}") == 0)
        #expect(run.console.output.hasSuffix("key a=b\n"))
        #expect(await run("secret", "inspect", "--format", "{{.Spec.Name}}", "key") == 0)
        #expect(run.console.output.hasSuffix("key\n"))
        #expect(await run("secret", "rm", "key", "none") == 1)
        #expect(run.console.output.hasSuffix("key\n") && run.console.errors.contains("nothing at"))
    }

    @Test func theLongForm() throws {
        let short = try FileFlag.secret("key")
        #expect(short.secretName == "key" && short.file?.name == "key" && short.file?.mode == 0o444 && short.file?.uid == "0")
        let long = try FileFlag.config("source=site,target=/etc/site,uid=1000,gid=33,mode=0400")
        #expect(long.configName == "site" && long.file?.name == "/etc/site" && long.file?.uid == "1000" && long.file?.gid == "33")
        #expect(long.file?.mode == 0o400)
        for bad in ["", "target=/a", "source=", "source=a,mode=9", "source=a,mode=77777", "source=a,size=3", "source=a,\"b"] {
            #expect(throws: ApusError.self, "\(bad)") { try FileFlag.secret(bad) }
        }
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            let text = String((0..<Int.random(in: 0...20)).compactMap { _ in "source=,mode\"07tgu\\ \u{e9}".randomElement(using: &generator) })
            do throws(ApusError) { _ = try FileFlag.secret(text) } catch { #expect(!error.message.isEmpty) }
        }
    }
}
