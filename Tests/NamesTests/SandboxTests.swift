import Glibc
import NFTables
import Namespaces
import PluginAPI
import Processes
import Testing

@testable import Names

/// A server in real namespaces, asked by the programs that containers have.
@Suite struct SandboxTests {
    private static let names = [
        "frontend": ["10.0.7.2", "fd00:7::2"], "tasks.frontend": ["10.0.7.3", "10.0.7.4", "fd00:7::3"], "four": ["10.0.7.9"], "six": ["fd00:7::9"], "none": [],
    ]
    private static let pointers = ["10.0.7.3": "frontend.1.mynet", "fd00:7::3": "frontend.1.mynet"]

    @Test func digIsAnswered() async throws {
        try await NameLaboratory.run { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            #expect(try await laboratory.server.apply(NameLaboratory.state([sandbox], names: Self.names, pointers: Self.pointers)) == [:])
            #expect(try await laboratory.digShort(in: sandbox, "frontend") == ["10.0.7.2"])
            #expect(try await laboratory.digShort(in: sandbox, "frontend", "AAAA") == ["fd00:7::2"])
            #expect(try await laboratory.digShort(in: sandbox, "+tcp", "tasks.frontend") == ["10.0.7.3", "10.0.7.4"])
            #expect(try await laboratory.digShort(in: sandbox, "+noedns", "frontend.mynet") == ["10.0.7.2"])
            #expect(try await laboratory.digShort(in: sandbox, "-x", "10.0.7.3") == ["frontend.1.mynet."])
            #expect(try await laboratory.digShort(in: sandbox, "-x", "fd00:7::3") == ["frontend.1.mynet."])
            let whole = try await laboratory.dig(in: sandbox, "FrontEnd")
            #expect(whole.contains("status: NOERROR") && whole.contains("flags: qr aa rd ra;") && whole.contains("FrontEnd.\t\t1\tIN\tA\t10.0.7.2"), "\(whole)")
            let missing = try await laboratory.dig(in: sandbox, "-x", "10.0.7.99")
            #expect(missing.contains("status: NXDOMAIN"), "\(missing)")
            for type in ["AAAA", "ANY", "MX", "HTTPS"] {
                let empty = try await laboratory.dig(in: sandbox, "four", type)
                #expect(empty.contains("status: NOERROR") && empty.contains("ANSWER: 0"), "\(empty)")
            }
            #expect(try await laboratory.dig(in: sandbox, "frontend", "AXFR").contains("Transfer failed"))
            #expect(try await laboratory.dig(in: sandbox, "+edns=1", "+noednsnegotiation", "frontend").contains("status: BADVERS"))
            #expect(try await laboratory.dig(in: sandbox, "+opcode=notify", "frontend").contains("status: NOTIMP"))
            let unknown = try await laboratory.dig(in: sandbox, "nobody")
            #expect(unknown.contains("status: SERVFAIL"), "nobody is there to ask: \(unknown)")
        }
    }

    /// glibc and musl, which differ in what they make of an answer for one family alone.
    @Test(arguments: ["gcc", "musl-gcc"]) func librariesResolve(compiler: String) async throws {
        let upstream = try ScriptedUpstream { query, name, _ in
            [.init(bytes: name == "far.example" ? Message.answer(to: query, addresses: [IPAddress(v4: 192, 0, 2, 1)]) : Message.answer(to: query, code: 3))]
        }
        defer { upstream.stop() }
        try await NameLaboratory.run { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            var names = Self.names
            names["many"] = (1...40).map { "10.0.7.\($0)" }
            await laboratory.server.apply(try NameLaboratory.state([sandbox], names: names, pointers: Self.pointers, upstream: [upstream.server]))
            let program = try await laboratory.compile(with: compiler)
            func resolve(_ names: String..., search: [String] = []) async throws -> [String] {
                var lines: [String] = []
                for name in names { lines += try await laboratory.resolver(in: sandbox, search: search, program, name).lines }
                return lines.sorted()
            }
            #expect(try await resolve("frontend") == ["10.0.7.2", "fd00:7::2"])
            #expect(try await resolve("four") == ["10.0.7.9"])
            #expect(try await resolve("six") == ["fd00:7::9"])
            #expect(try await resolve("TASKS.frontend") == ["10.0.7.3", "10.0.7.4", "fd00:7::3"])
            #expect(try await resolve("frontend", search: ["lan.example"]) == ["10.0.7.2", "fd00:7::2"])
            #expect(try await resolve("frontend", search: ["mynet"]) == ["10.0.7.2", "fd00:7::2"])
            // Before 1.2.4, musl knows no TCP, and takes what a datagram of 512 bytes has room for.
            #expect(Set(try await resolve("many")).count >= (compiler == "gcc" ? 40 : 28))
            #expect(try await resolve("far.example").contains("192.0.2.1"))
            #expect(try await resolve("nobody") == ["nobody: no name"])
            #expect(try await resolve("nobody", search: ["lan.example"]) == ["nobody: no name"])
            for address in ["10.0.7.3", "fd00:7::3"] {
                #expect(try await laboratory.resolver(in: sandbox, program, "-r", address).lines == ["frontend.1.mynet"])
            }
            #expect(upstream.queries.allSatisfy { ["far.example", "nobody", "nobody.lan.example"].contains($0.name) }, "\(upstream.queries.map(\.name))")
        }
    }

