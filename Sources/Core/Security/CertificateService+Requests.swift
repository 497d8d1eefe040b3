import OpenSSL
import PluginAPI
import Store
import Synchronization
public import Wire

extension CertificateService {
    /// A request as text, and the digest of its key.
    private func read(_ bytes: [UInt8]) throws(ApusError) -> (text: String, keyDigest: String) {
        guard bytes.count <= 16 << 10 else { throw ApusError(.tooLarge, "the certificate request has \(bytes.count) bytes") }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw ApusError(.invalidArgument, "the certificate request is not PEM") }
        return (text, try CertificateRequest(pem: text).publicKeyDigest())
    }

    func join(_ request: IssueNodeCertificateRequest, for caller: CertificateCaller) async throws(ApusError) -> IssueNodeCertificateResponse {
        let cluster = try cluster()
        let text: String
        let digest: String
        do throws(ApusError) {
            guard request.token.utf8.count <= 256 else { throw ApusError(.invalidArgument, "this is not a join token") }
            _ = try CertificatePolicy.role(ofToken: request.token, requested: request.role, cluster: cluster)
        } catch {
            // Before it is told to anybody: what a stranger may make us log is bounded.
            try takeStranger(caller)
            throw await refuse(error, node: nil, caller)
        }
        let now = now
        guard limiters.withLock({ $0.joins.take(now: now) }) else {
            throw ApusError(.unavailable, "too many nodes join at once; try again")
        }
        do throws(ApusError) {
            (text, digest) = try read(request.signingRequest)
        } catch {
            throw await refuse(error, node: nil, caller)
        }
        let limit = environment.limits.waitingNodes
        let availability = request.availability
        let (token, requested, address) = (request.token, request.role, caller.address)
        // An answer that was lost is not another node. Looked for outside of the transaction, for which others wait.
        let same = environment.store.read().nodes.values.first {
            $0.certificate.publicKeyDigest == digest || $0.certificate.signingRequest == text
        }?.id
        let node: Node
        do throws(ApusError) {
            node = try await environment.store.update { transaction throws(ApusError) -> Node in
                guard let cluster = transaction.snapshot.cluster else { throw ApusError(.unavailable, "the store has no swarm yet; try again") }
                // Once more: the token may have been rotated since.
                let role = try CertificatePolicy.role(ofToken: token, requested: requested, cluster: cluster)
                if let same, var node = transaction.snapshot.nodes[same], node.spec.role == role {
                    if node.certificate.state == .failed {
                        node.certificate.state = .pending
                        node.certificate.signingRequest = text
                        node.certificate.failure = ""
                        try transaction.update(.node(node))
                    }
                    return node
                }
                let mustWait = cluster.spec.ca.joiningWaits ?? false
                if mustWait, transaction.snapshot.nodes.values.count(where: { $0.certificate.membership == .pending }) >= limit {
                    throw ApusError(.unavailable, "\(limit) nodes wait for \"apus node accept\" already")
                }
                var node = Node()
                node.id = .random()
                node.spec.role = role
                node.spec.availability = availability
                node.certificate.membership = mustWait ? .pending : .accepted
                node.certificate.state = .pending
                node.certificate.role = role
                node.certificate.signingRequest = text
                node.certificate.occasion = "join"
                node.certificate.requestedBy = address
                try transaction.create(.node(node))
                return node
            }
        } catch {
            if error.code == .permissionDenied { throw await refuse(error, node: nil, caller) }
            throw error
        }
        var event = IdentityEvent(node.certificate.membership == .pending ? .joinWaiting : .joinRequested, time: now)
        event.nodeID = node.id
        event.role = node.spec.role
        event.address = caller.address
        environment.onEvent(event)
        if node.certificate.membership == .accepted { await sign(node.id) }
        return response(node)
    }

    private func response(_ node: Node) -> IssueNodeCertificateResponse {
        var response = IssueNodeCertificateResponse()
        response.nodeID = node.id
        response.membership = node.certificate.membership
        return response
    }

    func renew(_ request: IssueNodeCertificateRequest, for caller: CertificateCaller) async throws(ApusError) -> IssueNodeCertificateResponse {
        let cluster = try cluster()
        let snapshot = environment.store.read()
        let text: String
        do throws(ApusError) {
            let node = try CertificatePolicy.renewing(caller, cluster: cluster) { snapshot.nodes[$0] }
            try takeRenewal(node.id)
            (text, _) = try read(request.signingRequest)
            try await setPending(node.id, text, occasion: "renewal", caller, keyDigest: nil)
            await sign(node.id)
            return response(node)
        } catch {
            if error.code == .unauthenticated { try takeStranger(caller) }
            if error.code == .unavailable { throw error }
            throw await refuse(error, node: caller.nodeID, caller)
        }
    }

    private func takeRenewal(_ id: ID) throws(ApusError) {
        let now = now
        guard limiters.withLock({ $0.renewals.take(id, now: now) }) else {
            throw ApusError(.unavailable, "node \(id) renews its certificate too often; try again later")
        }
    }

    /// Puts a request on its node, in place of an older one.
    /// - Parameter keyDigest: The key that must still be the last; `nil`: any.
    private func setPending(
        _ id: ID, _ request: String, occasion: String, _ caller: CertificateCaller, keyDigest: String?
    ) async throws(ApusError) {
        try await environment.store.update { transaction throws(ApusError) in
            guard var node = transaction.snapshot.nodes[id] else {
                throw ApusError(.permissionDenied, "node \(id) was removed from this swarm: join again")
            }
            if let keyDigest, node.certificate.publicKeyDigest != keyDigest {
                throw ApusError(.permissionDenied, "node \(id) has a newer certificate than the one that was shown: only the last key counts")
            }
            node.certificate.state = .pending
            node.certificate.signingRequest = request
            node.certificate.occasion = occasion
            node.certificate.requestedBy = caller.address
            node.certificate.failure = ""
            try transaction.update(.node(node))
        }
    }

    /// Renews a certificate that has expired, for who proves that it has the key that was last issued to the node.
    public func renewExpired(
        _ request: RenewExpiredCertificateRequest, for caller: CertificateCaller
    ) async throws(ApusError) -> RenewExpiredCertificateResponse {
        // It costs us verifications, and anybody may ask.
        try takeStranger(caller)
        let cluster = try cluster()
        var shown: ID?
        var kind = IdentityEvent.Kind.refused
        do throws(ApusError) {
            let (text, _) = try read(request.signingRequest)
            let proof = try CertificatePolicy.expired(
                chain: request.certificateChain, signature: request.signature, signedBytes: request.signedBytes, cluster: cluster)
            shown = proof.nodeID
            let decision = CertificatePolicy.expiredRenewal(
                proof.nodeID, node: environment.store.read().nodes[proof.nodeID], keyDigest: proof.keyDigest, expiresAt: proof.expiresAt,
                grace: cluster.expiredRenewalGrace, hasSession: environment.hasSession(proof.nodeID), now: now)
            let occasion: String
            switch decision {
            case .renew: occasion = "renewal"
            case .heal: occasion = "expired-renewal"
            case .refuse(let error): throw error
            case .alarm(let error):
                kind = .alarm
                throw error
            }
            try takeRenewal(proof.nodeID)
            try await setPending(proof.nodeID, text, occasion: occasion, caller, keyDigest: proof.keyDigest)
            await sign(proof.nodeID)
            var response = RenewExpiredCertificateResponse()
            response.nodeID = proof.nodeID
            return response
        } catch {
            if error.code == .unavailable { throw error }
            throw await refuse(error, node: shown, caller, kind: kind)
        }
    }
}
