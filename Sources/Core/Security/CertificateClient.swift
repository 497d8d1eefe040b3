public import GRPCCore
public import PluginAPI
public import Wire

/// A node's way to the certificate methods of a manager.
public protocol CertificateClient: Sendable {
    /// The root certificate, for whoever has a digest to compare it with.
    func root() async throws(ApusError) -> GetRootCACertificateResponse
    /// What the node is to trust now.
    func trust() async throws(ApusError) -> GetTrustResponse
    /// For managers.
    func unlockKey() async throws(ApusError) -> GetUnlockKeyResponse
    /// Asks for a certificate: to join, or to renew.
    func issue(_ request: IssueNodeCertificateRequest) async throws(ApusError) -> IssueNodeCertificateResponse
    /// How far it is now.
    func status(_ request: NodeCertificateStatusRequest) async throws(ApusError) -> NodeCertificateStatusResponse
    /// Asks for a certificate in place of one that has expired.
    func renewExpired(_ request: RenewExpiredCertificateRequest) async throws(ApusError) -> RenewExpiredCertificateResponse
}

/// What a connection to a manager rests on.
public enum CertificateConnection: Sendable, Hashable {
    /// Nothing is verified and no certificate is shown: for the root alone, whose digest the join token has.
    case unverified
    /// The manager must have a certificate of these roots (PEM); none is shown.
    case verified(roots: String)
    /// The manager must have a certificate of this one's roots, and this one is shown.
    case authenticated(NodeCertificate)
}

/// Opens connections for the certificate methods.
public protocol CertificateConnector: Sendable {
    /// Runs the body with a client of some manager that can be reached, and ends the connection after it.
    func withClient<Result: Sendable>(
        _ connection: CertificateConnection, _ body: @Sendable (any CertificateClient) async throws(ApusError) -> Result
    ) async throws(ApusError) -> Result
}

/// The certificate methods over any transport.
public struct GRPCCertificateClient<Transport: ClientTransport>: CertificateClient {
    private let client: GRPCClient<Transport>
    private let timeout: Duration

    /// - Parameter timeout: Of one call.
    public init(_ client: GRPCClient<Transport>, timeout: Duration = .seconds(20)) {
        self.client = client
        self.timeout = timeout
    }

    /// `GetRootCACertificate`.
    public func root() async throws(ApusError) -> GetRootCACertificateResponse {
        try await call(CertificateMethods.getRootCACertificate, GetRootCACertificateRequest())
    }

    /// `GetTrust`.
    public func trust() async throws(ApusError) -> GetTrustResponse { try await call(CertificateMethods.getTrust, GetTrustRequest()) }

    /// `GetUnlockKey`.
    public func unlockKey() async throws(ApusError) -> GetUnlockKeyResponse {
        try await call(CertificateMethods.getUnlockKey, GetUnlockKeyRequest())
    }

    /// `IssueNodeCertificate`.
    public func issue(_ request: IssueNodeCertificateRequest) async throws(ApusError) -> IssueNodeCertificateResponse {
        try await call(CertificateMethods.issueNodeCertificate, request)
    }

    /// `NodeCertificateStatus`.
    public func status(_ request: NodeCertificateStatusRequest) async throws(ApusError) -> NodeCertificateStatusResponse {
        try await call(CertificateMethods.nodeCertificateStatus, request)
    }

    /// `RenewExpiredCertificate`.
    public func renewExpired(_ request: RenewExpiredCertificateRequest) async throws(ApusError) -> RenewExpiredCertificateResponse {
        try await call(CertificateMethods.renewExpiredCertificate, request)
    }

    private func call<Request: FieldCoded, Response: FieldCoded>(
        _ method: MethodDescriptor, _ request: Request
    ) async throws(ApusError) -> Response {
        var options = CallOptions.defaults
        options.timeout = timeout
        // A node's certificate fits many times.
        options.maxResponseMessageBytes = 256 << 10
        do {
            return try await client.unary(
                request: ClientRequest(message: request), descriptor: method, serializer: FieldCodedSerializer<Request>(),
                deserializer: FieldCodedDeserializer<Response>(), options: options
            ) { try $0.message }
        } catch {
            throw CertificateFailure.apusError(error)
        }
    }
}
