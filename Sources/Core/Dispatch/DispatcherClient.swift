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
    func heartbeat(_ request: HeartbeatRequest, timeout: Duration) async throws(DispatcherFailure) -> HeartbeatResponse
    func confirmEndpoints(_ request: ConfirmEndpointsRequest, timeout: Duration) async throws(DispatcherFailure)
    func updateTaskStatus(_ request: UpdateTaskStatusRequest, timeout: Duration) async throws(DispatcherFailure)
    func updateDescription(_ request: UpdateNodeDescriptionRequest, timeout: Duration) async throws(DispatcherFailure)
    func endSession(_ request: EndSessionRequest, timeout: Duration) async throws(DispatcherFailure)
}

/// A `DispatcherClient` over gRPC. Whoever made the client runs its connections.
public struct GRPCDispatcherClient<Transport: ClientTransport>: DispatcherClient {
    private let client: GRPCClient<Transport>

    public init(_ client: GRPCClient<Transport>) { self.client = client }

    public func session(
        _ request: SessionRequest, receive: @escaping @Sendable (SessionMessage) async throws -> Void
    ) async throws(DispatcherFailure) {
        try await streaming(DispatcherMethods.session, request, receive)
    }

    public func assignments(
        _ request: AssignmentsRequest, receive: @escaping @Sendable (AssignmentsMessage) async throws -> Void
    ) async throws(DispatcherFailure) {
        try await streaming(DispatcherMethods.assignments, request, receive)
    }

    public func endpoints(
        _ request: EndpointsRequest, receive: @escaping @Sendable (EndpointsMessage) async throws -> Void
    ) async throws(DispatcherFailure) {
        try await streaming(DispatcherMethods.endpoints, request, receive)
    }

    public func logs(
        _ request: LogsRequest, receive: @escaping @Sendable (LogSubscription) async throws -> Void
    ) async throws(DispatcherFailure) {
        try await streaming(DispatcherMethods.logs, request, receive)
    }

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

    public func confirmEndpoints(_ request: ConfirmEndpointsRequest, timeout: Duration) async throws(DispatcherFailure) {
        let _: ConfirmEndpointsResponse = try await unary(DispatcherMethods.confirmEndpoints, request, timeout)
    }

    public func heartbeat(_ request: HeartbeatRequest, timeout: Duration) async throws(DispatcherFailure) -> HeartbeatResponse {
        try await unary(DispatcherMethods.heartbeat, request, timeout)
    }

    public func updateTaskStatus(_ request: UpdateTaskStatusRequest, timeout: Duration) async throws(DispatcherFailure) {
        let _: UpdateTaskStatusResponse = try await unary(DispatcherMethods.updateTaskStatus, request, timeout)
    }

    public func updateDescription(_ request: UpdateNodeDescriptionRequest, timeout: Duration) async throws(DispatcherFailure) {
        let _: UpdateNodeDescriptionResponse = try await unary(DispatcherMethods.updateNodeDescription, request, timeout)
    }

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
