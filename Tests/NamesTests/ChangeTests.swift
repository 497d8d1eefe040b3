import Glibc
import NFTables
import Namespaces
import PluginAPI
import Processes
import Testing

@testable import Names

/// What changes while it is asked for.
@Suite struct ChangeTests {
    @Test func noAnswerIsOlderThanTheState() async throws {
        // Whoever is asked upstream knows nothing: a name that is missed even for a moment shows as one that does not exist.
        let upstream = try ScriptedUpstream { query, _, _ in [.init(bytes: Message.answer(to: query, code: 3))] }
        defer { upstream.stop() }
        try await NameLaboratory.run { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            func state(_ number: Int) throws -> NameState {
                try NameLaboratory.state([sandbox], names: ["web": ["10.0.\(number / 250).\(number % 250)"]], upstream: [upstream.server])
            }
            await laboratory.server.apply(try state(0))
            let applied = Shared(0)
            let isOver = Shared(false)
            let asked = Shared(0)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for isStream in [false, false, true] {
                    group.addTask {
                        let client = try Client(in: sandbox, isStream: isStream)
                        while !isOver.value {
                            let least = applied.value
                            let bytes = Message.query("web")
                            client.send(isStream ? Client.frame(bytes) : bytes)
                            let answer = try Message((isStream ? await client.receiveFrame() : await client.receive()) ?? [])
                            let most = applied.value + 1
                            let bytesOfAddress = answer.answers.first?.data ?? [0, 0, 0, 0]
                            let number = Int(bytesOfAddress[2]) * 250 + Int(bytesOfAddress[3])
                            #expect(answer.header.code == 0 && answer.answers.count == 1 && (least...most).contains(number), "\(least) \(number) \(most)")
                            asked.change { $0 += 1 }
                        }
                    }
                }
                for number in 1...500 {
                    await laboratory.server.apply(try state(number))
                    applied.value = number
                    let before = asked.value
                    // Some queries for each state.
                    while asked.value < before + 4 { try await ConcurrentTask.sleep(for: .milliseconds(1)) }
                }
                isOver.value = true
                try await group.waitForAll()
            }
            #expect(upstream.queries.isEmpty)
        }
    }

    @Test func aNameThatComesGoesBeforeWhatUpstreamSays() async throws {
        let upstream = try ScriptedUpstream { query, _, _ in [.init(bytes: Message.answer(to: query, code: 3), delay: .milliseconds(600))] }
        defer { upstream.stop() }
        try await NameLaboratory.run { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            await laboratory.server.apply(try NameLaboratory.state([sandbox], upstream: [upstream.server]))
            let client = try Client(in: sandbox)
            client.send(Message.query("late"))
            while upstream.queries.isEmpty { try await ConcurrentTask.sleep(for: .milliseconds(1)) }
            await laboratory.server.apply(try NameLaboratory.state([sandbox], names: ["late": ["10.0.7.5"]], upstream: [upstream.server]))
            #expect(try await Message(client.receive() ?? []).addresses == [try address("10.0.7.5")])
        }
    }

    @Test func sandboxesComeAndGoAndTheRestGoOn() async throws {
        try await NameLaboratory.run { laboratory in
            let (one, two) = (try laboratory.makeSandbox("one"), try laboratory.makeSandbox("two"))
            let names = ["web": ["10.0.7.1"]]
            await laboratory.server.apply(try NameLaboratory.state([one], names: names))
            let kept = try Client(in: one, isStream: true)
            func askKept() async throws -> Message {
                kept.send(Client.frame(Message.query("web")))
                return try await Message(kept.receiveFrame() ?? [])
            }
            #expect(try await askKept().addresses.count == 1)
            let missing = "\(laboratory.directory)/missing"
            let failures = await laboratory.server.apply(try NameLaboratory.state([one, two, missing], names: names))
            #expect(failures.keys.sorted() == [missing] && failures[missing]?.code == .notFound)
            #expect(try await laboratory.digShort(in: two, "web") == ["10.0.7.1"])
            #expect(try await askKept().addresses.count == 1, "the same connection")
            // Made anew at the same path.
            try NetworkNamespaces.remove(path: two)
            _ = try laboratory.makeSandbox("two")
            #expect(try await laboratory.server.apply(NameLaboratory.state([one, two], names: names)) == [:])
            #expect(try await laboratory.digShort(in: two, "web") == ["10.0.7.1"])
            // Not served any more: neither sockets nor rules are left.
            await laboratory.server.apply(try NameLaboratory.state([one], names: names))
            let rules = try await NetworkNamespaces.run(in: two) { () throws(ApusError) in try NFTables().run("list ruleset") }
            #expect(!rules.contains(SandboxDoor.table))
            #expect(try await laboratory.program(in: two, "dig", "@127.0.0.11", "+tries=1", "+time=1", "web").text.contains("refused"))
            #expect(try await askKept().addresses.count == 1, "the same connection")
        }
    }

    @Test func anotherEngineTakesOver() async throws {
        try await NameLaboratory.run { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            await laboratory.server.apply(try NameLaboratory.state([sandbox], names: ["web": ["10.0.7.1"]]))
            // From one port before and after: what is tracked of it must not lead to the first server's socket.
            let client = try Client(in: sandbox)
            #expect(try await client.ask(Message.query("web")).addresses == [try address("10.0.7.1")])
            laboratory.server.stop()
            while try await laboratory.program(in: sandbox, "ss", "-Hulpn").text.contains("127.0.0.11") {
                try await ConcurrentTask.sleep(for: .milliseconds(1))
            }
            let pause = try await laboratory.program(in: sandbox, "dig", "@127.0.0.11", "+tries=1", "+time=1", "web")
            #expect(pause.text.contains("refused"), "at once, not after a while")
            client.send(Message.query("web"))
            let second = try NameServer(logger: NameLaboratory.logger)
            try await laboratory.running(second) {
                await second.apply(try NameLaboratory.state([sandbox], names: ["web": ["10.0.7.2"]]))
                var error: Int32 = 0
                var length = socklen_t(MemoryLayout<Int32>.size)
                getsockopt(client.descriptor, SOL_SOCKET, SO_ERROR, &error, &length)
                #expect(error == ECONNREFUSED, "nobody was there")
                #expect(try await client.ask(Message.query("web")).addresses == [try address("10.0.7.2")])
                #expect(try await laboratory.digShort(in: sandbox, "web") == ["10.0.7.2"])
                #expect(try await laboratory.digShort(in: sandbox, "+tcp", "web") == ["10.0.7.2"])
                let rules = try await NetworkNamespaces.run(in: sandbox) { () throws(ApusError) in try NFTables().run("list ruleset") }
                #expect(rules.split(separator: "\n").filter { $0.contains("dnat") }.count == 2, "\(rules)")
            }
            #expect(try await laboratory.server.apply(NameLaboratory.state([sandbox]))[sandbox]?.code == .unavailable)
        }
    }
}
