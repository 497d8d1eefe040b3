public import GRPCCore
public import PluginAPI
public import Raft
public import Wire

/// The side of a manager that others call: hands their messages to its node.
///
/// Only managers may call, each only in the name of its own member.
public struct RaftService: RegistrableRPCService {
    private let node: RaftNode
    private let refusal: @Sendable (PeerIdentity, MemberID) -> ApusError?
    private let onAddress: @Sendable (ID, MemberID, String) -> Void
    private let identity: @Sendable () -> PeerIdentity?

    /// - Parameters:
    ///   - refusal: Why a node may not speak for a member, or `nil`.
    ///   - onAddress: Called with what a node says of where it is, as a member that it may speak for.
    ///   - identity: Who calls; by default what the transport says.
    public init(
        node: RaftNode, refusal: @escaping @Sendable (PeerIdentity, MemberID) -> ApusError?,
        onAddress: @escaping @Sendable (ID, MemberID, String) -> Void = { _, _, _ in },
        identity: @escaping @Sendable () -> PeerIdentity? = { PeerIdentity.current }
    ) {
        self.node = node
        self.refusal = refusal
        self.onAddress = onAddress
        self.identity = identity
    }

    /// Serves `Send` and `InstallSnapshot`.
    public func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        router.registerHandler(
            forMethod: RaftMethods.send, deserializer: FieldCodedDeserializer<RaftBatch>(), serializer: FieldCodedSerializer<RaftSendResponse>()
        ) { request, _ in
            let caller = try self.caller()
            var known: MemberID?
            for try await batch in request.messages {
                // Again with each batch: who is removed meanwhile is heard no more.
                var speaker: MemberID?
                for message in batch.messages {
                    let message = try self.check(message, caller, &speaker)
                    if known != message.from, !batch.address.isEmpty {
                        known = message.from
                        self.onAddress(caller.nodeID, message.from, batch.address)
                    }
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
            var speaker: MemberID?
            let message = try self.check(first, caller, &speaker)
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

    private func caller() throws -> PeerIdentity {
        guard let peer = identity() else { throw RPCError(code: .unauthenticated, message: "managers show a certificate") }
        guard peer.role == .manager else { throw RPCError(code: .permissionDenied, message: "node \(peer.nodeID) is no manager of this swarm") }
        return peer
    }

    /// - Parameter speaker: For whom the caller may speak, as far as that was looked up.
    private func check(_ wire: RaftPeerMessage, _ caller: PeerIdentity, _ speaker: inout MemberID?) throws -> RaftMessage {
        let message: RaftMessage
        do throws(ApusError) {
            message = try RaftMessage(wire)
        } catch {
            throw RPCError(code: .invalidArgument, message: error.message)
        }
        if speaker != message.from, let error = refusal(caller, message.from) { throw RPCError(code: .permissionDenied, message: error.message) }
        speaker = message.from
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
