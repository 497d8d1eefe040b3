import Dispatcher
import GRPCCore
import PluginAPI
import Transport
import Wire

/// A manager of which a node never asks the table of endpoints, everything else being as it is: what that table costs grows with the square of the
/// number of nodes, each of which is told of all others, and hides what the rest costs.
struct EndpointlessClient: DispatcherClient {
    let client: GRPCDispatcherClient<NodeClientTransport>

    func session(_ request: SessionRequest, receive: @escaping @Sendable (SessionMessage) async throws -> Void) async throws(DispatcherFailure) {
        try await client.session(request, receive: receive)
    }

    func assignments(
        _ request: AssignmentsRequest, receive: @escaping @Sendable (AssignmentsMessage) async throws -> Void
    ) async throws(DispatcherFailure) {
        try await client.assignments(request, receive: receive)
    }

    func endpoints(
        _ request: EndpointsRequest, receive: @escaping @Sendable (EndpointsMessage) async throws -> Void
    ) async throws(DispatcherFailure) {
        let (never, continuation) = AsyncStream.makeStream(of: Never.self)
        for await _ in never {}
        withExtendedLifetime(continuation) {}
        throw DispatcherFailure(ApusError(.cancelled, "the session is over"))
    }

    func logs(_ request: LogsRequest, receive: @escaping @Sendable (LogSubscription) async throws -> Void) async throws(DispatcherFailure) {
        try await client.logs(request, receive: receive)
    }

    func publishLogs(
        _ produce: @escaping @Sendable (_ send: @escaping @Sendable (PublishLogsMessage) async throws -> Void) async throws -> Void
    ) async throws(DispatcherFailure) {
        try await client.publishLogs(produce)
    }

    func heartbeat(_ request: HeartbeatRequest, timeout: Duration) async throws(DispatcherFailure) -> HeartbeatResponse {
        try await client.heartbeat(request, timeout: timeout)
    }

    func confirmEndpoints(_ request: ConfirmEndpointsRequest, timeout: Duration) async throws(DispatcherFailure) {
        try await client.confirmEndpoints(request, timeout: timeout)
    }

    func updateTaskStatus(_ request: UpdateTaskStatusRequest, timeout: Duration) async throws(DispatcherFailure) {
        try await client.updateTaskStatus(request, timeout: timeout)
    }

    func updateDescription(_ request: UpdateNodeDescriptionRequest, timeout: Duration) async throws(DispatcherFailure) {
        try await client.updateDescription(request, timeout: timeout)
    }

    func endSession(_ request: EndSessionRequest, timeout: Duration) async throws(DispatcherFailure) {
        try await client.endSession(request, timeout: timeout)
    }
}
