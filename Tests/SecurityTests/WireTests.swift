import Coding
import Foundation
import GRPCCore
import GRPCInProcessTransport
import OpenSSL
import PluginAPI
import Synchronization
import Testing
import Wire

@testable import Security

/// The messages against their .proto, by Debian's protoc; the services over GRPCCore.
@Suite struct WireTests {
    private static let wire = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Sources/Core/Wire").path

    /// Encodes with protoc what is decoded here, and the other way around; the text must be the same.
    private func agree<Message: FieldCoded>(_ message: Message, _ type: String, _ file: String, _ text: String) throws {
        let arguments = ["--proto_path=\(Self.wire)", file]
        let encoded = try run("/usr/bin/protoc", ["--encode=\(type)"] + arguments, input: Array(text.utf8))
        try #require(encoded.status == 0, "\(String(decoding: encoded.output, as: UTF8.self))")
        #expect(try ProtobufFields.decode(Message.self, from: encoded.output) == message)
        let decoded = try run("/usr/bin/protoc", ["--decode=\(type)"] + arguments, input: ProtobufFields.encode(message))
        try #require(decoded.status == 0)
        #expect(String(decoding: decoded.output, as: UTF8.self) == text)
    }

    @Test func messagesAreThoseOfTheirContract() throws {
        let file = "CertificateAuthority.proto"
        let package = "docker.swarmkit.v1"
        var root = GetRootCACertificateResponse()
        root.certificate = Array("PEM".utf8)
        try agree(root, "\(package).GetRootCACertificateResponse", file, "certificate: \"PEM\"\n")
        var unlock = GetUnlockKeyResponse()
        unlock.unlockKey = Array("key".utf8)
        unlock.version = Version(index: 7)
        try agree(unlock, "\(package).GetUnlockKeyResponse", file, "unlock_key: \"key\"\nversion {\n  index: 7\n}\n")
        var issue = IssueNodeCertificateRequest()
        issue.role = 1
        issue.signingRequest = Array("csr".utf8)
        issue.token = "SWMTKN"
        issue.availability = .drain
        try agree(
            issue, "\(package).IssueNodeCertificateRequest", file, "role: MANAGER\ncsr: \"csr\"\ntoken: \"SWMTKN\"\navailability: DRAIN\n")
        var issued = IssueNodeCertificateResponse()
        issued.nodeID = "node"
        issued.membership = .accepted
        try agree(issued, "\(package).IssueNodeCertificateResponse", file, "node_id: \"node\"\nnode_membership: ACCEPTED\n")
        try agree(NodeCertificateStatusRequest(nodeID: "node"), "\(package).NodeCertificateStatusRequest", file, "node_id: \"node\"\n")
        for (state, name) in [(IssuanceStatus.State.renew, "RENEW"), (.pending, "PENDING"), (.issued, "ISSUED"), (.failed, "FAILED"), (.rotate, "ROTATE")] {
            var status = NodeCertificateStatusResponse()
            status.status = IssuanceStatus(state, "why")
            var certificate = IssuedCertificate()
            certificate.role = .manager
            certificate.signingRequest = Array("csr".utf8)
            certificate.status = status.status
            certificate.certificateChain = Array("PEM".utf8)
            certificate.nodeID = "node"
            status.certificate = certificate
            let inner = "state: \(name)\n%err: \"why\"\n"
            func at(_ indent: String) -> String { indent + inner.replacingOccurrences(of: "%", with: indent) }
            try agree(
                status, "\(package).NodeCertificateStatusResponse", file,
                "status {\n\(at("  "))}\ncertificate {\n  role: MANAGER\n  csr: \"csr\"\n  status {\n\(at("    "))  }\n  certificate: \"PEM\"\n  cn: \"node\"\n}\n"
            )
        }
        try agree(GetRootCACertificateRequest(), "\(package).GetRootCACertificateRequest", file, "")
        try agree(GetUnlockKeyRequest(), "\(package).GetUnlockKeyRequest", file, "")
        var trust = GetTrustResponse()
        trust.roots = Array("PEM".utf8)
        trust.certificateLifetime = .seconds(1800)
        trust.time = try #require(Timestamp("2026-01-31T12:00:00Z"))
        try agree(
            trust, "apus.v1.GetTrustResponse", "Identity.proto",
            "roots: \"PEM\"\ncertificate_lifetime: 1800000000000\ntime: \"2026-01-31T12:00:00Z\"\n")
        var expired = RenewExpiredCertificateRequest()
        expired.signingRequest = Array("csr".utf8)
        expired.certificateChain = Array("PEM".utf8)
        expired.signature = Array("sig".utf8)
        try agree(expired, "apus.v1.RenewExpiredCertificateRequest", "Identity.proto", "csr: \"csr\"\ncertificate: \"PEM\"\nsignature: \"sig\"\n")
        var healed = RenewExpiredCertificateResponse()
        healed.nodeID = "node"
        try agree(healed, "apus.v1.RenewExpiredCertificateResponse", "Identity.proto", "node_id: \"node\"\n")
        try agree(GetTrustRequest(), "apus.v1.GetTrustRequest", "Identity.proto", "")
    }

