import Coding
import Files
import Glibc
import HTTPClient
import PluginAPI
import Testing

extension ClusterTests {
    @Suite struct Identity {
        @Test func managersStartLockedAndAreUnlocked() async throws {
            try await ClusterHarness.with(managers: 3) { cluster in
                try await cluster.createService("web", replicas: 6)
                try await cluster.updateSwarm { $0["EncryptionConfig"] = ["AutoLockManagers": true] }
                let key = try #require(try await cluster[1].get("/swarm/unlockkey")["UnlockKey"]?.string)
                #expect(key.hasPrefix("SWMKEY-1-"))
                try await eventually("the keys of all managers are locked") {
                    try cluster.nodes.allSatisfy { try Self.areKeysLocked($0) == true }
                }
                let node = cluster[2]
                try await node.stop(SIGKILL)
                try await node.start()
                #expect(try await node.swarm["LocalNodeState"]?.string == "locked")
                let refusal = try await node.refusal("GET", "/services")
                #expect(refusal.status == 503 && refusal.message.contains("unlock"), "\(refusal)")
                let wrong = try await node.refusal("POST", "/swarm/unlock", ["UnlockKey": .string("SWMKEY-1-" + String(repeating: "0", count: 43))])
                #expect((400..<500).contains(wrong.status), "\(wrong)")
                try await cluster.writeAccepted(on: cluster[1])
                try await node.json("POST", "/swarm/unlock", ["UnlockKey": .string(key)])
                try await cluster.waitForNodes(ready: 3, on: cluster.nodes)
                try await cluster.checkNothingIsLost(on: cluster.nodes)
                try await cluster.waitUntilWhole("web", replicas: 6, on: node)

                // Another key: the old one opens nothing any more.
                try await cluster.updateSwarm("&rotateManagerUnlockKey=1")
                let next = try #require(try await cluster[3].get("/swarm/unlockkey")["UnlockKey"]?.string)
                #expect(next != key)
                try await ConcurrentTask.sleep(for: .seconds(1))
                let last = cluster[3]
                try await last.stop(SIGKILL)
                try await last.start()
                let old = try await last.refusal("POST", "/swarm/unlock", ["UnlockKey": .string(key)])
                #expect((400..<500).contains(old.status), "\(old)")
                try await last.json("POST", "/swarm/unlock", ["UnlockKey": .string(next)])
                try await cluster.waitForNodes(ready: 3, on: cluster.nodes)

                // Without the lock an engine starts as before.
                try await cluster.updateSwarm { $0["EncryptionConfig"] = ["AutoLockManagers": false] }
                try await eventually("the keys of all managers are open") {
                    try cluster.nodes.allSatisfy { try Self.areKeysLocked($0) == false }
                }
                try await cluster[1].stop(SIGKILL)
                try await cluster[1].start()
                #expect(try await cluster[1].swarm["LocalNodeState"]?.string == "active")
                try await cluster.waitForNodes(ready: 3, on: cluster.nodes)
                try await cluster.checkNothingIsLost(on: cluster.nodes)
            }
        }

        /// Whether the node's keys are sealed on disk; nil while that changes.
        static func areKeysLocked(_ node: ClusterNode) throws -> Bool? {
            let folder = "\(node.dataRoot)/swarm/certificates"
            let isLocked = Files.exists("\(folder)/swarm.lock")
            let key = String(decoding: try Files.read("\(folder)/swarm-node.key"), as: UTF8.self)
            return isLocked != key.contains("PRIVATE KEY") ? isLocked : nil
        }

