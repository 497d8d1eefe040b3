import CAExternal
import CAInternal
import Coding
import Files
import OpenSSL
import PluginAPI
import Security
import Store
import Synchronization
import Testing
import Wire

@Suite struct ExternalAuthorityTests {
    private func withDirectory(_ body: (String) async throws -> Void) async throws {
        let path = try Files.makeTemporaryDirectory(prefix: "apus-security")
        defer { try? Files.removeTree(path) }
        try await body(path)
    }

    private func now() -> Timestamp { WallClock().now() }

    /// A cfssl server of Debian with a root that openssl made.
    private func withCFSSL(expiry: String = "2160h", _ body: (_ server: ExternalCA, _ directory: String) async throws -> Void) async throws {
        try await withDirectory { path in
            let made = try run(
                "/usr/bin/openssl",
                [
                    "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path + "/root.key", "-out",
                    path + "/root.pem", "-days", "3650", "-subj", "/CN=swarm-ca",
                ])
            try #require(made.status == 0, "\(String(decoding: made.output, as: UTF8.self))")
            let usages = "\"signing\", \"key encipherment\", \"server auth\", \"client auth\""
            let configuration = """
                {"signing": {"default": {"expiry": "\(expiry)", "usages": [\(usages)]}, "profiles": {
                    "CA": {"expiry": "87600h", "usages": ["cert sign", "crl sign"], "ca_constraint": {"is_ca": true}}}}}
                """
            try Files.writeAtomically(Array(configuration.utf8), to: path + "/config.json")
            let server = try await Server(
                "/usr/bin/cfssl",
                { port in
                    [
                        "serve", "-address", "127.0.0.1", "-port", "\(port)", "-ca", path + "/root.pem", "-ca-key", path + "/root.key", "-config",
                        path + "/config.json",
                    ]
                }, directory: path, log: path + "/log")
            defer { server.end() }
            var external = ExternalCA()
            external.kind = "cfssl"
            external.url = "http://127.0.0.1:\(server.port)/api/v1/cfssl/sign"
            external.caCertificate = try Files.readText(path + "/root.pem")
            try await body(external, path)
        }
    }

