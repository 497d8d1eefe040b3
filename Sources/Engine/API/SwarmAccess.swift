import Coding
import PluginAPI
import Raft
import Store
import Swarm
import Wire

extension SwarmNode {
    /// The swarm's objects, at least as new as everything that was acknowledged anywhere before this request; with `stale=1` as this manager knows them.
    /// - Throws: `unavailable` on a worker, and without a majority of the managers.
    func snapshot(for request: APIRequest) async throws(ApusError) -> StoreSnapshot {
        let manager = try manager()
        guard !request.flag("stale") else { return manager.store.read() }
        // An election takes a second or two: whoever reads meanwhile waits a little.
        let due = ContinuousClock.now + .seconds(3)
        while true {
            do throws(ApusError) {
                return try await manager.store.readLatest()
            } catch {
                guard error.code == .unavailable || error.code == .timedOut else { throw error }
                guard ContinuousClock.now < due else { throw Self.leaderless(error) }
            }
            do { try await ConcurrentTask.sleep(for: .milliseconds(50)) } catch { throw ApusError(.cancelled, "the client went away") }
        }
    }

    /// What a call that was handed on is told by a manager that leads no more: nothing was done.
    static let notLeading = ApusError(.unavailable, "this manager is not the leader any more: try again")

    private static func leaderless(_ error: ApusError) -> ApusError {
        ApusError(
            .unavailable,
            "The swarm does not have a leader. It's possible that too few managers are online. "
                + "Make sure more than half of the managers are online. (\(error.message); ?stale=1 shows what this manager knows)")
    }

    /// Answers on the leader: here, or by handing the call on.
    ///
    /// While the managers have no leader it waits a little: an election takes a second or two.
    func onLeader(
        _ request: APIRequest, _ body: (ManagerPart) async throws(ApusError) -> APIResponse
    ) async throws(ApusError) -> APIResponse {
        let due = ContinuousClock.now + .seconds(3)
        while true {
            let manager = try manager()
            if manager.store.raft.nextIndex != nil { return try await body(manager) }
            if !manager.store.isLeader, manager.leaderAddress != nil {
                guard !request.isForwarded else { throw Self.notLeading }
                if let response = try await manager.forward(request.forwarded) { return APIResponse(response) }
            }
            guard ContinuousClock.now < due else { throw Self.leaderless(ApusError(.unavailable, "no leader was elected in time")) }
            do { try await ConcurrentTask.sleep(for: .milliseconds(20)) } catch { throw ApusError(.cancelled, "the client went away") }
        }
    }
}

extension APIRequest {
    private static let forwardedHeader = "x-apus-forwarded"

    /// Whether another manager has sent it here.
    var isForwarded: Bool { headers[Self.forwardedHeader] != nil }

    /// As it goes to the leader.
    var forwarded: ForwardRequest {
        var request = ForwardRequest()
        request.method = method
        request.target = target
        for name in ["content-type", "x-registry-auth", "user-agent"] {
            if let value = headers[name] { request.headers[name] = value }
        }
        request.body = body
        return request
    }

    /// As it came from another manager.
    init(_ request: ForwardRequest) throws(ApusError) {
        var headers = request.headers
        headers[Self.forwardedHeader] = "1"
        self = try APIRequest.parse(method: request.method, target: request.target, headers: headers)
        body = request.body
    }
}

extension APIResponse {
    init(_ response: ForwardResponse) {
        self.init(
            status: Int(min(response.status, 599)), contentType: response.contentType.isEmpty ? nil : response.contentType,
            body: response.body.isEmpty ? .none : .bytes(response.body))
    }
}

/// Answers calls that followers hand on to this leader. The routes come after the swarm, which they need.
final class ForwardedCalls: Sendable {
    private let router: Latch<Router>

    init(_ router: Latch<Router>) { self.router = router }

    func answer(_ request: ForwardRequest) async -> ForwardResponse {
        let answer: APIResponse
        do throws(ApusError) {
            guard let router = router.value else { throw ApusError(.unavailable, "the engine is only starting: try again") }
            var call = try APIRequest(request)
            let (route, parameters) = try router.find(call.method, call.path)
            guard !route.streamsBody else { throw ApusError(.unimplemented, "this call cannot be handed on") }
            call.parameters = parameters
            answer = try await route.handler(call)
        } catch {
            if error == SwarmNode.notLeading {
                var response = ForwardResponse()
                response.isRefused = true
                return response
            }
            answer = .error(error)
        }
        var response = ForwardResponse()
        response.status = UInt64(answer.status)
        response.contentType = answer.contentType ?? ""
        switch answer.body {
        case .none: break
        case .bytes(let bytes): response.body = bytes
        case .stream:
            response.status = 501
            response.contentType = "application/json"
            response.body = JSONValue.object(JSONObject(["message": .string("a stream cannot be handed on")])).bytes()
        }
        return response
    }
}
