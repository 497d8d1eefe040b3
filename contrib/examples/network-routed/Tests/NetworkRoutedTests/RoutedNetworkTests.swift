import Glibc
import PluginAPI
import Testing

@testable import NetworkRouted

/// What the engine hands to a plugin, for tests.
private struct TestHost: HostServices {
    var configuration: [String: String]
    var runDirectory: String
    var engineVersion: String { "test" }
    var stateDirectory: String { runDirectory }
    func log(_ level: LogLevel, _ message: String) {}
    func count(_ counter: String, by amount: Int) {}
}

/// Two nodes on one link, each a namespace of its own, and namespaces of containers beside them; gone with it.
private final class Laboratory {
    let names: [String]
    let folder: String
    private let shell: Command

    init() async throws {
        var template = Array("/tmp/network-routed-XXXXXX".utf8CString)
        mkdtemp(&template)
        folder = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        shell = Command(program: "/usr/sbin/ip", namespace: nil, runDirectory: folder)
        let mark = String(UInt32.random(in: 0 ... .max), radix: 36)
        names = ["1", "2", "a", "b", "c"].map { "rt-\(mark)-\($0)" }
        for name in names { _ = try await shell.run(["netns", "add", name]) }
        try await shell.batch(["link add eth0 type veth peer name eth0 netns \(names[1])"], in: path(0))
        for (index, name) in names.prefix(2).enumerated() {
            try await shell.batch(["address add 192.0.2.\(index + 1)/24 dev eth0", "link set eth0 up", "link set lo up"], in: "/run/netns/\(name)")
        }
    }

    func end() async {
        for name in names { _ = try? await shell.run(["netns", "delete", name]) }
        rmdir(folder)
    }

    func path(_ index: Int) -> String { "/run/netns/\(names[index])" }
    func driver(_ node: Int) -> RoutedNetwork { RoutedNetwork(host: TestHost(configuration: ["namespace": path(node)], runDirectory: folder)) }
    func routes(_ index: Int) async throws -> String { try await shell.run(["-o", "-4", "route", "show"], in: path(index)) }
    func ip(_ index: Int, _ arguments: String) async throws -> String {
        try await shell.run(arguments.split(separator: " ").map(String.init), in: path(index))
    }

    /// Whom a server in one namespace sees when it is asked from another; `nil` when the question does not arrive.
    func ask(_ server: Int, at address: String, from client: Int) async throws -> String? {
        let ready = "\(folder)/ready"
        unlink(ready)
        let serve =
            "import socket,os;s=socket.create_server(('0.0.0.0',7000));open('\(ready)','w').close();s.settimeout(20);c,a=s.accept();c.sendall(a[0].encode())"
        let question = "import socket;c=socket.create_connection(('\(address)',7000),3);print(c.recv(100).decode())"
        let (folder, names) = (folder, names)
        func python(_ index: Int, _ text: String) async throws(ApusError) -> String {
            try await Command(program: "/usr/bin/python3", namespace: "/run/netns/\(names[index])", runDirectory: folder).run(["-c", text])
        }
        async let served = try? python(server, serve)
        while access(ready, F_OK) != 0 { try await pause() }
        let answer = try? await python(client, question)
        // Whoever waits in vain is let go.
        if answer == nil { _ = try? await python(server, "import socket;socket.create_connection(('127.0.0.1',7000),3)") }
        _ = await served
        unlink(ready)
        return answer.map { String($0.dropLast()) }
    }
}

/// PluginAPI has a `Task` of its own.
private func pause() async throws { try await Swift.Task<Never, Never>.sleep(for: .milliseconds(5)) }

