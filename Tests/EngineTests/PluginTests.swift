import Coding
import Files
import Glibc
import HTTPClient
import PluginAPI
import Testing

/// Switching plugins of a running engine.
@Suite(.serialized, .sharedEngine)
struct PluginTests {
    private func scheduler(_ engine: EngineHarness) async throws -> [String] {
        try await engine.get("/plugins", filters: ["capability": ["scheduler"], "enabled": ["true"]]).array?.compactMap { $0["Name"]?.string } ?? []
    }

    @Test func anotherScheduler() async throws {
        let engine = try EngineHarness.shared
        _ = try await engine.createService(EngineHarness.spec("scheduled", replicas: 3))
        let before = try await engine.waitForTasks(of: "scheduled", count: 3)
        #expect(try await scheduler(engine) == ["scheduler/spread:latest"])
        let version = try #require(try await engine.get("/swarm")["Version"]?["Index"]?.integer)

        try await engine.json("POST", "/plugins/scheduler/binpack/enable")
        #expect(try await scheduler(engine) == ["scheduler/binpack:latest"])
        let newer = try #require(try await engine.get("/swarm")["Version"]?["Index"]?.integer)
        #expect(newer > version, "the swarm itself knows")
        try await engine.updateService("scheduled") { $0["Mode"]?["Replicated"]?["Replicas"] = 5 }
        let after = try await engine.waitForTasks(of: "scheduled", count: 5)
        #expect(Array(after.prefix(3)) == before, "no running task moves")

        try await engine.stopEngine(SIGKILL)
        try await engine.startEngine()
        #expect(try await scheduler(engine) == ["scheduler/binpack:latest"], "it survives a restart")
        #expect(try await engine.waitForTasks(of: "scheduled", count: 5) == after)
        try await engine.updateService("scheduled") { $0["Mode"]?["Replicated"]?["Replicas"] = 6 }
        try await engine.waitForTasks(of: "scheduled", count: 6)

        try await engine.json("POST", "/plugins/scheduler/spread/enable")
        #expect(try await scheduler(engine) == ["scheduler/spread:latest"])
        let last = try await engine.waitForTasks(of: "scheduled", count: 6)
        #expect(Array(last.prefix(5)) == after)
        try await engine.removeService("scheduled")
    }

    /// A scheduler that has placed tasks of one swarm knows nothing of it in the next.
    @Test func schedulerForgetsASwarmThatWasLeft() async throws {
        let engine = try EngineHarness.shared
        for round in 1...3 {
            _ = try await engine.createService(EngineHarness.spec("round-\(round)", replicas: 4))
            try await engine.waitForTasks(of: "round-\(round)", count: 4)
            try await engine.json("POST", "/swarm/leave?force=true")
            #expect(try await engine.get("/containers/json?all=1").array?.isEmpty == true)
            try await engine.initializeSwarm()
        }
    }

    @Test func everythingIsListed() async throws {
        let engine = try EngineHarness.shared
        let plugins = try await engine.get("/apus/plugins").array ?? []
        #expect(plugins.count == 9)
        for plugin in plugins {
            #expect(plugin["SHA256"]?.string?.count == 64 && plugin["APIVersion"]?.string?.isEmpty == false && plugin["Default"] == true)
        }
        let binpack = try await engine.get("/apus/plugins/scheduler/binpack/json")
        #expect(binpack["Enabled"] == false && binpack["Role"] == "scheduler" && binpack["Name"] == "binpack")
    }

    /// What is in use on this node stays.
    @Test(arguments: ["runtime/oci", "network/bridge", "balancer/nftables"])
    func inUse(name: String) async throws {
        let engine = try EngineHarness.shared
        let answer = try await engine.json("POST", "/plugins/\(name)/disable", status: 409)
        #expect(answer["message"]?.string?.contains("in use") == true)
        let enabled = try await engine.get("/apus/plugins/\(name)/json")
        #expect(enabled["Enabled"] == true)
    }

    /// A file that is no plugin is refused when it is installed, and listed with its reason when it lies in a drop-in folder.
    @Test func notAPlugin() async throws {
        let engine = try EngineHarness.shared
        let path = "\(engine.root)/text.so"
        try Files.writeAtomically(Array("not an ELF file".utf8), to: path, permissions: 0o644)
        let answer = try await engine.send("POST", "/apus/plugins/install", ["Path": .string(path)])
        #expect([400, 409].contains(answer.status) && answer.text.contains("ELF"), "\(answer.status) \(answer.text)")
        #expect(try await engine.get("/apus/plugins").array?.count == 9)
    }
}
