import Coding
import Files
import Glibc
import HTTPClient
import PluginAPI
import Testing

extension ClusterTests {
    @Suite struct DisksAndClocks {
        /// Removes what fills a disk, also when the test fails on the way.
        private func fill(_ node: ClusterNode, _ body: () async throws -> Void) async throws {
            let filler = "\(node.dataRoot)/filler"
            // To the last block: whatever dd leaves, the second one takes.
            try await ClusterHarness.check(
                "sh", "-c", "dd if=/dev/zero of=\(filler) bs=1M 2>/dev/null; dd if=/dev/zero of=\(filler) bs=512 oflag=append conv=notrunc 2>/dev/null; true")
            defer { unlink(filler) }
            try await body()
        }

        @Test func theLeadersDiskIsFull() async throws {
            try await ClusterHarness.with(managers: 1, extra: 2) { cluster in
                let full = cluster[1]
                try await cluster.placeOnSmallDisk(cluster[2], mebibytes: 64)
                try await cluster.join(cluster[2], as: .manager)
                try await cluster.join(cluster[3], as: .manager)
                // The one with the small disk leads: the others are away until it does.
                let small = cluster[2]
                var attempts = 0
                while try await cluster.leader() !== small {
                    attempts += 1
                    try #require(attempts < 30, "engine 2 never became the leader")
                    let leader = try await cluster.leader()
                    try await leader.stop(SIGKILL)
                    _ = try await cluster.leader()
                    try await leader.start()
                    try await cluster.waitForNodes(ready: 3, on: cluster.nodes)
                }
                try await cluster.createService("web", replicas: 4)
                let others = [full, cluster[3]]
                try await fill(small) {
                    try await eventually("another leads", { await cluster.describe(full) }) {
                        // One write may still fit into what the file system has left.
                        for other in others { await cluster.write(on: other) }
                        guard let nodes = try? await cluster.nodeList(on: full) else { return false }
                        return nodes.values.contains { node in
                            node["ManagerStatus"]?["Leader"]?.bool == true && node["ManagerStatus"]?["Addr"]?.string != "\(small.address):2377"
                        }
                    }
                    for other in others { try await cluster.writeAccepted(on: other) }
                    var said = ""
                    try await eventually("the full one says so", { said + small.logTail() }) {
                        guard let info = try? await small.send("GET", "/info", timeout: .seconds(10)), info.status == 200 else { return false }
                        said = try JSONValue.parse(info.body)["Swarm"]?["Error"]?.string ?? ""
                        return said.contains("space")
                    }
                    for other in others { try await cluster.writeAccepted(on: other) }
                    try await cluster.checkNothingIsLost(on: others)
                }
                // With space again it goes on, by itself or after a start.
                try await eventually("the error is gone", { small.logTail() }) { try await small.swarm["Error"]?.string == "" }
                try await cluster.waitForNodes(ready: 3, on: cluster.nodes)
                try await cluster.writeAccepted(on: small)
                try await cluster.checkNothingIsLost(on: cluster.nodes)
            }
        }

        private static let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"

        /// Moves the wall clock that a node's engine sees, and no other of its clocks.
        private func setClock(_ node: ClusterNode, _ offset: String) async throws {
            try #require(Files.exists(Self.library), "Debian's faketime is missing")
            // libfaketime takes its offset off every absolute time that is given to a timer, also of the monotonic clock: then an hour behind no sleep ends.
            let timers = """
                #include <sys/syscall.h>
                #include <unistd.h>
                int timerfd_settime(int timer, int flags, const void *time, void *old) { return syscall(SYS_timerfd_settime, timer, flags, time, old); }
                """
            try Files.writeAtomically(Array(timers.utf8), to: "\(node.root)/timers.c")
            try await ClusterHarness.check("clang", "-shared", "-fPIC", "-o", "\(node.root)/timers.so", "\(node.root)/timers.c")
            // Without FAKETIME_SHARED the library adds it to the environment, which moves that away from where Swift looks for the arguments:
            // then the engine sees none and takes all defaults.
            node.setEnvironment(
                "LD_PRELOAD=\(node.root)/timers.so:\(Self.library)", "FAKETIME=\(offset)", "FAKETIME_SHARED=/none /none", "FAKETIME_DONT_FAKE_MONOTONIC=1")
        }

        /// An hour is nothing to certificates of three months, in either direction.
        @Test(arguments: ["+3600s", "-3600s"]) func aClockAnHourOffJoins(_ offset: String) async throws {
            try await ClusterHarness.with(managers: 1, extra: 1) { cluster in
                let node = cluster[2]
                try await node.stop(SIGTERM)
                try await setClock(node, offset)
                try await node.start()
                let answer = try await node.send("POST", "/swarm/join", cluster.joining(node, token: try await cluster.token(.worker)))
                if answer.status == 200 {
                    try await cluster.waitForNodes(ready: 2, on: [cluster[1]])
                    try await cluster.createService("web", replicas: 4)
                } else {
                    #expect(answer.text.contains("clock"), "a refusal names the clock: \(answer.status) \(answer.text)")
                    #expect(try await node.swarm["LocalNodeState"]?.string == "inactive")
                }
            }
        }

        /// How many sessions a node has had, by its log.
        private static func sessions(_ node: ClusterNode) -> Int { node.log.lines.count { $0.contains("session with the manager") } }

        /// An hour makes certificates of half an hour expired, or not yet valid: then the clock is named where a user looks.
        @Test(arguments: ["+3600s", "-3600s"]) func aClockAnHourOffWithShortCertificates(_ offset: String) async throws {
            try await ClusterHarness.with(managers: 1, workers: 1) { cluster in
                try await cluster.updateSwarm { spec in
                    var authority = spec["CAConfig"] ?? [:]
                    authority["NodeCertExpiry"] = .integer(1800 * 1_000_000_000)
                    spec["CAConfig"] = authority
                }
                let node = cluster[2]
                try await node.json("POST", "/swarm/leave")
                try await cluster.join(node, as: .worker)
                try await node.stop(SIGTERM)
                try await setClock(node, offset)
                let sessions = Self.sessions(node)
                try await node.start()
                let id = try await node.id
                var said = ""
                // Either it gets on all the same, as certificates are dated back a little, or it says why not.
                try await eventually("the node is ready or names the clock", { said + node.logTail() }) {
                    let state = try await cluster.nodeList(on: cluster[1])[id]?["Status"]?["State"]?.string
                    said = "\(state ?? "") \(try await node.swarm["Error"]?.string ?? "")"
                    return said.contains("clock") || (state == "ready" && Self.sessions(node) > sessions)
                }
                // With the right time it is well again.
                try await node.stop(SIGTERM)
                node.setEnvironment()
                try await node.start()
                try await cluster.createService("web", replicas: 4)
                try await eventually("the node is ready", { node.logTail() }) {
                    try await cluster.nodeList(on: cluster[1])[id]?["Status"]?["State"]?.string == "ready"
                }
            }
        }
    }
}
