import Events
import PluginAPI
import Synchronization
import Testing

@testable import Agent

@Suite struct ContainerEngineTests {
    @Test func createStartStopRemove() async throws {
        try await House.with { house in
            let engine = try house.engine
            let id = try await house.run("web")
            let details = try engine.inspect("web")
            #expect(details.id == id)
            #expect(details.state.phase == .running)
            #expect(details.configuration.arguments == ["serve"])
            #expect(details.configuration.hostname == id.short)
            #expect(details.configuration.endpoints.first?.address == "172.30.0.2/16")
            #expect(details.configuration.endpoints.first?.macAddress == "02:42:ac:1e:00:02")
            #expect(details.configuration.hostsFile.contains("172.30.0.2\t\(id.short)"))
            #expect(house.network.state.withLock { $0.attached[id]?.isDefaultRoute } == true)
            #expect(house.sandboxes.paths.withLock { $0 } == [details.configuration.networkNamespacePath])
            #expect(try await engine.start("web") == false)
            #expect(try await engine.stop("/web") == true)
            #expect(try engine.inspect(id.text).state.exitCode == 143)
            #expect(try await engine.stop("web") == false)
            #expect(house.network.state.withLock { $0.attached.isEmpty })
            #expect(house.sandboxes.paths.withLock { $0.isEmpty })
            try await engine.remove(String(id.text.prefix(5)))
            #expect(engine.list().isEmpty)
            #expect(house.runtime.state.withLock { $0.containers.isEmpty })
            #expect(house.actions(of: id) == ["create", "start", "kill", "die", "stop", "destroy"])
            let die = house.events.subscribe().recent.first { $0.action == "die" }
            #expect(die?.attributes["exitCode"] == "143")
            #expect(die?.attributes["name"] == "web")
            #expect(die?.attributes["image"] == "nginx:latest")
        }
    }

    @Test func namesAndReferences() async throws {
        try await House.with { house in
            let engine = try house.engine
            let id = try await house.run("web")
            var error = await #expect(throws: ApusError.self) { try await house.run("web") }
            #expect(error?.code == .conflict)
            #expect(error?.message.contains(id.text) == true)
            error = await #expect(throws: ApusError.self) { try await engine.create(ContainerRequest(image: "nginx:latest", name: "a/b")) }
            #expect(error?.code == .invalidArgument)
            error = await #expect(throws: ApusError.self) { try await engine.create(ContainerRequest(image: "missing")) }
            #expect(error == ApusError(.notFound, "No such image: missing:latest"))
            error = #expect(throws: ApusError.self) { try engine.inspect("nobody") }
            #expect(error == ApusError(.notFound, "No such container: nobody"))
            for _ in 0..<40 { _ = try await engine.create(ContainerRequest(image: "nginx:latest")) }
            let prefixes = Dictionary(grouping: engine.list()) { $0.id.text.prefix(1) }
            let shared = try #require(prefixes.first { $0.value.count > 1 }?.key)
            error = #expect(throws: ApusError.self) { try engine.inspect(String(shared)) }
            #expect(error?.code == .invalidArgument)
            #expect(Set(engine.list().map(\.name)).count == 41)
            #expect(Set(engine.list().compactMap { $0.configuration.endpoints.first?.address }).count == 41)
        }
    }

    @Test func renameSurvivesARestart() async throws {
        try await House.with { house in
            let id = try await house.run("old")
            _ = try await house.run("taken")
            try await house.engine.rename("old", to: "new")
            let error = await #expect(throws: ApusError.self) { try await house.engine.rename("new", to: "taken") }
            #expect(error?.code == .conflict)
            await house.halt()
            try await house.boot()
            #expect(try house.engine.inspect("new").id == id)
            #expect(throws: ApusError.self) { try house.engine.inspect("old") }
        }
    }

