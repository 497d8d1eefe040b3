import OpenSSL
import PluginAPI
import Store
import Synchronization

extension CertificateService {
    /// Has the authority sign what a node waits for, if it waits and is accepted, and nobody else does it now. What comes of it stands on the node.
    func sign(_ id: ID) async {
        let limit = environment.limits.signing
        let isMine = limiters.withLock { $0.signing.count < limit && $0.signing.insert(id).inserted }
        guard isMine else { return }
        await signAlone(id)
        limiters.withLock { _ = $0.signing.remove(id) }
    }

    private func signAlone(_ id: ID) async {
        let snapshot = environment.store.read()
        guard let cluster = snapshot.cluster, let node = snapshot.nodes[id], node.certificate.state == .pending, node.certificate.membership == .accepted
        else { return }
        let pending = node.certificate.signingRequest
        let caller = CertificateCaller(address: node.certificate.requestedBy)
        do throws(ApusError) {
            let record = try await signed(pending, node, cluster)
            let isTaken = try await environment.store.update { transaction throws(ApusError) -> Bool in
                // Another request may have come, another role or another root: then this answer is of no use, and the next is asked for.
                guard var current = transaction.snapshot.nodes[id], let currentCluster = transaction.snapshot.cluster,
                    current.certificate.signingRequest == pending, current.certificate.state == .pending, current.spec.role == node.spec.role,
                    currentCluster.signingRoot.certificate == cluster.signingRoot.certificate
                else { return false }
                var record = record
                record.occasion = current.certificate.occasion
                record.requestedBy = current.certificate.requestedBy
                record.lastRefusal = current.certificate.lastRefusal
                current.certificate = record
                try transaction.update(.node(current))
                return true
            }
            if isTaken { tell(record, node) }
        } catch {
            await failed(error, node, pending, caller)
        }
    }

    private func signed(_ pending: String, _ node: Node, _ cluster: Cluster) async throws(ApusError) -> NodeCertificateRecord {
        let authority = try await environment.authority(cluster.signingAuthority)
        let request = try CertificateRequest(pem: pending)
        let answer = try await authority.issue(
            IssueRequest(
                signingRequest: pending, nodeID: node.id, role: node.spec.role, clusterID: cluster.id, now: now, lifetime: cluster.certificateLifetime,
                root: cluster.signingRoot, externalAuthorities: cluster.spec.ca.externalCAs))
        let time = now
        var check = IssuedCertificateCheck(
            publicKey: try request.publicKey(), nodeID: node.id, role: node.spec.role, clusterID: cluster.id, roots: cluster.signingRoot.certificate,
            now: time)
        check.lifetime = cluster.certificateLifetime
        let certificate: Certificate
        let issuer: Certificate
        do throws(ApusError) {
            (certificate, issuer) = try check.check(chain: answer.certificateChain)
        } catch {
            throw ApusError(.permissionDenied, "the answer of the certificate authority is not believed: \(error.message)")
        }
        var record = NodeCertificateRecord()
        record.state = .issued
        record.serial = certificate.serialNumber
        record.publicKeyDigest = try certificate.publicKeyDigest()
        record.issuerKeyDigest = try issuer.publicKeyDigest()
        record.role = node.spec.role
        record.issuedAt = time
        record.expiresAt = certificate.notAfter
        record.certificateChain = Cluster.joined([answer.certificateChain, cluster.intermediate])
        return record
    }

    private func tell(_ record: NodeCertificateRecord, _ node: Node) {
        let kind: IdentityEvent.Kind =
            switch node.certificate.occasion {
            case "renewal": .renewed
            case "expired-renewal": .healed
            default: .issued
            }
        var event = IdentityEvent(kind, time: now)
        event.nodeID = node.id
        event.role = record.role
        event.serial = record.serial
        event.expiresAt = record.expiresAt
        event.address = node.certificate.requestedBy
        environment.onEvent(event)
    }

    private func failed(_ error: ApusError, _ node: Node, _ pending: String, _ caller: CertificateCaller) async {
        _ = await refuse(error, node: node.id, caller)
        switch error.code {
        // Another try may succeed: the request stays, and who asks for its status makes it.
        case .unavailable, .timedOut, .cancelled: return
        default: break
        }
        _ = try? await environment.store.update { transaction throws(ApusError) in
            guard var current = transaction.snapshot.nodes[node.id], current.certificate.state == .pending,
                current.certificate.signingRequest == pending
            else { return }
            current.certificate.state = .failed
            current.certificate.failure = error.message
            try transaction.update(.node(current))
        }
    }
}
