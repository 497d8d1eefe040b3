import Dispatcher
import GRPCCore
import PluginAPI
import Raft
import Wire

/// `apus.v1.Raft` on a manager. Only managers are heard, and each only in its own name.
struct RaftService: RegistrableRPCService {
    let node: RaftNode
    /// Why the caller is not heard, or `nil`.
    let refusal: @Sendable (PeerIdentity?) -> ApusError?
    /// The member that a node is, if that is known yet.
    let member: @Sendable (ID) -> MemberID?

    func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        router.registerHandler(
            forMethod: RaftMethods.send, deserializer: FieldCodedDeserializer<RaftBatch>(), serializer: FieldCodedSerializer<RaftAnswer>()
        ) { request, _ in
            let peer = try caller()
            for try await batch in request.messages {
                // A node that was demoted or removed meanwhile is not heard any more.
                if let error = refusal(peer) { throw DispatcherFailure(error).status }
                for envelope in batch.messages { node.receive(try message(envelope, from: peer)) }
            }
            return StreamingServerResponse(single: ServerResponse(message: RaftAnswer()))
        }
        router.registerHandler(
            forMethod: RaftMethods.installSnapshot, deserializer: FieldCodedDeserializer<SnapshotPart>(),
            serializer: FieldCodedSerializer<RaftAnswer>()
        ) { request, _ in
            let peer = try caller()
            let source = ChunkSource(request.messages)
            guard let envelope = try await source.begin() else {
                throw RPCError(code: .invalidArgument, message: "a snapshot begins with its message")
            }
            do {
                try await node.receiveSnapshot(message(envelope, from: peer), chunks: AsyncThrowingStream { try await source.next() })
            } catch {
                throw DispatcherFailure(error).status
            }
            return StreamingServerResponse(single: ServerResponse(message: RaftAnswer()))
        }
    }

    private func caller() throws -> PeerIdentity {
        let peer = PeerIdentity.current
        if let error = refusal(peer) { throw DispatcherFailure(error).status }
        guard let peer else { throw RPCError(code: .unauthenticated, message: "a manager must show its certificate") }
        return peer
    }

    private func message(_ envelope: RaftEnvelope, from peer: PeerIdentity) throws -> RaftMessage {
        let message: RaftMessage
        do throws(ApusError) { message = try envelope.message() } catch { throw DispatcherFailure(error).status }
        if let known = member(peer.nodeID), known != message.from {
            throw RPCError(code: .permissionDenied, message: "node \(peer.nodeID) speaks in the name of manager \(message.from)")
        }
        return message
    }
}

/// The parts of a snapshot as they come in, drawn by one reader.
private actor ChunkSource {
    private var first: SnapshotPart?
    private var rest: RPCAsyncSequence<SnapshotPart, any Error>.AsyncIterator

    init(_ parts: RPCAsyncSequence<SnapshotPart, any Error>) { rest = parts.makeAsyncIterator() }

    private func part() async throws -> SnapshotPart? {
        var iterator = rest
        defer { rest = iterator }
        return try await iterator.next(isolation: self)
    }

    /// The message of the first part; its bytes come with `next`.
    func begin() async throws -> RaftEnvelope? {
        first = try await part()
        return first?.message
    }

    func next() async throws -> SnapshotChunk? {
        if let part = first {
            first = nil
            return SnapshotChunk(bytes: part.bytes, endsPiece: part.endsPiece)
        }
        return try await part().map { SnapshotChunk(bytes: $0.bytes, endsPiece: $0.endsPiece) }
    }
}
