import PluginAPI
import Testing

@testable import Orchestration
@testable import Store

@Suite struct FileReferenceTests {
    private var snapshot: StoreSnapshot {
        var snapshot = StoreSnapshot()
        var secret = Secret()
        (secret.id, secret.spec.name, secret.spec.data) = ("secret-id", "key", [1])
        var config = Config()
        (config.id, config.spec.name, config.spec.data) = ("config-id", "site", [2])
        snapshot.put(.secret(secret))
        snapshot.put(.config(config))
        return snapshot
    }

    private func spec(secret: SecretReference? = nil, config: ConfigReference? = nil) -> ServiceSpec {
        makeSpec("web", image: "nginx:latest") { spec in
            var container = spec.task.container ?? ContainerSpec()
            if let secret { container.secrets = [secret] }
            if let config { container.configs = [config] }
            spec.task.container = container
        }
    }

    private func secret(id: ID = "", name: String = "", file: FileTarget? = nil) -> SecretReference {
        var reference = SecretReference()
        (reference.secretID, reference.secretName, reference.file) = (id, name, file)
        return reference
    }

    private func config(id: ID = "", name: String = "", target: String) -> ConfigReference {
        var reference = ConfigReference()
        (reference.configID, reference.configName, reference.file) = (id, name, file(target))
        return reference
    }

    private func file(_ name: String, uid: String = "0", gid: String = "0", mode: UInt64 = 0o444) -> FileTarget {
        var file = FileTarget()
        (file.name, file.uid, file.gid, file.mode) = (name, uid, gid, mode)
        return file
    }

    @Test func referencesAreCompleted() throws {
        for reference in [secret(id: "secret-id", name: "key"), secret(id: "secret-id"), secret(name: "key"), secret(name: "secret-id")] {
            let resolved = try FileReferences.resolved(spec(secret: reference), in: snapshot).task.container?.secrets.first
            #expect(resolved?.secretID == "secret-id" && resolved?.secretName == "key")
            #expect(resolved?.file == file("key"))
        }
        let resolved = try FileReferences.resolved(spec(config: config(name: "site", target: "/etc/site")), in: snapshot).task.container?.configs.first
        #expect(resolved?.configID == "config-id" && resolved?.file == file("/etc/site"))
        #expect(try FileReferences.resolved(spec(), in: snapshot) == spec())
    }

    @Test func theUnknownIsNamedAsDockerDoes() {
        for reference in [secret(name: "none"), secret(id: "nothing", name: "key"), secret(id: "secret-id", name: "other"), secret()] {
            #expect(throws: ApusError.self) { try FileReferences.resolved(spec(secret: reference), in: snapshot) }
        }
        do throws(ApusError) {
            _ = try FileReferences.resolved(spec(secret: secret(name: "none")), in: snapshot)
        } catch {
            #expect(error.code == .invalidArgument && error.message == "secret not found: none")
        }
        #expect(throws: ApusError.self) { try FileReferences.resolved(spec(config: config(name: "key", target: "x")), in: snapshot) }
    }

    @Test func whereFilesGo() {
        #expect(FileReferences.path(ofSecret: file("key")) == "/run/secrets/key")
        #expect(FileReferences.path(ofSecret: file("a/./b")) == "/run/secrets/a/b")
        #expect(FileReferences.path(ofSecret: file("/etc//key")) == "/etc/key")
        #expect(FileReferences.path(ofConfig: file("site.conf")) == "/site.conf")
    }

    @Test func badFilesAreRefused() throws {
        func check(_ change: (inout ContainerSpec) -> Void) throws {
            var spec = ContainerSpec()
            change(&spec)
            try FileReferences.check(spec)
        }
        try check { $0.secrets = [secret(name: "a", file: file("a", uid: "1000", gid: "4294967294", mode: 0o7777)), secret(name: "b")] }
        for bad in [
            file("a", uid: "www"), file("a", uid: "-1"), file("a", gid: "4294967295"), file("a", gid: "+1"), file("a", mode: 0o10000), file("../a"),
            file("/a/../../b"), file("/"), file("a/"), file("a\u{0}"), file("a\nb"), file(String(repeating: "a", count: 5000)),
        ] {
            #expect(throws: ApusError.self, "\(bad)") { try check { $0.secrets = [secret(name: "a", file: bad)] } }
        }
        #expect(throws: ApusError.self) { try check { $0.secrets = [secret(name: "a"), secret(name: "a")] } }
        #expect(throws: ApusError.self) {
            try check {
                $0.secrets = [secret(name: "a")]
                $0.configs = [config(name: "b", target: "/run/secrets/./a")]
            }
        }
        #expect(throws: ApusError.self) {
            try check {
                $0.configs = [config(name: "b", target: "/data")]
                $0.mounts = [Mount()]
                $0.mounts[0].target = "/data/"
            }
        }
        // The same secret in two places is fine.
        try check { $0.secrets = [secret(name: "a"), secret(name: "a", file: file("b"))] }
    }

    @Test func namesAndSizes() throws {
        func check(_ name: String, size: Int = 1) throws {
            try FileValidation.check(name: name, labels: [:], size: size, kind: "secret", limit: FileValidation.secretLimit)
        }
        for good in ["a", "A-b_c.d9", String(repeating: "a", count: 64)] { try check(good) }
        for bad in ["", "-a", "a.", "a b", "a/b", "ä", "a\n", String(repeating: "a", count: 65)] {
            #expect(throws: ApusError.self, "\(bad)") { try check(bad) }
        }
        try check("a", size: 511_999)
        for bad in [0, 512_000] { #expect(throws: ApusError.self) { try check("a", size: bad) } }
        #expect(throws: ApusError.self) { try FileValidation.check(name: "a", labels: ["": ""], size: 1, kind: "config", limit: 9) }
    }

    @Test func usersAreNamed() throws {
        var snapshot = snapshot
        var service = ServiceDraft.create(try FileReferences.resolved(spec(secret: secret(name: "key")), in: snapshot), id: "s1")
        snapshot.put(.service(service))
        (service.id, service.spec.name) = ("s2", "api")
        snapshot.put(.service(service))
        #expect(FileReferences.services(usingSecret: "secret-id", in: snapshot) == ["api", "web"])
        #expect(FileReferences.services(usingConfig: "config-id", in: snapshot).isEmpty)
    }
}
