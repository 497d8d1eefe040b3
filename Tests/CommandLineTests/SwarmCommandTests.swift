import Coding
import Glibc
import PluginAPI
import Testing

@testable import CommandLine

@Suite struct SwarmCommandTests {
    private let tokens: JSONValue = ["Worker": "SWMTKN-1-w", "Manager": "SWMTKN-1-m"]
    private let info: JSONValue = [
        "Swarm": [
            "NodeID": "n1", "NodeAddr": "10.0.0.1", "LocalNodeState": "active", "ControlAvailable": true,
            "RemoteManagers": [["NodeID": "n2", "Addr": "10.0.0.2:2377"], ["NodeID": "n1", "Addr": "10.0.0.1:2377"]],
        ]
    ]

    /// A swarm whose certificates the authority with this key signs.
    private func swarm(_ spec: JSONValue = ["Name": "default"], issuer: String = "AQ==", isRotating: Bool = false) -> JSONValue {
        [
            "ID": "c1", "Version": ["Index": 9], "Spec": spec, "JoinTokens": tokens, "RootRotationInProgress": .bool(isRotating),
            "TLSInfo": ["TrustRoot": "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n", "CertIssuerPublicKey": .string(issuer)],
        ]
    }

    private func node(_ name: String, issuer: String?, state: String = "ready", membership: String = "accepted") -> JSONValue {
        var description: JSONValue = ["Hostname": .string(name)]
        if let issuer { description["TLSInfo"] = ["CertIssuerPublicKey": .string(issuer)] }
        return [
            "ID": .string("id-\(name)"), "Description": description, "Status": ["State": .string(state)],
            "Certificate": ["Membership": .string(membership)],
        ]
    }

    /// Runs something with a file of this text.
    private func withFile(_ text: String, _ body: (String) async throws -> Void) async throws {
        var template = Array("/tmp/apus-test-XXXXXX".utf8CString)
        let descriptor = template.withUnsafeMutableBufferPointer { buffer in buffer.baseAddress.map { mkstemp($0) } ?? -1 }
        try #require(descriptor >= 0)
        close(descriptor)
        let path = template.withUnsafeBufferPointer { buffer in buffer.baseAddress.map { String(cString: $0) } ?? "" }
        unlink(path)
        defer { unlink(path) }
        try LocalFile.create(path, text)
        try await body(path)
    }

    @Test func initShowsBothJoinCommands() async throws {
        let run = FakeRun()
        run.engine.answer("POST /swarm/init", "n1")
        run.engine.answer("GET /swarm", swarm())
        run.engine.answer("GET /info", info)
        #expect(await run("swarm", "init", "--advertise-addr", "10.0.0.1") == 0)
        #expect(run.console.output.contains("current node (n1) is now a manager"))
        #expect(run.console.output.contains("    apus swarm join --token SWMTKN-1-w 10.0.0.1:2377\n"))
        #expect(run.console.output.contains("    apus swarm join --token SWMTKN-1-m 10.0.0.1:2377\n"))
        #expect(!run.console.output.contains("unlock") && run.console.errors.isEmpty)
        #expect(try run.engine.body(of: "POST /swarm/init")["AdvertiseAddr"] == "10.0.0.1")
    }

