import Dispatcher
import GRPCCore
import PluginAPI
import Transport
import Wire

/// One call of `apus.v1.Managers`.
enum LeaderClient {
    /// Nothing of the call was sent.
    static let unsent = ApusError(.unavailable, "the manager cannot be reached")

    static func call<Request: FieldCoded, Response: FieldCoded>(
        _ method: MethodDescriptor, _ request: Request, at address: String, over connections: PeerConnections, timeout: Duration = .seconds(30)
    ) async throws(DispatcherFailure) -> Response {
        let client: PeerConnections.Client
        do throws(ApusError) { client = try connections.client(for: address) } catch { throw DispatcherFailure(error) }
        var options = CallOptions.defaults
        options.timeout = timeout
        do {
            return try await client.unary(
                request: ClientRequest(message: request), descriptor: method, serializer: FieldCodedSerializer<Request>(),
                deserializer: FieldCodedDeserializer<Response>(), options: options
            ) { try $0.message }
        } catch let error as RPCError where error.metadata[stringValues: NodeClientTransport.unsentMetadata].contains("1") {
            throw DispatcherFailure(Self.unsent)
        } catch let error as RuntimeError where error.code == .clientIsStopped {
            // It is being replaced.
            throw DispatcherFailure(Self.unsent)
        } catch {
            throw DispatcherFailure(error)
        }
    }

    /// Asks one manager after the other, and whom they name as the leader, until one answers otherwise than with `unavailable`.
    static func callLeader<Request: FieldCoded, Response: FieldCoded>(
        _ method: MethodDescriptor, _ request: Request, among addresses: [String], over connections: PeerConnections, timeout: Duration = .seconds(30)
    ) async throws(ApusError) -> Response {
        var rest = addresses
        var asked: Set<String> = []
        var last = ApusError(.unavailable, "no manager is known that could be asked")
        while let address = rest.popLast() {
            guard asked.insert(address).inserted else { continue }
            do throws(DispatcherFailure) {
                return try await call(method, request, at: address, over: connections, timeout: timeout)
            } catch {
                guard error.error.code == .unavailable || error.error.code == .timedOut else { throw error.error }
                last = error.error
                if let leader = error.leader { rest.append(leader) }
            }
        }
        throw last
    }
}

/// Registers unary methods whose errors are those of Apus.
struct UnaryMethods {
    /// Where the leader is, for callers that ought to be there.
    let leader: @Sendable () -> String?

    func add<Request: FieldCoded, Response: FieldCoded, Transport: ServerTransport>(
        _ method: MethodDescriptor, to router: inout RPCRouter<Transport>,
        _ body: @escaping @Sendable (Request, PeerIdentity?) async throws(ApusError) -> Response
    ) {
        let leader = leader
        router.registerHandler(forMethod: method, deserializer: FieldCodedDeserializer<Request>(), serializer: FieldCodedSerializer<Response>()) {
            request, _ in
            let peer = PeerIdentity.current
            for try await message in request.messages {
                do throws(ApusError) {
                    return StreamingServerResponse(single: ServerResponse(message: try await body(message, peer)))
                } catch {
                    throw DispatcherFailure(error, leader: error.code == .unavailable ? leader() : nil).status
                }
            }
            throw RPCError(code: .invalidArgument, message: "the call has no message")
        }
    }
}