    @Test func theServicesAnswerOverGRPC() async throws {
        try await withLeader { leader in
            let transport = InProcessTransport()
            let peers = Peers()
            try await withGRPCServer(transport: transport.server, services: [CertificateRPC(leader.service)], interceptors: [peers]) { _ in
                try await withGRPCClient(transport: transport.client) { grpc in
                    let client = GRPCCertificateClient(grpc)
                    #expect(String(decoding: try await client.root().certificate, as: UTF8.self) == leader.cluster.root.certificate)
                    let nobody = await #expect(throws: ApusError.self) { _ = try await client.trust() }
                    #expect(nobody?.code == .unauthenticated)
                    var request = IssueNodeCertificateRequest()
                    let key = try PrivateKey.generate()
                    request.signingRequest = Array(try CertificateRequest(key: key, subject: DistinguishedName(commonName: "n")).pem().utf8)
                    request.token = "rubbish"
                    let wrong = request
                    let refused = await #expect(throws: ApusError.self) { _ = try await client.issue(wrong) }
                    #expect(refused?.code == .permissionDenied)
                    #expect(refused?.message.contains("join token") == true)
                    request.token = try #require(leader.cluster.joinTokens).manager
                    let good = request
                    let answer = try await client.issue(good)
                    let status = try await client.status(NodeCertificateStatusRequest(nodeID: answer.nodeID))
                    #expect(status.status.state == .issued)
                    let chain = String(decoding: try #require(status.certificate).certificateChain, as: UTF8.self)
                    #expect(try Certificate(pem: chain).belongs(to: key))
                    let missing = await #expect(throws: ApusError.self) { _ = try await client.status(NodeCertificateStatusRequest(nodeID: "x")) }
                    #expect(missing?.code == .notFound)
                    let healing = await #expect(throws: ApusError.self) { _ = try await client.renewExpired(RenewExpiredCertificateRequest()) }
                    #expect(healing?.code == .invalidArgument)
                    peers.peer.withLock { $0 = PeerIdentity(nodeID: answer.nodeID, role: .manager, clusterID: "cluster1", serial: "1") }
                    #expect(try await client.trust().certificateLifetime == SwarmIdentity.defaultLifetime)
                    #expect(try await client.unlockKey().unlockKey.isEmpty)
                    request.token = ""
                    let renewal = request
                    #expect(try await client.issue(renewal).nodeID == answer.nodeID)
                }
            }
        }
    }
}

/// Says who calls, as the transport does.
private final class Peers: ServerInterceptor {
    let peer = Mutex<PeerIdentity?>(nil)

    func intercept<Input: Sendable, Output: Sendable>(
        request: StreamingServerRequest<Input>, context: ServerContext,
        next: @Sendable (StreamingServerRequest<Input>, ServerContext) async throws -> StreamingServerResponse<Output>
    ) async throws -> StreamingServerResponse<Output> {
        try await PeerIdentity.$current.withValue(peer.withLock { $0 }) { try await next(request, context) }
    }
}