    @Test func programsOfDebianResolve() async throws {
        try await NameLaboratory.run { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            await laboratory.server.apply(try NameLaboratory.state([sandbox], names: Self.names, pointers: Self.pointers))
            let hosts = try await laboratory.resolver(in: sandbox, "getent", "ahosts", "tasks.frontend").lines
            #expect(Set(hosts.compactMap { $0.split(separator: " ").first.map(String.init) }) == ["10.0.7.3", "10.0.7.4", "fd00:7::3"])
            let script = "import socket; print(sorted({a[4][0] for a in socket.getaddrinfo('frontend', 80)}), socket.gethostbyaddr('10.0.7.3')[0])"
            #expect(try await laboratory.resolver(in: sandbox, "python3", "-c", script).lines == ["['10.0.7.2', 'fd00:7::2'] frontend.1.mynet"])
        }
    }

    @Test func longAnswersAreCutOverDatagramsAndWholeOverStreams() async throws {
        try await NameLaboratory.run { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            let addresses = (1...200).map { "10.0.7.\($0)" }
            await laboratory.server.apply(try NameLaboratory.state([sandbox], names: ["many": addresses]))
            for options in [["+noedns"], ["+bufsize=1232"]] {
                let cut = try await laboratory.dig(in: sandbox, options[0], "+ignore", "many")
                #expect(cut.contains("flags: qr aa tc rd ra;"), "\(cut)")
                #expect(try await laboratory.digShort(in: sandbox, options[0], "many") == addresses.sorted(), "again over TCP")
            }
            let large = try await laboratory.dig(in: sandbox, "+bufsize=4096", "+ignore", "many")
            #expect(large.contains("flags: qr aa rd ra;") && large.contains("ANSWER: 200"), "\(large)")
            #expect(try await laboratory.digShort(in: sandbox, "+tcp", "many") == addresses.sorted())
            let script = "import socket; print(len({a[4][0] for a in socket.getaddrinfo('many', 80)}))"
            #expect(try await laboratory.resolver(in: sandbox, "python3", "-c", script).lines == ["200"])
        }
    }

    @Test func eachQueryHasAnotherOrder() async throws {
        try await NameLaboratory.run { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            await laboratory.server.apply(try NameLaboratory.state([sandbox], names: ["web": ["10.0.7.1", "10.0.7.2", "10.0.7.3"]]))
            let client = try Client(in: sandbox)
            var first: [IPAddress: Int] = [:]
            for _ in 0..<300 {
                let answer = try await client.ask(Message.query("web"))
                #expect(answer.addresses.count == 3)
                if let address = answer.answers.first.flatMap({ IPAddress(bytes: $0.data) }) { first[address, default: 0] += 1 }
            }
            #expect(first.count == 3 && first.values.allSatisfy { $0 > 50 }, "\(first)")
        }
    }

