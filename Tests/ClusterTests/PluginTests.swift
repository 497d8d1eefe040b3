import Coding
import Files
import Glibc
import PluginAPI
import Testing

extension ClusterTests {
    /// Scheduler and certificate authority are the swarm's, not a manager's.
    @Suite struct Plugins {
        private func scheduler(of node: ClusterNode) async throws -> [String] {
            try await node.get("/plugins", filters: ["capability": ["scheduler"], "enabled": ["true"]]).array?.compactMap { $0["Name"]?.string } ?? []
        }

        private func wait(_ nodes: [ClusterNode], for name: String) async throws {
            try await eventually("all of them use \(name)") {
                for node in nodes where try await scheduler(of: node) != ["\(name):latest"] { return false }
                return true
            }
        }

        /// The default set's binpack as a plugin of another name: a file that no engine came with.
        private func dropIn(_ cluster: ClusterHarness, _ name: String) throws -> String {
            var bytes = try Files.read("\(cluster.pluginFolder)/scheduler-binpack.so")
            let old = Array("binpack".utf8) + [UInt8](repeating: 0, count: 25)
            let start = try #require(bytes.indices.dropLast(old.count).first { bytes[$0] == old[0] && Array(bytes[$0..<$0 + old.count]) == old })
            bytes.replaceSubrange(start..<start + old.count, with: Array(name.utf8) + [UInt8](repeating: 0, count: old.count - name.utf8.count))
            let path = "\(cluster.root)/scheduler-\(name).so"
            try Files.writeAtomically(bytes, to: path, permissions: 0o755)
            return path
        }

        @Test func theSchedulerIsSwitchedOnAllManagers() async throws {
            try await ClusterHarness.with(managers: 3) { cluster in
                let leader = try await cluster.leader()
                let followers = cluster.nodes.filter { $0.index != leader.index }
                try await followers[0].json("POST", "/plugins/scheduler/binpack/enable")
                try await wait(cluster.nodes, for: "scheduler/binpack")

                // Whoever leads next uses it too, and one that was away meanwhile learns what was agreed on.
                try await leader.stop(SIGKILL)
                try await cluster.writeAccepted(on: followers[1])
                #expect(try await scheduler(of: followers[0]) == ["scheduler/binpack:latest"])
                try await followers[1].json("POST", "/plugins/scheduler/binpack/disable")
                try await wait(followers, for: "scheduler/spread")
                try await leader.start()
                try await wait([leader], for: "scheduler/spread")
                try await cluster.waitForNodes(ready: 3, on: cluster.nodes)

                // A file that only some have, or that is another one somewhere, is not agreed on.
                let path = try dropIn(cluster, "fair")
                for node in followers { try await node.json("POST", "/apus/plugins/install", ["Path": .string(path)]) }
                let missing = try await followers[0].refusal("POST", "/plugins/scheduler/fair/enable")
                #expect(missing.status == 409 && missing.message.contains("not installed"), "\(missing)")
                #expect(try await scheduler(of: followers[0]) == ["scheduler/spread:latest"])
                var changed = try Files.read(path)
                changed.append(0)
                try Files.writeAtomically(changed, to: "\(cluster.root)/other.so", permissions: 0o755)
                try await leader.json("POST", "/apus/plugins/install", ["Path": .string("\(cluster.root)/other.so")])
                let differs = try await followers[0].refusal("POST", "/plugins/scheduler/fair/enable")
                #expect(differs.status == 409 && differs.message.contains("SHA-256"), "\(differs)")
                try await leader.json("POST", "/apus/plugins/install", ["Path": .string(path)])
                try await followers[0].json("POST", "/plugins/scheduler/fair/enable")
                try await wait(cluster.nodes, for: "scheduler/fair")
                try await cluster.createService("placed", replicas: 3)

                // One that has lost it goes on with the default, and says so.
                try await leader.stop(SIGKILL)
                try Files.removeTree("\(leader.root)/plugins/scheduler-fair.so")
                try await leader.start()
                try await eventually("it says what it lacks") {
                    let warnings = try await leader.get("/info")["Warnings"]?.array ?? []
                    return warnings.contains { $0.string?.contains("lacks the scheduler") == true }
                }
                #expect(try await scheduler(of: leader) == ["scheduler/spread:latest"])
                #expect(leader.log.contains("placed with the default scheduler"))
                try await leader.json("POST", "/apus/plugins/install", ["Path": .string(path)])
                try await wait([leader], for: "scheduler/fair")
                #expect(try await leader.get("/info")["Warnings"]?.array?.contains { $0.string?.contains("lacks") == true } != true)

                // The authority of a swarm changes with its root.
                let authority = try await followers[0].refusal("POST", "/plugins/ca/external/enable")
                #expect(authority.status == 409 && authority.message.contains("swarm ca --rotate --external-ca"), "\(authority)")
                try await cluster.checkNothingIsLost(on: cluster.nodes)
            }
        }

