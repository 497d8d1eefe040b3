import GRPCCore
import NIOCore
import NIOPosix
import OpenSSL
import PluginAPI
import Synchronization
import Testing
import Wire

@testable import Transport

/// Who is let in, as whom, and for how long.
@Suite struct IdentityTests {
    private func strict(_ port: Int, _ security: NodeClientTransport.Security) async throws -> RPCError? {
        try await Fixture.withClient(port: port, security) { await $0.failure("Who") }
    }

    @Test func theHandlerKnowsTheCaller() async throws {
        let authority = try TestAuthority()
        try await Fixture.withServer(.tls(authority.credentials("manager1"))) { _, port in
            let client = try authority.credentials("node7", unit: "swarm-worker")
            let text = try await Fixture.withClient(port: port, .tls(client)) { try await $0.text("Who") }
            #expect(text == "node7 worker cluster valid der specific")
        }
    }

    @Test func noCertificateIsNobody() async throws {
        let authority = try TestAuthority()
        try await Fixture.withServer(.tls(authority.credentials("manager1"))) { _, port in
            let knowing = try TransportCredentials(roots: authority.rootPEM)
            #expect(try await Fixture.withClient(port: port, .tls(knowing), { try await $0.text("Who") }) == "nobody - - valid - specific")
            // A joining node has no roots yet.
            #expect(try await Fixture.withClient(port: port, .tlsUnverified, { try await $0.text("Who") }) == "nobody - - valid - specific")
        }
    }

    @Test func aForeignCertificateIsRefused() async throws {
        let authority = try TestAuthority()
        let other = try TestAuthority(name: "other-ca")
        try await Fixture.withServer(.tls(authority.credentials("manager1"))) { server, port in
            let foreign = try TransportCredentials(roots: authority.rootPEM, identity: other.identity("intruder"))
            let error = try await strict(port, .tls(foreign))
            #expect(error?.code == .unavailable)
            #expect(server.statistics.refusedCertificates == 1)
            let expired = try TransportCredentials(
                roots: authority.rootPEM, identity: authority.identity("old", now: TestAuthority.now + .seconds(-7200), lifetime: .seconds(3600)))
            let late = try await strict(port, .tls(expired))
            #expect(late?.code == .unavailable)
            #expect(late?.message.contains("expired") == true)
            let strange = try TransportCredentials(roots: authority.rootPEM, identity: authority.identity("who", unit: "something"))
            #expect(try await strict(port, .tls(strange)) != nil)
            #expect(server.statistics.refusedCertificates == 3)
        }
    }

    @Test func theClientChecksTheServer() async throws {
        let authority = try TestAuthority()
        let other = try TestAuthority(name: "other-ca")
        try await Fixture.withServer(.tls(authority.credentials("worker1", unit: "swarm-worker"))) { _, port in
            let trusting = try TransportCredentials(roots: authority.rootPEM)
            let error = try await strict(port, .tls(trusting))
            #expect(error?.code == .unavailable)
            #expect(error?.message.contains("no manager") == true)
            let specific = try await strict(port, .tls(trusting, expecting: { $0.nodeID == "manager9" ? nil : "it is \($0.nodeID)" }))
            #expect(specific?.message.contains("it is worker1") == true)
            let error2 = try await strict(port, .tls(TransportCredentials(roots: other.rootPEM), expecting: { _ in nil }))
            #expect(error2?.code == .unavailable)
            #expect(error2?.message.contains("certificate") == true, "\(error2?.message ?? "")")
            #expect(try await strict(port, .tls(trusting, expecting: { _ in nil })) == nil)
        }
    }

    @Test func otherRootsEndLiveConnections() async throws {
        let authority = try TestAuthority()
        let next = try TestAuthority(name: "next-ca")
        let serverCredentials = try authority.credentials("manager1")
        let service = EchoService()
        try await Fixture.withServer(.tls(serverCredentials), service: service) { server, port in
            let both = try TransportCredentials(roots: authority.rootPEM + next.rootPEM, identity: authority.identity("old"))
            let renewed = try TransportCredentials(roots: authority.rootPEM + next.rootPEM, identity: next.identity("new"))
            try await Fixture.withClient(port: port, .tls(both)) { client in
                let text1 = try await client.text("Who")
                #expect(text1.hasPrefix("old "))
                try serverCredentials.update(roots: authority.rootPEM + next.rootPEM, identity: authority.identity("manager1"))
                try await Fixture.withClient(port: port, .tls(renewed)) { second in
                    let text2 = try await second.text("Who")
                    #expect(text2.hasPrefix("new "))
                    #expect(server.connectionCount == 2)
                    // The old root goes: the one whose certificate it signed loses its connection, the other does not.
                    await withTaskGroup(of: RPCError?.self) { tasks in
                        tasks.addTask { await client.failure("Hang") }
                        let hangs = await Fixture.becomesTrue { service.counts.withLock { $0.started == 1 } }
                        #expect(hangs)
                        let isUpdated: Void? = try? serverCredentials.update(roots: next.rootPEM, identity: next.identity("manager1"))
                        #expect(isUpdated != nil)
                        let error = await tasks.next() ?? nil
                        #expect(error?.code == .unavailable)
                    }
                    #expect(server.connectionCount == 1)
                    let text3 = try await second.text("Who")
                    #expect(text3.hasPrefix("new "))
                    #expect(server.statistics.opened == 2)
                    #expect(await client.failure("Who") != nil)
                    // The client renews too, and is let in again without being made anew.
                    try both.update(roots: next.rootPEM, identity: next.identity("old"))
                    let isBack = await Fixture.becomesTrue { await client.failure("Who") == nil }
                    #expect(isBack)
                }
            }
        }
    }

