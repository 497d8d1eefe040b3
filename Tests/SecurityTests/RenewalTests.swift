import CAInternal
import Files
import OpenSSL
import PluginAPI
import Store
import Synchronization
import Testing
import Wire

@testable import Security

@Suite struct RenewalTests {
    private final class Changes: Sendable {
        let all = Mutex<[NodeCertificate]>([])
        func add(_ certificate: NodeCertificate) { all.withLock { $0.append(certificate) } }
    }

    private func renewer(
        _ leader: Leader, _ certificate: NodeCertificate, _ directory: String, connector: LocalConnector? = nil, changes: Changes = Changes(),
        fraction: Double = 0.5
    ) -> CertificateRenewer {
        var configuration = CertificateRenewer.Configuration(directory: directory, connector: connector ?? leader.connector()) { changes.add($0) }
        configuration.clock = leader.clock
        configuration.randomFraction = { fraction }
        return CertificateRenewer(certificate, configuration)
    }

    private func joined(_ leader: Leader, _ role: NodeRole = .worker) async throws -> (NodeCertificate, String) {
        let directory = try Files.makeTemporaryDirectory(in: leader.path, prefix: "node")
        return (try await leader.join(role, directory: directory), directory)
    }

    @Test func aCertificateIsRenewedBetweenHalfAndFourFifthsOfItsLife() async throws {
        try await withLeader { leader in
            try await leader.change { $0.spec.ca.nodeCertificateExpiry = .seconds(1800) }
            let (certificate, directory) = try await joined(leader)
            #expect(certificate.lifetime == .seconds(1800))
            #expect(certificate.issuedAt == Leader.start)
            for (fraction, seconds) in [(0.0, 900.0), (1.0, 1440.0), (-5.0, 900.0), (7.0, 1440.0)] {
                let time = renewer(leader, certificate, directory, fraction: fraction).renewalTime(certificate)
                #expect(abs(Double((time - Leader.start).components.seconds) - seconds) <= 1)
            }
            let changes = Changes()
            let renewer = renewer(leader, certificate, directory, changes: changes)
            let running = ConcurrentTask { await renewer.run() }
            try await eventually("the renewer sleeps") { leader.clock.earliestSleeper != nil }
            #expect(leader.clock.earliestSleeper == Leader.start + .seconds(1170))
            leader.clock.advance(.seconds(1169))
            #expect(renewer.certificate.serial == certificate.serial)
            leader.clock.advance(.seconds(2))
            try await eventually("it is renewed") { changes.all.withLock { !$0.isEmpty } }
            running.cancel()
            await running.value
            let fresh = try #require(try NodeCertificate.read(directory: directory))
            #expect(fresh == renewer.certificate)
            #expect(fresh.serial != certificate.serial)
            #expect(fresh.key != certificate.key)
            #expect(fresh.issuedAt == Leader.start + .seconds(1171))
            #expect(leader.node(fresh.nodeID)?.certificate.serial == fresh.serial)
            #expect(try Files.list(directory) == ["swarm-node.crt", "swarm-node.key", "swarm-root-ca.crt"])
        }
    }

    @Test func itRenewsAtOnceWhenItIsTold() async throws {
        try await withLeader { leader in
            let (certificate, directory) = try await joined(leader)
            let renewer = renewer(leader, certificate, directory)
            let running = ConcurrentTask { await renewer.run() }
            try await leader.changeNode(certificate.nodeID) { $0.spec.role = .manager }
            renewer.renewNow("promoted")
            try await eventually("it is a manager") { renewer.certificate.role == .manager }
            try await leader.changeNode(certificate.nodeID) { $0.spec.role = .worker }
            renewer.renewNow("demoted")
            try await eventually("it is a worker") { renewer.certificate.role == .worker }
            #expect(renewer.lastError == nil)
            running.cancel()
            await running.value
        }
    }

    @Test func itTriesAgainWithGrowingPauses() async throws {
        try await withLeader { leader in
            let (certificate, directory) = try await joined(leader)
            let broken = Mutex(true)
            var connector = leader.connector()
            connector.fault = { () throws(ApusError) in
                if broken.withLock({ $0 }) { throw ApusError(.unavailable, "no manager answers") }
            }
            let renewer = renewer(leader, certificate, directory, connector: connector)
            #expect((1...12).map { renewer.retryPause($0).components.seconds } == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600])
            let running = ConcurrentTask { await renewer.run() }
            renewer.renewNow("test")
            try await eventually("it failed") { renewer.lastError?.message == "no manager answers" }
            try await eventually("it sleeps for 5 s") { leader.clock.earliestSleeper == Leader.start + .seconds(5) }
            leader.clock.advance(.seconds(5))
            try await eventually("it sleeps for 10 s") { leader.clock.earliestSleeper == Leader.start + .seconds(15) }
            broken.withLock { $0 = false }
            leader.clock.advance(.seconds(10))
            try await eventually("it is renewed") { renewer.certificate.serial != certificate.serial }
            try await eventually("the error is forgotten") { renewer.lastError == nil }
            running.cancel()
            await running.value
        }
    }

