import CNGHTTP2
import GRPCCore

/// How HTTP/2 outcomes read as gRPC errors (gRPC over HTTP2, "HTTP2 Transport Mapping").
enum StatusMapping {
    /// The error of a call whose stream the peer reset, or that the connection refused.
    static func error(resetCode: UInt32) -> RPCError {
        switch nghttp2_error_code(resetCode) {
        case NGHTTP2_REFUSED_STREAM: RPCError(code: .unavailable, message: "the peer took no further call (REFUSED_STREAM)")
        case NGHTTP2_CANCEL: RPCError(code: .cancelled, message: "the peer cancelled the call")
        case NGHTTP2_ENHANCE_YOUR_CALM: RPCError(code: .resourceExhausted, message: "the peer asks for less (ENHANCE_YOUR_CALM)")
        case NGHTTP2_INADEQUATE_SECURITY: RPCError(code: .permissionDenied, message: "the peer wants better encryption (INADEQUATE_SECURITY)")
        default: RPCError(code: .internalError, message: "the peer ended the call without a status (\(name(ofCode: resetCode)))")
        }
    }

    static func name(ofCode code: UInt32) -> String {
        guard let text = nghttp2_http2_strerror(code) else { return "error \(code)" }
        return String(cString: text)
    }
}
