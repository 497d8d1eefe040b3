import Coding
import Files
import Glibc
import PluginAPI
import Testing

extension ClusterTests {
    /// All managers are killed at once and start again: with what is on their disks they find each other, whatever happened to the group before.
    @Suite struct Restarts {
        @Test func fiveManagersAreKilledAtOnce() async throws {
            try await ClusterHarness.with(managers: 5, heartbeat: nil) { cluster in
                try await Self.write(on: cluster.nodes, cluster)
                for _ in 1...2 {
                    try await Self.killAndStart(cluster)
                    try await Self.expectWorking(cluster)
                }
            }
        }

        @Test func managersThatWereDemotedAndPromotedAreKilledAtOnce() async throws {
            try await ClusterHarness.with(managers: 3, heartbeat: nil) { cluster in
                for node in [cluster[2], cluster[3]] {
                    try await cluster.setRole(node, .worker, on: cluster[1])
                    try await eventually("engine \(node.index) is a worker", { await cluster.describe(cluster[1]) }) {
                        !(try await Membership.isManager(node))
                    }
                }
                for node in [cluster[2], cluster[3]] {
                    try await cluster.setRole(node, .manager, on: cluster[1])
                    try await Self.waitUntilReachable(node, cluster)
                }
                try await Self.write(on: cluster.nodes, cluster)
                try await Self.killAndStart(cluster)
                try await Self.expectWorking(cluster)
            }
        }

        @Test func lockedManagersAreKilledAtOnce() async throws {
            try await ClusterHarness.with(managers: 4, heartbeat: nil) { cluster in
                let key = try await Self.lock(cluster)
                try await Self.write(on: cluster.nodes, cluster)
                try await Self.killAndStart(cluster)
                for node in cluster.nodes {
                    #expect(try await node.swarm["LocalNodeState"]?.string == "locked")
                    try await node.json("POST", "/swarm/unlock", ["UnlockKey": .string(key)])
                }
                try await Self.expectWorking(cluster)
                for node in cluster.nodes { #expect(try Identity.areKeysLocked(node) == true, "engine \(node.index)") }
            }
        }

        /// What a manager knew when it last took a snapshot says nothing about whether its keys are to be locked now.
        @Test func aManagerThatIsAloneStaysLocked() async throws {
            try await ClusterHarness.with(managers: 3, heartbeat: nil) { cluster in
                let key = try await Self.lock(cluster)
                let node = cluster[2]
                try await node.stop(SIGKILL)
                try await cluster.unplug(node)
                try await node.start()
                try await node.json("POST", "/swarm/unlock", ["UnlockKey": .string(key)])
                try await eventually("engine 2 is a manager", { node.logTail() }) { try await Membership.isManager(node) }
                for _ in 0..<40 {
                    #expect(try Identity.areKeysLocked(node) == true)
                    try await ConcurrentTask.sleep(for: .milliseconds(50))
                }
                try await node.stop(SIGKILL)
                try await node.start()
                #expect(try await node.swarm["LocalNodeState"]?.string == "locked")
                try await cluster.plug(node)
                try await node.json("POST", "/swarm/unlock", ["UnlockKey": .string(key)])
                try await cluster.waitForNodes(ready: 3, on: cluster.nodes)
                #expect(try Identity.areKeysLocked(node) == true)
            }
        }

        // MARK: Steps

        private static func lock(_ cluster: ClusterHarness) async throws -> String {
            try await cluster.updateSwarm { $0["EncryptionConfig"] = ["AutoLockManagers": true] }
            let key = try #require(try await cluster[1].get("/swarm/unlockkey")["UnlockKey"]?.string)
            try await eventually("the keys of all managers are locked") { try cluster.nodes.allSatisfy { try Identity.areKeysLocked($0) == true } }
            return key
        }

        private static func waitUntilReachable(_ node: ClusterNode, _ cluster: ClusterHarness) async throws {
            try await eventually("engine \(node.index) is a manager", { await cluster.describe(cluster[1]) }) {
                guard try await Membership.isManager(node) else { return false }
                let id = try await node.id
                return (try? await cluster.nodeList(on: node))?[id]?["ManagerStatus"]?["Reachability"]?.string == "reachable"
            }
        }

        private static func write(on nodes: [ClusterNode], _ cluster: ClusterHarness) async throws {
            for node in nodes { try await cluster.writeAccepted(on: node) }
        }

        private static func killAndStart(_ cluster: ClusterHarness) async throws {
            for node in cluster.nodes { kill(try node.process, SIGKILL) }
            for node in cluster.nodes { try await node.stop(SIGKILL) }
            for node in cluster.nodes { try await node.start() }
        }

        private static func expectWorking(_ cluster: ClusterHarness) async throws {
            try await cluster.waitForNodes(ready: cluster.nodes.count, on: cluster.nodes)
            try await cluster.checkNothingIsLost(on: cluster.nodes)
            try await write(on: cluster.nodes, cluster)
        }
    }
}
