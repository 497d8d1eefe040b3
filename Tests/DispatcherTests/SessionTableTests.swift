import Dispatcher
import Fuzzing
import PluginAPI
import Testing

@Suite struct SessionTableTests {
    private let start = ContinuousClock.now
    private func table(_ change: (inout SessionTable.Configuration) -> Void = { _ in }) -> SessionTable {
        var configuration = SessionTable.Configuration()
        change(&configuration)
        return SessionTable(configuration, now: start)
    }

    private func register(_ table: inout SessionTable, _ node: ID = "n1", _ session: ID = "s1", at seconds: Double = 0) throws(ApusError) {
        try table.register(node, session: session, address: "a", description: NodeDescription(), now: start + .seconds(seconds))
    }

    private func beat(_ table: inout SessionTable, _ node: ID = "n1", _ session: ID = "s1", at seconds: Double) throws(ApusError) -> Duration {
        var generator = SplitMix64(seed: 1)
        return try table.heartbeat(node, session, now: start + .seconds(seconds), using: &generator)
    }

    @Test func aSilentNodeIsDownAfterThreePeriods() throws {
        var table = table()
        try register(&table)
        #expect(table.takeChanges(limit: 10)["n1"]?.state == .ready)
        _ = try beat(&table, at: 5)
        #expect(table.expire(now: start + .seconds(19.9)) == [])
        #expect(table.state(of: "n1") == .ready)
        #expect(table.expire(now: start + .seconds(20.1)) == ["n1"])
        #expect(table.takeChanges(limit: 10)["n1"]?.state == .down)
        #expect(throws: ApusError.self) { try beat(&table, at: 21) }
        try register(&table, at: 22)
        #expect(table.takeChanges(limit: 10)["n1"]?.state == .ready)
    }

    @Test func theNextSignOfLifeIsDueAroundThePeriod() throws {
        var table = table()
        try register(&table)
        var generator = SplitMix64(seed: 3)
        var seen: Set<Duration> = []
        for _ in 0..<200 {
            let period = try table.heartbeat("n1", "s1", now: start, using: &generator)
            #expect(period >= .seconds(4.5) && period <= .seconds(5.5))
            seen.insert(period)
        }
        #expect(seen.count > 100)
    }

    @Test func aNewLeaderWaitsTwiceAsLong() throws {
        var table = table()
        table.takeOver([makeNode("n1"), makeNode("n2"), makeNode("gone", state: .down)], now: start)
        let changes = table.takeChanges(limit: 10)
        #expect(changes.count == 2 && changes.values.allSatisfy { $0.state == .unknown })
        try register(&table, at: 1)
        _ = try beat(&table, at: 16)
        #expect(table.expire(now: start + .seconds(29.9)) == [])
        #expect(table.state(of: "n2") == .unknown)
        _ = table.expire(now: start + .seconds(30.2))
        #expect(table.state(of: "n2") == .down)
        #expect(table.state(of: "n1") == .ready)
        #expect(table.state(of: "gone") == .down)
    }

    @Test func oneSessionForANodeAndTheNewestCounts() throws {
        var table = table()
        try register(&table)
        try register(&table, session: "s2")
        #expect(throws: ApusError.self) { try beat(&table, at: 1) }
        _ = try beat(&table, "n1", "s2", at: 1)
        #expect(table.sessionCount == 1)
        #expect(throws: ApusError.self) { try table.check("n1", "") }
        #expect(throws: ApusError.self) { try table.check("n2", "s2") }
    }

    private func register(_ table: inout SessionTable, session: ID) throws(ApusError) { try register(&table, "n1", session) }

    @Test func whoRegistersTooOftenWaits() throws {
        var table = table()
        for second in 0..<3 { try register(&table, "n1", ID("s\(second)"), at: Double(second)) }
        do throws(ApusError) {
            try register(&table, "n1", "s3", at: 3)
            Issue.record("the fourth within eight seconds")
        } catch {
            #expect(error.code == .unavailable)
        }
        _ = try beat(&table, "n1", "s2", at: 4)
        try register(&table, "n2", "t", at: 3)
        try register(&table, "n1", "s4", at: 8.1)
    }

