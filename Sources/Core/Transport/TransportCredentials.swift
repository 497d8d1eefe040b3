public import PluginAPI
import Synchronization
public import Wire

/// Whom this process trusts and who it is, for any number of transports; changes while they run.
public final class TransportCredentials: Sendable {
    /// A certificate and its key.
    public struct Identity: Sendable {
        /// PEM, the node's own certificate first, then those that lead to a root that peers know.
        public var certificateChain: String
        /// PEM, without a passphrase.
        public var privateKey: String

        public init(certificateChain: String, privateKey: String) {
            self.certificateChain = certificateChain
            self.privateKey = privateKey
        }
    }

    private struct State {
        var context: TLSContext
        var policy: (@Sendable (PeerIdentity) -> String?)?
        var connections: [UInt64: Weak] = [:]
        var nextNumber: UInt64 = 1
    }

    private struct Weak {
        weak var connection: (any CheckedConnection)?
    }

    private let state: Mutex<State>

    /// - Parameters:
    ///   - roots: Certificates in PEM that peers' certificates must chain to. Empty: no peer is believed.
    ///   - identity: What peers are shown; a server needs one.
    /// - Throws: `invalidArgument` for text that is not PEM, or a key that is not the certificate's.
    public init(roots: String, identity: Identity? = nil) throws(ApusError) {
        state = Mutex(State(context: try Self.context(roots, identity)))
    }

    private static func context(_ roots: String, _ identity: Identity?) throws(ApusError) -> TLSContext {
        try TLSContext(roots: roots, certificateChain: identity?.certificateChain, privateKey: identity?.privateKey)
    }

    /// Takes other roots and another identity. Handshakes from now on use them; live connections whose peer no longer chains to the
    /// roots are closed, all others go on.
    /// - Throws: As `init`; then nothing has changed.
    public func update(roots: String, identity: Identity?) throws(ApusError) {
        let context = try Self.context(roots, identity)
        state.withLock { $0.context = context }
        recheck()
    }

    /// Sets what decides beyond the roots: a reason to refuse a peer, or `nil` to let it in. It is asked at every handshake and on
    /// `recheck()`, on event loops: it must answer at once. Live connections are checked before this returns the loop's turn.
    public func setPolicy(_ policy: @escaping @Sendable (PeerIdentity) -> String?) {
        state.withLock { $0.policy = policy }
        recheck()
    }

    /// Checks all live connections again, and closes those that are refused now. Call it when a node was removed or changed its role.
    public func recheck() {
        for connection in state.withLock({ state in state.connections.values.compactMap(\.connection) }) { connection.recheck() }
    }

    /// How many connections live, in both directions.
    public var connectionCount: Int { state.withLock { $0.connections.count } }

    // MARK: for connections

    var context: TLSContext { state.withLock { $0.context } }

    func refusal(of identity: PeerIdentity) -> String? { state.withLock { $0.policy }?(identity) }

    func add(_ connection: any CheckedConnection) -> UInt64 {
        state.withLock { state in
            let number = state.nextNumber
            state.nextNumber += 1
            state.connections[number] = Weak(connection: connection)
            return number
        }
    }

    func remove(_ number: UInt64) { state.withLock { $0.connections[number] = nil } }
}

/// A connection whose peer can be checked again, from any thread.
protocol CheckedConnection: AnyObject, Sendable {
    func recheck()
}
