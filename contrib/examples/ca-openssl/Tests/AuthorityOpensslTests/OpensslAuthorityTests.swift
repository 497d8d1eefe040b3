import Glibc
import PluginAPI
import Testing

@testable import AuthorityOpenssl

/// What the engine hands to a plugin, for tests; its folders go with it.
private final class TestHost: HostServices {
    let engineVersion = "test"
    let configuration: [String: String]
    let stateDirectory: String
    let runDirectory: String

    init(_ configuration: [String: String] = [:]) {
        self.configuration = configuration
        stateDirectory = Self.folder()
        runDirectory = Self.folder()
    }

    deinit {
        unlink("\(stateDirectory)/index.txt")
        rmdir(stateDirectory)
        rmdir(runDirectory)
    }

    private static func folder() -> String {
        var template = Array("/tmp/ca-openssl-XXXXXX".utf8CString)
        mkdtemp(&template)
        return String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    var leftovers: Int {
        guard let stream = opendir(runDirectory) else { return -1 }
        defer { closedir(stream) }
        var count = -2
        while readdir(stream) != nil { count += 1 }
        return count
    }

    func log(_ level: LogLevel, _ message: String) {}
    func count(_ counter: String, by amount: Int) {}
}

@Suite struct OpensslAuthorityTests {
    private let now: Timestamp = {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000)
    }()

    private func signingRequest(_ host: TestHost) async throws -> String {
        let workshop = Workshop(runDirectory: host.runDirectory)
        let folder = try workshop.open()
        defer { workshop.close(folder) }
        let made = await Command.run(
            "/usr/bin/openssl",
            [
                "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key", "-out", "csr", "-subj",
                "/CN=somebody/OU=swarm-manager",
            ], directory: folder)
        try #require(made.status == 0, "\(made.output)")
        return try workshop.read("csr", in: folder)
    }

    @Test func aNodesCertificateIsWhatWasAskedFor() async throws {
        let host = TestHost()
        let authority = OpensslAuthority(host: host)
        let root = try await authority.createRoot(CreateRootRequest(clusterID: "swarm", now: now))
        #expect(root.certificate.contains("BEGIN CERTIFICATE"))
        #expect(root.key.contains("PRIVATE KEY"))
        let answer = try await authority.issue(
            IssueRequest(
                signingRequest: try await signingRequest(host), nodeID: "node1", role: .worker, clusterID: "swarm1", now: now,
                lifetime: .seconds(1800), root: root))
        #expect(answer.expiresAt == now + .seconds(1800))
        let workshop = Workshop(runDirectory: host.runDirectory)
        let folder = try workshop.open()
        try workshop.write(root.certificate, to: "root.pem", in: folder)
        try workshop.write(answer.certificateChain, to: "node.pem", in: folder)
        let verified = await Command.run(
            "/usr/bin/openssl", ["verify", "-purpose", "sslserver", "-CAfile", "root.pem", "node.pem"], directory: folder)
        #expect(verified.status == 0, "\(verified.output)")
        let shown = await Command.run(
            "/usr/bin/openssl", ["x509", "-in", "node.pem", "-noout", "-subject", "-ext", "subjectAltName"], directory: folder)
        #expect(shown.output.contains("O = swarm1, OU = swarm-worker, CN = node1"))
        #expect(shown.output.contains("DNS:swarm-worker, DNS:node1"))
        workshop.close(folder)
        // What it issued is on record, and no key is left on the disk.
        #expect(try workshop.read("index.txt", in: host.stateDirectory).contains("/O=swarm1/OU=swarm-worker/CN=node1"))
        #expect(host.leftovers == 0)
    }

    @Test func whatCannotBeSignedIsRefused() async throws {
        let host = TestHost()
        let authority = OpensslAuthority(host: host)
        let root = try await authority.createRoot(CreateRootRequest(clusterID: "swarm", now: now))
        let good = IssueRequest(
            signingRequest: try await signingRequest(host), nodeID: "n", role: .manager, clusterID: "c", now: now, lifetime: .seconds(1800), root: root)
        _ = try await authority.issue(good)
        let changes: [(inout IssueRequest) -> Void] = [
            { $0.root.key = "" }, { $0.signingRequest = "rubbish" }, { $0.nodeID = "a/CN=b" }, { $0.clusterID = "a\nb" }, { $0.root.certificate = "rubbish" },
        ]
        for change in changes {
            var bad = good
            change(&bad)
            let request = bad
            await #expect(throws: ApusError.self) { _ = try await authority.issue(request) }
        }
        let broken = OpensslAuthority(host: TestHost(["program": "/nonexistent"]))
        await #expect(throws: ApusError.self) { _ = try await broken.issue(good) }
        #expect(host.leftovers == 0)
    }
}