    @Test func initSendsEverything() async throws {
        try await withFile("ROOT") { path in
            let run = FakeRun()
            run.engine.answer("POST /swarm/init", "n1")
            run.engine.answer("GET /swarm", swarm())
            run.engine.answer("GET /info", info)
            run.engine.answer("GET /swarm/unlockkey", ["UnlockKey": "SWMKEY-1-k"])
            #expect(
                await run(
                    "swarm", "init", "--listen-addr", "0.0.0.0:4000", "--availability", "drain", "--autolock", "--cert-expiry", "48h",
                    "--dispatcher-heartbeat", "3s", "--external-ca", "protocol=cfssl,url=https://ca/sign,cacert=\(path)", "--task-history-limit", "7",
                    "--data-path-port", "5000", "--default-addr-pool", "10.9.0.0/16", "--default-addr-pool", "10.8.0.0/16",
                    "--default-addr-pool-mask-length", "26", "--accept-nodes", "--expired-renewal-grace", "0") == 0)
            let body = try run.engine.body(of: "POST /swarm/init")
            #expect(body["ListenAddr"] == "0.0.0.0:4000" && body["Availability"] == "drain" && body["AutoLockManagers"] == true)
            #expect(body["DataPathPort"] == 5000 && body["DefaultAddrPool"] == ["10.9.0.0/16", "10.8.0.0/16"] && body["SubnetSize"] == 26)
            let spec = try JSONFields.decode(ClusterSpec.self, from: body["Spec"] ?? .null)
            #expect(spec.ca.nodeCertificateExpiry == .seconds(172_800) && spec.dispatcher.heartbeatPeriod == .seconds(3))
            #expect(spec.orchestration.taskHistoryLimit == 7 && spec.encryption.autoLockManagers)
            #expect(spec.ca.joiningWaits == true && spec.ca.expiredRenewalGrace == .zero)
            #expect(spec.ca.externalCAs.map(\.url) == ["https://ca/sign"] && spec.ca.externalCAs.map(\.caCertificate) == ["ROOT"])
            #expect(run.console.output.contains("    SWMKEY-1-k\n"))
        }
        let refused = FakeRun()
        for bad in ["url=https://x", "protocol=cfssl", "protocol=vault,url=https://x", "protocol=cfssl,url=https://x,cacert=/no"] {
            #expect(await refused("swarm", "init", "--external-ca", bad) == 1, "\(bad)")
        }
        #expect(!refused.engine.requests.contains { $0.method == "POST" })
    }

    @Test func anInitThatWorkedIsNoFailureWhenTokensCannotBeShown() async {
        let run = FakeRun()
        run.engine.answer("POST /swarm/init", "n1")
        #expect(await run("swarm", "init", "--force-new-cluster") == 0)
        #expect(run.console.output.contains("only manager") && run.console.errors.contains("apus swarm join-token worker"))
    }

    @Test func joinSaysAsWhat() async throws {
        for (isManager, word) in [(true, "manager"), (false, "worker")] {
            let run = FakeRun()
            run.engine.answer("POST /swarm/join", bytes: [])
            run.engine.answer("GET /info", ["Swarm": ["ControlAvailable": .bool(isManager)]])
            #expect(await run("swarm", "join", "--token", "SWMTKN-1-x", "--availability", "pause", "10.0.0.1", "10.0.0.2:99") == 0)
            #expect(run.console.output == "This node joined a swarm as a \(word).\n")
            let body = try run.engine.body(of: "POST /swarm/join")
            #expect(body["JoinToken"] == "SWMTKN-1-x" && body["RemoteAddrs"] == ["10.0.0.1", "10.0.0.2:99"] && body["Availability"] == "pause")
        }
        let bad = FakeRun()
        #expect(await bad("swarm", "join", "--token", "x", "10.0.0.1") == 1 && bad.engine.requests.isEmpty)
        #expect(await bad("swarm", "join", "10.0.0.1") == 125)
        bad.engine.answer("POST /swarm/join", ["message": "no certificate was issued in 100 s: the node waits to be accepted"], status: 504)
        #expect(await bad("swarm", "join", "--token", "SWMTKN-1-x", "10.0.0.1") == 1)
        #expect(bad.console.errors.contains("apus node accept"))
    }

    @Test func joinTokens() async {
        let run = FakeRun()
        run.engine.answer("GET /swarm", swarm())
        run.engine.answer("GET /info", info)
        run.engine.answer("POST /swarm/update", bytes: [])
        #expect(await run("swarm", "join-token", "worker") == 0)
        #expect(run.console.output.contains("    apus swarm join --token SWMTKN-1-w 10.0.0.1:2377\n"))
        let quiet = FakeRun()
        quiet.engine.answer("GET /swarm", swarm())
        quiet.engine.answer("GET /info", info)
        quiet.engine.answer("POST /swarm/update", bytes: [])
        #expect(await quiet("swarm", "join-token", "--rotate", "-q", "manager") == 0)
        #expect(quiet.console.output == "SWMTKN-1-m\n")
        #expect(quiet.engine.requests.contains { $0.target == "/v1.50/swarm/update?version=9&rotateManagerToken=true" })
        #expect(await quiet("swarm", "join-token", "boss") == 1)
    }

    @Test func locking() async throws {
        var run = FakeRun()
        run.secret = " SWMKEY-1-k\n"
        run.engine.answer("POST /swarm/unlock", bytes: [])
        #expect(await run("swarm", "unlock") == 0)
        #expect(try run.engine.body(of: "POST /swarm/unlock") == ["UnlockKey": "SWMKEY-1-k"])
        run.secret = "hunter2"
        #expect(await run("swarm", "unlock") == 1 && run.console.errors.contains("SWMKEY-"))

        let keys = FakeRun()
        keys.engine.answer("GET /swarm/unlockkey", ["UnlockKey": "SWMKEY-1-k"])
        keys.engine.answer("GET /swarm", swarm(["Name": "default", "EncryptionConfig": ["AutoLockManagers": true]]))
        keys.engine.answer("POST /swarm/update", bytes: [])
        #expect(await keys("swarm", "unlock-key", "-q") == 0 && keys.console.output == "SWMKEY-1-k\n")
        #expect(!keys.engine.requests.contains { $0.method == "POST" })
        #expect(await keys("swarm", "unlock-key", "--rotate", "-q") == 0)
        #expect(keys.engine.requests.contains { $0.target == "/v1.50/swarm/update?version=9&rotateManagerUnlockKey=true" })

        let open = FakeRun()
        open.engine.answer("GET /swarm/unlockkey", ["UnlockKey": ""])
        open.engine.answer("GET /swarm", swarm())
        for arguments in [["swarm", "unlock-key"], ["swarm", "unlock-key", "--rotate"]] { #expect(await open(arguments) == 1) }
        #expect(open.console.errors.contains("apus swarm update --autolock") && !open.engine.requests.contains { $0.method == "POST" })
    }

    @Test func updateChangesOnlyWhatIsNamed() async throws {
        let run = FakeRun()
        run.engine.answer("GET /swarm", swarm(["Name": "default", "CAConfig": ["NodeCertExpiry": 86_400_000_000_000, "JoiningWaits": true]]))
        run.engine.answer("GET /swarm/unlockkey", ["UnlockKey": "SWMKEY-1-k"])
        run.engine.answer("POST /swarm/update", bytes: [])
        #expect(await run("swarm", "update", "--autolock=true", "--no-accept-nodes", "--snapshot-interval", "500", "--max-snapshots", "2") == 0)
        let spec = try JSONFields.decode(ClusterSpec.self, from: run.engine.body(of: "POST /swarm/update"))
        #expect(spec.encryption.autoLockManagers && spec.ca.joiningWaits == false && spec.ca.nodeCertificateExpiry == .seconds(86400))
        #expect(spec.raft.snapshotInterval == 500 && spec.raft.keepOldSnapshots == 2 && spec.ca.expiredRenewalGrace == nil)
        #expect(run.console.output.contains("Swarm updated.") && run.console.output.contains("    SWMKEY-1-k\n"))
        #expect(await run("swarm", "update", "--autolock=false", "--expired-renewal-grace", "24h") == 0)
        let second = try JSONFields.decode(ClusterSpec.self, from: run.engine.body(of: "POST /swarm/update"))
        #expect(!second.encryption.autoLockManagers && second.ca.expiredRenewalGrace == .seconds(86400) && second.ca.joiningWaits == true)
        #expect(await run("swarm", "update") == 1)
    }

    @Test func authorityShowsTheRoot() async {
        let run = FakeRun()
        run.engine.answer("GET /swarm", swarm())
        #expect(await run("swarm", "ca") == 0)
        #expect(run.console.output == "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n" && run.console.errors.isEmpty)
        #expect(await run("swarm", "ca", "--cert-expiry", "1h") == 1 && run.console.errors.contains("--rotate"))
        #expect(!run.engine.requests.contains { $0.method == "POST" })
    }

    @Test func rotationIsFollowedUntilItIsOver() async throws {
        let run = FakeRun()
        run.engine.answer("GET /swarm", swarm(["Name": "default", "CAConfig": ["ForceRotate": 3]]))
        run.engine.answer("GET /swarm", swarm(["Name": "default", "CAConfig": ["ForceRotate": 3]]))
        for _ in 0..<3 { run.engine.answer("GET /swarm", swarm(isRotating: true)) }
        run.engine.answer("GET /swarm", ["message": "The swarm does not have a leader."], status: 503)
        run.engine.answer("GET /swarm", swarm(issuer: "Ag=="))
        run.engine.answer("GET /nodes", [node("a", issuer: "AQ=="), node("b", issuer: "AQ==")])
        run.engine.answer("GET /nodes", [node("a", issuer: "AQ=="), node("b", issuer: "AQ==", state: "down")])
        run.engine.answer("GET /nodes", [node("a", issuer: "Ag=="), node("b", issuer: "AQ==", state: "down")])
        run.engine.answer("GET /nodes", [node("a", issuer: "Ag=="), node("b", issuer: "Ag=="), node("c", issuer: nil, membership: "pending")])
        run.engine.answer("POST /swarm/update", bytes: [])
        #expect(await run("swarm", "ca", "--rotate") == 0)
        let spec = try JSONFields.decode(ClusterSpec.self, from: run.engine.body(of: "POST /swarm/update"))
        #expect(spec.ca.forceRotate == 4 && spec.ca.signingCertificate.isEmpty)
        #expect(run.engine.requests.contains { $0.target == "/v1.50/swarm/update?version=9" })
        #expect(
            run.console.output.split(separator: "\n").map { String($0) } == [
                "0 of 2 nodes have a certificate of the new root; waiting for a, b (down: start it, or let go of it with `apus node rm`)",
                "1 of 2 nodes have a certificate of the new root; waiting for b (down: start it, or let go of it with `apus node rm`)",
                "2 of 2 nodes have a certificate of the new root", "All nodes have certificates of the new root.",
            ])
    }

    @Test func rotationCanBeLeftAlone() async {
        for (presses, arguments, code) in [(false, ["--detach"], 0), (true, [], 130)] as [(Bool, [String], Int32)] {
            var run = FakeRun()
            run.presses = presses
            run.engine.answer("GET /swarm", swarm())
            run.engine.answer("GET /swarm", swarm())
            run.engine.answer("GET /swarm", swarm(isRotating: true))
            run.engine.answer("GET /nodes", [node("a", issuer: "AQ==")])
            run.engine.answer("POST /swarm/update", bytes: [])
            #expect(await run(["swarm", "ca", "--rotate"] + arguments) == code)
            #expect((run.console.output + run.console.errors).contains("in the background"))
        }
    }

    @Test func rotationToAnotherAuthority() async throws {
        try await withFile("PEM") { path in
            let run = FakeRun()
            run.engine.answer("GET /swarm", swarm())
            run.engine.answer("GET /nodes", [])
            run.engine.answer("POST /swarm/update", bytes: [])
            #expect(await run("swarm", "ca", "--rotate", "-d", "--ca-cert", path, "--ca-key", path, "--cert-expiry", "2h") == 0)
            let own = try JSONFields.decode(ClusterSpec.self, from: run.engine.body(of: "POST /swarm/update"))
            #expect(own.ca.signingCertificate == "PEM" && own.ca.signingKey == "PEM" && own.ca.nodeCertificateExpiry == .seconds(7200))
            #expect(own.ca.externalCAs.isEmpty)
            #expect(await run("swarm", "ca", "--rotate", "-d", "--ca-cert", path, "--external-ca", "protocol=cfssl,url=https://x") == 0)
            let other = try JSONFields.decode(ClusterSpec.self, from: run.engine.body(of: "POST /swarm/update"))
            #expect(other.ca.externalCAs.map(\.caCertificate) == ["PEM"] && other.ca.signingKey.isEmpty && other.ca.forceRotate == 1)
            let count = run.engine.requests.count
            let external = ["--external-ca", "protocol=cfssl,url=https://x"]
            for bad in [["--ca-cert", path], ["--ca-key", path], ["--ca-key", path] + external, ["--ca-cert", "/no"]] {
                #expect(await run(["swarm", "ca", "--rotate"] + bad) == 1, "\(bad)")
            }
            #expect(run.engine.requests.count == count)
        }
    }

    @Test func infoShowsTheSwarm() async {
        let run = FakeRun()
        var info = info
        info["Swarm"]?["Error"] = "the others are away"
        info["Swarm"]?["Managers"] = 3
        info["Swarm"]?["Nodes"] = 7
        info["Swarm"]?["Cluster"] = swarm(
            [
                "Name": "default", "EncryptionConfig": ["AutoLockManagers": true], "CAConfig": ["NodeCertExpiry": 7_776_000_000_000_000],
                "Dispatcher": ["HeartbeatPeriod": 5_000_000_000],
            ], isRotating: true)
        run.engine.answer("GET /info", info)
        #expect(await run("info") == 0)
        #expect(
            run.console.output == """
                Swarm: active
                 Node id: n1
                 Error: the others are away
                 Is manager: true
                 Cluster id: c1
                 Managers: 3
                 Nodes: 7
                 Heartbeat period: 5s
                 Certificate expiry: 90 days
                 Autolock: true
                 Root rotation in progress: true
                 Node address: 10.0.0.1
                 Manager addresses:
                  10.0.0.1:2377
                  10.0.0.2:2377

                """)
        #expect(SwarmInformation.lines(["LocalNodeState": "inactive", "NodeID": ""]) == ["Swarm: inactive"])
        #expect(SwarmInformation.lines(["LocalNodeState": "locked"]).contains { $0.contains("apus swarm unlock") })
    }

    @Test func refusalsOfSwarmsSayWhatToDo() {
        func hint(_ message: String) -> String { EngineFailure.hinted(message) }
        #expect(hint("This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state.").contains("apus info"))
        #expect(!hint("This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state.").contains("swarm init"))
        #expect(hint("The swarm does not have a leader. (x; ?stale=1 shows what this manager knows)").contains("--stale with"))
        #expect(hint("The swarm does not have a leader.").contains("--force-new-cluster"))
        #expect(hint("Swarm is encrypted and needs to be unlocked before it can be used.").contains("apus swarm unlock"))
    }
}
