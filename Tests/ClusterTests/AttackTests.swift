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
                let after = try Self.memory(of: manager)
                #expect(after - before < 100 << 10, "the manager grew from \(before) to \(after) KiB")
                #expect(manager.log.contains("refused"), "nothing was logged")
                try await cluster.waitForNodes(ready: 2, on: [manager])
                try await cluster.writeAccepted(on: manager)
                try await cluster.waitUntilWhole("web", replicas: 2, on: manager)
            }
        }

        /// Resident memory, in KiB.
        private static func memory(of node: ClusterNode) throws -> Int {
            let status = try Files.readText("/proc/\(try node.process)/status")
            let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") })
            return try #require(Int(line.filter(\.isNumber)))
        }
    }
}
