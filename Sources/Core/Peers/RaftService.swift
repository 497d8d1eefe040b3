public import GRPCCore
public import PluginAPI
public import Raft
public import Wire

/// The side of a manager that others call: hands their messages to its node.
///
/// Only managers may call, each only in the name of its own member.
public struct RaftService: RegistrableRPCService {
    private let node: RaftNode
    private let memberOf: @Sendable (ID) -> MemberID?
    private let identity: @Sendable () -> PeerIdentity?

    /// - Parameters:
    ///   - memberOf: The member that belongs to a node, `nil` when it is no manager of this swarm.
    ///   - identity: Who calls; by default what the transport says.
    public init(
        node: RaftNode, memberOf: @escaping @Sendable (ID) -> MemberID?, identity: @escaping @Sendable () -> PeerIdentity? = { PeerIdentity.current }
    ) {
        self.node = node
        self.memberOf = memberOf
        self.identity = identity
    }

    public func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        router.registerHandler(
            forMethod: RaftMethods.send, deserializer: FieldCodedDeserializer<RaftBatch>(), serializer: FieldCodedSerializer<RaftSendResponse>()
        ) { request, _ in
            let caller = try self.caller()
            for try await batch in request.messages {
                for message in batch.messages {
                    let message = try self.check(message, caller)
                    if case .installSnapshot = message.content { throw RPCError(code: .invalidArgument, message: "a snapshot goes with its bytes") }
                    self.node.receive(message)
                }
            }
            return StreamingServerResponse(single: ServerResponse(message: RaftSendResponse()))
        }
        router.registerHandler(
            forMethod: RaftMethods.installSnapshot, deserializer: FieldCodedDeserializer<InstallSnapshotRequest>(),
            serializer: FieldCodedSerializer<InstallSnapshotResponse>()
        ) { request, _ in
            let caller = try self.caller()
            // One reader: the message is its first element.
            let reader = SnapshotRequestReader(request.messages)
            guard let first = try await reader.next()?.message else {
                throw RPCError(code: .invalidArgument, message: "the first message of a snapshot must tell what it is")
            }
            let message = try self.check(first, caller)
            let chunks = AsyncThrowingStream<SnapshotChunk, any Error>(unfolding: {
                guard let next = try await reader.next() else { return nil }
                return SnapshotChunk(bytes: next.chunk, endsPiece: next.endsPiece)
            })
            do throws(ApusError) {
                try await self.node.receiveSnapshot(message, chunks: chunks)
            } catch {
                throw RPCError(code: .unavailable, message: error.message)
            }
            return StreamingServerResponse(single: ServerResponse(message: InstallSnapshotResponse()))
        }
    }

    private func caller() throws -> MemberID {
        guard let peer = identity() else { throw RPCError(code: .unauthenticated, message: "managers show a certificate") }
        guard peer.role == .manager, let member = memberOf(peer.nodeID) else {
            throw RPCError(code: .permissionDenied, message: "node \(peer.nodeID) is no manager of this swarm")
        }
        return member
    }

    private func check(_ wire: RaftPeerMessage, _ caller: MemberID) throws -> RaftMessage {
        let message: RaftMessage
        do throws(ApusError) {
            message = try RaftMessage(wire)
        } catch {
            throw RPCError(code: .invalidArgument, message: error.message)
        }
        guard message.from == caller else {
            throw RPCError(code: .permissionDenied, message: "member \(caller) may not speak for member \(message.from)")
        }
        guard message.to == node.status.id else {
            throw RPCError(code: .failedPrecondition, message: "this is member \(node.status.id), not \(message.to)")
        }
        return message
    }
}

/// Reads a stream. Used from one task at a time, first the handler, then the node; never by two.
private final class SnapshotRequestReader: @unchecked Sendable {
    private var iterator: RPCAsyncSequence<InstallSnapshotRequest, any Error>.AsyncIterator

    init(_ messages: RPCAsyncSequence<InstallSnapshotRequest, any Error>) { iterator = messages.makeAsyncIterator() }

    func next() async throws -> InstallSnapshotRequest? { try await iterator.next() }
}
