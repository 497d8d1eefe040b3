import Coding
import Glibc
import HTTPClient
import PluginAPI
import Testing

extension ClusterTests {
    @Suite struct ServiceLogs {
        @Test func everyManagerShowsTheLogsOfAllNodes() async throws {
            try await ClusterHarness.with(managers: 2, workers: 1) { cluster in
                try await cluster[1].json(
                    "POST", "/services/create",
                    [
                        "Name": "talker", "Mode": ["Global": [:]],
                        "TaskTemplate": [
                            "ContainerSpec": [
                                "Image": "busybox:latest", "Command": ["sh", "-c", "echo out of $HOSTNAME; echo err of $HOSTNAME >&2; exec sleep 100000"],
                                "Hostname": "{{.Node.ID}}", "StopGracePeriod": 1_000_000_000,
                            ]
                        ],
                    ])
                var ids: [String] = []
                for node in cluster.nodes { ids.append(try await node.id) }
                func logs(_ node: ClusterNode, _ query: String) async throws -> [(stream: UInt8, line: String)] {
                    let answer = try await node.send("GET", "/services/talker/logs?\(query)", timeout: .seconds(30))
                    guard answer.head.isSuccess else { throw EngineFailure(answer.text) }
                    return Self.frames(answer.body)
                }
                // The leader and the other one, from everybody, each line once.
                for manager in [cluster[1], cluster[2]] {
                    try await eventually("all lines are there") {
                        let lines = try await logs(manager, "stdout=1&stderr=1")
                        return Set(lines.map { "\($0.stream) \($0.line)" }) == Set(ids.flatMap { ["1 out of \($0)\n", "2 err of \($0)\n"] })
                            && lines.count == 6
                    }
                    #expect(try await logs(manager, "stderr=1&tail=1").map(\.line).sorted() == ids.map { "err of \($0)\n" }.sorted())
                    let details = try await logs(manager, "stdout=1&details=1&timestamps=1").map(\.line)
                    for id in ids { #expect(details.contains { $0.contains("Z com.docker.swarm.node.id=\(id),") && $0.hasSuffix(" out of \(id)\n") }) }
                    #expect(try await logs(manager, "stdout=1&since=4000000000").isEmpty)
                }
                // What can be had, and who is missing.
                try await cluster[3].stop(SIGKILL)
                for manager in [cluster[1], cluster[2]] {
                    try await eventually("the missing node is named") {
                        let lines = try await logs(manager, "stdout=1")
                        return lines.filter { $0.stream == 1 }.count == 2 && lines.last?.stream == 2 && lines.last?.line.contains("cannot be had") == true
                    }
                }
                try await cluster[3].start()
                try await eventually("it is back") { try await logs(cluster[1], "stdout=1").filter { $0.stream == 1 }.count >= 3 }
            }
        }

        private static func frames(_ bytes: [UInt8]) -> [(stream: UInt8, line: String)] {
            var frames: [(UInt8, String)] = []
            var rest = bytes[...]
            while rest.count >= 8 {
                let header = Array(rest.prefix(8))
                let length = header[4...].reduce(0) { $0 << 8 | Int($1) }
                frames.append((header[0], String(decoding: rest.dropFirst(8).prefix(length), as: UTF8.self)))
                rest = rest.dropFirst(8 + length)
            }
            return frames
        }
    }
}