    @Test func aLostAnswerDoesNotLockTheNodeOut() async throws {
        try await withLeader { leader in
            let (certificate, directory) = try await joined(leader)
            var connector = leader.connector()
            connector.loss = { (call) throws(ApusError) in throw ApusError(.unavailable, "the answer to \(call) was lost") }
            let lossy = renewer(leader, certificate, directory, connector: connector)
            await #expect(throws: ApusError.self) { try await lossy.renew() }
            // The managers believe the new key alone by now, and the node does not have its certificate.
            let issued = try #require(leader.node(certificate.nodeID)).certificate
            #expect(issued.serial != certificate.serial)
            #expect(try Files.list(directory).contains("swarm-node.next.key"))
            // It sleeps past its expiry, and starts again with what is on its disk.
            leader.clock.set(certificate.expiresAt + .seconds(86400))
            let read = try #require(try NodeCertificate.read(directory: directory))
            #expect(read.serial == certificate.serial)
            // The certificate that was lost has expired too, and its key is the one that counts.
            let again = renewer(leader, read, directory)
            try await again.renew()
            #expect(again.certificate.serial != issued.serial)
            #expect(!again.certificate.isExpired(now: leader.clock.now()))
            #expect(leader.kinds().last == .healed)
        }
    }

    @Test func aLostAnswerIsFetchedAfterAStart() async throws {
        try await withLeader { leader in
            let (certificate, directory) = try await joined(leader)
            var connector = leader.connector()
            connector.loss = { (call) throws(ApusError) in throw ApusError(.unavailable, "the answer to \(call) was lost") }
            let lossy = renewer(leader, certificate, directory, connector: connector)
            await #expect(throws: ApusError.self) { try await lossy.renew() }
            let issued = try #require(leader.node(certificate.nodeID)).certificate
            let again = renewer(leader, try #require(try NodeCertificate.read(directory: directory)), directory)
            try await again.renew()
            #expect(again.certificate.serial == issued.serial)
        }
    }

    @Test func anExpiredCertificateHeals() async throws {
        try await withLeader { leader in
            let (certificate, directory) = try await joined(leader)
            leader.clock.set(certificate.expiresAt + .seconds(20 * 86400))
            let renewer = renewer(leader, certificate, directory)
            try await renewer.renew()
            #expect(renewer.certificate.serial != certificate.serial)
            #expect(!renewer.certificate.isExpired(now: leader.clock.now()))
            #expect(leader.kinds().last == .healed)
            #expect(leader.node(certificate.nodeID)?.certificate.occasion == "expired-renewal")
            #expect(try NodeCertificate.read(directory: directory) == renewer.certificate)
            // Whoever has a copy of the old key comes too late.
            let thief = self.renewer(leader, certificate, try Files.makeTemporaryDirectory(in: leader.path, prefix: "thief"))
            let error = await #expect(throws: ApusError.self) { try await thief.renew() }
            #expect(error?.message.contains("only the last key counts") == true)
            #expect(leader.node(certificate.nodeID)?.certificate.lastRefusal?.reason == error?.message)
        }
    }

    @Test func anExpiredCertificateIsRefusedWhenItMust() async throws {
        try await withLeader { leader in
            let (certificate, directory) = try await joined(leader)
            let renewer = renewer(leader, certificate, directory)
            leader.clock.set(certificate.expiresAt + .seconds(31 * 86400))
            var error = await #expect(throws: ApusError.self) { try await renewer.renew() }
            #expect(error?.message.contains("clock") == true)
            leader.clock.set(certificate.expiresAt + .seconds(60))
            try await leader.change { $0.spec.ca.expiredRenewalGrace = .zero }
            error = await #expect(throws: ApusError.self) { try await renewer.renew() }
            #expect(error?.message.contains("renews none") == true)
            try await leader.change { $0.spec.ca.expiredRenewalGrace = .seconds(3600) }
            leader.sessions.withLock { _ = $0.insert(certificate.nodeID) }
            error = await #expect(throws: ApusError.self) { try await renewer.renew() }
            #expect(error?.message.contains("copy of its key") == true)
            #expect(leader.kinds().last == .alarm)
            #expect(leader.node(certificate.nodeID)?.certificate.lastRefusal?.reason == error?.message)
            leader.sessions.withLock { $0.removeAll() }
            try await leader.remove(certificate.nodeID)
            error = await #expect(throws: ApusError.self) { try await renewer.renew() }
            #expect(error?.message.contains("removed") == true)
            #expect(leader.kinds().last == .refused)
        }
    }

    @Test func anExpiredCertificateNeedsItsKey() async throws {
        try await withLeader { leader in
            let (certificate, _) = try await joined(leader)
            leader.clock.set(certificate.expiresAt + .seconds(60))
            let caller = CertificateCaller(address: "192.0.2.66:1")
            let key = try PrivateKey.generate()
            var request = RenewExpiredCertificateRequest()
            request.signingRequest = Array(try CertificateRequest(key: key, subject: DistinguishedName(commonName: "n")).pem().utf8)
            request.certificateChain = Array(certificate.certificateChain.utf8)
            request.signature = try PrivateKey(pem: certificate.key).signature(of: request.signedBytes)
            let other = try await InternalAuthority(host: Host()).createRoot(CreateRootRequest(clusterID: "x", now: Leader.start))
            let forged = try await SwarmIdentity.issue(
                nodeID: certificate.nodeID, role: .worker, clusterID: "cluster1", root: other, authority: InternalAuthority(host: Host()),
                now: Leader.start, lifetime: .seconds(3600))
            let good = request
            let changes: [(String, (inout RenewExpiredCertificateRequest) throws -> Void)] = [
                ("not signed", { $0.signature = try key.signature(of: $0.signedBytes) }),
                ("not signed", { $0.signature = [] }),
                // The signature is for another new key.
                ("not signed", { $0.signingRequest = Array(try CertificateRequest(key: .generate(), subject: .init(commonName: "n")).pem().utf8) }),
                (
                    "cannot be verified",
                    {
                        $0.certificateChain = Array(forged.certificateChain.utf8)
                        $0.signature = try PrivateKey(pem: forged.key).signature(of: $0.signedBytes)
                    }
                ),
                ("too large", { $0.certificateChain = [UInt8](repeating: 65, count: 100_000) }),
                ("no certificate", { $0.certificateChain = [] }),
            ]
            for (word, change) in changes {
                var bad = good
                try change(&bad)
                let wrong = bad
                let error = await #expect(throws: ApusError.self) { _ = try await leader.service.renewExpired(wrong, for: caller) }
                #expect(error?.message.contains(word) == true, "\(error?.message ?? "")")
            }
            #expect(try await leader.service.renewExpired(good, for: caller).nodeID == certificate.nodeID)
            // The same message again, seen by somebody else, is of no use.
            await #expect(throws: ApusError.self) { _ = try await leader.service.renewExpired(good, for: caller) }
        }
    }

    @Test func aManagerThatOnlySleptSignsItself() async throws {
        try await withLeader { leader in
            let directory = leader.path + "/certificates"
            let authority = InternalAuthority(host: Host())
            let old = leader.first
            let node = leader.node("manager1")
            await #expect(throws: ApusError.self) {
                _ = try await SwarmIdentity.resignSelf(
                    old, cluster: leader.cluster, node: node, authority: authority, directory: directory, now: Leader.start)
            }
            let later = old.expiresAt + .seconds(365 * 86400)
            var worker = try #require(node)
            worker.spec.role = .worker
            var withoutKey = leader.cluster
            withoutKey.root.key = ""
            for (cluster, node) in [(leader.cluster, worker), (leader.cluster, nil), (withoutKey, node)] {
                await #expect(throws: ApusError.self) {
                    _ = try await SwarmIdentity.resignSelf(
                        old, cluster: cluster, node: node, authority: authority, directory: directory, now: later)
                }
            }
            let fresh = try await SwarmIdentity.resignSelf(
                old, cluster: leader.cluster, node: node, authority: authority, directory: directory, now: later)
            #expect(!fresh.isExpired(now: later))
            #expect(fresh.role == .manager)
            #expect(try NodeCertificate.read(directory: directory) == fresh)
            leader.clock.advance(.seconds(91 * 86400) + .seconds(365 * 86400))
            // Another's certificate is nobody's to put on record.
            await #expect(throws: ApusError.self) { try await leader.service.record(chain: fresh.certificateChain, of: "manager2", address: "") }
            try await leader.service.record(chain: fresh.certificateChain, of: fresh.nodeID, address: "192.0.2.1:2377")
            #expect(leader.node("manager1")?.certificate.serial == fresh.serial)
            #expect(leader.node("manager1")?.certificate.occasion == "self-signed")
            #expect(leader.kinds().last == .healed)
        }
    }

    @Test func aRootThatTheTokenDoesNotNameIsRefused() async throws {
        try await withLeader { leader in
            let directory = try Files.makeTemporaryDirectory(in: leader.path, prefix: "node")
            let token = try JoinToken.generate(rootDigest: String(repeating: "1", count: 50))
            let flow = JoinFlow(token: token, directory: directory, connector: leader.connector())
            let error = await #expect(throws: ApusError.self) { _ = try await flow.run() }
            #expect(error?.code == .permissionDenied)
            #expect(try Files.list(directory).isEmpty)
        }
    }

    @Test func aJoinThatWasCutShortIsTheSameNode() async throws {
        try await withLeader { leader in
            let directory = try Files.makeTemporaryDirectory(in: leader.path, prefix: "node")
            var connector = leader.connector()
            connector.loss = { (call) throws(ApusError) in throw ApusError(.unavailable, "lost") }
            let token = try JoinToken(parsing: try #require(leader.cluster.joinTokens).worker)
            var flow = JoinFlow(token: token, directory: directory, connector: connector)
            flow.clock = leader.clock
            let lossy = flow
            for _ in 0..<3 { await #expect(throws: ApusError.self) { _ = try await lossy.run() } }
            #expect(try NodeCertificate.read(directory: directory) == nil)
            let certificate = try await leader.join(directory: directory)
            #expect(leader.store.read().nodes.count == 2)
            #expect(leader.node(certificate.nodeID)?.certificate.serial == certificate.serial)
        }
    }

    @Test func aNodeWhoseClockIsWrongIsToldSo() async throws {
        try await withLeader { leader in
            try await leader.change { $0.spec.ca.nodeCertificateExpiry = .seconds(1800) }
            for offset: Duration in [.seconds(3700), .seconds(-3700)] {
                var flow = JoinFlow(
                    token: try JoinToken(parsing: try #require(leader.cluster.joinTokens).worker),
                    directory: try Files.makeTemporaryDirectory(in: leader.path, prefix: "node"), connector: leader.connector())
                flow.clock = HandClock(Leader.start + offset)
                let skewed = flow
                let error = await #expect(throws: ApusError.self) { _ = try await skewed.run() }
                #expect(error?.message.contains("the clock of this machine says") == true, "\(error?.message ?? "")")
            }
        }
    }

    /// Every prefix of the file operations of a replacement leaves a certificate and its key.
    @Test func aReplacementThatIsCutShortLeavesOneOfTheTwo() async throws {
        try await withLeader { leader in
            let (old, directory) = try await joined(leader)
            leader.clock.advance(.seconds(60))
            let renewer = renewer(leader, old, directory)
            try await renewer.renew()
            let new = renewer.certificate
            func file(_ name: String) throws -> [UInt8] { try Files.read("\(directory)/\(name)") }
            let newFiles = ["crt": try file("swarm-node.crt"), "key": try file("swarm-node.key")]
            let oldDirectory = try Files.makeTemporaryDirectory(in: leader.path, prefix: "old")
            try old.write(directory: oldDirectory)
            let oldFiles = ["crt": try Files.read(oldDirectory + "/swarm-node.crt"), "key": try Files.read(oldDirectory + "/swarm-node.key")]
            let root = try file("swarm-root-ca.crt")
            // swarm-node.crt, swarm-node.key, swarm-node.next.crt, swarm-node.next.key: what is there after each step, and who that is.
            let steps: [([String: [UInt8]?], String)] = [
                (["swarm-node.crt": oldFiles["crt"], "swarm-node.key": oldFiles["key"], "swarm-node.next.key": newFiles["key"]], old.serial),
                (
                    [
                        "swarm-node.crt": oldFiles["crt"], "swarm-node.key": oldFiles["key"], "swarm-node.next.key": newFiles["key"],
                        "swarm-node.next.crt": newFiles["crt"],
                    ], new.serial
                ),
                (["swarm-node.crt": oldFiles["crt"], "swarm-node.key": newFiles["key"], "swarm-node.next.crt": newFiles["crt"]], new.serial),
                (["swarm-node.crt": newFiles["crt"], "swarm-node.key": newFiles["key"]], new.serial),
                (["swarm-node.next.crt": newFiles["crt"], "swarm-node.next.key": newFiles["key"]], new.serial),
            ]
            for (files, serial) in steps {
                let cut = try Files.makeTemporaryDirectory(in: leader.path, prefix: "cut")
                try Files.writeAtomically(root, to: cut + "/swarm-root-ca.crt")
                for (name, content) in files { try Files.writeAtomically(try #require(content), to: "\(cut)/\(name)") }
                #expect(try NodeCertificate.read(directory: cut)?.serial == serial)
                #expect(try NodeCertificate.read(directory: cut)?.serial == serial)
            }
        }
    }
}
