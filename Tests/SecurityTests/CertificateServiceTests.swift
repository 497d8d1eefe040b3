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

@Suite struct CertificateServiceTests {
    private func request(_ key: PrivateKey? = nil, subject: DistinguishedName = DistinguishedName(commonName: "x")) throws -> IssueNodeCertificateRequest {
        var request = IssueNodeCertificateRequest()
        request.signingRequest = Array(try CertificateRequest(key: try key ?? PrivateKey.generate(), subject: subject).pem().utf8)
        return request
    }

    private let stranger = CertificateCaller(address: "192.0.2.9:1000")

    private func caller(_ certificate: NodeCertificate) -> CertificateCaller {
        CertificateCaller(nodeID: certificate.nodeID, role: certificate.role, clusterID: certificate.clusterID, address: "192.0.2.8:2000")
    }

    @Test func aTokenMakesANode() async throws {
        try await withLeader { leader in
            let worker = try await leader.join(.worker)
            let manager = try await leader.join(.manager)
            #expect(worker.role == .worker)
            #expect(manager.role == .manager)
            #expect(worker.clusterID == "cluster1")
            let node = try #require(leader.node(worker.nodeID))
            #expect(node.spec.role == .worker)
            #expect(node.certificate.state == .issued)
            #expect(node.certificate.serial == worker.serial)
            #expect(try node.certificate.publicKeyDigest == worker.publicKeyDigest())
            #expect(node.certificate.expiresAt == worker.expiresAt)
            #expect(node.certificate.issuedAt == Leader.start)
            #expect(node.certificate.occasion == "join")
            #expect(node.certificate.requestedBy == "192.0.2.7:40000")
            #expect(leader.kinds() == [.joinRequested, .issued, .joinRequested, .issued])
            let event = try #require(leader.events.withLock { $0.last })
            #expect(event.nodeID == manager.nodeID)
            #expect(event.serial == manager.serial)
            // The openssl command believes it too, for both ends.
            try Files.writeAtomically(Array(leader.cluster.root.certificate.utf8), to: leader.path + "/root.pem")
            try Files.writeAtomically(Array(worker.certificateChain.utf8), to: leader.path + "/worker.pem")
            for purpose in ["sslserver", "sslclient"] {
                let (status, output) = try run(
                    "/usr/bin/openssl",
                    [
                        "verify", "-attime", "\(Leader.start.nanoseconds / 1_000_000_000)", "-purpose", purpose, "-CAfile", leader.path + "/root.pem",
                        leader.path + "/worker.pem",
                    ])
                #expect(status == 0, "\(String(decoding: output, as: UTF8.self))")
            }
        }
    }

