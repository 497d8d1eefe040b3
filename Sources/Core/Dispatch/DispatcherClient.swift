public import GRPCCore
import PluginAPI
public import Wire

/// The methods of `apus.v1.Dispatcher` on one manager, as a node calls them.
public protocol DispatcherClient: Sendable {
    /// Returns when the stream ends; what `receive` throws ends it.
    func session(_ request: SessionRequest, receive: @escaping @Sendable (SessionMessage) async throws -> Void) async throws(DispatcherFailure)
    /// Returns when the stream ends; what `receive` throws ends it.
    func assignments(
        _ request: AssignmentsRequest, receive: @escaping @Sendable (AssignmentsMessage) async throws -> Void
    ) async throws(DispatcherFailure)
    /// Returns when the stream ends; what `receive` throws ends it.
    func endpoints(
        _ request: EndpointsRequest, receive: @escaping @Sendable (EndpointsMessage) async throws -> Void
    ) async throws(DispatcherFailure)
    /// Returns when the stream ends; what `receive` throws ends it.
    func logs(_ request: LogsRequest, receive: @escaping @Sendable (LogSubscription) async throws -> Void) async throws(DispatcherFailure)
    /// Sends what `produce` has, and returns when it was taken.
    func publishLogs(
        _ produce: @escaping @Sendable (_ send: @escaping @Sendable (PublishLogsMessage) async throws -> Void) async throws -> Void
    ) async throws(DispatcherFailure)
    /// A sign of life; the answer says when the next is due.
    func heartbeat(_ request: HeartbeatRequest, timeout: Duration) async throws(DispatcherFailure) -> HeartbeatResponse
    /// Says that a table is in force on the node.
    func confirmEndpoints(_ request: ConfirmEndpointsRequest, timeout: Duration) async throws(DispatcherFailure)
    /// Returns when the statuses are committed.
    func updateTaskStatus(_ request: UpdateTaskStatusRequest, timeout: Duration) async throws(DispatcherFailure)
    /// Says what the node is and has now.
    func updateDescription(_ request: UpdateNodeDescriptionRequest, timeout: Duration) async throws(DispatcherFailure)
    /// Says goodbye.
    func endSession(_ request: EndSessionRequest, timeout: Duration) async throws(DispatcherFailure)
}

/// A `DispatcherClient` over gRPC. Whoever made the client runs its connections.
public struct GRPCDispatcherClient<Transport: ClientTransport>: DispatcherClient {
    private let client: GRPCClient<Transport>

    /// Calls over this client, which must run.
    public init(_ client: GRPCClient<Transport>) { self.client = client }

    /// `Session`, a stream without a deadline.
    public func session(
        _ request: SessionRequest, receive: @escaping @Sendable (SessionMessage) async throws -> Void
    ) async throws(DispatcherFailure) {
        try await streaming(DispatcherMethods.session, request, receive)
    }

    /// `Assignments`, a stream without a deadline.
    public func assignments(
        _ request: AssignmentsRequest, receive: @escaping @Sendable (AssignmentsMessage) async throws -> Void
    ) async throws(DispatcherFailure) {
        try await streaming(DispatcherMethods.assignments, request, receive)
    }

    /// `Endpoints`, a stream without a deadline.
    public func endpoints(
        _ request: EndpointsRequest, receive: @escaping @Sendable (EndpointsMessage) async throws -> Void
    ) async throws(DispatcherFailure) {
        try await streaming(DispatcherMethods.endpoints, request, receive)
    }

    /// `Logs`, a stream without a deadline.
    public func logs(
        _ request: LogsRequest, receive: @escaping @Sendable (LogSubscription) async throws -> Void
    ) async throws(DispatcherFailure) {
        try await streaming(DispatcherMethods.logs, request, receive)
    }

    /// `PublishLogs`, a stream from here to the manager.
    public func publishLogs(
        _ produce: @escaping @Sendable (_ send: @escaping @Sendable (PublishLogsMessage) async throws -> Void) async throws -> Void
    ) async throws(DispatcherFailure) {
        let request = StreamingClientRequest(of: PublishLogsMessage.self) { writer in try await produce { try await writer.write($0) } }
        do {
            try await client.clientStreaming(
                request: request, descriptor: DispatcherMethods.publishLogs, serializer: FieldCodedSerializer<PublishLogsMessage>(),
                deserializer: FieldCodedDeserializer<PublishLogsResponse>(), options: .defaults
            ) { _ = try $0.message }
        } catch {
            throw DispatcherFailure(error)
        }
    }

    /// Reads the log of a task on a node through the leader; what `receive` throws ends it.
    public func readLogs(_ request: ReadLogsRequest, receive: @escaping @Sendable (LogChunk) async throws -> Void) async throws(DispatcherFailure) {
        try await streaming(DispatcherMethods.readLogs, request, receive)
    }

    /// `ConfirmEndpoints`, one call with a deadline.
    public func confirmEndpoints(_ request: ConfirmEndpointsRequest, timeout: Duration) async throws(DispatcherFailure) {
        let _: ConfirmEndpointsResponse = try await unary(DispatcherMethods.confirmEndpoints, request, timeout)
    }

    /// `Heartbeat`, one call with a deadline.
    public func heartbeat(_ request: HeartbeatRequest, timeout: Duration) async throws(DispatcherFailure) -> HeartbeatResponse {
        try await unary(DispatcherMethods.heartbeat, request, timeout)
    }

    /// `UpdateTaskStatus`, one call with a deadline.
    public func updateTaskStatus(_ request: UpdateTaskStatusRequest, timeout: Duration) async throws(DispatcherFailure) {
        let _: UpdateTaskStatusResponse = try await unary(DispatcherMethods.updateTaskStatus, request, timeout)
    }

    /// `UpdateNodeDescription`, one call with a deadline.
    public func updateDescription(_ request: UpdateNodeDescriptionRequest, timeout: Duration) async throws(DispatcherFailure) {
        let _: UpdateNodeDescriptionResponse = try await unary(DispatcherMethods.updateNodeDescription, request, timeout)
    }

    /// `EndSession`, one call with a deadline.
    public func endSession(_ request: EndSessionRequest, timeout: Duration) async throws(DispatcherFailure) {
        let _: EndSessionResponse = try await unary(DispatcherMethods.endSession, request, timeout)
    }

    private func unary<Request: FieldCoded, Response: FieldCoded>(
        _ method: MethodDescriptor, _ request: Request, _ timeout: Duration
    ) async throws(DispatcherFailure) -> Response {
        var options = CallOptions.defaults
        options.timeout = timeout
        do {
            return try await client.unary(
                request: ClientRequest(message: request), descriptor: method, serializer: FieldCodedSerializer<Request>(),
                deserializer: FieldCodedDeserializer<Response>(), options: options
            ) { try $0.message }
        } catch {
            throw DispatcherFailure(error)
        }
    }

    private func streaming<Request: FieldCoded, Response: FieldCoded>(
        _ method: MethodDescriptor, _ request: Request, _ receive: @escaping @Sendable (Response) async throws -> Void
    ) async throws(DispatcherFailure) {
        do {
            try await client.serverStreaming(
                request: ClientRequest(message: request), descriptor: method, serializer: FieldCodedSerializer<Request>(),
                deserializer: FieldCodedDeserializer<Response>(), options: .defaults
            ) { response in
                for try await message in response.messages { try await receive(message) }
            }
        } catch {
            throw DispatcherFailure(error)
        }
    }
}
