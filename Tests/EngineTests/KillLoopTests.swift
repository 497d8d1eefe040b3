import Coding
import Glibc
import HTTPClient
import PluginAPI
import Synchronization
import Testing

/// `kill -9` of the engine during writes: every acknowledged write is there.
@Suite(.serialized, SharedEngine(images: false))
struct KillLoopTests {
    private static let writers = 4

    @Test func acknowledgedWritesSurviveAHundredKills() async throws {
        let engine = try EngineHarness.shared
        for writer in 0..<Self.writers {
            _ = try await engine.createService(EngineHarness.spec("written-\(writer)", replicas: 0, labels: ["count": "0"]))
        }
        let ledger = Ledger(writers: Self.writers)
        for round in 1...100 {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for writer in 0..<Self.writers {
                    group.addTask { await write(engine, writer, ledger) }
                }
                group.addTask {
                    // Long enough for some writes of this round, short enough to hit the middle of one.
                    let already = ledger.acknowledged
                    try await eventually("there are writes in round \(round)") { ledger.acknowledged > already }
                    try await ConcurrentTask.sleep(for: .milliseconds(Int.random(in: 0...20)))
                    try await engine.stopEngine(SIGKILL)
                }
                try await group.waitForAll()
            }
            try await engine.startEngine()
            for writer in 0..<Self.writers {
                let known = ledger[writer]
                let labels = try await engine.get("/services/written-\(writer)")["Spec"]?["Labels"]
                let count = try #require(Int64(labels?["count"]?.string ?? ""), "round \(round)")
                #expect(
                    (known.acknowledged...known.tried).contains(count),
                    "round \(round), writer \(writer): \(count) is there, \(known.acknowledged) was acknowledged and \(known.tried) tried")
                ledger[writer] = Progress(acknowledged: count, tried: count)
            }
        }
        #expect(ledger.acknowledged >= 100)
        #expect(try await engine.get("/services").array?.count == Self.writers)
    }

    /// Counts the label up until the engine no longer answers.
    private func write(_ engine: EngineHarness, _ writer: Int, _ ledger: Ledger) async {
        while true {
            guard let service = try? await engine.get("/services/written-\(writer)"), var spec = service["Spec"],
                let version = service["Version"]?["Index"]?.integer, let count = Int64(spec["Labels"]?["count"]?.string ?? "")
            else { return }
            spec["Labels"] = ["count": .string("\(count + 1)")]
            ledger[writer].tried = count + 1
            guard let answer = try? await engine.send("POST", "/services/written-\(writer)/update?version=\(version)", spec) else { return }
            // Another writer of this object is the engine itself; then it is simply tried again.
            if answer.status == 200 { ledger[writer].acknowledged = count + 1 }
        }
    }
}

/// What is known of one writer's service: the newest label whose write was acknowledged, and the newest that was tried.
private struct Progress: Sendable {
    var acknowledged: Int64 = 0
    var tried: Int64 = 0
}

private final class Ledger: Sendable {
    private let writers: Mutex<[Progress]>

    init(writers: Int) { self.writers = Mutex([Progress](repeating: Progress(), count: writers)) }

    subscript(writer: Int) -> Progress {
        get { writers.withLock { $0[writer] } }
        // Each writer has only its own.
        set { writers.withLock { $0[writer] = newValue } }
    }

    /// The sum over all writers.
    var acknowledged: Int64 { writers.withLock { $0.reduce(0) { $0 + $1.acknowledged } } }
}
