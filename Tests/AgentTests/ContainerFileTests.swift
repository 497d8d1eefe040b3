import Dispatcher
import Files
import Glibc
import PluginAPI
import Synchronization
import Testing

@testable import Agent

/// Secrets and configs as files of containers.
@Suite struct ContainerFileTests {
    private func task(_ id: String = "task1") -> Task {
        var task = House.task(ID(id))
        var secret = SecretReference()
        var target = FileTarget()
        (target.name, target.uid, target.gid, target.mode) = ("key", "1000", "33", 0o400)
        (secret.secretID, secret.secretName, secret.file) = ("s1", "key", target)
        var config = ConfigReference()
        (config.configID, config.configName) = ("c1", "site.conf")
        task.spec.container?.secrets = [secret]
        task.spec.container?.configs = [config]
        return task
    }

    private func assigned() -> AssignedFiles {
        var secret = Secret()
        (secret.id, secret.spec.name, secret.spec.data) = ("s1", "key", Array("hidden".utf8))
        var config = Config()
        (config.id, config.spec.name, config.spec.data) = ("c1", "site.conf", Array("listen 80".utf8))
        return AssignedFiles(secrets: ["s1": secret], configs: ["c1": config])
    }

    private func status(_ path: String) -> (mode: UInt32, uid: UInt32, gid: UInt32) {
        var status = stat()
        guard stat(path, &status) == 0 else { return (0, 0, 0) }
        return (status.st_mode & 0o7777, status.st_uid, status.st_gid)
    }

    @Test func aTaskHasThemAsFilesInMemory() async throws {
        try await House.with { house in
            let engine = try house.engine
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            source.state.withLock { $0.files = assigned() }
            source.add(task())
            try house.hire(source)
            #expect(await source.until("task1", .running))
            let details = try engine.inspect("web.1.task1")
            let mounts = details.configuration.mounts
            #expect(mounts.map(\.target) == ["/run/secrets/key", "/site.conf"])
            #expect(mounts.allSatisfy { $0.readOnly && $0.kind == .bind })
            let folder = house.folder + "/run/secrets/" + details.id.text
            #expect(mounts.map(\.source) == [folder + "/0", folder + "/1"])
            #expect(try Files.readText(folder + "/0") == "hidden" && Files.readText(folder + "/1") == "listen 80")
            #expect(status(folder + "/0") == (0o400, 1000, 33) && status(folder + "/1") == (0o444, 0, 0))
            #expect(status(folder) == (0o700, 0, 0) && status(house.folder + "/run/secrets") == (0o700, 0, 0))
            let table = try Files.readText("/proc/self/mountinfo")
            let isOwn = table.split(separator: "\n").contains { $0.contains(" \(house.folder)/run/secrets ") && $0.contains(" - tmpfs ") }
            #expect(isOwn || table.contains(" /tmp ") && table.contains("- tmpfs"), "never on a disk")

            // What the engine keeps on its disk does not have it.
            for name in try Files.list(house.folder + "/state") {
                #expect(try !Files.readText("\(house.folder)/state/\(name)").contains("hidden"))
            }
            source.remove("task1")
            #expect(await eventually { engine.list().isEmpty })
            #expect(!Files.exists(folder))
        }
    }

    @Test func anotherEngineKeepsThemAndRemovesStrays() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            source.state.withLock { $0.files = assigned() }
            source.add(task())
            try house.hire(source)
            #expect(await source.until("task1", .running))
            let folder = house.folder + "/run/secrets/" + (try house.engine.inspect("web.1.task1")).id.text
            await house.halt()
            try Files.makeDirectory(house.folder + "/run/secrets/stray")
            try await house.boot()
            #expect(try Files.readText(folder + "/0") == "hidden")
            #expect(!Files.exists(house.folder + "/run/secrets/stray"))
        }
    }

    @Test func theyComeBackAfterARestartOfTheMachine() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            source.state.withLock { $0.files = assigned() }
            var waiting = task()
            waiting.desiredState = .ready
            source.add(waiting)
            try house.hire(source)
            #expect(await source.until("task1", .ready))
            let folder = house.folder + "/run/secrets/" + (try house.engine.inspect("web.1.task1")).id.text
            await house.halt()
            try Files.removeTree(folder)
            try await house.boot()
            try house.hire(source)
            source.desire(.running, "task1")
            #expect(await source.until("task1", .running))
            #expect(try Files.readText(folder + "/0") == "hidden")
        }
    }

    @Test func whatWasRemovedRejectsTheTaskAndLeavesNothing() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            source.add(task())
            try house.hire(source)
            #expect(await source.until("task1", .rejected))
            #expect(source.status("task1")?.error == "secret key is not there: it was removed from the swarm")
            house.runtime.fail(.create, ApusError(.failed, "broken"))
            source.state.withLock { $0.files = assigned() }
            source.add(task("task2"))
            #expect(await source.until("task2", .rejected))
            #expect(try Files.list(house.folder + "/run/secrets").isEmpty)
        }
    }

    @Test func theContentIsNotInDescriptions() {
        let file = ContainerFile(path: "/run/secrets/key", content: Array("hidden".utf8))
        var text = ""
        dump(file, to: &text)
        #expect("\(file)" == "/run/secrets/key (6 bytes)" && !text.contains("104"))
    }
}