    @Test func goodbyes() throws {
        var table = table()
        try register(&table)
        try register(&table, "n2", "s2")
        _ = table.takeChanges(limit: 10)
        try table.end("n1", "s1", isLeaving: false, now: start + .seconds(1))
        try table.end("n2", "s2", isLeaving: true, now: start + .seconds(1))
        let changes = table.takeChanges(limit: 10)
        #expect(changes["n1"]?.state == .disconnected)
        #expect(changes["n2"]?.state == .down)
        #expect(table.expire(now: start + .seconds(17)).isEmpty)
        #expect(table.state(of: "n1") == .down, "it did not come back")
    }

    @Test func aManagerThatSleptGivesNobodyUp() throws {
        var table = table()
        try register(&table)
        table.forgive(.seconds(60))
        #expect(table.expire(now: start + .seconds(61)) == [])
        #expect(table.expire(now: start + .seconds(76)) == ["n1"])
    }

    @Test func aShorterPeriodHoldsFromTheNextHeartbeatOn() throws {
        var table = table { $0.heartbeatPeriod = .seconds(3600) }
        try register(&table)
        table.configuration.heartbeatPeriod = .seconds(1)
        _ = try beat(&table, at: 10)
        #expect(table.expire(now: start + .seconds(13.2)) == ["n1"])
    }

    @Test func whatCouldNotBeWrittenIsNotLost() throws {
        var table = table()
        try table.register("n1", session: "s", address: "first", description: makeNode("x").description, now: start)
        let failed = table.takeChanges(limit: 10)
        try table.end("n1", "s", isLeaving: false, now: start)
        table.putBack(failed)
        let change = table.takeChanges(limit: 10)["n1"]
        #expect(change?.state == .disconnected)
        #expect(change?.address == "first")
        #expect(change?.description?.hostname == "x")
        table.putBack(failed)
        table.remove("n1")
        table.putBack(failed)
        #expect(!table.hasChanges)
    }

    @Test func changesComeInBatches() throws {
        var table = table()
        table.takeOver((0..<250).map { makeNode("n\($0)") }, now: start)
        #expect(table.takeChanges(limit: 100).count == 100)
        #expect(table.takeChanges(limit: 100).count == 100)
        #expect(table.takeChanges(limit: 100).count == 50)
        #expect(!table.hasChanges)
    }

    /// Against a plain model, with random steps.
    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func nobodyIsGivenUpTooEarlyOrTooLate(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        var table = table()
        var deadlines: [ID: Double] = [:]
        var time = 0.0
        for step in 0..<2000 {
            time += Double.random(in: 0...0.3, using: &generator)
            let node = ID("n\(Int.random(in: 0..<20, using: &generator))")
            let instant = start + .seconds(time)
            switch Int.random(in: 0..<10, using: &generator) {
            case 0 where deadlines[node] == nil:
                guard (try? table.register(node, session: node, address: "", description: NodeDescription(), now: instant)) != nil else { continue }
                deadlines[node] = time + 15
            case 1:
                table.remove(node)
                deadlines[node] = nil
            case 2...6:
                guard deadlines[node] != nil else { continue }
                _ = try table.heartbeat(node, node, now: instant, using: &generator)
                deadlines[node] = time + 15
            default:
                for lost in table.expire(now: instant) {
                    #expect(deadlines[lost].map { $0 <= time } ?? false, "seed \(seed), step \(step): \(lost) was given up early")
                    deadlines[lost] = nil
                }
                for (node, deadline) in deadlines { #expect(deadline > time - 0.11, "seed \(seed), step \(step): \(node) is still there") }
            }
        }
    }

    /// What ten thousand nodes cost, printed; it does not fail by the machine's speed.
    @Test func tenThousandNodes() throws {
        var table = table()
        let nodes = (0..<10_000).map { ID("node-\($0)") }
        for node in nodes { try table.register(node, session: node, address: "", description: NodeDescription(), now: start) }
        var generator = SplitMix64(seed: 1)
        let clock = ContinuousClock()
        var beats = Duration.zero
        var looks = Duration.zero
        for second in 1...30 {
            beats += try clock.measure {
                for node in nodes where second % 5 == 0 { _ = try table.heartbeat(node, node, now: start + .seconds(second), using: &generator) }
            }
            looks += clock.measure { for tenth in 0..<10 { #expect(table.expire(now: start + .seconds(second) + .milliseconds(tenth * 100)).isEmpty) } }
        }
        print("10,000 nodes: \(beats / 60_000) for a heartbeat, \(looks / 30) for a second of watching")
        #expect(table.expire(now: start + .seconds(46)).count == 10_000)
    }
}
