public import GRPCCore
import PluginAPI
public import Raft
public import Wire

/// The calls to another manager. Every `GRPCClient` is one.
public protocol RaftPeer: Sendable {
    /// Sends batches until `batches` ends, or the stream breaks.
    /// - Parameters:
    ///   - batches: Writes batches with what it is given, until it is told to end.
    ///   - onEnd: Called when the other side has ended the stream: `batches` must return then.
    func sendRaft(
        _ batches: @escaping @Sendable (_ write: (RaftBatch) async throws -> Void) async throws -> Void, onEnd: @escaping @Sendable () -> Void
    ) async throws
    /// Brings a snapshot; returns when the other side has it.
    func installSnapshot(_ message: RaftPeerMessage, _ chunks: SnapshotChunks) async throws
}

/// Finds the way to a manager.
public protocol PeerConnector: Sendable {
    /// A client whose connections run, such as a `GRPCClient`; whoever makes it ends it.
    /// - Throws: When the member's address is not known.
    func client(for member: MemberID) async throws -> any RaftPeer
}

enum RaftMethods {
    static let service = ServiceDescriptor(package: "apus.v1", service: "Raft")
    static let send = MethodDescriptor(service: service, method: "Send")
    static let installSnapshot = MethodDescriptor(service: service, method: "InstallSnapshot")
}

extension GRPCClient: RaftPeer {
    /// One stream of `Send`; it goes on until `batches` returns or the other side ends it.
    public func sendRaft(
        _ batches: @escaping @Sendable (_ write: (RaftBatch) async throws -> Void) async throws -> Void, onEnd: @escaping @Sendable () -> Void
    ) async throws {
        let request = StreamingClientRequest(of: RaftBatch.self) { writer in try await batches { try await writer.write($0) } }
        try await bidirectionalStreaming(
            request: request, descriptor: RaftMethods.send, serializer: FieldCodedSerializer<RaftBatch>(),
            deserializer: FieldCodedDeserializer<RaftSendResponse>(), options: .defaults
        ) { response in
            // The other side answers only when it ends the stream.
            defer { onEnd() }
            for try await _ in response.messages {}
        }
    }

    /// One stream of `InstallSnapshot`; returns when the other side has made the snapshot durable.
    public func installSnapshot(_ message: RaftPeerMessage, _ chunks: SnapshotChunks) async throws {
        let request = StreamingClientRequest(of: InstallSnapshotRequest.self) { writer in
            var first = InstallSnapshotRequest()
            first.message = message
            try await writer.write(first)
            for try await chunk in chunks {
                var next = InstallSnapshotRequest()
                next.chunk = chunk.bytes
                next.endsPiece = chunk.endsPiece
                try await writer.write(next)
            }
        }
        try await clientStreaming(
            request: request, descriptor: RaftMethods.installSnapshot, serializer: FieldCodedSerializer<InstallSnapshotRequest>(),
            deserializer: FieldCodedDeserializer<InstallSnapshotResponse>(), options: .defaults
        ) { response in _ = try response.message }
    }
}