        @Test func theRootIsRotatedWithAllNodesConnected() async throws {
            try await ClusterHarness.with(managers: 3, workers: 1) { cluster in
                let managers = Array(cluster.nodes.prefix(3))
                let before = try await cluster.createService("web", replicas: 8)
                let old = try #require(try await cluster[1].get("/swarm")["TLSInfo"]?["TrustRoot"]?.string)
                let oldToken = try await cluster.token(.worker)
                try await cluster.updateSwarm { spec in
                    var authority = spec["CAConfig"] ?? [:]
                    authority["ForceRotate"] = .integer((authority["ForceRotate"]?.integer ?? 0) + 1)
                    spec["CAConfig"] = authority
                }
                let leader = try await cluster.leader()
                var down = 0
                try await eventually("the rotation ends", { await cluster.describe(cluster[1]) }) {
                    down += try await cluster.nodeList(on: cluster[1]).values.count { $0["Status"]?["State"]?.string != "ready" }
                    let swarm = try await cluster[1].get("/swarm")
                    return swarm["RootRotationInProgress"]?.bool == false && swarm["TLSInfo"]?["TrustRoot"]?.string != old
                }
                #expect(down == 0, "a node was away while the root was rotated")
                let new = try #require(try await cluster[2].get("/swarm")["TLSInfo"]?["TrustRoot"]?.string)
                try await eventually("every node shows the new root", { await cluster.describe(cluster[1]) }) {
                    try await cluster.nodeList(on: cluster[1]).values.allSatisfy { $0["Description"]?["TLSInfo"]?["TrustRoot"]?.string == new }
                }
                for manager in managers { try await cluster.writeAccepted(on: manager) }
                #expect(try await cluster.waitUntilWhole("web", replicas: 8, on: cluster[1]) == before, "a rotation moves no task")
                #expect(try await cluster.leader() === leader, "a rotation moves no leadership")
                for node in cluster.nodes {
                    #expect(!node.log.contains("refused now"), "engine \(node.index) cut a connection:\(node.logTail(40))")
                }
                // A token names the root: the old one is worth nothing, the new one is.
                #expect(try await cluster.token(.worker) != oldToken)
                try await cluster[4].json("POST", "/swarm/leave")
                let refusal = try await cluster[4].refusal("POST", "/swarm/join", cluster.joining(cluster[4], token: oldToken))
                #expect(refusal.message.contains("token") || refusal.message.contains("root"), "\(refusal)")
                try await cluster.join(cluster[4], as: .worker)
                // All find each other again with what is on disk.
                for node in cluster.nodes { try await node.stop(SIGKILL) }
                for node in cluster.nodes { try await node.start() }
                try await eventually("all are ready", { await cluster.describe(cluster[1]) }) {
                    guard let list = try? await cluster.nodeList(on: cluster[1]) else { return false }
                    return list.values.count { $0["Status"]?["State"]?.string == "ready" } == 4
                }
                try await cluster.checkNothingIsLost(on: managers)
            }
        }

        @Test func certificatesOfHalfAnHour() async throws {
            try await ClusterHarness.with(managers: 1, extra: 1) { cluster in
                let swarm = try await cluster[1].get("/swarm")
                var spec = try #require(swarm["Spec"])
                let version = try #require(swarm["Version"]?["Index"]?.integer)
                spec["CAConfig"] = ["NodeCertExpiry": .integer(1799 * 1_000_000_000)]
                let refusal = try await cluster[1].refusal("POST", "/swarm/update?version=\(version)", spec)
                #expect(refusal.status == 400 && refusal.message.contains("30 minutes"), "\(refusal)")
                try await cluster.updateSwarm { $0["CAConfig"] = ["NodeCertExpiry": .integer(1800 * 1_000_000_000)] }
                try await cluster.join(cluster[2], as: .worker)
                try await cluster.waitForNodes(ready: 2, on: [cluster[1]])
                let certificate = "\(cluster[2].dataRoot)/swarm/certificates/swarm-node.crt"
                // It ends within half an hour and an allowance for clocks, not in three months.
                let ends = try await ClusterHarness.check("sh", "-c", "openssl x509 -in \(certificate) -noout -checkend 3700 || true")
                #expect(ends.contains("will expire"), "\(ends)")
            }
        }
    }
}
