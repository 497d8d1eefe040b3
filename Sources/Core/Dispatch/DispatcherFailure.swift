public import GRPCCore
public import PluginAPI
import Wire

/// Why a manager did not do what a node asked for.
public struct DispatcherFailure: Error, Sendable, Hashable {
    public var error: ApusError
    /// Where the leader is, `host:port`, when the manager is not the leader and knows it.
    public var leader: String?

    public init(_ error: ApusError, leader: String? = nil) {
        self.error = error
        self.leader = leader
    }

    /// Any error of a call.
    public init(_ error: any Error) {
        switch error {
        case let failure as DispatcherFailure: self = failure
        case let rpc as RPCError:
            self.init(
                ApusError(Self.code(rpc.code), rpc.message.isEmpty ? "the manager answered \(rpc.code)" : rpc.message),
                leader: rpc.metadata[stringValues: DispatcherMethods.leaderMetadata].first { !$0.isEmpty && $0.utf8.count <= 300 })
        default: self.init(ApusError(error), leader: nil)
        }
    }

    /// The error as the wire has it.
    public var status: RPCError {
        var metadata = Metadata()
        if let leader { metadata.addString(leader, forKey: DispatcherMethods.leaderMetadata) }
        return RPCError(code: Self.code(error.code), message: error.message, metadata: metadata)
    }

    private static func code(_ code: RPCError.Code) -> ApusError.Code {
        switch code {
        case .invalidArgument, .outOfRange: .invalidArgument
        case .unauthenticated: .unauthenticated
        case .permissionDenied: .permissionDenied
        case .notFound: .notFound
        case .alreadyExists, .aborted, .failedPrecondition: .conflict
        case .resourceExhausted: .tooLarge
        case .cancelled: .cancelled
        case .unimplemented: .unimplemented
        case .unavailable: .unavailable
        case .deadlineExceeded: .timedOut
        case .dataLoss: .corrupt
        default: .failed
        }
    }

    private static func code(_ code: ApusError.Code) -> RPCError.Code {
        switch code {
        case .invalidArgument: .invalidArgument
        case .unauthenticated: .unauthenticated
        case .permissionDenied: .permissionDenied
        case .notFound: .notFound
        case .conflict: .failedPrecondition
        case .tooLarge: .resourceExhausted
        case .cancelled: .cancelled
        case .failed: .internalError
        case .unimplemented: .unimplemented
        case .unavailable: .unavailable
        case .timedOut: .deadlineExceeded
        case .corrupt: .dataLoss
        @unknown default: .unknown
        }
    }
}