@Suite(.enabled(if: getuid() == 0)) struct RoutedNetworkTests {
    private let network: LocalNetwork

    init() throws {
        network = LocalNetwork(id: "abcdefghijklmnopqrstuvwxy", name: "plain", gateway: try #require(IPPrefix("10.9.0.1/24")))
    }

    private func request(_ laboratory: Laboratory, _ sandbox: Int, _ address: String, _ container: ID) throws -> AttachRequest {
        let prefix = try #require(IPPrefix("\(address)/24"))
        return AttachRequest(
            network: network, containerID: container, sandboxPath: laboratory.path(sandbox), interfaceName: "eth0", address: prefix,
            macAddress: MACAddress(containerWith: prefix.address), isDefaultRoute: false)
    }

    private func peer(_ address: String, _ node: String) throws -> NetworkPeer {
        let own = try #require(IPAddress(address))
        return NetworkPeer(address: own, macAddress: MACAddress(containerWith: own), node: try #require(IPAddress(node)))
    }

    @Test func containersReachEachOtherOnOneNodeAndOnTwo() async throws {
        let laboratory = try await Laboratory()
        let (first, second) = (laboratory.driver(0), laboratory.driver(1))
        do {
            try await first.create(network)
            try await second.create(network)
            let requests = [
                try request(laboratory, 2, "10.9.0.2", .randomContainer()), try request(laboratory, 3, "10.9.0.3", .randomContainer()),
                try request(laboratory, 4, "10.9.0.4", .randomContainer()),
            ]
            _ = try await first.attach(requests[0])
            _ = try await first.attach(requests[1])
            #expect(try await second.attach(requests[2]).mtu == 1500)
            try await first.setPeers(PeersRequest(network: network, peers: [try peer("10.9.0.4", "192.0.2.2")]))
            try await second.setPeers(
                PeersRequest(network: network, peers: [try peer("10.9.0.2", "192.0.2.1"), try peer("10.9.0.3", "192.0.2.1")]))
            // Each is seen with its own address: nothing translates.
            #expect(try await laboratory.ask(3, at: "10.9.0.3", from: 2) == "10.9.0.2")
            #expect(try await laboratory.ask(4, at: "10.9.0.4", from: 2) == "10.9.0.2")
            #expect(try await laboratory.ask(2, at: "10.9.0.2", from: 4) == "10.9.0.4")

            // All of it once more, by another driver, as after a restart of the engine: nothing changes, and nothing is interrupted.
            let before = try await laboratory.routes(0)
            let again = laboratory.driver(0)
            try await again.create(network)
            _ = try await again.attach(requests[0])
            try await again.setPeers(PeersRequest(network: network, peers: [try peer("10.9.0.4", "192.0.2.2")]))
            #expect(try await laboratory.routes(0).split(separator: "\n").sorted() == before.split(separator: "\n").sorted())

            // What somebody took away comes back.
            _ = try await laboratory.ip(0, "route flush root 10.9.0.0/24")
            _ = try await laboratory.ip(2, "address flush dev eth0")
            _ = try await again.attach(requests[0])
            _ = try await again.attach(requests[1])
            #expect(try await laboratory.ask(3, at: "10.9.0.3", from: 2) == "10.9.0.2")

            // Who has gone is nowhere, and the way out is not tried.
            await #expect(throws: ApusError.self) { try await again.remove(network) }
            for request in requests.prefix(2) {
                let leave = DetachRequest(network: network, containerID: request.containerID, sandboxPath: request.sandboxPath)
                try await again.detach(leave)
                try await again.detach(leave)
            }
            #expect(try await laboratory.routes(0).contains("unreachable 10.9.0.0/24"))
            try await again.remove(network)
            try await again.remove(network)
            #expect(!(try await laboratory.routes(0).contains("10.9.0.")))
        } catch {
            Issue.record(error)
        }
        await laboratory.end()
    }

    @Test func whatCannotBeIsSaidAndChangesNothing() async throws {
        let laboratory = try await Laboratory()
        do {
            let driver = laboratory.driver(0)
            let before = try await laboratory.routes(0)
            var overlapping = network
            overlapping.gateway = try #require(IPPrefix("192.0.2.9/25"))
            let taken = overlapping
            await #expect(throws: ApusError.self) { try await driver.create(taken) }
            #expect(try await laboratory.routes(0) == before)
            try await driver.create(network)
            // A namespace that is not there.
            var lost = try request(laboratory, 2, "10.9.0.2", .randomContainer())
            lost.sandboxPath = "/run/netns/nobody"
            let gone = lost
            await #expect(throws: ApusError.self) { _ = try await driver.attach(gone) }
            // A node that is not on the link.
            let far = PeersRequest(network: network, peers: [try peer("10.9.0.8", "198.51.100.1")])
            await #expect(throws: ApusError.self) { try await driver.setPeers(far) }
            await #expect(throws: ApusError.self) {
                try await RoutedNetwork(host: TestHost(configuration: ["program": "/nonexistent"], runDirectory: laboratory.folder)).check(network)
            }
            #expect(!(try await laboratory.ip(0, "-o link show").contains("rtabcde")))
            try await driver.remove(network)
        } catch {
            Issue.record(error)
        }
        await laboratory.end()
    }
}
