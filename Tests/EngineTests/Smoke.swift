import Testing
@Suite(.serialized, .sharedEngine) struct Smoke {
    @Test func version() async throws { print(try await EngineHarness.shared.docker("version")) }
}