    @Test func oneConnectionTakesManyQueries() async throws {
        var limits = NameServerLimits()
        limits.silence = .seconds(300)
        try await NameLaboratory.run(limits: limits) { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            await laboratory.server.apply(try NameLaboratory.state([sandbox], names: Self.names))
            let client = try Client(in: sandbox, isStream: true)
            // All at once, the last one in pieces, and nothing is asked afterwards.
            var bytes: [UInt8] = []
            for id in 0..<100 { bytes += Client.frame(Message.query("frontend", id: UInt16(id))) }
            client.send(Array(bytes.dropLast(10)))
            for id in 0..<99 { #expect(try await Message(client.receiveFrame() ?? []).header.id == UInt16(id)) }
            client.send(Array(bytes.suffix(10).prefix(4)))
            client.send(Array(bytes.suffix(6)))
            shutdown(client.descriptor, Int32(SHUT_WR))
            #expect(try await Message(client.receiveFrame() ?? []).header.id == 99)
            #expect(await client.receiveFrame() == nil, "it is closed then")
            // What is no query ends a connection.
            let bad = try Client(in: sandbox, isStream: true)
            bad.send([0, 3, 1, 2, 3])
            #expect(await bad.receiveFrame() == nil)
            let long = try Client(in: sandbox, isStream: true)
            long.send([0xff, 0xff])
            #expect(await long.receiveFrame() == nil)
        }
    }

    /// Answers that nobody reads stop the server from reading, and a sandbox that asks too much is made to wait; nothing is lost by either.
    @Test(arguments: [1_000_000, 2000]) func whoReadsLateGetsEverything(queriesPerSecond: Int) async throws {
        var limits = NameServerLimits()
        limits.queriesPerSecond = queriesPerSecond
        // This test may itself be silent for long, on a machine with other work.
        limits.silence = .seconds(300)
        try await NameLaboratory.run(limits: limits) { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            await laboratory.server.apply(try NameLaboratory.state([sandbox], names: ["many": (1...200).map { "10.0.7.\($0)" }]))
            let client = try Client(in: sandbox, isStream: true, seconds: 30)
            async let sent: Void = onThread {
                for id in 0..<6000 { client.send(Client.frame(Message.query("many", id: UInt16(id)))) }
                shutdown(client.descriptor, Int32(SHUT_WR))
            }
            // 19 MB of answers are more than sockets and the server keep.
            if queriesPerSecond > 2000 { try await ConcurrentTask.sleep(for: .milliseconds(200)) }
            for id in 0..<6000 {
                let answer = try Message(await client.receiveFrame() ?? [])
                guard answer.header.id == UInt16(id), answer.answers.count == 200 else { throw ApusError(.failed, "answer \(id) has \(answer.answers.count)") }
            }
            #expect(await client.receiveFrame() == nil)
            await sent
        }
    }

    @Test func connectionsAreBounded() async throws {
        var limits = NameServerLimits()
        limits.connectionsPerSandbox = 4
        limits.silence = .milliseconds(400)
        try await NameLaboratory.run(limits: limits) { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            await laboratory.server.apply(try NameLaboratory.state([sandbox], names: Self.names))
            var clients: [Client] = []
            for _ in 0..<8 {
                let client = try Client(in: sandbox, isStream: true)
                client.send(Client.frame(Message.query("frontend")))
                #expect(await client.receiveFrame() != nil)
                clients.append(client)
            }
            #expect(await clients[0].receiveFrame() == nil, "the oldest was closed")
            #expect(await clients[7].receiveFrame() == nil, "it was silent for too long")
        }
    }

    @Test func aContainerMayHavePort53() async throws {
        try await NameLaboratory.run { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            await laboratory.server.apply(try NameLaboratory.state([sandbox], names: Self.names))
            let sockets = try NetworkNamespaces.runBlocking(in: sandbox) { () throws(ApusError) in
                var sockets: [Int32] = []
                for kind in [SOCK_DGRAM, SOCK_STREAM] {
                    let descriptor = try Sockets.open(AF_INET, kind)
                    let target = try SocketAddress(IPAddress(v4: 0, 0, 0, 0), 53)
                    guard target.with({ Glibc.bind(descriptor, $0, $1) }) == 0 else { throw Sockets.failure("bind 53") }
                    sockets.append(descriptor)
                }
                return sockets
            }
            defer { for socket in sockets { close(socket) } }
            #expect(listen(sockets[1], 8) == 0)
            #expect(try await laboratory.digShort(in: sandbox, "frontend") == ["10.0.7.2"])
            #expect(try await laboratory.digShort(in: sandbox, "+tcp", "frontend") == ["10.0.7.2"])
            // Its own port is reached at its other addresses.
            #expect(try await laboratory.program(in: sandbox, "dig", "@127.0.0.1", "+tries=1", "+time=1", "frontend").text.contains("timed out"))
            var buffer = [UInt8](repeating: 0, count: 512)
            #expect(recv(sockets[0], &buffer, buffer.count, 0) > 12)
        }
    }
}
