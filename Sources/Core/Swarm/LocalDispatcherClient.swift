import Dispatcher
import PluginAPI
import Store
import Wire

/// The dispatcher of the same process: a manager's own node needs no connection to itself.
struct LocalDispatcherClient: DispatcherClient {
    let sessions: NodeSessions<ObjectStore>
    let reports: NodeReports<ObjectStore>
    let identity: @Sendable () -> PeerIdentity
    /// Where the leader is, when it is not here.
    let leader: @Sendable () -> String?

    func session(
        _ request: SessionRequest, receive: @escaping @Sendable (SessionMessage) async throws -> Void
    ) async throws(DispatcherFailure) {
        do { try await sessions.serveSession(request, from: identity(), send: receive) } catch { throw failure(error) }
    }

    func assignments(
        _ request: AssignmentsRequest, receive: @escaping @Sendable (AssignmentsMessage) async throws -> Void
    ) async throws(DispatcherFailure) {
        do { try await sessions.serveAssignments(request, from: identity(), send: receive) } catch { throw failure(error) }
    }

    func endpoints(
        _ request: EndpointsRequest, receive: @escaping @Sendable (EndpointsMessage) async throws -> Void
    ) async throws(DispatcherFailure) {
        do { try await sessions.serveEndpoints(request, from: identity(), send: receive) } catch { throw failure(error) }
    }

    func logs(_ request: LogsRequest, receive: @escaping @Sendable (LogSubscription) async throws -> Void) async throws(DispatcherFailure) {
        do { try await sessions.serveLogs(request, from: identity(), send: receive) } catch { throw failure(error) }
    }

    func publishLogs(
        _ produce: @escaping @Sendable (_ send: @escaping @Sendable (PublishLogsMessage) async throws -> Void) async throws -> Void
    ) async throws(DispatcherFailure) {
        let publication = sessions.publication(from: identity())
        do {
            try await produce { try await publication.take($0) }
            publication.end()
        } catch {
            publication.end(error)
            throw failure(error)
        }
    }

    func confirmEndpoints(_ request: ConfirmEndpointsRequest, timeout: Duration) async throws(DispatcherFailure) {
        do throws(ApusError) { _ = try sessions.confirmEndpoints(request, from: identity()) } catch { throw failure(error) }
    }

    func heartbeat(_ request: HeartbeatRequest, timeout: Duration) async throws(DispatcherFailure) -> HeartbeatResponse {
        do throws(ApusError) { return try sessions.heartbeat(request, from: identity()) } catch { throw failure(error) }
    }

    func updateTaskStatus(_ request: UpdateTaskStatusRequest, timeout: Duration) async throws(DispatcherFailure) {
        do throws(ApusError) { try await reports.report(request, from: identity()) } catch { throw failure(error) }
    }

    func updateDescription(_ request: UpdateNodeDescriptionRequest, timeout: Duration) async throws(DispatcherFailure) {
        do throws(ApusError) { try sessions.updateDescription(request, from: identity()) } catch { throw failure(error) }
    }

    func endSession(_ request: EndSessionRequest, timeout: Duration) async throws(DispatcherFailure) {
        do throws(ApusError) { try sessions.endSession(request, from: identity()) } catch { throw failure(error) }
    }

    private func failure(_ error: any Error) -> DispatcherFailure {
        var failure = DispatcherFailure(error)
        if failure.error.code == .unavailable, !sessions.isLeading { failure.leader = leader() }
        return failure
    }
}