    @Test func aSwarmBeginsWithCFSSLAndNodesJoinIt() async throws {
        try await withCFSSL { server, path in
            let authority = try ExternalAuthority(host: Host())
            let made = try await SwarmIdentity.bootstrap(
                clusterID: "cluster1", nodeID: "node1", authority: authority, directory: path + "/certificates", now: now(), external: [server])
            #expect(made.root.key.isEmpty)
            #expect(made.root.certificate == server.caCertificate)
            #expect(made.certificate.role == .manager)
            #expect(made.certificate.nodeID == "node1")
            try Files.writeAtomically(Array(made.certificate.certificateChain.utf8), to: path + "/node.pem")
            for purpose in ["sslserver", "sslclient"] {
                let (status, output) = try run(
                    "/usr/bin/openssl", ["verify", "-purpose", purpose, "-CAfile", path + "/root.pem", path + "/node.pem"])
                #expect(status == 0, "\(String(decoding: output, as: UTF8.self))")
            }
            // A manager that only slept cannot sign itself without the root key.
            var cluster = Cluster()
            cluster.id = "cluster1"
            cluster.root = made.root
            var node = Node()
            node.id = "node1"
            node.spec.role = .manager
            let (slept, ended) = (node, cluster)
            await #expect(throws: ApusError.self) {
                _ = try await SwarmIdentity.resignSelf(
                    made.certificate, cluster: ended, node: slept, authority: InternalAuthority(host: Host()), directory: path,
                    now: made.certificate.expiresAt + .seconds(1))
            }
            // The root must be given.
            var without = server
            without.caCertificate = ""
            let rootless = without
            let error = await #expect(throws: ApusError.self) {
                _ = try await SwarmIdentity.bootstrap(
                    clusterID: "c", nodeID: "n", authority: authority, directory: path + "/other", now: now(), external: [rootless])
            }
            #expect(error?.message.contains("cacert") == true)
        }
    }

    @Test func aServerWhoseCertificatesLastTooLongIsNamed() async throws {
        try await withCFSSL(expiry: "43800h") { server, path in
            let error = await #expect(throws: ApusError.self) {
                _ = try await SwarmIdentity.bootstrap(
                    clusterID: "c", nodeID: "n", authority: ExternalAuthority(host: Host()), directory: path + "/certificates", now: now(),
                    external: [server])
            }
            #expect(error?.message.contains("set the expiry") == true, "\(error?.message ?? "")")
        }
    }

    @Test func aServerThatIsAwayIsSkipped() async throws {
        try await withCFSSL { server, path in
            var away = server
            away.url = "http://127.0.0.1:9/api/v1/cfssl/sign"
            let authority = try ExternalAuthority(host: Host())
            let made = try await SwarmIdentity.bootstrap(
                clusterID: "c", nodeID: "n", authority: authority, directory: path + "/certificates", now: now(), external: [away, server])
            #expect(made.certificate.nodeID == "n")
            let alone = away
            let error = await #expect(throws: ApusError.self) {
                _ = try await SwarmIdentity.bootstrap(
                    clusterID: "c", nodeID: "n", authority: authority, directory: path + "/b", now: now(), external: [alone])
            }
            #expect(error?.code == .unavailable)
        }
    }

    @Test func cfsslSignsTheRootThatComesAfterIt() async throws {
        try await withCFSSL { server, path in
            let authority = try ExternalAuthority(host: Host())
            let new = try await InternalAuthority(host: Host()).createRoot(CreateRootRequest(clusterID: "c", now: now()))
            var root = RootMaterial()
            root.certificate = server.caCertificate
            let request = try CertificateRequest(key: try PrivateKey(pem: new.key), subject: DistinguishedName(commonName: "swarm-ca")).pem()
            let signed = try await authority.crossSign(
                CrossSignRequest(certificate: new.certificate, signingRequest: request, now: now(), root: root, externalAuthorities: [server]))
            let node = try await SwarmIdentity.issue(
                nodeID: "n", role: .worker, clusterID: "c", root: new, authority: InternalAuthority(host: Host()), now: now(), lifetime: .seconds(3600))
            try CertificateChain.verify(
                try Certificate(pem: node.certificateChain), intermediates: [try Certificate(pem: signed)],
                roots: [try Certificate(pem: server.caCertificate)], at: now())
            await #expect(throws: ApusError.self) {
                _ = try await authority.crossSign(
                    CrossSignRequest(certificate: new.certificate, now: now(), root: root, externalAuthorities: [server]))
            }
        }
    }

    @Test func theSwarmGoesOverToCFSSLAndBack() async throws {
        try await withCFSSL { server, path in
            try await withLeader { leader in
                // cfssl has the machine's clock.
                leader.clock.set(now())
                try await leader.remove("manager1")
                let internalAuthority = InternalAuthority(host: Host())
                let external = try ExternalAuthority(host: Host())
                leader.named.withLock { $0 = ["internal": internalAuthority, "external": external] }
                let directory = leader.path + "/node"
                let certificate = try await leader.join(.manager, directory: directory)
                try await leader.changeNode(certificate.nodeID) { $0.status.state = .ready }
                var configuration = CertificateRenewer.Configuration(directory: directory, connector: leader.connector()) { _ in }
                configuration.clock = leader.clock
                let renewer = CertificateRenewer(certificate, configuration)
                func finish() async throws {
                    for _ in 0..<3 where leader.cluster.rootRotation != nil {
                        _ = try await RootRotations.step(store: leader.store)
                        if leader.cluster.rootRotation == nil { break }
                        let before = renewer.certificate.serial
                        let running = ConcurrentTask { await renewer.run() }
                        renewer.renewNow("the root is rotated")
                        try await eventually("it is renewed") { renewer.certificate.serial != before }
                        try await eventually("it trusts the new root") {
                            renewer.certificate.root.contains(leader.cluster.signingRoot.certificate)
                        }
                        running.cancel()
                        await running.value
                        let tls = try TLSInfo(of: renewer.certificate)
                        try await leader.changeNode(certificate.nodeID) { $0.description.tls = tls }
                    }
                    #expect(leader.cluster.rootRotation == nil)
                }
                var request = RootRotationRequest()
                request.external = [server]
                request.authority = "external"
                try await RootRotations.begin(request, store: leader.store, old: internalAuthority, new: external, now: now())
                try await finish()
                #expect(leader.cluster.root.certificate == server.caCertificate)
                #expect(leader.cluster.root.key.isEmpty)
                #expect(leader.cluster.plugins.certificateAuthority == "external")
                #expect(try Certificate(pem: renewer.certificate.certificateChain).isIssued(by: Certificate(pem: server.caCertificate)))
                var back = RootRotationRequest()
                back.authority = "internal"
                try await RootRotations.begin(back, store: leader.store, old: external, new: internalAuthority, now: now())
                try await finish()
                #expect(!leader.cluster.root.key.isEmpty)
                #expect(leader.cluster.spec.ca.externalCAs.isEmpty)
                #expect(leader.cluster.plugins.certificateAuthority == "internal")
            }
        }
    }

    @Test func aHostileServerIsNotBelieved() async throws {
        try await withDirectory { path in
            let honest = InternalAuthority(host: Host())
            let root = try await honest.createRoot(CreateRootRequest(clusterID: "c", now: now()))
            let other = try await honest.createRoot(CreateRootRequest(clusterID: "c", now: now()))
            let key = try PrivateKey.generate()
            let pem = try CertificateRequest(key: key, subject: DistinguishedName(commonName: "n")).pem()
            let stolen = try CertificateRequest(key: try PrivateKey.generate(), subject: DistinguishedName(commonName: "n")).pem()
            let good = IssueRequest(
                signingRequest: pem, nodeID: "n", role: .worker, clusterID: "c", now: now(), lifetime: .seconds(3600), root: root)
            try Files.writeAtomically(Array(Server.fake.utf8), to: path + "/fake.py")
            func answer(_ name: String, _ certificate: String) throws {
                let json: JSONValue = ["success": true, "result": ["certificate": .string(certificate)], "errors": [], "messages": []]
                try Files.writeAtomically(json.bytes(), to: "\(path)/\(name)")
            }
            var names = ["good"]
            try answer("good", try await honest.issue(good).certificateChain)
            let changes: [(String, (inout IssueRequest) -> Void)] = [
                ("key", { $0.signingRequest = stolen }), ("id", { $0.nodeID = "m" }), ("role", { $0.role = .manager }),
                ("swarm", { $0.clusterID = "d" }), ("root", { $0.root = other }),
            ]
            for (name, change) in changes {
                var request = good
                change(&request)
                try answer(name, try await honest.issue(request).certificateChain)
                names.append(name)
            }
            try answer("authority", root.certificate)
            try answer("rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            try answer("empty", "")
            try Files.writeAtomically(Array("{\"success\": false, \"errors\": [{\"code\": 1, \"message\": \"go away\"}]}".utf8), to: path + "/refused")
            try Files.writeAtomically(Array("[[[[".utf8), to: path + "/garbage")
            names += ["authority", "rubbish", "empty", "refused", "garbage", "huge", "slow", "broken"]
            let server = try await Server(
                "/usr/bin/python3", { port in [path + "/fake.py", "\(port)", path] }, directory: path, log: path + "/log")
            defer { server.end() }
            let authority = try ExternalAuthority(host: Host(["timeout": "1"]))
            for name in names {
                var external = ExternalCA()
                external.url = "http://127.0.0.1:\(server.port)/\(name)"
                var request = good
                request.externalAuthorities = [external]
                let asked = request
                if name == "good" {
                    #expect(try Certificate(pem: try await authority.issue(asked).certificateChain).belongs(to: key))
                    continue
                }
                let error = await #expect(throws: ApusError.self, "\(name)") { _ = try await authority.issue(asked) }
                switch name {
                case "slow": #expect(error?.code == .timedOut)
                case "broken": #expect(error?.code == .unavailable)
                case "huge": #expect(error?.code == .tooLarge)
                case "key", "id", "role", "swarm", "root": #expect(error?.code == .permissionDenied, "\(name)")
                case "refused": #expect(error?.message.contains("go away") == true)
                default: #expect(error != nil)
                }
            }
        }
    }

    @Test func settingsWithoutAMeaningAreRefused() async throws {
        for settings in [["root-key": "x"], ["timeout": "0"], ["timeout": "soon"]] {
            #expect(throws: ApusError.self) { try ExternalAuthority(host: Host(settings)) }
        }
        let authority = try ExternalAuthority(host: Host(["timeout": "3"]))
        #expect(authority.isExternal)
        await #expect(throws: ApusError.self) { _ = try await authority.createRoot(CreateRootRequest(clusterID: "c", now: now())) }
    }
}
