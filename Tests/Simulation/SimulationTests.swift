import Glibc
import PluginAPI
import Synchronization
import Testing

@testable import Raft

/// The command that repeats a run.
func repetition(of seed: UInt64) -> String { "seed \(seed); again: make simulate FROM=\(seed) SEEDS=1" }

/// What has come of the runs so far.
private final class Tally: Sendable {
    private struct State {
        var next: UInt64
        var counts = SimulationCounts()
        var failures: [(UInt64, String)] = []
    }

    private let state: Mutex<State>
    private let end: UInt64
    private let failureLimit: Int

    init(_ seeds: Range<UInt64>, failureLimit: Int) {
        state = Mutex(State(next: seeds.lowerBound))
        end = seeds.upperBound
        self.failureLimit = failureLimit
    }

    /// The next seed, `nil` when it is enough.
    func next() -> UInt64? {
        state.withLock { state in
            guard state.next < end, state.failures.count < failureLimit else { return nil }
            defer { state.next += 1 }
            return state.next
        }
    }

    func add(_ seed: UInt64, _ counts: SimulationCounts, _ wrong: String?) {
        state.withLock { state in
            state.counts += counts
            if let wrong { state.failures.append((seed, wrong)) }
        }
    }

    var result: (SimulationCounts, [(UInt64, String)]) { state.withLock { ($0.counts, $0.failures.sorted { $0.0 < $1.0 }) } }
}

/// Runs seeds on all processors.
/// - Returns: What happened, and the first seeds that failed with what is wrong.
func simulate(_ seeds: Range<UInt64>, mistakes: RaftMistakes = [], failureLimit: Int = 3) async -> (SimulationCounts, [(UInt64, String)]) {
    let tally = Tally(seeds, failureLimit: failureLimit)
    await withTaskGroup(of: Void.self) { group in
        for _ in 0..<max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) {
            group.addTask {
                while let seed = tally.next() {
                    // The mistakes show when much goes wrong.
                    let simulation = Simulation(seed: seed, mistakes: mistakes, isStorm: !mistakes.isEmpty)
                    let wrong = simulation.run()
                    tally.add(seed, simulation.counts, wrong)
                    await ConcurrentTask.yield()
                }
            }
        }
    }
    return tally.result
}

private func number(_ name: String) -> UInt64? { getenv(name).flatMap { UInt64(String(cString: $0)) } }

@Suite(.serialized) struct SimulationTests {
    @Test func manyBadDays() async {
        let first = number("APUS_SIMULATE_FROM") ?? 0
        let count = number("APUS_SIMULATE_SEEDS") ?? 10_000
        let (counts, failures) = await simulate(first..<first + count)
        print("simulation: \(counts.text)")
        for (seed, wrong) in failures {
            Issue.record("\(wrong) (\(repetition(of: seed)))")
            if getenv("APUS_SIMULATE_TRACE") != nil {
                let simulation = Simulation(seed: seed, isTraced: true)
                _ = simulation.run()
                for line in simulation.trace ?? [] { print(line) }
            }
        }
        // Days on which nothing happens would prove nothing.
        guard count >= 1000, failures.isEmpty else { return }
        #expect(counts.runs == Int(count))
        for (what, number) in [
            ("elections", counts.elections), ("writes", counts.writes), ("reads", counts.reads), ("restarts", counts.restarts),
            ("committed", counts.committed), ("membership changes", counts.membershipChanges * 2), ("snapshots", counts.snapshotsInstalled * 10),
        ] { #expect(number > Int(count), "\(what)") }
    }

    @Test func aSeedRepeatsItself() {
        for seed in 0..<20 as Range<UInt64> {
            let runs = (0..<2).map { _ in
                let simulation = Simulation(seed: seed, isTraced: true)
                _ = simulation.run()
                return simulation.trace ?? []
            }
            #expect(!runs[0].isEmpty)
            #expect(runs[0] == runs[1], "seed \(seed)")
        }
    }

    static let mistakes: [(String, RaftMistakes)] = [
        ("a vote given twice", .voteTwice),
        ("a vote for a log that is behind", .voteForShorterLog),
        ("a commit counted from an older term", .commitOlderTerm),
        ("the leader's copy counted before it is durable", .countUnpersisted),
        ("messages that leave before what they say is durable", .sendBeforePersisting),
        ("a read answered without a quorum", .readWithoutQuorum),
        ("a read answered before the leader knows what is committed", .readBeforeFirstCommit),
        ("a membership change before the last one is committed", .membershipChangedEarly),
        ("a late append that cuts the log", .oldAppendTruncates),
    ]

    /// A simulation that finds nothing when something is wrong proves nothing. Three more mistakes show too rarely for this test; those have
    /// tests of their own in GroupTests.
    @Test(arguments: mistakes.indices) func itFindsMistakes(_ index: Int) async {
        let (name, mistake) = Self.mistakes[index]
        let limit: UInt64 = 20_000
        let (counts, failures) = await simulate(0..<limit, mistakes: mistake, failureLimit: 1)
        #expect(!failures.isEmpty, "\(limit) runs did not show \(name)")
        if let (seed, wrong) = failures.first { print("simulation: \(name): found after \(counts.runs) runs, seed \(seed): \(wrong.prefix(160))") }
    }
}
