import Files
import Glibc
import PluginAPI
import Processes
import Testing

@testable import Names

@Suite struct GarbageTests {
    @Test func programsAreAnsweredBelowAHailOfGarbage() async throws {
        let upstream = try ScriptedUpstream { query, _, _ in [.init(bytes: Message.answer(to: query, code: 3))] }
        defer { upstream.stop() }
        try await NameLaboratory.run { laboratory in
            let (one, two) = (try laboratory.makeSandbox("one"), try laboratory.makeSandbox("two"))
            await laboratory.server.apply(try NameLaboratory.state([one, two], names: ["web": ["10.0.7.1"]], upstream: [upstream.server]))
            let corpus = try FuzzTests.corpus()
            let isOver = Shared(false)
            let sent = try await withThrowingTaskGroup(of: Int.self) { group in
                for seed in 1...2 {
                    group.addTask {
                        let client = try Client(in: one)
                        return await onThread {
                            var random = seeded(UInt64(seed))
                            var count = 0
                            while !isOver.value || count < 20_000 {
                                client.send(FuzzTests.mutate(corpus.randomElement(using: &random) ?? [], with: corpus, &random))
                                count += 1
                            }
                            return count
                        }
                    }
                }
                group.addTask {
                    var random = seeded(3)
                    for _ in 0..<300 {
                        let client = try Client(in: one, isStream: true, seconds: 1)
                        let bytes = FuzzTests.mutate(corpus.randomElement(using: &random) ?? [], with: corpus, &random)
                        client.send(Bool.random(using: &random) ? Client.frame(bytes) : bytes)
                        shutdown(client.descriptor, Int32(SHUT_WR))
                        _ = await client.receive()
                    }
                    return 300
                }
                // The neighbour does not notice. In the same sandbox a datagram may be lost, as its socket overflows; TCP is not.
                for _ in 0..<20 {
                    #expect(try await laboratory.digShort(in: two, "web") == ["10.0.7.1"])
                    #expect(try await laboratory.digShort(in: one, "+tcp", "web") == ["10.0.7.1"])
                }
                isOver.value = true
                return try await group.reduce(0, +)
            }
            #expect(sent > 40_000)
            try await eventually { try await laboratory.digShort(in: one, "web") == ["10.0.7.1"] }
        }
    }

    /// Asks again until the condition holds.
    private func eventually(_ condition: () async throws -> Bool) async throws {
        let end = ContinuousClock.now + .seconds(60)
        while try await !condition() {
            guard ContinuousClock.now < end else { throw ApusError(.timedOut, "it does not happen") }
        }
    }
}

/// Figures; what is expected of them is far below what they are.
@Suite(.serialized) struct SpeedTests {
    @Test func queriesPerSecond() async throws {
        var limits = NameServerLimits()
        limits.queriesPerSecond = 10_000_000
        try await NameLaboratory.run(limits: limits) { laboratory in
            let sandbox = try laboratory.makeSandbox("one")
            await laboratory.server.apply(try NameLaboratory.state([sandbox], names: ["web": ["10.0.7.1", "10.0.7.2", "10.0.7.3"]]))
            let clients = try (0..<4).map { _ in try Client(in: sandbox) }
            let start = ContinuousClock.now
            await withTaskGroup(of: Void.self) { group in
                for client in clients {
                    group.addTask {
                        await onThread {
                            let bytes = Message.query("web")
                            for _ in 0..<10_000 {
                                client.send(bytes)
                                #expect(client.receiveBlocking() != nil)
                            }
                        }
                    }
                }
            }
            let rate = 40_000 / ((ContinuousClock.now - start) / .seconds(1))
            print("name server: \(Int(rate)) queries per second over UDP, four clients that wait for each answer")
            #expect(rate > 1000)
        }
    }

    @Test func sandboxesAreCheap() async throws {
        try await NameLaboratory.run { laboratory in
            let paths = try (0..<200).map { try laboratory.makeSandbox("s\($0)") }
            var names: [String: [String]] = [:]
            for index in 0..<1000 { names["service-\(index)"] = ["10.\(index / 250).7.\(index % 250)"] }
            let state = try NameLaboratory.state(paths, names: names)
            let before = try Self.residentBytes()
            let start = ContinuousClock.now
            #expect(await laboratory.server.apply(state) == [:])
            let opened = ContinuousClock.now - start
            let after = try Self.residentBytes()
            print("name server: 200 sandboxes opened in \(opened), \((after - before) / 200) bytes resident each")
            let again = ContinuousClock.now
            for _ in 0..<10 { await laboratory.server.apply(state) }
            print("name server: a change with 200 sandboxes and 1000 names takes \((ContinuousClock.now - again) / 10)")
            #expect(try await laboratory.digShort(in: paths[199], "service-7") == ["10.0.7.7"])
        }
    }

    private static func residentBytes() throws -> Int {
        let fields = try Files.readText("/proc/self/statm").split(separator: " ")
        return (fields.count > 1 ? Int(fields[1]) ?? 0 : 0) * 4096
    }
}
