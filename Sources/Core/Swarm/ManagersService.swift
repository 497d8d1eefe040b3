import Dispatcher
import GRPCCore
import Logging
import PluginAPI
import Raft
import Security
import Store
import Wire

/// `apus.v1.Managers` on a manager: who joins and leaves the group, and calls that followers hand on.
struct ManagersService: RegistrableRPCService {
    let store: ObjectStore
    let directory: MemberDirectory
    /// Why the caller is not heard, or `nil`.
    let refusal: @Sendable (PeerIdentity?) -> ApusError?
    let leader: @Sendable () -> String?
    /// Makes sure that a node is at an address.
    let dialBack: @Sendable (ID, NodeAddress) async throws(ApusError) -> Void
    let certificates: CertificateForwarding
    let reportPlugin: @Sendable (_ name: String) async -> PluginReport
    let answer: @Sendable (ForwardRequest) async -> ForwardResponse
    let logger: Logger

    func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        let methods = UnaryMethods(leader: leader)
        methods.add(ManagersMethods.join, to: &router) { (request: JoinGroupRequest, peer) throws(ApusError) in
            try await join(request, try manager(peer))
        }
        methods.add(ManagersMethods.complete, to: &router) { (request: CompleteJoinRequest, peer) throws(ApusError) in
            let member = try check(request.memberID, try manager(peer))
            try await store.raft.promote(member)
            logger.info("manager \(member) has a say now")
            return ManagersAnswer()
        }
        methods.add(ManagersMethods.leave, to: &router) { (request: LeaveGroupRequest, peer) throws(ApusError) in
            try await leave(request, try manager(peer))
            return ManagersAnswer()
        }
        methods.add(ManagersMethods.record, to: &router) { (request: RecordCertificateRequest, peer) throws(ApusError) in
            let peer = try manager(peer)
            let address = store.read().nodes[peer.nodeID]?.manager?.address ?? ""
            try await certificates.service.record(chain: request.certificateChain, of: peer.nodeID, address: address)
            return ManagersAnswer()
        }
        methods.add(ManagersMethods.forward, to: &router) { (request: ForwardRequest, peer) throws(ApusError) in
            if let error = refusal(peer) { throw error }
            guard store.isSettledLeader else {
                var response = ForwardResponse()
                response.isRefused = true
                return response
            }
            return await answer(request)
        }
        methods.add(ManagersMethods.attach, to: &router) { (request: AttachNetworkRequest, peer) throws(ApusError) in
            var response = AttachNetworkResponse()
            response.task = try await AttachmentService(store: store).attach(request, of: try node(peer))
            return response
        }
        methods.add(ManagersMethods.detach, to: &router) { (request: DetachNetworkRequest, peer) throws(ApusError) in
            try await AttachmentService(store: store).detach(request.taskID, of: try node(peer))
            return ManagersAnswer()
        }
        methods.add(ManagersMethods.certificate, to: &router) { (request: ForwardCertificateRequest, peer) throws(ApusError) in
            _ = try manager(peer)
            return try await certificates.answer(request)
        }
        methods.add(ManagersMethods.plugin, to: &router) { (request: PluginInquiry, peer) throws(ApusError) in
            // The leader asks, and a manager that does not lead answers.
            if let error = refusal(peer) { throw error }
            return await reportPlugin(request.name)
        }
    }

    /// The manager that calls; this manager must lead.
    private func manager(_ peer: PeerIdentity?) throws(ApusError) -> PeerIdentity {
        if let error = refusal(peer) { throw error }
        guard let peer else { throw ApusError(.unauthenticated, "a manager must show its certificate") }
        guard store.isSettledLeader else { throw ApusError(.unavailable, "this manager is not the leader: turn to the leader") }
        return peer
    }

    /// The node that calls, of either role, for itself; this manager must lead.
    private func node(_ peer: PeerIdentity?) throws(ApusError) -> ID {
        guard let peer else { throw ApusError(.unauthenticated, "a node must show its certificate") }
        guard store.isLeader else { throw ApusError(.unavailable, "this manager is not the leader: turn to the leader") }
        let snapshot = store.read()
        guard snapshot.cluster?.id == peer.clusterID else {
            throw ApusError(.permissionDenied, "node \(peer.nodeID) has a certificate of another swarm, \(peer.clusterID)")
        }
        guard snapshot.nodes[peer.nodeID] != nil else {
            throw ApusError(.permissionDenied, "node \(peer.nodeID) is not part of this swarm, or was removed from it")
        }
        return peer.nodeID
    }

    /// The caller's own member, and no other.
    private func check(_ number: UInt64, _ peer: PeerIdentity) throws(ApusError) -> MemberID {
        guard number != 0, store.read().nodes[peer.nodeID]?.manager?.raftID == number else {
            throw ApusError(.permissionDenied, "node \(peer.nodeID) is not manager \(MemberID(number))")
        }
        return MemberID(number)
    }

    private func join(_ request: JoinGroupRequest, _ peer: PeerIdentity) async throws(ApusError) -> JoinGroupResponse {
        let endpoint = try NodeAddress(request.address)
        guard request.memberID != 0 else { throw ApusError(.invalidArgument, "a manager needs a number") }
        // A member that cannot be reached could cost the group its majority: it is spoken to before it counts.
        let contact = MemberContact(node: peer.nodeID, address: endpoint.description)
        if store.raft.membership.contacts[MemberID(request.memberID)] != contact { try await dialBack(peer.nodeID, endpoint) }
        let old = try await store.update { transaction throws(ApusError) -> UInt64 in
            guard var node = transaction.snapshot.nodes[peer.nodeID] else {
                throw ApusError(.permissionDenied, "node \(peer.nodeID) is not part of this swarm, or was removed from it")
            }
            guard node.spec.role == .manager else { throw ApusError(.permissionDenied, "node \(peer.nodeID) is to be a worker") }
            guard !transaction.snapshot.nodes.values.contains(where: { $0.id != node.id && $0.manager?.raftID == request.memberID }) else {
                throw ApusError(.conflict, "another manager has the number \(MemberID(request.memberID))")
            }
            let old = node.manager?.raftID ?? 0
            var manager = node.manager ?? ManagerStatus()
            manager.raftID = request.memberID
            manager.address = endpoint.description
            guard node.manager != manager else { return old }
            node.manager = manager
            try transaction.update(.node(node))
            return old
        }
        // Where it is must be known before it is spoken to.
        var member = GroupMember()
        member.memberID = request.memberID
        member.nodeID = peer.nodeID
        member.address = endpoint.description
        directory.add([member])
        // A manager that lost its folder comes back with another number.
        if old != 0, old != request.memberID { try await store.raft.remove(MemberID(old)) }
        try await store.raft.addLearner(MemberID(request.memberID), at: contact)
        logger.info("manager \(MemberID(request.memberID)) at \(endpoint) joins", metadata: ["node": "\(peer.nodeID)"])
        var response = JoinGroupResponse()
        response.members = directory.all
        return response
    }

    private func leave(_ request: LeaveGroupRequest, _ peer: PeerIdentity) async throws(ApusError) {
        let member = try check(request.memberID, peer)
        try await store.raft.remove(member)
        try await store.update { transaction throws(ApusError) in
            guard var node = transaction.snapshot.nodes[peer.nodeID] else { return }
            node.manager = nil
            node.spec.role = .worker
            if request.isLeaving {
                node.status.state = .down
                node.status.message = "the node has left the swarm"
            }
            try transaction.update(.node(node))
        }
        logger.info("manager \(member) has left", metadata: ["node": "\(peer.nodeID)"])
    }
}
