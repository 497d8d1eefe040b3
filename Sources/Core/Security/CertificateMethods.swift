public import GRPCCore
public import PluginAPI
public import Wire

/// The methods of CertificateAuthority.proto and Identity.proto.
enum CertificateMethods {
    static let certificateAuthority = ServiceDescriptor(package: "docker.swarmkit.v1", service: "CA")
    static let nodeAuthority = ServiceDescriptor(package: "docker.swarmkit.v1", service: "NodeCA")
    static let identity = ServiceDescriptor(package: "apus.v1", service: "Identity")

    static let getRootCACertificate = MethodDescriptor(service: certificateAuthority, method: "GetRootCACertificate", type: .unary)
    static let getUnlockKey = MethodDescriptor(service: certificateAuthority, method: "GetUnlockKey", type: .unary)
    static let issueNodeCertificate = MethodDescriptor(service: nodeAuthority, method: "IssueNodeCertificate", type: .unary)
    static let nodeCertificateStatus = MethodDescriptor(service: nodeAuthority, method: "NodeCertificateStatus", type: .unary)
    static let getTrust = MethodDescriptor(service: identity, method: "GetTrust", type: .unary)
    static let renewExpiredCertificate = MethodDescriptor(service: identity, method: "RenewExpiredCertificate", type: .unary)
}

extension CertificateCaller {
    /// From the certificate that the transport has verified.
    public init(peer: PeerIdentity?, address: String) {
        self.init(nodeID: peer?.nodeID, role: peer?.role, clusterID: peer?.clusterID, address: address)
    }
}

/// What answers the certificate methods: the leader's `CertificateService`, or on a follower whatever forwards to it.
public protocol CertificateResponder: Sendable {
    func rootCertificate() async throws(ApusError) -> GetRootCACertificateResponse
    func unlockKey(for caller: CertificateCaller) async throws(ApusError) -> GetUnlockKeyResponse
    func trust(for caller: CertificateCaller) async throws(ApusError) -> GetTrustResponse
    func issue(_ request: IssueNodeCertificateRequest, for caller: CertificateCaller) async throws(ApusError) -> IssueNodeCertificateResponse
    func status(_ request: NodeCertificateStatusRequest, for caller: CertificateCaller) async throws(ApusError) -> NodeCertificateStatusResponse
    func renewExpired(
        _ request: RenewExpiredCertificateRequest, for caller: CertificateCaller
    ) async throws(ApusError) -> RenewExpiredCertificateResponse
}

extension CertificateService: CertificateResponder {}

/// The gRPC services `CA`, `NodeCA` and `Identity`. Who calls is `PeerIdentity.current`.
public struct CertificateRPC: RegistrableRPCService {
    private let responder: any CertificateResponder

    public init(_ responder: any CertificateResponder) { self.responder = responder }

    /// Serves the methods of CA, NodeCA and Identity.
    public func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        let responder = responder
        register(CertificateMethods.getRootCACertificate, in: &router) { (_: GetRootCACertificateRequest, _) throws(ApusError) in
            try await responder.rootCertificate()
        }
        register(CertificateMethods.getUnlockKey, in: &router) { (_: GetUnlockKeyRequest, caller) throws(ApusError) in
            try await responder.unlockKey(for: caller)
        }
        register(CertificateMethods.issueNodeCertificate, in: &router) { (request: IssueNodeCertificateRequest, caller) throws(ApusError) in
            try await responder.issue(request, for: caller)
        }
        register(CertificateMethods.nodeCertificateStatus, in: &router) { (request: NodeCertificateStatusRequest, caller) throws(ApusError) in
            try await responder.status(request, for: caller)
        }
        register(CertificateMethods.getTrust, in: &router) { (_: GetTrustRequest, caller) throws(ApusError) in
            try await responder.trust(for: caller)
        }
        register(CertificateMethods.renewExpiredCertificate, in: &router) { (request: RenewExpiredCertificateRequest, caller) throws(ApusError) in
            try await responder.renewExpired(request, for: caller)
        }
    }

    private func register<Transport: ServerTransport, Request: FieldCoded, Response: FieldCoded>(
        _ method: MethodDescriptor, in router: inout RPCRouter<Transport>,
        _ answer: @escaping @Sendable (Request, CertificateCaller) async throws(ApusError) -> Response
    ) {
        router.registerHandler(
            forMethod: method, deserializer: FieldCodedDeserializer<Request>(), serializer: FieldCodedSerializer<Response>()
        ) { stream, context in
            let request = try await ServerRequest(stream: stream)
            do throws(ApusError) {
                let caller = CertificateCaller(peer: PeerIdentity.current, address: context.remotePeer)
                return StreamingServerResponse(single: ServerResponse(message: try await answer(request.message, caller)))
            } catch {
                throw CertificateFailure.rpcError(error)
            }
        }
    }
}

/// Errors of the certificate methods on the wire and back.
enum CertificateFailure {
    static func rpcError(_ error: ApusError) -> RPCError {
        let code: RPCError.Code =
            switch error.code {
            case .invalidArgument: .invalidArgument
            case .unauthenticated: .unauthenticated
            case .permissionDenied: .permissionDenied
            case .notFound: .notFound
            case .conflict: .failedPrecondition
            case .tooLarge: .outOfRange
            case .cancelled: .cancelled
            case .unimplemented: .unimplemented
            case .unavailable: .unavailable
            case .timedOut: .deadlineExceeded
            case .corrupt: .dataLoss
            case .failed: .internalError
            @unknown default: .unknown
            }
        return RPCError(code: code, message: error.message)
    }

    static func apusError(_ error: any Error) -> ApusError {
        guard let error = error as? RPCError else { return ApusError(error) }
        let code: ApusError.Code =
            switch error.code {
            case .invalidArgument: .invalidArgument
            case .unauthenticated: .unauthenticated
            case .permissionDenied: .permissionDenied
            case .notFound: .notFound
            case .failedPrecondition: .conflict
            case .outOfRange: .tooLarge
            case .cancelled: .cancelled
            case .unimplemented: .unimplemented
            case .unavailable, .resourceExhausted, .aborted: .unavailable
            case .deadlineExceeded: .timedOut
            case .dataLoss: .corrupt
            default: .failed
            }
        return ApusError(code, error.message)
    }
}
