import BalancerIPVS
import Glibc
import IPVS
import NFTables
import Namespaces
import Netlink
import PluginAPI
import Testing

/// Virtual addresses in the containers' namespaces.
@Suite(.withIPVS) struct IPVSVirtualTests {
    @Test func allPortsGoToOneBackendAfterTheOther() async throws {
        try await IPVSSite.run(containers: 3) { site in
            let more = try Server("more", in: site.containers[1], "::", port: 9090)
            for count in 1...3 {
                try await site.balancer.apply(site.virtualState(0..<count))
                let all = Set((0..<count).map { "c\($0)" })
                // The client is among the backends.
                for (address, own) in [("172.30.1.1", "172.30.0.2"), (IPVSSite.virtualV6, "fd00:30::2")] {
                    #expect(try await site.answers(from: site.containers[0], to: address, port: 8080, times: count) == all)
                    #expect(try await Connection.greeting(from: site.containers[0], to: address, port: 8080)[1] == own)
                }
            }
            try await site.balancer.apply(site.virtualState(1..<2))
            #expect(try await Connection.greeting(from: site.containers[0], to: "172.30.1.1", port: 9090) == ["more", "172.30.0.2"])
            // The host and other containers know nothing of it.
            #expect(await Connection.error(from: site.containers[2], to: "172.30.1.1", port: 8080) != nil)
            await more.stop()
        }
    }

    @Test func changesUnderLoadFailNobody() async throws {
        try await IPVSSite.run(containers: 3) { site in
            try await site.balancer.apply(site.virtualState(0..<3))
            let (outcome, retransmissions) = try await Load.run(from: site.containers[0], to: "172.30.1.1", port: 8080) {
                for round in 0..<20 {
                    try await site.balancer.apply(site.virtualState([[0, 1], [1], [1, 2], [2, 0], [0], [0, 1, 2]][round % 6]))
                    try await ConcurrentTask.sleep(for: .milliseconds(30))
                }
            }
            #expect(outcome.failures.isEmpty && outcome.answers.count == 3 && retransmissions == 0, "\(outcome) \(retransmissions)")
        }
    }

    @Test func whoLeavesKeepsConnectionsUntilTheyEnd() async throws {
        try await IPVSSite.run(containers: 3) { site in
            try await site.balancer.apply(site.virtualState(1..<2))
            let first = try await Connection(from: site.containers[0], to: "172.30.1.1", port: 8080)
            #expect(try await first.readLine() == "c1 172.30.0.2")
            try await site.balancer.apply(site.virtualState(2..<3))
            #expect(try await first.echo("one") == "one")
            #expect(try await site.answers(from: site.containers[0], to: "172.30.1.1", port: 8080, times: 3) == ["c2"])
            let drained = try await site.table(in: site.containers[0]).servers.values.joined().filter { $0.server.address == IPVSSite.address(1) }
            #expect(drained.map(\.weight) == [0] && drained.map(\.activeConnections) == [1])
            try await site.balancer.apply(site.virtualState(0..<0))
            #expect(try await first.echo("two") == "two")
            #expect(await Connection.error(from: site.containers[0], to: "172.30.1.1", port: 8080) == .permissionDenied)
            #expect(await Connection.error(from: site.containers[0], to: IPVSSite.virtualV6, port: 8080) == .permissionDenied)
        }
    }

    @Test func datagramsStayUntilTheirBackendLeaves() async throws {
        try await IPVSSite.run(containers: 3) { site in
            for address in ["172.30.1.1", IPVSSite.virtualV6] {
                try await site.balancer.apply(site.virtualState(1..<3))
                let client = try await DatagramClient(from: site.containers[0], to: address, port: 8080)
                let first = try await client.ask()
                #expect(try await client.ask() == first)
                let rest = first[0] == "c1" ? 2 : 1
                try await site.balancer.apply(site.virtualState([rest]))
                #expect(try await client.ask()[0] == "c\(rest)")
                try await site.balancer.apply(site.virtualState(1..<3))
                #expect(try await client.ask()[0] == "c\(rest)")
            }
        }
    }

