import Coding
import Glibc
import HTTPClient
import PluginAPI
import Testing

extension ClusterTests {
    @Suite struct Membership {
        /// A node's part as it says itself.
        static func isManager(_ node: ClusterNode) async throws -> Bool { try await node.swarm["ControlAvailable"]?.bool == true }

        @Test func aWorkerIsPromotedAndDemoted() async throws {
            try await ClusterHarness.with(managers: 1, workers: 2) { cluster in
                try await cluster.createService("web", replicas: 6)
                for promoted in [cluster[2], cluster[3]] {
                    try await cluster.setRole(promoted, .manager, on: cluster[1])
                    try await eventually("engine \(promoted.index) is a manager", { await cluster.describe(cluster[1]) }) {
                        guard try await Self.isManager(promoted) else { return false }
                        let id = try await promoted.id
                        return (try? await cluster.nodeList(on: promoted))?[id]?["ManagerStatus"]?["Reachability"]?.string == "reachable"
                    }
                    try await cluster.writeAccepted(on: promoted)
                }
                // Three now: one may go.
                let leader = try await cluster.leader()
                try await leader.stop(SIGKILL)
                let others = cluster.nodes.filter { $0 !== leader }
                try await cluster.writeAccepted(on: others[0])
                try await leader.start()
                try await cluster.waitForNodes(ready: 3, on: cluster.nodes)
                try await cluster.setRole(cluster[3], .worker, on: cluster[2])
                try await eventually("engine 3 is a worker", { await cluster.describe(cluster[1]) }) {
                    let refusal = try await cluster[3].send("GET", "/nodes", timeout: .seconds(10))
                    let inside = try await Self.isManager(cluster[3])
                    return refusal.status == 503 && !inside
                }
                let id = try await cluster[3].id
                try await eventually("the managers call it a worker", { await cluster.describe(cluster[1]) }) {
                    guard let node = try? await cluster.nodeList(on: cluster[1])[id] else { return false }
                    return node["Spec"]?["Role"]?.string == "worker" && node["ManagerStatus"] == nil && node["Status"]?["State"]?.string == "ready"
                }
                try await cluster.waitUntilWhole("web", replicas: 6, on: cluster[1])
                try await cluster.checkNothingIsLost(on: [cluster[1], cluster[2]])
            }
        }

        @Test func theLeaderIsDemoted() async throws {
            try await ClusterHarness.with(managers: 3) { cluster in
                let before = try await cluster.createService("web", replicas: 6)
                let leader = try await cluster.leader()
                let others = cluster.nodes.filter { $0 !== leader }
                try await cluster.whileWriting(others) {
                    try await cluster.setRole(leader, .worker, on: leader)
                    try await eventually("engine \(leader.index) is a worker", { await cluster.describe(others[0]) }) { !(try await Self.isManager(leader)) }
                    for other in others { try await cluster.writeAccepted(on: other) }
                }
                try await cluster.waitForNodes(ready: 3, on: others)
                #expect(try await cluster.waitUntilWhole("web", replicas: 6, on: others[0]) == before, "a demotion moves no task")
                try await cluster.checkNothingIsLost(on: others)
            }
        }

        /// Whoever was heard a moment ago may be gone: a demotion asks those that are to remain.
        @Test func aDemotionThatWouldCostTheQuorumIsRefused() async throws {
            try await ClusterHarness.with(managers: 3) { cluster in
                let leader = try await cluster.leader()
                let followers = cluster.nodes.filter { $0 !== leader }
                let id = try await followers[0].id
                let node = try await leader.get("/nodes/\(id)")
                var spec = try #require(node["Spec"])
                spec["Role"] = "worker"
                let version = try #require(node["Version"]?["Index"]?.integer)
                try await cluster.unplug(followers[1])
                let refusal = try await leader.refusal("POST", "/nodes/\(id)/update?version=\(version)", spec)
                #expect((400..<500).contains(refusal.status) && refusal.message.contains("quorum"), "\(refusal)")
                for manager in [leader, followers[0]] { try await cluster.writeAccepted(on: manager) }
                try await cluster.plug(followers[1])
                try await cluster.waitForNodes(ready: 3, on: cluster.nodes)
                try await cluster.setRole(followers[0], .worker, on: leader)
                try await eventually("engine \(followers[0].index) is a worker", { await cluster.describe(leader) }) {
                    !(try await Self.isManager(followers[0]))
                }
            }
        }

        @Test func theLastManagerIsNotDemoted() async throws {
            try await ClusterHarness.with(managers: 1, workers: 1) { cluster in
                let node = try await cluster[1].get("/nodes/self")
                var spec = try #require(node["Spec"])
                spec["Role"] = "worker"
                let version = try #require(node["Version"]?["Index"]?.integer)
                let refusal = try await cluster[1].refusal("POST", "/nodes/self/update?version=\(version)", spec)
                #expect(refusal.message.contains("manager"), "\(refusal)")
                #expect((400..<500).contains(refusal.status), "\(refusal)")
                #expect(try await Self.isManager(cluster[1]))
            }
        }

