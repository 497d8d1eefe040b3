import CAInternal
import Files
import OpenSSL
import PluginAPI
import Security
import Testing

@Suite struct SecurityTests {
    private let now = Timestamp(nanoseconds: 1_780_000_000_000_000_000)

    private func withDirectory(_ body: (String) async throws -> Void) async throws {
        let path = try Files.makeTemporaryDirectory(prefix: "apus-security")
        defer { try? Files.removeTree(path) }
        try await body(path)
    }

    @Test func aSwarmBegins() async throws {
        try await withDirectory { path async throws in
            let directory = path + "/swarm/certificates"
            #expect(try NodeCertificate.read(directory: directory) == nil)
            let made = try await SwarmIdentity.bootstrap(
                clusterID: "cluster1", nodeID: "node1", authority: InternalAuthority(host: Host()), directory: directory, now: now)
            let root = try Certificate(pem: made.root.certificate)
            #expect(root.subject.commonName == "swarm-ca")
            #expect(root.notAfter == now + .seconds(630_720_000))
            #expect(made.tls.trustRoot == made.root.certificate)
            #expect(try made.tls.issuerSubject == root.subjectDER())
            #expect(try made.tls.issuerPublicKey == root.publicKey())
            #expect(made.root.digest.count == 50)
            for token in [made.tokens.worker, made.tokens.manager] { #expect(try JoinToken(parsing: token).digest == made.root.digest) }
            #expect(made.tokens.worker != made.tokens.manager)
            let read = try #require(try NodeCertificate.read(directory: directory))
            #expect(read.nodeID == "node1")
            #expect(read.role == .manager)
            #expect(read.clusterID == "cluster1")
            #expect(read.expiresAt == now + .seconds(90 * 86400))
            #expect(try Certificate(pem: read.certificateChain).alternativeNames == ["swarm-manager", "node1", "swarm-ca"])
            #expect(try Files.list(directory).sorted() == ["swarm-node.crt", "swarm-node.key", "swarm-root-ca.crt"])
            // Another swarm's root beside it is found out.
            let other = try await InternalAuthority(host: Host()).createRoot(CreateRootRequest(clusterID: "x", now: now))
            try Files.writeAtomically(Array(other.certificate.utf8), to: directory + "/swarm-root-ca.crt")
            let error = #expect(throws: ApusError.self) { try NodeCertificate.read(directory: directory) }
            #expect(error?.code == .corrupt)
        }
    }

    @Test func anAuthorityThatAnswersForSomebodyElseIsNotBelieved() async throws {
        let other = try await InternalAuthority(host: Host()).createRoot(CreateRootRequest(clusterID: "x", now: now))
        let stolen = try CertificateRequest(key: try PrivateKey.generate(), subject: DistinguishedName(commonName: "n")).pem()
        let changes: [@Sendable (inout IssueRequest) -> Void] = [
            { $0.nodeID = "somebody" }, { $0.role = .worker }, { $0.clusterID = "elsewhere" }, { $0.root = other }, { $0.signingRequest = stolen },
        ]
        for change in changes {
            try await withDirectory { path async throws in
                await #expect(throws: ApusError.self) {
                    _ = try await SwarmIdentity.bootstrap(clusterID: "c", nodeID: "n", authority: Liar(change), directory: path, now: now)
                }
                #expect(try Files.list(path).isEmpty)
            }
        }
    }

    @Test func tokensAreReadAndRotated() throws {
        let digest = String(repeating: "a", count: 50)
        var tokens = try JoinTokens.generate(rootDigest: digest)
        let before = tokens
        try tokens.rotate(.worker, rootDigest: digest)
        #expect(tokens.worker != before.worker)
        #expect(tokens.manager == before.manager)
        #expect(JoinToken.matches(tokens.worker, tokens.worker))
        #expect(!JoinToken.matches(tokens.worker, before.worker))
        #expect(!JoinToken.matches("", ""))
        let good = try JoinToken(parsing: tokens.worker)
        #expect(good.description == tokens.worker)
        #expect(good.secret.count == 25)
        let secret = String(repeating: "b", count: 25)
        for bad in [
            "", "SWMTKN-1", "SWMTKN-2-\(digest)-\(secret)", "SWMTKN-1-\(digest)-\(secret)b", "SWMTKN-1-\(digest.dropLast())-\(secret)",
            "SWMTKN-1-\(digest.dropLast())A-\(secret)", "SWMTKN-1-\(digest)-\(secret)-", " \(tokens.worker)",
        ] {
            #expect(throws: ApusError.self, "\(bad)") { try JoinToken(parsing: bad) }
        }
    }

    @Test func whatCannotBeIssuedIsRefused() async throws {
        let authority = InternalAuthority(host: Host())
        let root = try await authority.createRoot(CreateRootRequest(clusterID: "c", now: now))
        let request = try CertificateRequest(key: try PrivateKey.generate(), subject: DistinguishedName(commonName: "n")).pem()
        let good = IssueRequest(signingRequest: request, nodeID: "n", role: .worker, clusterID: "c", now: now, lifetime: .seconds(3600), root: root)
        let answer = try await authority.issue(good)
        #expect(answer.expiresAt == now + .seconds(3600))
        let changes: [(inout IssueRequest) -> Void] = [
            { $0.root.key = "" }, { $0.root.certificate = "rubbish" },
            { $0.signingRequest = "rubbish" }, { $0.nodeID = "" }, { $0.nodeID = "a,DNS:b" },
            { $0.lifetime = .zero }, { $0.now = $0.now + .seconds(700_000_000) },
        ]
        for change in changes {
            var bad = good
            change(&bad)
            let request = bad
            await #expect(throws: ApusError.self) { _ = try await authority.issue(request) }
        }
    }
}
