import Coding
import Glibc
import HTTPClient
import PluginAPI
import Testing

extension ClusterTests {
    @Suite struct Failures {
        @Test func theLeaderIsKilled() async throws {
            try await ClusterHarness.with(managers: 3) { cluster in
                try await cluster.createService("web", replicas: 6)
                let leader = try await cluster.leader()
                let others = cluster.nodes.filter { $0 !== leader }
                try await cluster.whileWriting(others) {
                    try await leader.stop(SIGKILL)
                    for other in others { try await cluster.writeAccepted(on: other) }
                }
                #expect(try await cluster.leader(among: others) !== leader)
                try await cluster.checkNothingIsLost(on: others)
                // The containers of the dead engine run on, but no manager can know: their places are filled elsewhere.
                try await cluster.waitUntilWhole("web", replicas: 6, on: others[0], except: [leader])
                try await leader.start()
                try await cluster.waitForNodes(ready: 3, on: cluster.nodes)
                try await cluster.waitUntilWhole("web", replicas: 6, on: leader)
                try await cluster.checkNothingIsLost(on: cluster.nodes)
            }
        }

        @Test func aFollowerIsKilled() async throws {
            try await ClusterHarness.with(managers: 3) { cluster in
                try await cluster.createService("web", replicas: 6)
                let leader = try await cluster.leader()
                let follower = try #require(cluster.nodes.last { $0 !== leader })
                let others = cluster.nodes.filter { $0 !== follower }
                try await cluster.whileWriting(others) {
                    try await follower.stop(SIGKILL)
                    for other in others { try await cluster.writeAccepted(on: other) }
                    try await cluster.waitUntilWhole("web", replicas: 6, on: leader, except: [follower])
                }
                #expect(try await cluster.leader(among: others) === leader, "the loss of a follower moves no leadership")
                try await follower.start()
                try await cluster.waitForNodes(ready: 3, on: cluster.nodes)
                try await cluster.waitUntilWhole("web", replicas: 6, on: follower)
                try await cluster.checkNothingIsLost(on: cluster.nodes)
            }
        }

        @Test func aWorkerIsKilled() async throws {
            try await ClusterHarness.with(managers: 1, workers: 2) { cluster in
                let before = try await cluster.createService("web", replicas: 6)
                let worker = cluster[3]
                let id = try await worker.id
                #expect(before.contains { $0.node == id })
                try await worker.stop(SIGKILL)
                try await cluster.waitUntilWhole("web", replicas: 6, on: cluster[1], except: [worker])
                try await eventually("the manager calls it down") {
                    try await cluster.nodeList(on: cluster[1])[id]?["Status"]?["State"]?.string == "down"
                }
                try await worker.start()
                try await cluster.waitForNodes(ready: 3, on: [cluster[1]])
                try await cluster.waitUntilWhole("web", replicas: 6, on: cluster[1])
            }
        }

        /// An engine that is back within its heartbeats has lost nothing: tasks and containers are the ones from before.
        @Test func aWorkerIsKilledAndStartedAtOnce() async throws {
            try await ClusterHarness.with(managers: 1, workers: 2, heartbeat: nil) { cluster in
                let before = try await cluster.createService("web", replicas: 6)
                try await cluster[3].stop(SIGKILL)
                try await cluster[3].start()
                try await cluster.waitForNodes(ready: 3, on: [cluster[1]])
                #expect(try await cluster.waitUntilWhole("web", replicas: 6, on: cluster[1]) == before)
            }
        }

        @Test func allAreKilledAtOnce() async throws {
            try await ClusterHarness.with(managers: 3, workers: 1, heartbeat: nil) { cluster in
                let managers = Array(cluster.nodes.prefix(3))
                let before = try await cluster.createService("web", replicas: 8)
                try await cluster.whileWriting(managers) {
                    for manager in managers { try await cluster.writeAccepted(on: manager) }
                    for node in cluster.nodes { kill(try node.process, SIGKILL) }
                }
                for node in cluster.nodes { try await node.stop(SIGKILL) }
                for task in before { #expect(kill(pid_t(task.process), 0) == 0, "the container of slot \(task.slot) does not run on") }
                for node in cluster.nodes { try await node.start() }
                try await cluster.waitForNodes(ready: 4, on: managers)
                try await cluster.checkNothingIsLost(on: managers)
                for manager in managers { try await cluster.writeAccepted(on: manager) }
                let after = try await cluster.waitUntilWhole("web", replicas: 8, on: cluster[1])
                #expect(after == before, "the same tasks, containers and processes")
            }
        }

        @Test func aWorkerIsUnplugged() async throws {
            try await ClusterHarness.with(managers: 1, workers: 2) { cluster in
                try await cluster.createService("web", replicas: 6)
                let worker = cluster[3]
                let id = try await worker.id
                try await cluster.unplug(worker)
                let tasks = try await cluster.waitUntilWhole("web", replicas: 6, on: cluster[1], except: [worker])
                #expect(!tasks.contains { $0.node == id })
                // It goes on with what it has: nobody told it otherwise.
                #expect(!(try await cluster.containers(of: "web", on: [worker])).isEmpty)
                try await cluster.plug(worker)
                try await cluster.waitForNodes(ready: 3, on: [cluster[1]])
                // Which is: the surplus has ended.
                try await cluster.waitUntilWhole("web", replicas: 6, on: cluster[1])
            }
        }
    }
}