        @Test func nodesLeave() async throws {
            try await ClusterHarness.with(managers: 3, workers: 1) { cluster in
                try await cluster.createService("web", replicas: 8)
                let (worker, manager) = (cluster[4], cluster[3])
                let (workerID, managerID) = (try await worker.id, try await manager.id)
                try await worker.json("POST", "/swarm/leave")
                #expect(try await worker.swarm["LocalNodeState"]?.string == "inactive")
                try await cluster.waitUntilWhole("web", replicas: 8, on: cluster[1])
                #expect(try await cluster.containers(of: "web", on: [worker]).isEmpty)
                // A manager must be sure of it.
                let refusal = try await manager.refusal("POST", "/swarm/leave")
                #expect(refusal.status == 503 && refusal.message.contains("--force"), "\(refusal)")
                try await manager.json("POST", "/swarm/leave?force=1")
                for other in [cluster[1], cluster[2]] { try await cluster.writeAccepted(on: other) }
                try await cluster.waitUntilWhole("web", replicas: 8, on: cluster[2])
                for id in [workerID, managerID] {
                    try await eventually("\(id) is down", { await cluster.describe(cluster[1]) }) {
                        try await cluster.nodeList(on: cluster[1])[id]?["Status"]?["State"]?.string == "down"
                    }
                    try await eventually("\(id) can be removed", { await cluster.describe(cluster[1]) }) {
                        try await cluster[1].send("DELETE", "/nodes/\(id)").status == 200
                    }
                }
                // Both come back as new nodes.
                try await cluster.join(worker, as: .worker)
                try await cluster.join(manager, as: .manager, through: cluster[2])
                try await cluster.waitForNodes(ready: 4, on: [cluster[1], cluster[2], manager])
                try await cluster.checkNothingIsLost(on: [cluster[1], cluster[2], manager])
            }
        }

        @Test func aRemovedNodeIsLockedOutAtOnce() async throws {
            try await ClusterHarness.with(managers: 1, workers: 2) { cluster in
                try await cluster.createService("web", replicas: 6)
                let worker = cluster[3]
                let id = try await worker.id
                let refusal = try await cluster[1].refusal("DELETE", "/nodes/\(id)")
                #expect((400..<500).contains(refusal.status) && refusal.message.contains("down"), "\(refusal)")
                try await cluster[1].json("DELETE", "/nodes/\(id)?force=1")
                #expect(try await cluster.nodeList(on: cluster[1])[id] == nil)
                try await cluster.waitUntilWhole("web", replicas: 6, on: cluster[1], except: [worker])
                try await eventually("the removed node says so", within: .seconds(60), { worker.logTail() }) {
                    let status = try await worker.swarm
                    return status["LocalNodeState"]?.string != "active" || status["Error"]?.string?.isEmpty == false
                }
                // It stays out, also when it begins again.
                try await worker.stop(SIGTERM)
                try await worker.start()
                for _ in 0..<40 {
                    #expect(try await cluster.nodeList(on: cluster[1])[id] == nil)
                    try await ConcurrentTask.sleep(for: .milliseconds(50))
                }
                try await worker.json("POST", "/swarm/leave?force=1")
                try await cluster.join(worker, as: .worker)
                try await cluster.waitForNodes(ready: 3, on: [cluster[1]])
                try await cluster.waitUntilWhole("web", replicas: 6, on: cluster[1])
            }
        }

        @Test func drainingStartsReplacementsFirst() async throws {
            try await ClusterHarness.with(managers: 1, workers: 2) { cluster in
                try await cluster.createService("web", replicas: 6)
                let worker = cluster[3]
                let id = try await worker.id
                try await cluster.updateNode(id, on: cluster[1]) { $0["Availability"] = "drain" }
                var fewest = Int.max
                try await eventually("engine 3 is drained", { await cluster.describe(cluster[1]) }) {
                    let running = try await cluster[1].get("/tasks", filters: ["service": ["web"]]).array?.compactMap(RunningTask.init) ?? []
                    fewest = min(fewest, Set(running.map(\.slot)).count)
                    return !running.contains { $0.node == id }
                }
                #expect(fewest == 6, "while a node was drained, only \(fewest) slots ran")
                try await cluster.waitUntilWhole("web", replicas: 6, on: cluster[1])
                #expect(try await cluster.containers(of: "web", on: [worker]).isEmpty)
                try await cluster.updateNode(id, on: cluster[1]) { $0["Availability"] = "active" }
                try await cluster[1].json("DELETE", "/services/web")
                try await cluster.createService("again", replicas: 6)
                #expect(!(try await cluster.containers(of: "again", on: [worker])).isEmpty)
            }
        }

        @Test func aNewClusterIsForcedFromOneManager() async throws {
            try await ClusterHarness.with(managers: 3) { cluster in
                try await cluster.createService("web", replicas: 6)
                for manager in 1...3 { try await cluster.writeAccepted(on: cluster[manager]) }
                try await cluster.checkNothingIsLost(on: cluster.nodes)
                try await cluster[2].stop(SIGKILL)
                try await cluster[3].stop(SIGKILL)
                let refusal = try await cluster[1].refusal("GET", "/services", timeout: .seconds(60))
                #expect(refusal.status == 503, "\(refusal)")
                try await cluster[1].json(
                    "POST", "/swarm/init",
                    ["ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": .string(cluster[1].address), "ForceNewCluster": true])
                try await cluster.writeAccepted(on: cluster[1])
                try await cluster.checkNothingIsLost(on: [cluster[1]])
                try await cluster.waitUntilWhole("web", replicas: 6, on: cluster[1])
                // Those that were left behind are not heard; after leaving they may come again.
                for old in [cluster[2], cluster[3]] {
                    try await old.start()
                    try await old.json("POST", "/swarm/leave?force=1")
                    try await cluster.join(old, as: .manager)
                }
                try await cluster.waitForNodes(ready: 3, on: cluster.nodes)
                try await cluster.checkNothingIsLost(on: cluster.nodes)
                try await cluster.waitUntilWhole("web", replicas: 6, on: cluster[3])
            }
        }
    }
}