    @Test(arguments: [FakeRuntime.Call.create, .start]) func aFailureLeavesNothingBehind(_ call: FakeRuntime.Call) async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest") { $0.volumes = ["/data": ""] }
            house.runtime.fail(call, ApusError(.failed, "broken"))
            let engine = try house.engine
            var request = ContainerRequest(image: "nginx:latest", name: "web")
            request.preparesNetwork = true
            request.publishedPorts = [House.port(8080, 80)]
            let error = await #expect(throws: ApusError.self) { try await engine.start(try await engine.create(request).text) }
            #expect(error?.message == "broken")
            #expect(house.network.state.withLock { $0.attached.isEmpty })
            #expect(house.sandboxes.paths.withLock { $0.isEmpty })
            if call == .create {
                #expect(engine.list().isEmpty)
                #expect(house.runtime.state.withLock { $0.volumes.isEmpty })
            } else {
                #expect(try engine.inspect("web").state.error == "broken")
            }
            // Name, port and address are free again.
            if call == .start { try await engine.remove("web") }
            let id = try await house.run("web") { $0.publishedPorts = [House.port(8080, 80)] }
            #expect(try engine.inspect(id.text).state.phase == .running)
        }
    }

    @Test func attachFails() async throws {
        try await House.with { house in
            let engine = try house.engine
            house.network.state.withLock { $0.attachFailures = [ApusError(.failed, "no bridge")] }
            let error = await #expect(throws: ApusError.self) { try await house.run("web") }
            #expect(error?.message == "no bridge")
            #expect(house.sandboxes.paths.withLock { $0.isEmpty })
            #expect(try await engine.start("web") == true)
        }
    }

    @Test func networks() async throws {
        try await House.with { house in
            let engine = try house.engine
            let onHost = try await house.run("host") { $0.networks = [ContainerNetwork(target: "host")] }
            #expect(try engine.inspect(onHost.text).configuration.networkNamespacePath == "")
            let alone = try await house.run("none") { $0.networks = [ContainerNetwork(target: "none")] }
            #expect(try !engine.inspect(alone.text).configuration.networkNamespacePath.isEmpty)
            #expect(house.network.state.withLock { $0.attaches } == 0)
            let made = try await engine.createNetwork(NodeNetworkRequest(name: "back"))
            #expect(made.gateway == "172.29.0.1/16")
            let inside = try await house.run("both") { request in
                request.networks = [ContainerNetwork(target: "bridge"), ContainerNetwork(target: "back", address: "172.29.7.7")]
            }
            #expect(try engine.inspect(inside.text).configuration.endpoints.map(\.address) == ["172.30.0.2/16", "172.29.7.7/16"])
            var error = await #expect(throws: ApusError.self) { try await engine.removeNetwork("back") }
            #expect(error?.code == .permissionDenied)
            error = await #expect(throws: ApusError.self) { try await engine.removeNetwork("bridge") }
            #expect(error?.code == .permissionDenied)
            error = await #expect(throws: ApusError.self) { try await house.run("lost") { $0.networks = [ContainerNetwork(target: "nope")] } }
            #expect(error?.code == .notFound)
            try await engine.remove("both", force: true)
            let before = engine.networks()
            await house.halt()
            try await house.boot()
            #expect(try house.engine.networks() == before)
            try await house.engine.removeNetwork("back")
            #expect(try house.engine.networks().map(\.name).sorted() == ["bridge", "host", "none"])
        }
    }

    // MARK: - Ports

    @Test func publishedPortsReachTheBalancer() async throws {
        try await House.with { house in
            let engine = try house.engine
            let id = try await house.run("web") { $0.publishedPorts = [House.port(8080, 80)] }
            let port = try #require(house.balancer.last.ports.first)
            #expect(port.port == 8080)
            #expect(port.backends == [Backend(address: IPAddress(v4: 172, 30, 0, 2), port: 80)])
            #expect(house.balancer.last.subnets.map(\.description) == ["172.30.0.0/16"])
            house.runtime.end(id)
            #expect(await eventually { house.balancer.last.ports.isEmpty })
            #expect(try engine.inspect("web").state.phase == .exited)
        }
    }

    @Test func portConflicts() async throws {
        try await House.with { house in
            let engine = try house.engine
            _ = try await house.run("first") { $0.publishedPorts = [House.port(80, 80)] }
            let error = await #expect(throws: ApusError.self) { try await house.run("second") { $0.publishedPorts = [House.port(80, 8080)] } }
            #expect(error?.message.contains("Bind for 0.0.0.0:80 failed: port is already allocated") == true)
            #expect(try engine.inspect("second").state.phase == .created)
            try await engine.stop("first")
            #expect(try await engine.start("second") == true)
            house.heldPorts.withLock { _ = $0.insert(443) }
            let held = await #expect(throws: ApusError.self) { try await house.run("third") { $0.publishedPorts = [House.port(443, 443)] } }
            #expect(held?.message.contains("0.0.0.0:443") == true)
            engine.setServicePorts(["service": [Self.ingress(9000, 80)]])
            let taken = await #expect(throws: ApusError.self) { try await house.run("fourth") { $0.publishedPorts = [House.port(9000, 443)] } }
            #expect(taken?.code == .conflict)
        }
    }

    @Test func chosenPorts() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest") { $0.exposedPorts = ["80/tcp": "", "53/udp": ""] }
            house.heldPorts.withLock { _ = $0.insert(32768) }
            var request = ContainerRequest(image: "nginx:latest", name: "all")
            request.publishesAllPorts = true
            let engine = try house.engine
            let id = try await engine.create(request)
            let ports = try engine.inspect(id.text).publishedPorts
            #expect(Set(ports.map(\.containerPort)) == [80, 53])
            #expect(ports.allSatisfy { (32769...60999).contains($0.hostPort) })
            request.name = "again"
            let second = try engine.inspect(try await engine.create(request).text).publishedPorts
            #expect(Set((ports + second).map(\.hostPort)).count == 4)
        }
    }

    @Test(arguments: [(UInt64(0), UInt64(0), ""), (70000, 80, ""), (80, 70000, ""), (80, 80, "nonsense")])
    func badPorts(_ host: UInt64, _ inside: UInt64, _ address: String) async throws {
        try await House.with { house in
            let engine = try house.engine
            var port = House.port(host, inside)
            port.hostAddress = address
            let wrong = port
            let error = await #expect(throws: ApusError.self) { try await house.run("web") { $0.publishedPorts = [wrong] } }
            #expect(error?.code == .invalidArgument)
            #expect(engine.list().isEmpty)
        }
    }

    static func ingress(_ published: UInt64, _ target: UInt64) -> PortConfig {
        var port = PortConfig()
        port.publishedPort = published
        port.targetPort = target
        return port
    }
}
