import PluginAPI

/// A request to the engine, without its place.
struct EngineRequest: Sendable, Hashable {
    enum Body: Sendable, Hashable {
        case none
        case bytes([UInt8])
        /// Everything that can still be read from a descriptor.
        case descriptor(Int32)
    }

    var method: String
    /// The path with its query, `/v1.50/services?status=true`.
    var target: String
    var headers: [String: String] = [:]
    var body: Body = .none
}

/// A whole answer of the engine.
struct EngineResponse: Sendable, Hashable {
    var status: Int
    /// Names in lower case.
    var headers: [String: String] = [:]
    var body: [UInt8] = []
}

/// The way to an engine. An answer with a status of 400 or more is an answer, not an error.
protocol EngineConnection: Sendable {
    /// For messages: `unix:///run/apus.sock`.
    var name: String { get }
    func send(_ request: EngineRequest) async throws(ApusError) -> EngineResponse
    /// Hands over the head, then the body as it arrives, in order. Cancelling the task ends it.
    func stream(
        _ request: EngineRequest,
        onHead: @escaping @Sendable (EngineResponse) throws(ApusError) -> Void,
        onChunk: @escaping @Sendable ([UInt8]) throws(ApusError) -> Void
    ) async throws(ApusError)
}