    @Test func aPolicyEndsLiveConnectionsOnRecheck() async throws {
        let authority = try TestAuthority()
        let serverCredentials = try authority.credentials("manager1")
        let removed = Mutex<Set<ID>>([])
        serverCredentials.setPolicy { peer in removed.withLock { $0.contains(peer.nodeID) } ? "it was removed" : nil }
        try await Fixture.withServer(.tls(serverCredentials)) { server, port in
            try await Fixture.withClient(port: port, .tls(authority.credentials("node1"))) { first in
                try await Fixture.withClient(port: port, .tls(authority.credentials("node2"))) { second in
                    _ = try await (first.text("Who"), second.text("Who"))
                    removed.withLock { _ = $0.insert("node1") }
                    serverCredentials.recheck()
                    #expect(await Fixture.becomesTrue { server.connectionCount == 1 })
                    #expect(await first.failure("Who")?.code == .unavailable)
                    let text4 = try await second.text("Who")
                    #expect(text4.hasPrefix("node2 "))
                    #expect(server.statistics.opened == 2)
                    // It tries again, and its handshake is refused.
                    let isRefused = await Fixture.becomesTrue {
                        let error = await first.failure("Who")
                        return error?.code == .unavailable && server.statistics.refusedCertificates >= 1
                    }
                    #expect(isRefused)
                }
            }
        }
    }

    @Test func aConnectionEndsWithItsCertificate() async throws {
        let authority = try TestAuthority()
        let service = EchoService()
        try await Fixture.withServer(.tls(authority.credentials("manager1")), service: service) { _, port in
            try await Fixture.withClient(port: port, .tls(authority.credentials("brief", lifetime: .seconds(4)))) { client in
                #expect(await client.failure("Hang")?.code == .unavailable)
                #expect(service.counts.withLock { $0.started } == 1)
                #expect(await Fixture.becomesTrue { service.counts.withLock { $0.cancelled == 1 } })
            }
        }
    }

    @Test func anExpiredCertificateMayOnlyBeRenewed() async throws {
        let authority = try TestAuthority()
        var configuration = TransportConfiguration()
        configuration.expiredCertificateMethods = ["test.Echo/Who"]
        try await Fixture.withServer(.tls(authority.credentials("manager1")), configuration: configuration) { _, port in
            let identity = try authority.identity("late", now: TestAuthority.now + .seconds(-7200), lifetime: .seconds(3600))
            let late = try TransportCredentials(roots: authority.rootPEM, identity: identity)
            try await Fixture.withClient(port: port, .tls(late)) { client in
                let text5 = try await client.text("Who")
                #expect(text5 == "late manager cluster expired der specific")
                #expect(await client.failure("Unary")?.code == .unauthenticated)
            }
            let other = try TestAuthority(name: "other-ca")
            let foreign = try other.identity("late", now: TestAuthority.now + .seconds(-7200), lifetime: .seconds(3600))
            #expect(try await strict(port, .tls(TransportCredentials(roots: authority.rootPEM, identity: foreign))) != nil)
        }
    }

    @Test func badCredentialsAreRefusedWithWords() throws {
        let authority = try TestAuthority()
        let one = try authority.identity("one"), two = try authority.identity("two")
        #expect(throws: ApusError.self) { try TransportCredentials(roots: "nothing") }
        #expect(throws: ApusError.self) {
            try TransportCredentials(roots: authority.rootPEM, identity: .init(certificateChain: one.certificateChain, privateKey: two.privateKey))
        }
        #expect(throws: ApusError.self) {
            try TransportCredentials(roots: authority.rootPEM, identity: .init(certificateChain: "", privateKey: two.privateKey))
        }
        let credentials = try TransportCredentials(roots: authority.rootPEM, identity: one)
        let before = credentials.context
        #expect(throws: ApusError.self) { try credentials.update(roots: "", identity: .init(certificateChain: "x", privateKey: "y")) }
        #expect(credentials.context === before)
    }
}
