import Coding
import Files
import Glibc
import HTTPClient
import PluginAPI
import Processes
import Testing

extension ClusterTests {
    @Suite struct Attacks {
        @Test func attackersAreRefused() async throws {
            try await ClusterHarness.with(managers: 1, workers: 1, extra: 1) { cluster in
                let manager = cluster[1]
                try await cluster.createService("web", replicas: 2)
                try await cluster.initialize(cluster[3])
                let folder = "\(cluster.root)/attacker"
                try Files.makeDirectory(folder)
                let root = try #require(try await manager.get("/swarm")["TLSInfo"]?["TrustRoot"]?.string)
                try Files.writeAtomically(Array(root.utf8), to: "\(folder)/root.pem")
                for (name, node) in [("worker", cluster[2]), ("foreign", cluster[3])] {
                    for kind in ["key", "crt"] {
                        try Files.writeAtomically(try Files.read("\(node.dataRoot)/swarm/certificates/swarm-node.\(kind)"), to: "\(folder)/\(name).\(kind)")
                    }
                }
                let before = try Self.memory(of: manager)
                let result = try await cluster.attack(manager, folder: folder, token: try await cluster.token(.worker))
                let lines = result.text.lines
                #expect(lines.last == "end", "\(result.errorText)")
                for line in lines.dropLast() { #expect(line.hasPrefix("ok "), "\(line)") }
                let after = try Self.memory(of: manager, "VmHWM:")
                #expect(after - before < 200 << 10, "the manager grew from \(before) to \(after) KiB at most")
                for trace in ["refused", "a handshake failed", "a stranger makes room", "a peer floods"] {
                    #expect(manager.log.contains(trace), "not logged: \(trace)")
                }
                try await cluster.waitForNodes(ready: 2, on: [manager])
                try await cluster.writeAccepted(on: manager)
                try await cluster.waitUntilWhole("web", replicas: 2, on: manager)
            }
        }

        /// Whoever was let in once gets nothing out of that after his removal: there are no sessions to go on with.
        @Test func aRemovedNodeResumesNoSession() async throws {
            try await ClusterHarness.with(managers: 1, workers: 1) { cluster in
                let (manager, worker) = (cluster[1], cluster[2])
                let certificates = "\(worker.dataRoot)/swarm/certificates"
                func connect(_ option: String) async throws -> String {
                    try await ClusterHarness.check(
                        "sh", "-c",
                        """
                        (sleep 2; echo Q) | nsenter --net=/run/netns/\(worker.namespace) timeout 20 openssl s_client -connect \(manager.address):2377 -alpn h2 \
                            -cert \(certificates)/swarm-node.crt -key \(certificates)/swarm-node.key \(option) 2>&1 || true
                        """)
                }
                let session = "\(cluster.root)/session"
                let first = try await connect("-sess_out \(session)")
                #expect(first.contains("New, TLS") && !first.contains("alert"), "\(first)")
                try await manager.json("DELETE", "/nodes/\(worker.id)?force=1")
                let second = try await connect(Files.exists(session) ? "-sess_in \(session)" : "")
                #expect(!second.contains("Reused, TLS") && second.contains("alert"), "\(second)")
                #expect(manager.log.contains("a peer was refused"), "\(manager.logTail())")
            }
        }

        /// Resident memory, in KiB: now, or with `VmHWM:` the most that it ever was.
        private static func memory(of node: ClusterNode, _ name: String = "VmRSS:") throws -> Int {
            let status = try Files.readText("/proc/\(try node.process)/status")
            let line = try #require(status.split(separator: "\n").first { $0.hasPrefix(name) })
            return try #require(Int(line.filter(\.isNumber)))
        }
    }
}