        /// From the internal authority to a real cfssl server, whose key no node has, and back, with all nodes connected all along.
        @Test func theSwarmGoesOverToCFSSLAndBack() async throws {
            try await ClusterHarness.with(managers: 3, workers: 1) { cluster in
                try await cluster.createService("web", replicas: 8)
                let root = try await startCFSSL(cluster)
                defer { if let process = Int32((try? Files.readText("\(cluster.root)/cfssl/pid"))?.trimmed ?? "") { kill(process, SIGKILL) } }
                try await rotate(cluster) { authority in
                    authority["ExternalCAs"] = [
                        ["Protocol": "cfssl", "URL": "http://10.98.0.254:8888/api/v1/cfssl/sign", "CACert": .string(root)]
                    ]
                    authority["SigningCACert"] = .string(root)
                }
                #expect(try await cluster[2].get("/swarm")["TLSInfo"]?["TrustRoot"]?.string?.trimmed == root.trimmed)
                let plugins = try await cluster[3].get("/plugins", filters: ["capability": ["ca"], "enabled": ["true"]]).array ?? []
                #expect(plugins.map { $0["Name"]?.string } == ["ca/external:latest"])
                // The next leader issues certificates as well.
                let leader = try await cluster.leader()
                try await leader.stop(SIGKILL)
                let other = cluster.nodes.first { $0.index != leader.index } ?? cluster[1]
                try await cluster.writeAccepted(on: other)
                try await cluster[4].json("POST", "/swarm/leave")
                try await cluster[4].json(
                    "POST", "/swarm/join", cluster.joining(cluster[4], token: try await cluster.token(.worker, from: other), through: [other]))
                try await leader.start()
                // The one that left is counted until it is removed: nobody can know that it will not come back with the old root.
                try await eventually("all are ready, and the one that left is removed", { await cluster.describe(other) }) {
                    let nodes = try await cluster.nodeList(on: other)
                    for (id, node) in nodes where node["Status"]?["State"]?.string == "down" && node["Spec"]?["Role"]?.string == "worker" {
                        try await other.json("DELETE", "/nodes/\(id)?force=1")
                    }
                    return nodes.count == 4 && nodes.values.allSatisfy { $0["Status"]?["State"]?.string == "ready" }
                }

                try await rotate(cluster) { $0["ExternalCAs"] = [] }
                #expect(try await cluster[2].get("/swarm")["TLSInfo"]?["TrustRoot"]?.string?.trimmed != root.trimmed)
                try await cluster.waitUntilWhole("web", replicas: 8, on: cluster[2])
                try await cluster.checkNothingIsLost(on: Array(cluster.nodes.prefix(3)))
            }
        }

        private func rotate(_ cluster: ClusterHarness, _ change: (inout JSONValue) -> Void) async throws {
            let old = try #require(try await cluster[2].get("/swarm")["TLSInfo"]?["TrustRoot"]?.string)
            try await cluster.updateSwarm(on: cluster[2]) { spec in
                var authority = spec["CAConfig"] ?? [:]
                authority["ForceRotate"] = .integer((authority["ForceRotate"]?.integer ?? 0) + 1)
                change(&authority)
                spec["CAConfig"] = authority
            }
            var down = 0
            try await eventually("the rotation ends", { await cluster.describe(cluster[2]) }) {
                down += try await cluster.nodeList(on: cluster[2]).values.count { $0["Status"]?["State"]?.string != "ready" }
                let swarm = try await cluster[2].get("/swarm")
                return swarm["RootRotationInProgress"]?.bool == false && swarm["TLSInfo"]?["TrustRoot"]?.string != old
            }
            #expect(down == 0, "a node was away while the root was rotated")
        }

        /// A cfssl server of Debian beside the registry, with a root that openssl made; returns the root.
        private func startCFSSL(_ cluster: ClusterHarness) async throws -> String {
            let folder = "\(cluster.root)/cfssl"
            try Files.makeDirectory(folder)
            let usages = "\"signing\", \"key encipherment\", \"server auth\", \"client auth\""
            let configuration = """
                {"signing": {"default": {"expiry": "2160h", "usages": [\(usages)]}, "profiles": {
                    "CA": {"expiry": "87600h", "usages": ["cert sign", "crl sign"], "ca_constraint": {"is_ca": true}}}}}
                """
            try Files.writeAtomically(Array(configuration.utf8), to: "\(folder)/config.json")
            try await cluster.inHub(
                "sh", "-ec",
                """
                cd '\(folder)'
                openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.pem -days 3650 -subj /CN=swarm-ca 2>/dev/null
                cfssl serve -address 10.98.0.254 -port 8888 -ca root.pem -ca-key root.key -config config.json >log 2>&1 </dev/null &
                echo $! >pid
                for try in $(seq 100); do curl -s -o /dev/null http://10.98.0.254:8888/ && exit 0; sleep 0.1; done
                cat log; exit 1
                """)
            return try Files.readText("\(folder)/root.pem")
        }
    }
}
