import BalancerNFTables
import Glibc
import NFTables
import Namespaces
import NetworkBridge
import PluginAPI
import Testing

/// Virtual addresses: the container that asks is one of the site's, and so are the backends.
@Suite struct SandboxTests {
    private static let address = IPAddress(v4: 172, 30, 9, 1)

    private func backend(_ number: Int) -> IPAddress { IPAddress(v4: 172, 30, 0, UInt8(number + 2)) }

    /// The last container is the client of one service with these backends.
    private func state(_ site: Site, _ backends: [Int]) -> BalancerState {
        let service = VirtualService(address: Self.address, backends: backends.map(backend))
        return BalancerState(sandboxes: [SandboxState(path: site.containers[site.containers.count - 1], services: [service])])
    }

    private func table(_ namespace: String) async throws -> String {
        try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in try NFTables().run("list ruleset") }
    }

    @Test(arguments: 1...3) func allBackendsAnswerAndSeeTheClient(count: Int) async throws {
        try await Site.run(containers: 4) { site in
            let client = site.containers[3]
            try await site.balancer.apply(state(site, Array(0..<count)))
            var names: Set<String> = []
            for _ in 0..<count {
                let seen = try await Connection.greeting(from: client, to: "\(Self.address)", port: 8080)
                names.insert(seen.first ?? "")
                #expect(seen.last == "\(backend(3))")
            }
            #expect(names == Set((0..<count).map { "c\($0)" }))
            // Other addresses, and other containers, are left alone.
            #expect(try await Connection.greeting(from: client, to: "\(backend(0))", port: 8080).first == "c0")
            #expect(await Connection.error(from: site.containers[0], to: "\(Self.address)", port: 8080) != nil)
            #expect(try await site.ruleset().contains("apus-balancer") == false)
        }
    }

    @Test func aTaskMayBeItsOwnBackend() async throws {
        try await Site.run(containers: 1) { site in
            try await site.balancer.apply(state(site, [0]))
            #expect(try await Connection.greeting(from: site.containers[0], to: "\(Self.address)", port: 8080).first == "c0")
        }
    }

    @Test func scalingUnderLoadFailsNoRequestAndKeepsConnections() async throws {
        try await Site.run(containers: 4) { site in
            let client = site.containers[3]
            try await site.balancer.apply(state(site, [0]))
            let kept = try await Connection(from: client, to: "\(Self.address)", port: 8080)
            #expect(try await kept.readLine().hasPrefix("c0"))
            let failures = try await withThrowingTaskGroup(of: [String].self) { group in
                for _ in 0..<3 {
                    group.addTask {
                        var failures: [String] = []
                        while !ConcurrentTask.isCancelled {
                            do {
                                _ = try await Connection.greeting(from: client, to: "\(Self.address)", port: 8080)
                            } catch { failures.append("\(error)") }
                        }
                        return failures
                    }
                }
                for round in 0..<40 { try await site.balancer.apply(state(site, [[0, 1], [1], [0, 1, 2], [2, 0]][round % 4])) }
                group.cancelAll()
                var failures: [String] = []
                for try await some in group { failures += some }
                return failures
            }
            #expect(failures == [])
            try await site.balancer.apply(state(site, [1]))
            #expect(try await kept.echo("still here") == "still here")
            // A new engine starts from nothing, and replaces what it finds.
            let next = try Site.balancer(site.laboratory)
            try await next.apply(state(site, [2]))
            #expect(try await kept.echo("and here") == "and here")
            #expect(try await Connection.greeting(from: client, to: "\(Self.address)", port: 8080).first == "c2")
            await next.shutDown()
        }
    }

    @Test func withoutBackendsConnectionsAreRefusedAtOnce() async throws {
        try await Site.run(containers: 2) { site in
            let client = site.containers[1]
            for backends in [[], [0], []] {
                try await site.balancer.apply(state(site, backends))
                let expected: ApusError.Code? = backends.isEmpty ? .permissionDenied : nil
                #expect(await Connection.error(from: client, to: "\(Self.address)", port: 8080) == expected)
            }
            // The system says EPERM when it sends and ECONNREFUSED afterwards.
            let datagrams = try await DatagramClient(from: client, to: "\(Self.address)", port: 8080)
            for _ in 0..<2 { await #expect { try await datagrams.ask() } throws: { ($0 as? ApusError)?.code != .timedOut } }
        }
    }

    @Test func datagramsStayWithABackendAndLeaveOneThatIsGone() async throws {
        try await Site.run(containers: 4) { site in
            var servers: [Server] = []
            for number in 0..<3 { servers.append(try Server("u\(number)", in: site.containers[number], port: 5300, udp: true)) }
            try await site.balancer.apply(state(site, [0, 1]))
            let client = try await DatagramClient(from: site.containers[3], to: "\(Self.address)", port: 5300)
            let first = try await client.ask()
            #expect(first.last == "\(backend(3))")
            for _ in 0..<5 { #expect(try await client.ask() == first) }
            try await site.balancer.apply(state(site, [0, 1, 2]))
            #expect(try await client.ask() == first)
            try await site.balancer.apply(state(site, [2]))
            #expect(try await client.ask().first == "u2")
            try await site.balancer.apply(state(site, []))
            await #expect { try await client.ask() } throws: { ($0 as? ApusError)?.code != .timedOut }
            try await site.balancer.apply(state(site, [1]))
            // The socket has still to say that it was refused.
            #expect(await eventually { (try? await client.ask().first) == "u1" })
            // A new engine does not know what was before it.
            let next = try Site.balancer(site.laboratory)
            try await next.apply(state(site, [0]))
            #expect(try await client.ask().first == "u0")
            await next.shutDown()
            for server in servers { await server.stop() }
        }
    }

    @Test func echoRequestsAreAnswered() async throws {
        try await Site.run(containers: 3) { site in
            try await site.balancer.apply(state(site, [0, 1]))
            #expect(try await echo(from: site.containers[2], to: Self.address, identifier: 77))
            try await site.balancer.apply(state(site, []))
            #expect(try await !echo(from: site.containers[2], to: Self.address, identifier: 78))
        }
    }

    /// Whether an ICMP echo request is answered by the address to which it went.
    private func echo(from namespace: String, to address: IPAddress, identifier: UInt8) async throws -> Bool {
        try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in
            let descriptor = socket(AF_INET, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), Int32(IPPROTO_ICMP))
            defer { close(descriptor) }
            var time = timeval(tv_sec: 1, tv_usec: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
            let sum = ~(UInt16(8) << 8 &+ UInt16(identifier))
            let request: [UInt8] = [8, 0, UInt8(sum >> 8), UInt8(sum & 0xff), 0, identifier, 0, 0]
            guard SocketAddress(address, 0).with({ sendto(descriptor, request, request.count, 0, $0, $1) }) == request.count else { return false }
            var answer = [UInt8](repeating: 0, count: 1500)
            while recv(descriptor, &answer, answer.count, 0) >= 28 {
                if answer[20] == 0, answer[25] == identifier { return Array(answer[12..<16]) == address.bytes }
            }
            return false
        }
    }

    @Test func ipv6AddressesAreBalanced() async throws {
        try await Site.run(containers: 0) { site in
            var network = try testNetwork("dual", "172.31.0.1/16")
            network.gatewayV6 = IPPrefix("fd00:30::1/64")
            try await site.driver.create(network)
            var sandboxes: [String] = []
            for number in 2...4 {
                var request = AttachRequest(
                    network: network, containerID: ID.randomContainer(), sandboxPath: try site.laboratory.makeNamespace("v\(number)"),
                    interfaceName: "eth0", address: try #require(IPPrefix("172.31.0.\(number)/16")),
                    macAddress: MACAddress(containerWith: IPAddress(v4: 172, 31, 0, UInt8(number))), isDefaultRoute: true)
                request.addressV6 = IPPrefix("fd00:30::\(number)/64")
                _ = try await site.driver.attach(request)
                sandboxes.append(request.sandboxPath)
            }
            let servers = [try Server("v2", in: sandboxes[0], "::", port: 8080), try Server("v3", in: sandboxes[1], "::", port: 8080)]
            let address = try #require(IPAddress("fd00:30::9:1"))
            func state(_ backends: [String]) -> BalancerState {
                let service = VirtualService(address: address, backends: backends.compactMap { IPAddress($0) })
                return BalancerState(sandboxes: [SandboxState(path: sandboxes[2], services: [service])])
            }
            try await site.balancer.apply(state(["fd00:30::2", "fd00:30::3"]))
            var names: Set<String> = []
            for _ in 0..<2 { names.insert(try await Connection.greeting(from: sandboxes[2], to: "\(address)", port: 8080).joined(separator: " ")) }
            #expect(names == ["v2 fd00:30::4", "v3 fd00:30::4"])
            try await site.balancer.apply(state([]))
            #expect(await Connection.error(from: sandboxes[2], to: "\(address)", port: 8080) == .permissionDenied)
            await #expect { try await site.balancer.apply(state(["172.31.0.2"])) } throws: { ($0 as? ApusError)?.code == .invalidArgument }
            for server in servers { await server.stop() }
        }
    }

    @Test func onlyWhatDiffersIsTouchedAndWhatIsGoneIsSkipped() async throws {
        try await Site.run(containers: 2) { site in
            let paths = [try site.laboratory.makeNamespace("one"), try site.laboratory.makeNamespace("two")]
            func state(_ paths: [String], _ counts: [Int]) -> BalancerState {
                BalancerState(
                    sandboxes: zip(paths, counts).map { path, count in
                        SandboxState(path: path, services: [VirtualService(address: Self.address, backends: (0..<count).map(backend))])
                    })
            }
            try await site.balancer.apply(state(paths, [1, 1]))
            // A sign of our own: it stays where nothing is done.
            let sign = "add element inet apus-services refused { 192.0.2.1 }"
            try await NetworkNamespaces.run(in: paths[0]) { () throws(ApusError) in _ = try NFTables().run(sign) }
            try await site.balancer.apply(state(paths, [1, 2]))
            #expect(try await table(paths[0]).contains("192.0.2.1"))
            #expect(try await table(paths[1]).contains("mod 2"))
            // One ends, and another comes to its path; one is none of ours any more, and one was never there.
            try NetworkNamespaces.remove(path: paths[1])
            try await site.balancer.apply(state(paths + ["\(site.laboratory.directory)/never"], [1, 2, 1]))
            try NetworkNamespaces.create(path: paths[1])
            try await site.balancer.apply(state(paths, [1, 2]))
            #expect(try await table(paths[1]).contains("mod 2"))
            try await site.balancer.apply(state([paths[1]], [0]))
            #expect(try await table(paths[0]) == "")
            try await site.balancer.apply(BalancerState(sandboxes: [SandboxState(path: paths[1], services: [])]))
            #expect(try await table(paths[1]) == "")
        }
    }

    @Test func aFlushedTableIsRepaired() async throws {
        try await Site.run(containers: 2) { site in
            try await site.balancer.apply(state(site, [0]))
            try await NetworkNamespaces.run(in: site.containers[1]) { () throws(ApusError) in _ = try NFTables().run("flush ruleset") }
            #expect(try await eventually { try await table(site.containers[1]).contains("172.30.9.1") })
            #expect(try await Connection.greeting(from: site.containers[1], to: "\(Self.address)", port: 8080).first == "c0")
        }
    }
}
