import Coding
import PluginAPI
import Security
import Wire

/// Answers for certificates on any manager: the leader itself, the others by asking the leader.
struct CertificateForwarding: CertificateResponder {
    enum Method: String {
        case trust, unlockKey, issue, status, renewExpired
    }

    let service: CertificateService
    let isLeading: @Sendable () -> Bool
    let forward: @Sendable (ForwardCertificateRequest) async throws(ApusError) -> ForwardCertificateResponse

    /// Every manager knows the root.
    func rootCertificate() async throws(ApusError) -> GetRootCACertificateResponse { try service.rootCertificate() }

    func unlockKey(for caller: CertificateCaller) async throws(ApusError) -> GetUnlockKeyResponse {
        if isLeading() { return try service.unlockKey(for: caller) }
        return try await ask(.unlockKey, GetUnlockKeyRequest(), caller)
    }

    func trust(for caller: CertificateCaller) async throws(ApusError) -> GetTrustResponse {
        if isLeading() { return try service.trust(for: caller) }
        return try await ask(.trust, GetTrustRequest(), caller)
    }

    func issue(_ request: IssueNodeCertificateRequest, for caller: CertificateCaller) async throws(ApusError) -> IssueNodeCertificateResponse {
        if isLeading() { return try await service.issue(request, for: caller) }
        return try await ask(.issue, request, caller)
    }

    func status(_ request: NodeCertificateStatusRequest, for caller: CertificateCaller) async throws(ApusError) -> NodeCertificateStatusResponse {
        if isLeading() { return try await service.status(request, for: caller) }
        return try await ask(.status, request, caller)
    }

    func renewExpired(
        _ request: RenewExpiredCertificateRequest, for caller: CertificateCaller
    ) async throws(ApusError) -> RenewExpiredCertificateResponse {
        if isLeading() { return try await service.renewExpired(request, for: caller) }
        return try await ask(.renewExpired, request, caller)
    }

    private func ask<Request: FieldCoded, Response: FieldCoded>(
        _ method: Method, _ request: Request, _ caller: CertificateCaller
    ) async throws(ApusError) -> Response {
        var asked = ForwardCertificateRequest()
        asked.method = method.rawValue
        asked.nodeID = caller.nodeID ?? ""
        asked.role = caller.role?.rawValue ?? ""
        asked.clusterID = caller.clusterID ?? ""
        asked.address = caller.address
        asked.message = ProtobufFields.encode(request)
        return try ProtobufFields.decode(Response.self, from: try await forward(asked).message)
    }

    /// On the leader: what a follower was asked.
    func answer(_ request: ForwardCertificateRequest) async throws(ApusError) -> ForwardCertificateResponse {
        guard isLeading() else { throw ApusError(.unavailable, "this manager is not the leader") }
        guard let method = Method(rawValue: request.method) else {
            throw ApusError(.unimplemented, "\"\(request.method)\" is no method of the certificate authority")
        }
        let caller = CertificateCaller(
            nodeID: request.nodeID.isEmpty ? nil : request.nodeID, role: NodeRole(rawValue: request.role),
            clusterID: request.clusterID.isEmpty ? nil : request.clusterID, address: request.address)
        var response = ForwardCertificateResponse()
        switch method {
        case .trust: response.message = ProtobufFields.encode(try service.trust(for: caller))
        case .unlockKey: response.message = ProtobufFields.encode(try service.unlockKey(for: caller))
        case .issue: response.message = ProtobufFields.encode(try await service.issue(try decode(request), for: caller))
        case .status: response.message = ProtobufFields.encode(try await service.status(try decode(request), for: caller))
        case .renewExpired: response.message = ProtobufFields.encode(try await service.renewExpired(try decode(request), for: caller))
        }
        return response
    }

    private func decode<Request: FieldCoded>(_ request: ForwardCertificateRequest) throws(ApusError) -> Request {
        try ProtobufFields.decode(Request.self, from: request.message)
    }
}