    @Test func ofTheRequestOnlyTheKeyCounts() async throws {
        try await withLeader { leader in
            var asked = try request(
                subject: DistinguishedName(commonName: "manager1", organizationalUnit: "swarm-manager", organization: "elsewhere"))
            asked.token = try #require(leader.cluster.joinTokens).worker
            asked.availability = .drain
            let answer = try await leader.service.issue(asked, for: stranger)
            #expect(answer.nodeID != "manager1")
            #expect(answer.membership == .accepted)
            let status = try await leader.service.status(NodeCertificateStatusRequest(nodeID: answer.nodeID), for: stranger)
            #expect(status.status.state == .issued)
            let subject = try Certificate(pem: String(decoding: try #require(status.certificate).certificateChain, as: UTF8.self)).subject
            #expect(subject == DistinguishedName(commonName: answer.nodeID.text, organizationalUnit: "swarm-worker", organization: "cluster1"))
            #expect(leader.node(answer.nodeID)?.spec.availability == .drain)
            // The same key again is the same node: the first answer may have been lost.
            #expect(try await leader.service.issue(asked, for: stranger).nodeID == answer.nodeID)
            #expect(leader.store.read().nodes.count == 2)
        }
    }

    @Test func wrongTokensAreRefused() async throws {
        try await withLeader { leader in
            let old = try #require(leader.cluster.joinTokens)
            var rotated = old
            try rotated.rotate(.worker, rootDigest: leader.cluster.root.digest)
            let tokens = rotated
            try await leader.change { $0.joinTokens = tokens }
            let otherSwarm = try JoinTokens.generate(rootDigest: String(repeating: "0", count: 50)).manager
            for (token, role, word) in [
                (old.worker, UInt64(0), "rotated"), (tokens.worker, 1, "for workers"), (otherSwarm, 0, "another swarm"), ("rubbish", 0, "wrong"),
                (String(repeating: "x", count: 100_000), 0, "not a join token"),
            ] {
                var asked = try request()
                asked.token = token
                asked.role = role
                let wrong = asked
                let error = await #expect(throws: ApusError.self) { _ = try await leader.service.issue(wrong, for: stranger) }
                #expect(error?.message.contains(word) == true, "\(error?.message ?? "")")
            }
            #expect(leader.store.read().nodes.count == 1)
            #expect(leader.kinds() == [.refused, .refused, .refused, .refused, .refused])
            // Who guesses on is not even logged after a while, and everybody else is not kept from joining.
            for _ in 0..<100 {
                var asked = try request()
                asked.token = "rubbish"
                _ = try? await leader.service.issue(asked, for: stranger)
            }
            #expect(leader.kinds().count == 20)
            _ = try await leader.join()
        }
    }

    @Test func badRequestsAreRefused() async throws {
        try await withLeader { leader in
            let token = try #require(leader.cluster.joinTokens).worker
            let good = try request().signingRequest
            var flipped = good
            flipped[flipped.count / 2] ^= 1
            for bad in [[], Array("rubbish".utf8), flipped, [UInt8](repeating: 0xff, count: 100), [UInt8](repeating: 65, count: 20 << 10)] {
                var asked = IssueNodeCertificateRequest()
                asked.token = token
                asked.signingRequest = bad
                let wrong = asked
                await #expect(throws: ApusError.self) { _ = try await leader.service.issue(wrong, for: stranger) }
            }
            #expect(leader.store.read().nodes.count == 1)
        }
    }

    @Test func joinsAreLimited() async throws {
        var limits = CertificateLimits()
        limits.joinBurst = 3
        limits.joinRate = 1
        try await withLeader(limits: limits) { leader in
            let token = try #require(leader.cluster.joinTokens).worker
            func ask() async throws {
                var asked = try request()
                asked.token = token
                _ = try await leader.service.issue(asked, for: stranger)
            }
            for _ in 0..<3 { try await ask() }
            let error = await #expect(throws: ApusError.self) { try await ask() }
            #expect(error?.code == .unavailable)
            leader.clock.advance(.seconds(1))
            try await ask()
        }
    }

    @Test func joiningCanWaitForAPerson() async throws {
        var limits = CertificateLimits()
        limits.waitingNodes = 2
        try await withLeader(limits: limits) { leader in
            try await leader.change { $0.spec.ca.joiningWaits = true }
            var asked = try request()
            asked.token = try #require(leader.cluster.joinTokens).manager
            let answer = try await leader.service.issue(asked, for: stranger)
            #expect(answer.membership == .pending)
            let status = NodeCertificateStatusRequest(nodeID: answer.nodeID)
            let waiting = try await leader.service.status(status, for: stranger)
            #expect(waiting.status.state == .pending)
            #expect(waiting.status.message.contains("node accept"))
            #expect(waiting.certificate?.certificateChain.isEmpty == true)
            #expect(leader.kinds() == [.joinWaiting])
            // So many may wait, and no more.
            for isTaken in [true, false] {
                var next = try request()
                next.token = asked.token
                let another = next
                if isTaken {
                    _ = try await leader.service.issue(another, for: stranger)
                } else {
                    await #expect(throws: ApusError.self) { _ = try await leader.service.issue(another, for: stranger) }
                }
            }
            try await leader.service.accept(answer.nodeID)
            #expect(try await leader.service.status(status, for: stranger).status.state == .issued)
            #expect(leader.kinds().suffix(2) == [.nodeAccepted, .issued])
            await #expect(throws: ApusError.self) { try await leader.service.accept(answer.nodeID) }
            await #expect(throws: ApusError.self) { try await leader.service.accept("nobody") }
        }
    }

    @Test func renewalFollowsTheNodesRoleAndTakesTheNewKey() async throws {
        try await withLeader { leader in
            let worker = try await leader.join()
            leader.clock.advance(.seconds(3600))
            try await leader.changeNode(worker.nodeID) { $0.spec.role = .manager }
            #expect(try await RootRotations.tellRoleChanges(store: leader.store) == [worker.nodeID])
            #expect(leader.node(worker.nodeID)?.certificate.state == .renew)
            let key = try PrivateKey.generate()
            let asked = try request(key, subject: DistinguishedName(commonName: "manager1", organizationalUnit: "swarm-worker"))
            #expect(try await leader.service.issue(asked, for: caller(worker)).nodeID == worker.nodeID)
            let record = try #require(leader.node(worker.nodeID)).certificate
            #expect(record.role == .manager)
            #expect(record.state == .issued)
            #expect(try record.publicKeyDigest == key.publicKeyDigest())
            #expect(record.occasion == "renewal")
            #expect(record.issuedAt == Leader.start + .seconds(3600))
            #expect(leader.kinds().last == .renewed)
            #expect(try await RootRotations.tellRoleChanges(store: leader.store).isEmpty)
            // Removed: locked out.
            try await leader.remove(worker.nodeID)
            let error = await #expect(throws: ApusError.self) { _ = try await leader.service.issue(asked, for: caller(worker)) }
            #expect(error?.code == .permissionDenied)
            #expect(leader.kinds().last == .refused)
            // Nobody, and somebody of elsewhere.
            let nobody = await #expect(throws: ApusError.self) { _ = try await leader.service.issue(asked, for: stranger) }
            #expect(nobody?.code == .unauthenticated)
            var foreign = caller(leader.first)
            foreign.clusterID = "elsewhere"
            let other = foreign
            await #expect(throws: ApusError.self) { _ = try await leader.service.issue(asked, for: other) }
            #expect(leader.node("manager1")?.certificate.lastRefusal?.reason.contains("another swarm") == true)
        }
    }

    @Test func aNodeCannotRenewWithoutEnd() async throws {
        try await withLeader { leader in
            var refused = 0
            for _ in 0..<15 {
                do { _ = try await leader.service.issue(try request(), for: caller(leader.first)) } catch { refused += 1 }
            }
            #expect(refused == 5)
        }
    }

    @Test func whatAnAuthorityAnswersIsChecked() async throws {
        let other = try await InternalAuthority(host: Host()).createRoot(CreateRootRequest(clusterID: "x", now: Leader.start))
        let stolen = try CertificateRequest(key: try PrivateKey.generate(), subject: DistinguishedName(commonName: "n")).pem()
        let changes: [(String, @Sendable (inout IssueRequest) throws(ApusError) -> Void)] = [
            ("another key", { $0.signingRequest = stolen }), ("not for node", { $0.nodeID = "manager1" }), ("for a manager", { $0.role = .manager }),
            ("for the swarm", { $0.clusterID = "elsewhere" }), ("cannot be verified", { $0.root = other }),
            ("valid until", { $0.lifetime = $0.lifetime * 2 }), ("clock", { $0.now = $0.now + .seconds(7200) }),
            ("clock", { $0.now = $0.now + .seconds(-200 * 86400) }),
        ]
        for (word, change) in changes {
            try await withLeader(authority: Liar(change)) { leader in
                var asked = try request()
                asked.token = try #require(leader.cluster.joinTokens).worker
                let id = try await leader.service.issue(asked, for: stranger).nodeID
                let status = try await leader.service.status(NodeCertificateStatusRequest(nodeID: id), for: stranger)
                #expect(status.status.state == .failed)
                #expect(status.status.message.contains(word), "\(status.status.message)")
                #expect(status.certificate?.certificateChain.isEmpty == true)
                #expect(leader.node(id)?.certificate.lastRefusal?.reason.contains(word) == true)
                #expect(leader.kinds() == [.joinRequested, .refused])
            }
        }
    }

    @Test func anAuthorityThatIsAwayIsAskedAgain() async throws {
        let away = Liar { _ throws(ApusError) in throw ApusError(.unavailable, "the authority is away") }
        try await withLeader(authority: away) { leader in
            var asked = try request()
            asked.token = try #require(leader.cluster.joinTokens).worker
            let status = NodeCertificateStatusRequest(nodeID: try await leader.service.issue(asked, for: stranger).nodeID)
            let answer = try await leader.service.status(status, for: stranger)
            #expect(answer.status.state == .pending)
            #expect(answer.status.message == "the authority is away")
            leader.authority.withLock { $0 = InternalAuthority(host: Host()) }
            #expect(try await leader.service.status(status, for: stranger).status.state == .issued)
        }
    }

    @Test func onlyNodesAreToldWhatToTrust() async throws {
        try await withLeader { leader in
            let worker = try await leader.join()
            #expect(throws: ApusError.self) { try leader.service.trust(for: stranger) }
            let trust = try leader.service.trust(for: caller(worker))
            #expect(String(decoding: trust.roots, as: UTF8.self) == leader.cluster.root.certificate)
            #expect(trust.certificateLifetime == SwarmIdentity.defaultLifetime)
            #expect(trust.time == Leader.start)
            #expect(throws: ApusError.self) { try leader.service.unlockKey(for: caller(worker)) }
            #expect(try leader.service.unlockKey(for: caller(leader.first)).unlockKey.isEmpty)
            let key = try UnlockKey.generate()
            try await leader.change { cluster in
                cluster.spec.encryption.autoLockManagers = true
                cluster.unlockKey = key.description
            }
            #expect(try leader.service.unlockKey(for: caller(leader.first)).unlockKey == key.bytes)
            try await leader.remove(worker.nodeID)
            #expect(throws: ApusError.self) { try leader.service.trust(for: caller(worker)) }
            await #expect(throws: ApusError.self) { _ = try await leader.service.status(NodeCertificateStatusRequest(nodeID: "nobody"), for: stranger) }
        }
    }

    @Test func whatIsKnownOfACertificateIsInTheNodesJSON() async throws {
        try await withLeader { leader in
            let worker = try await leader.join()
            let node = try #require(leader.node(worker.nodeID))
            let json = try #require(JSONFields.encode(node)["Certificate"])
            #expect(json["State"] == "issued")
            #expect(json["Membership"] == "accepted")
            #expect(json["Serial"]?.string == worker.serial)
            #expect(json["Role"] == "worker")
            #expect(json["Occasion"] == "join")
            #expect(json["RequestedBy"] == "192.0.2.7:40000")
            #expect(json["ExpiresAt"]?.string == worker.expiresAt.description)
            #expect(json["CertificateChain"] == nil)
            #expect(json["SigningRequest"] == nil)
            // And in the store it is whole.
            #expect(try ProtobufFields.decode(Node.self, from: ProtobufFields.encode(node)) == node)
            #expect(JSONFields.encode(Node())["Certificate"] == nil)
        }
    }

    @Test func peersAreAskedForTheirRoleAndTheirNode() async throws {
        try await withLeader { leader in
            let worker = try await leader.join()
            func refusal(_ cluster: ID = "cluster1", _ roles: Set<NodeRole> = [.worker, .manager], node: Node?) -> ApusError.Code? {
                let peer = PeerIdentity(nodeID: worker.nodeID, role: worker.role, clusterID: "cluster1", serial: worker.serial)
                return PeerAuthorization.refusal(of: peer, roles: roles, cluster: cluster, node: node)?.code
            }
            let node = try #require(leader.node(worker.nodeID))
            var waiting = node
            waiting.certificate.membership = .pending
            #expect(refusal(node: node) == nil)
            #expect(refusal("other", node: node) == .permissionDenied)
            #expect(refusal(node: nil) == .permissionDenied)
            #expect(refusal(node: waiting) == .permissionDenied)
            #expect(refusal("cluster1", [.manager], node: node) == .permissionDenied)
            #expect(PeerAuthorization.refusal(of: nil, roles: [.worker], cluster: "cluster1", node: node)?.code == .unauthenticated)
        }
    }
}
