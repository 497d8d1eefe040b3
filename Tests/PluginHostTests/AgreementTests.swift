import Files
import Glibc
import PluginAPI
import Testing

@testable import PluginHost

/// What a swarm has agreed on, and an engine follows.
@Suite struct AgreementTests {
    private let bench: Bench

    init() throws { bench = try Bench() }

    @Test func whatIsRecordedIsReadAgain() throws {
        let identity = PluginIdentity(.scheduler, "fair")
        let digest = String(repeating: "0123456789abcdef", count: 4)
        for (agreement, text) in [
            (PluginAgreement(identity, sha256: ""), "fair"), (PluginAgreement(identity, sha256: digest), "fair@sha256:\(digest)"),
        ] {
            #expect(agreement.recorded == text)
            #expect(PluginAgreement(.scheduler, recorded: text) == agreement)
        }
        for bad in ["", "@sha256:\(digest)", "fair@", "fair@sha256:12", "fair@md5:\(digest)", "Fair Play", "../fair", "fair@sha256:\(digest)0"] {
            #expect(PluginAgreement(.scheduler, recorded: bad) == nil, "\(bad)")
        }
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            let text = String((0..<Int.random(in: 0...80)).compactMap { _ in "fair@sha256:0/\u{0}é".randomElement(using: &generator) })
            if let agreement = PluginAgreement(.scheduler, recorded: text) { #expect(agreement.recorded == text) }
        }
    }

    @Test func theSwarmsFileIsUsedAndNoOther() async throws {
        try bench.putGood("agreed")
        let info = try await bench.info("scheduler/agreed")
        let identity = try #require(info.identity)
        await bench.registry.start()
        let agreement = PluginAgreement(info, identity)
        #expect(agreement.sha256 == info.sha256)
        try await bench.registry.use(agreement)
        let scheduler = try bench.registry.scheduler(named: "agreed")
        try await bench.registry.use(agreement)
        #expect(try bench.registry.scheduler(named: "agreed") === scheduler, "one in use stays as it is")
        #expect(bench.registry.agreements.contains(agreement))

        // It survives a restart, and another file is not it.
        let second = bench.restarted()
        await second.start()
        #expect(second.enabled.contains(identity))
        var other = agreement
        other.sha256 = String(repeating: "0", count: 64)
        let wanted = other
        let changed = await #expect(throws: ApusError.self) { try await second.use(wanted) }
        #expect(changed?.code == .conflict && changed?.message.contains("install that one") == true)
        let absent = await #expect(throws: ApusError.self) {
            try await second.use(PluginAgreement(PluginIdentity(.scheduler, "absent"), sha256: wanted.sha256))
        }
        #expect(absent?.code == .notFound && absent?.message.contains("apus plugin install") == true)
        let unknown = await #expect(throws: ApusError.self) { try await second.use(PluginAgreement(PluginIdentity(.scheduler, "agreed"), sha256: "")) }
        #expect(unknown?.code == .notFound, "a drop-in does not stand in for one of the default set")
        #expect(second.enabled.contains(identity), "what was in use stays")
    }

    @Test func theDefaultStandsInAndTheChoiceIsKept() async throws {
        try bench.putGood("spread", in: bench.defaults)
        try bench.putGood("standing")
        let info = try await bench.info("scheduler/standing")
        let identity = try #require(info.identity)
        await bench.registry.start()
        #expect(bench.registry.enabled == [PluginIdentity(.scheduler, "spread")])
        #expect(bench.registry.agreements.map(\.recorded) == ["spread"])
        try await bench.registry.use(PluginAgreement(info, identity))
        #expect(bench.registry.enabled == [identity])
        try await bench.registry.useDefault(.scheduler)
        #expect(bench.registry.enabled == [PluginIdentity(.scheduler, "spread")])
        let second = bench.restarted()
        await second.start()
        #expect(second.enabled == [identity])
    }
}
