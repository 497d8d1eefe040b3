import GRPCCore
import Logging
import PluginAPI
import Security
import Transport

/// Connections for the certificate methods: to one manager after the other, until one answers.
struct ManagerConnector: CertificateConnector {
    let managers: @Sendable () -> [String]
    let logger: Logger

    func withClient<Result: Sendable>(
        _ connection: CertificateConnection, _ body: @Sendable (any CertificateClient) async throws(ApusError) -> Result
    ) async throws(ApusError) -> Result {
        var last = ApusError(.unavailable, "no manager is known: name one with its address")
        for address in managers().shuffled() {
            do throws(ApusError) {
                return try await use(try transport(connection, try NodeAddress(address)), body)
            } catch {
                guard error.code == .unavailable || error.code == .timedOut else { throw error }
                last = error.during("manager \(address)")
            }
        }
        throw last
    }

    private func transport(_ connection: CertificateConnection, _ endpoint: NodeAddress) throws(ApusError) -> NodeClientTransport {
        let security: NodeClientTransport.Security
        switch connection {
        case .unverified: security = .tlsUnverified
        case .verified(let roots): security = .tls(try TransportCredentials(roots: roots))
        case .authenticated(let certificate): security = .tls(try TransportCredentials(certificate))
        }
        do {
            return try NodeClientTransport(host: endpoint.host, port: endpoint.port, security: security, logger: logger)
        } catch {
            throw ApusError(.failed, "no connection to \(endpoint) can be set up: \(error)")
        }
    }

    private func use<Result: Sendable>(
        _ transport: NodeClientTransport, _ body: @Sendable (any CertificateClient) async throws(ApusError) -> Result
    ) async throws(ApusError) -> Result {
        let client = GRPCClient(transport: transport)
        // It ends with the last call; nobody waits for it longer than that.
        let connection = ConcurrentTask { try await client.runConnections() }
        let result: Swift.Result<Result, ApusError>
        do throws(ApusError) {
            result = .success(try await body(GRPCCertificateClient(client)))
        } catch {
            result = .failure(error)
        }
        client.beginGracefulShutdown()
        connection.cancel()
        _ = await connection.result
        return try result.get()
    }
}

extension TransportCredentials {
    convenience init(_ certificate: NodeCertificate) throws(ApusError) {
        try self.init(roots: certificate.root, identity: Identity(certificate))
    }

    func update(_ certificate: NodeCertificate) throws(ApusError) { try update(roots: certificate.root, identity: Identity(certificate)) }
}

extension TransportCredentials.Identity {
    init(_ certificate: NodeCertificate) { self.init(certificateChain: certificate.certificateChain, privateKey: certificate.key) }
}