    @Test func echoRequestsAreAnswered() async throws {
        try await IPVSSite.run(containers: 2) { site in
            try await site.balancer.apply(site.virtualState(1..<2))
            #expect(try await Self.ping(IPVSSite.virtual, from: site.containers[0]))
            #expect(try await Self.ping(try #require(IPAddress(IPVSSite.virtualV6)), from: site.containers[0]))
            try await site.balancer.apply(site.virtualState(0..<0))
            #expect(try await !Self.ping(IPVSSite.virtual, from: site.containers[0]))
        }
    }

    /// The first packet of associations, by raw sockets: kernels with IPVS need not have SCTP themselves.
    @Test func associationsOfSCTPAreBalanced() async throws {
        try await IPVSSite.run(containers: 3) { site in
            try await site.balancer.apply(site.virtualState(1..<3))
            var backends: [Int32] = []
            for number in 1...2 {
                backends.append(try await NetworkNamespaces.run(in: site.containers[number]) { () throws(ApusError) in try Association.rawSocket() })
            }
            defer { for backend in backends { close(backend) } }
            try await NetworkNamespaces.run(in: site.containers[0]) { () throws(ApusError) in
                let client = try Association.rawSocket()
                defer { close(client) }
                for port in UInt16(5001)...5004 {
                    try Association.send(Association.initiation(from: port, to: 8080), by: client, to: IPVSSite.virtual)
                }
            }
            for backend in backends {
                for _ in 0..<2 {
                    let packet = try await Association.receive(backend)
                    #expect(packet.source == IPAddress(v4: 172, 30, 0, 2) && packet.targetPort == 8080 && packet.chunk == 1)
                }
            }
        }
    }

    @Test func aNamespaceThatIsGoneIsNoError() async throws {
        try await IPVSSite.run(containers: 1) { site in
            var state = try site.virtualState(0..<1)
            state.sandboxes.append(SandboxState(path: site.laboratory.directory + "/never", services: state.sandboxes[0].services))
            try await site.balancer.apply(state)
            let passing = try site.laboratory.makeNamespace("passing")
            state.sandboxes.append(SandboxState(path: passing, services: state.sandboxes[0].services))
            try await site.balancer.apply(state)
            try NetworkNamespaces.remove(path: passing)
            try await site.balancer.apply(state)
            // Another one of the same name is not taken for it.
            try NetworkNamespaces.create(path: passing)
            try await site.balancer.apply(state)
            #expect(try await site.table(in: passing).servers.count == 4)
            // Not named any more: nothing is left.
            try await site.balancer.apply(BalancerState())
            #expect(try await site.table(in: passing).servers.isEmpty)
        }
    }

    /// Whether an echo request is answered within a second.
    private static func ping(_ address: IPAddress, from namespace: String) async throws -> Bool {
        try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in
            let descriptor = socket(address.isIPv4 ? AF_INET : AF_INET6, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), address.isIPv4 ? 1 : 58)
            guard descriptor >= 0 else { throw ApusError(.failed, "socket: errno \(errno)") }
            defer { close(descriptor) }
            var time = timeval(tv_sec: 1, tv_usec: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
            guard SocketAddress(address, 0).with({ connect(descriptor, $0, $1) }) == 0 else { return false }
            // Type, code, checksum (the kernel's own in IPv6), identifier, number.
            let request: [UInt8] = address.isIPv4 ? [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1] : [128, 0, 0, 0, 0x12, 0x34, 0, 1]
            guard send(descriptor, request, request.count, 0) == request.count else { return false }
            var buffer = [UInt8](repeating: 0, count: 200)
            while true {
                let count = recv(descriptor, &buffer, buffer.count, 0)
                guard count > 0 else { return false }
                let answer = address.isIPv4 ? buffer[20..<count] : buffer[..<count]
                if answer.first == (address.isIPv4 ? 0 : 129) { return true }
            }
        }
    }
}
