import CAInternal
import Files
import OpenSSL
import PluginAPI
import Store
import Synchronization
import Testing
import Wire

@testable import Security

@Suite struct RootRotationTests {
    private func trusts(_ left: NodeCertificate, _ right: NodeCertificate, at time: Timestamp) -> Bool {
        do {
            let chain = try CertificateChain.certificates(pem: right.certificateChain)
            try CertificateChain.verify(
                chain[0], intermediates: Array(chain.dropFirst()), roots: try CertificateChain.certificates(pem: left.root), at: time)
            return true
        } catch {
            return false
        }
    }

    @Test func aRotationMovesEveryNodeAndFinishesByItself() async throws {
        try await withLeader { leader in
            let authority = InternalAuthority(host: Host())
            var renewers: [CertificateRenewer] = []
            func add(_ certificate: NodeCertificate, _ directory: String) async throws {
                var configuration = CertificateRenewer.Configuration(directory: directory, connector: leader.connector()) { _ in }
                configuration.clock = leader.clock
                renewers.append(CertificateRenewer(certificate, configuration))
                let tls = try TLSInfo(of: certificate)
                try await leader.changeNode(certificate.nodeID) { node in
                    node.status.state = .ready
                    node.description.tls = tls
                }
            }
            try await add(leader.first, leader.path + "/certificates")
            for number in 0..<40 {
                let directory = "\(leader.path)/n\(number)"
                try await add(try await leader.join(directory: directory), directory)
            }
            let oldRoot = leader.cluster.root
            let oldTokens = try #require(leader.cluster.joinTokens)
            leader.clock.advance(.seconds(60))
            let event = try await RootRotations.begin(
                RootRotationRequest(), store: leader.store, old: authority, new: authority, now: leader.clock.now())
            #expect(event.kind == .rotationStarted)
            #expect(leader.cluster.rootRotationInProgress)
            let newRoot = leader.cluster.signingRoot
            #expect(newRoot.certificate != oldRoot.certificate)
            // Who joins now, by the old token, trusts the old root alone at first.
            let late = try await leader.join(directory: leader.path + "/late")
            #expect(late.root == oldRoot.certificate)
            try await add(late, leader.path + "/late")
            var rounds = 0
            while leader.cluster.rootRotation != nil, rounds < 20 {
                rounds += 1
                _ = try await RootRotations.step(store: leader.store)
                let told = leader.store.read().nodes.values.filter { $0.certificate.state == .renew }
                #expect(told.count <= RootRotationPlanner.limit)
                for renewer in renewers where leader.node(renewer.certificate.nodeID)?.certificate.state == .renew {
                    leader.clock.advance(.seconds(10))
                    try await renewer.renew()
                    let tls = try TLSInfo(of: renewer.certificate)
                    try await leader.changeNode(renewer.certificate.nodeID) { $0.description.tls = tls }
                }
                // All of them believe each other, all along.
                let now = leader.clock.now()
                for left in renewers.indices.filter({ $0 % 7 == 0 }) + [renewers.count - 1] {
                    for right in renewers {
                        #expect(trusts(renewers[left].certificate, right.certificate, at: now))
                        #expect(trusts(right.certificate, renewers[left].certificate, at: now))
                    }
                }
            }
            #expect(rounds >= 2)
            for renewer in renewers { #expect(renewer.certificate.root.contains(newRoot.certificate)) }
            #expect(leader.cluster.rootRotation == nil)
            #expect(!leader.cluster.rootRotationInProgress)
            #expect(leader.cluster.root == newRoot)
            #expect(leader.cluster.tls?.trustRoot == newRoot.certificate)
            let tokens = try #require(leader.cluster.joinTokens)
            #expect(tokens.worker != oldTokens.worker)
            #expect(try JoinToken(parsing: tokens.manager).digest == newRoot.digest)
            // The new root alone is enough now, and openssl agrees.
            renewers[3].trustChanged()
            let renewer = renewers[3]
            let running = ConcurrentTask { await renewer.run() }
            try await eventually("the old root is forgotten") { renewer.certificate.root == newRoot.certificate }
            running.cancel()
            await running.value
            try Files.writeAtomically(Array(newRoot.certificate.utf8), to: leader.path + "/new.pem")
            try Files.writeAtomically(Array(oldRoot.certificate.utf8), to: leader.path + "/old.pem")
            let chain = try CertificateChain.certificates(pem: renewer.certificate.certificateChain)
            #expect(chain.count == 2)
            try Files.writeAtomically(Array(try chain[0].pem().utf8), to: leader.path + "/node.pem")
            try Files.writeAtomically(Array(try chain[1].pem().utf8), to: leader.path + "/cross.pem")
            let time = "\(leader.clock.now().nanoseconds / 1_000_000_000)"
            for (root, extra, expected) in [("new", [], 0), ("old", [], 2), ("old", ["-untrusted", leader.path + "/cross.pem"], 0)] {
                let (status, output) = try run(
                    "/usr/bin/openssl", ["verify", "-attime", time, "-CAfile", "\(leader.path)/\(root).pem"] + extra + [leader.path + "/node.pem"])
                #expect((status == 0) == (expected == 0), "\(root) \(extra): \(String(decoding: output, as: UTF8.self))")
            }
            // And the next node joins by the new token.
            #expect(try await leader.join().root == newRoot.certificate)
        }
    }

    @Test func aRotationWaitsForNodesThatAreAwayAndNotForThoseThatAreGone() async throws {
        try await withLeader { leader in
            let authority = InternalAuthority(host: Host())
            let away = try await leader.join()
            try await leader.changeNode(away.nodeID) { $0.status.state = .down }
            try await leader.changeNode("manager1") { $0.status.state = .down }
            try await RootRotations.begin(RootRotationRequest(), store: leader.store, old: authority, new: authority, now: Leader.start)
            let plan = try #require(try await RootRotations.step(store: leader.store))
            #expect(plan.tell.isEmpty)
            #expect(plan.waiting.count == 2)
            #expect(plan.waiting[away.nodeID]?.contains("node rm") == true)
            #expect(!plan.isComplete)
            // Begun again: another new root, still from the old one.
            let before = leader.cluster.signingRoot
            try await RootRotations.begin(RootRotationRequest(), store: leader.store, old: authority, new: authority, now: Leader.start)
            #expect(leader.cluster.signingRoot.certificate != before.certificate)
            try await leader.remove(away.nodeID)
            try await leader.remove("manager1")
            #expect(try await RootRotations.step(store: leader.store)?.isComplete == true)
            #expect(leader.cluster.rootRotation == nil)
            #expect(try await RootRotations.step(store: leader.store) == nil)
        }
    }

    @Test func theLoopEndsARotation() async throws {
        try await withLeader { leader in
            let authority = InternalAuthority(host: Host())
            try await RootRotations.begin(RootRotationRequest(), store: leader.store, old: authority, new: authority, now: Leader.start)
            try await leader.remove("manager1")
            let events = Mutex<[IdentityEvent]>([])
            let store = leader.store
            let running = ConcurrentTask {
                await RootRotations.run(store: store, clock: HandClock(Leader.start, skips: true)) { event in events.withLock { $0.append(event) } }
            }
            try await eventually("it says that it ended") { events.withLock { $0.map(\.kind) == [.rotationFinished] } }
            running.cancel()
            await running.value
            #expect(leader.cluster.rootRotation == nil)
        }
    }

    @Test func aRootOfTheUsersOwnIsChecked() async throws {
        try await withLeader { leader in
            let authority = InternalAuthority(host: Host())
            func attempt(_ request: RootRotationRequest) async -> ApusError? {
                do throws(ApusError) {
                    try await RootRotations.begin(request, store: leader.store, old: authority, new: authority, now: Leader.start)
                    return nil
                } catch {
                    return error
                }
            }
            let own = try await authority.createRoot(CreateRootRequest(clusterID: "x", now: Leader.start))
            let other = try await authority.createRoot(CreateRootRequest(clusterID: "x", now: Leader.start))
            let ended = try await authority.createRoot(CreateRootRequest(clusterID: "x", now: Leader.start, lifetime: .seconds(3600)))
            var request = RootRotationRequest()
            for (certificate, key) in [
                (own.certificate, ""), ("", own.key), (own.certificate, other.key), ("rubbish", own.key), (own.certificate + other.certificate, own.key),
                (leader.first.certificateChain, leader.first.key), (ended.certificate, ended.key),
                (leader.cluster.root.certificate, leader.cluster.root.key),
            ] {
                request.certificate = certificate
                request.key = key
                #expect(await attempt(request) != nil)
                #expect(leader.cluster.rootRotation == nil)
            }
            request.certificate = "a text around it\n" + own.certificate
            request.key = own.key
            #expect(await attempt(request)?.message == nil)
            #expect(leader.cluster.signingRoot.certificate == own.certificate)
            #expect(leader.cluster.signingRoot.digest == own.digest)
        }
    }
}
