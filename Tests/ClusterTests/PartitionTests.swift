import Coding
import Glibc
import HTTPClient
import PluginAPI
import Testing

extension ClusterTests {
    @Suite struct Partitions {
        @Test func theLeadersSideIsCutOff() async throws {
            try await ClusterHarness.with(managers: 5) { cluster in
                try await cluster.createService("web", replicas: 5)
                // The leader is among them, and one more.
                let minority = Self.first(2, of: cluster.nodes, startingWith: try await cluster.leader())
                let majority = cluster.nodes.filter { node in !minority.contains { $0 === node } }
                try await Self.cutOff(minority, majority, cluster)
            }
        }

        @Test func twoOfFiveAreCutOff() async throws {
            try await ClusterHarness.with(managers: 5) { cluster in
                try await cluster.createService("web", replicas: 5)
                let leader = try await cluster.leader()
                let minority = Array(cluster.nodes.filter { $0 !== leader }.prefix(2))
                let majority = cluster.nodes.filter { node in !minority.contains { $0 === node } }
                try await Self.cutOff(minority, majority, cluster)
                #expect(try await cluster.leader() === leader, "managers that come back move no leadership")
            }
        }

        private static func first(_ count: Int, of nodes: [ClusterNode], startingWith first: ClusterNode) -> [ClusterNode] {
            [first] + nodes.filter { $0 !== first }.prefix(count - 1)
        }

        /// The majority goes on, the minority refuses, and both agree when they see each other again.
        static func cutOff(_ minority: [ClusterNode], _ majority: [ClusterNode], _ cluster: ClusterHarness) async throws {
            await cluster.write(on: minority[0])
            let before = cluster.ledger.acknowledged.count
            let replicas = Int64(try await cluster[1].get("/tasks", filters: ["desired-state": ["running"]]).array?.count ?? 0)
            try await cluster.whileWriting(cluster.nodes) {
                try await cluster.separate(minority)
                for manager in majority { try await cluster.writeAccepted(on: manager) }
            }
            #expect(cluster.ledger.acknowledged.count > before)
            for manager in minority {
                var refusal: (status: Int, message: String) = (0, "")
                try await eventually("engine \(manager.index) refuses reads", { "\(refusal)" + manager.logTail() }) {
                    guard let answer = try? await manager.send("GET", "/services", timeout: .seconds(20)) else { return false }
                    refusal = (answer.status, answer.text)
                    return answer.status == 503
                }
                #expect(refusal.message.contains("does not have a leader") && refusal.message.contains("stale=1"), "\(refusal)")
                let write = await cluster.write(on: manager, timeout: .seconds(30))
                #expect(write?.status == 503, "engine \(manager.index) without a majority answered a write: \(write?.text ?? "nothing in time")")
                #expect(write?.text.contains("does not have a leader") == true, "\(write?.text ?? "")")
                let stale = try await manager.get("/services?stale=1")
                #expect(stale.array?.contains { $0["Spec"]?["Name"]?.string == "web" } == true)
            }
            try await cluster.checkNothingIsLost(on: majority)
            try await cluster.waitUntilWhole("web", replicas: replicas, on: majority[0], except: minority)
            try await cluster.heal()
            try await cluster.waitForNodes(ready: cluster.nodes.count, on: cluster.nodes)
            // No slot runs two tasks past healing and two heartbeats of a second; a test waits ten times as long.
            try await cluster.waitUntilWhole("web", replicas: replicas, on: minority[0], within: .seconds(20))
            for node in cluster.nodes { try await cluster.writeAccepted(on: node) }
            try await cluster.checkNothingIsLost(on: cluster.nodes)
            var answers: Set<[String]> = []
            for node in cluster.nodes {
                answers.insert(try await node.get("/services").array?.compactMap { $0["ID"]?.string }.sorted() ?? [])
            }
            #expect(answers.count == 1, "the managers do not agree")
        }

        @Test func aStalledLeaderStepsDown() async throws {
            try await ClusterHarness.with(managers: 3) { cluster in
                try await cluster.createService("web", replicas: 6)
                let leader = try await cluster.leader()
                let others = cluster.nodes.filter { $0 !== leader }
                try leader.signal(SIGSTOP)
                let next = try await cluster.leader(among: others)
                #expect(next !== leader)
                for other in others { try await cluster.writeAccepted(on: other) }
                try await ConcurrentTask.sleep(for: .seconds(10))
                // What the stalled one finds in its socket when it goes on, it must not answer from its memory.
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<8 {
                        group.addTask {
                            guard let answer = try? await leader.send("GET", "/services", timeout: .seconds(60)), answer.status == 200 else { return }
                            let there = Set(try JSONValue.parse(answer.body).array?.compactMap { $0["Spec"]?["Name"]?.string } ?? [])
                            #expect(Set(cluster.ledger.acknowledged.prefix(2)).isSubset(of: there), "the stalled leader answered with what was before")
                        }
                    }
                    try await ConcurrentTask.sleep(for: .milliseconds(200))
                    try leader.signal(SIGCONT)
                    try await group.waitForAll()
                }
                try await cluster.checkNothingIsLost(on: cluster.nodes)
                #expect(try await cluster.leader() !== leader)
                try await cluster.waitForNodes(ready: 3, on: cluster.nodes)
                try await cluster.waitUntilWhole("web", replicas: 6, on: leader)
                try await cluster.writeAccepted(on: leader)
                try await cluster.checkNothingIsLost(on: cluster.nodes)
            }
        }
    }
}
