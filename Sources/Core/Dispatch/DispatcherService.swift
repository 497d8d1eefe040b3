public import GRPCCore
public import Logging
public import Orchestration
import PluginAPI
import Wire

/// `apus.v1.Dispatcher` on a manager. The caller is who its certificate says, `PeerIdentity.current`.
///
/// On a manager that does not lead every method answers UNAVAILABLE and says where the leader is.
public struct DispatcherService<Store: SwarmStore>: RegistrableRPCService {
    private let sessions: NodeSessions<Store>
    private let reports: NodeReports<Store>
    private let leader: @Sendable () -> String?

    /// - Parameter leader: where the leader is, `host:port`, as far as this manager knows.
    public init(sessions: NodeSessions<Store>, leader: @escaping @Sendable () -> String? = { nil }, logger: Logger) {
        self.sessions = sessions
        self.leader = leader
        reports = NodeReports(sessions: sessions, logger: logger)
    }

    /// Serves all methods of `DispatcherMethods`.
    public func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        unary(DispatcherMethods.heartbeat, with: &router) { (request: HeartbeatRequest, peer) in try sessions.heartbeat(request, from: peer) }
        unary(DispatcherMethods.updateTaskStatus, with: &router) { (request: UpdateTaskStatusRequest, peer) in
            try await reports.report(request, from: peer)
            return UpdateTaskStatusResponse()
        }
        unary(DispatcherMethods.updateNodeDescription, with: &router) { (request: UpdateNodeDescriptionRequest, peer) in
            try sessions.updateDescription(request, from: peer)
            return UpdateNodeDescriptionResponse()
        }
        unary(DispatcherMethods.confirmEndpoints, with: &router) { (request: ConfirmEndpointsRequest, peer) in
            try sessions.confirmEndpoints(request, from: peer)
        }
        unary(DispatcherMethods.endSession, with: &router) { (request: EndSessionRequest, peer) in
            try sessions.endSession(request, from: peer)
            return EndSessionResponse()
        }
        streaming(DispatcherMethods.session, with: &router) { (request: SessionRequest, peer, send) in
            try await sessions.serveSession(request, from: peer, send: send)
        }
        streaming(DispatcherMethods.assignments, with: &router) { (request: AssignmentsRequest, peer, send) in
            try await sessions.serveAssignments(request, from: peer, send: send)
        }
        streaming(DispatcherMethods.endpoints, with: &router) { (request: EndpointsRequest, peer, send) in
            try await sessions.serveEndpoints(request, from: peer, send: send)
        }
        streaming(DispatcherMethods.logs, with: &router) { (request: LogsRequest, peer, send) in
            try await sessions.serveLogs(request, from: peer, send: send)
        }
        streaming(DispatcherMethods.readLogs, with: &router) { (request: ReadLogsRequest, peer, send) in
            try await sessions.serveReading(request, from: peer, send: send)
        }
        router.registerHandler(
            forMethod: DispatcherMethods.publishLogs, deserializer: FieldCodedDeserializer<PublishLogsMessage>(),
            serializer: FieldCodedSerializer<PublishLogsResponse>()
        ) { request, _ in
            let publication = sessions.publication(from: PeerIdentity.current)
            do {
                for try await message in request.messages { try await publication.take(message) }
                publication.end()
                return StreamingServerResponse(single: ServerResponse(message: PublishLogsResponse()))
            } catch {
                publication.end(error)
                throw status(error)
            }
        }
    }

    private func unary<Request: FieldCoded, Response: FieldCoded, Transport: ServerTransport>(
        _ method: MethodDescriptor, with router: inout RPCRouter<Transport>,
        _ body: @escaping @Sendable (Request, PeerIdentity?) async throws -> Response
    ) {
        router.registerHandler(forMethod: method, deserializer: FieldCodedDeserializer<Request>(), serializer: FieldCodedSerializer<Response>()) {
            request, _ in
            let peer = PeerIdentity.current
            let request = try await Self.single(request)
            do {
                return StreamingServerResponse(single: ServerResponse(message: try await body(request, peer)))
            } catch {
                throw status(error)
            }
        }
    }

    private func streaming<Request: FieldCoded, Response: FieldCoded, Transport: ServerTransport>(
        _ method: MethodDescriptor, with router: inout RPCRouter<Transport>,
        _ body: @escaping @Sendable (Request, PeerIdentity?, @escaping @Sendable (Response) async throws -> Void) async throws -> Void
    ) {
        router.registerHandler(forMethod: method, deserializer: FieldCodedDeserializer<Request>(), serializer: FieldCodedSerializer<Response>()) {
            request, _ in
            let peer = PeerIdentity.current
            let request = try await Self.single(request)
            return StreamingServerResponse { writer in
                do {
                    try await body(request, peer) { try await writer.write($0) }
                } catch {
                    throw status(error)
                }
                return [:]
            }
        }
    }

    private static func single<Request: Sendable>(_ request: StreamingServerRequest<Request>) async throws -> Request {
        for try await message in request.messages { return message }
        throw RPCError(code: .invalidArgument, message: "the call has no message")
    }

    private func status(_ error: any Error) -> RPCError {
        if let error = error as? RPCError { return error }
        var failure = DispatcherFailure(error)
        if failure.error.code == .unavailable, !sessions.isLeading { failure.leader = leader() }
        return failure.status
    }
}
