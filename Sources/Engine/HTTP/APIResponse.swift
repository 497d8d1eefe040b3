import Coding
import PluginAPI

/// What a route answers.
struct APIResponse: Sendable {
    /// What follows the head.
    enum Body: Sendable {
        case none
        case bytes([UInt8])
        /// Written while the client reads; ends early by cancellation when the client goes away.
        case stream(@Sendable (any APIResponseWriter) async throws -> Void)
    }

    var status: Int
    var headers: [(String, String)] = []
    var contentType: String?
    var body: Body

    static func empty(_ status: Int) -> APIResponse { APIResponse(status: status, body: .none) }

    static func json(_ value: JSONValue, status: Int = 200) -> APIResponse {
        APIResponse(status: status, contentType: "application/json", body: .bytes(value.bytes() + [UInt8(ascii: "\n")]))
    }

    static func text(_ text: String, status: Int = 200) -> APIResponse {
        APIResponse(status: status, contentType: "text/plain; charset=utf-8", body: .bytes(Array(text.utf8)))
    }

    static func object(_ value: some FieldCoded, status: Int = 200) -> APIResponse { .json(JSONFields.encode(value), status: status) }

    static func stream(_ contentType: String, _ body: @escaping @Sendable (any APIResponseWriter) async throws -> Void) -> APIResponse {
        APIResponse(status: 200, contentType: contentType, body: .stream(body))
    }

    /// Errors as the Engine API has them: `{"message": "…"}`.
    static func error(_ error: ApusError) -> APIResponse { .json(["message": .string(error.message)], status: error.code.httpStatus) }
}

/// Takes the pieces of a streamed answer.
protocol APIResponseWriter: Sendable {
    /// Returns when the client has room for more; throws when it is gone.
    func write(_ bytes: [UInt8]) async throws
}

extension APIResponseWriter {
    /// One JSON value and a line end.
    func write(_ value: JSONValue) async throws { try await write(value.bytes() + [UInt8(ascii: "\r"), UInt8(ascii: "\n")]) }
}

extension ApusError.Code {
    /// The HTTP status of the Engine API.
    var httpStatus: Int {
        switch self {
        case .invalidArgument: 400
        case .unauthenticated: 401
        case .permissionDenied: 403
        case .notFound: 404
        case .conflict: 409
        case .tooLarge: 413
        case .cancelled: 499
        case .failed, .corrupt: 500
        case .unimplemented: 501
        case .unavailable: 503
        case .timedOut: 504
        @unknown default: 500
        }
    }
}
