import GRPCCore
import Glibc
import NIOCore
import NIOPosix
import PluginAPI
import Synchronization

/// The state of a client's one connection, between those who call and the task that makes connections.
final class ConnectionKeeper: Sendable {
    private struct Waiter {
        var number: UInt64
        var waitsForReady: Bool
        var continuation: CheckedContinuation<ClientConnection, any Error>
    }

    private struct State {
        var connection: ClientConnection?
        /// One that is being made; it ends with the client.
        weak var connecting: ClientConnection?
        /// Set while the address cannot be reached.
        var failure: RPCError?
        var isStopping = false
        var waiters: [Waiter] = []
        var nextNumber: UInt64 = 0
        /// The task that makes connections, when it has nothing to do.
        var idler: CheckedContinuation<Void, Never>?
        var pause: ConcurrentTask<Void, Never>?
    }

    private let state = Mutex(State())

    private static let stopped = RPCError(code: .failedPrecondition, message: "the client has stopped")

    /// A connection, held for one call: the caller lets it go.
    func connection(waitForReady: Bool) async throws -> ClientConnection {
        if let connection = state.withLock({ $0.isStopping ? nil : $0.connection }), connection.hold() { return connection }
        let number = state.withLock { state in
            state.nextNumber += 1
            return state.nextNumber
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                var idler: CheckedContinuation<Void, Never>?
                let outcome = state.withLock { state -> Result<ClientConnection, any Error>? in
                    if state.isStopping { return .failure(Self.stopped) }
                    if let connection = state.connection, connection.hold() { return .success(connection) }
                    if let failure = state.failure, !waitForReady { return .failure(failure) }
                    if ConcurrentTask<Never, Never>.isCancelled { return .failure(CallStream.cancelled) }
                    state.waiters.append(Waiter(number: number, waitsForReady: waitForReady, continuation: continuation))
                    idler = state.idler
                    state.idler = nil
                    return nil
                }
                if let outcome { continuation.resume(with: outcome) }
                idler?.resume()
            }
        } onCancel: {
            let waiter = state.withLock { state -> Waiter? in
                guard let index = state.waiters.firstIndex(where: { $0.number == number }) else { return nil }
                return state.waiters.remove(at: index)
            }
            waiter?.continuation.resume(throwing: CallStream.cancelled)
        }
    }

    // MARK: for the task that makes connections

    /// Returns `true` when a call waits for a connection, `false` when there will be none any more.
    func waitForDemand() async -> Bool {
        await withCheckedContinuation { continuation in
            let isKnown = state.withLock { state in
                guard !state.isStopping, state.waiters.isEmpty else { return true }
                state.idler = continuation
                return false
            }
            if isKnown { continuation.resume() }
        }
        return state.withLock { !$0.isStopping }
    }

    /// A connection that is about to be made.
    func connecting(_ connection: ClientConnection) {
        let isStopping = state.withLock { state in
            state.connecting = connection
            return state.isStopping
        }
        if isStopping { connection.closeNow("the client has stopped") }
    }

    /// `false` when nobody wants it any more.
    func ready(_ connection: ClientConnection) -> Bool {
        let (isWanted, waiters) = state.withLock { state -> (Bool, [Waiter]) in
            guard !state.isStopping else { return (false, []) }
            state.failure = nil
            state.connecting = nil
            state.connection = connection
            defer { state.waiters = [] }
            return (true, state.waiters)
        }
        for waiter in waiters {
            if connection.hold() {
                waiter.continuation.resume(returning: connection)
            } else if waiter.waitsForReady {
                state.withLock { $0.waiters.append(waiter) }
            } else {
                waiter.continuation.resume(throwing: RPCError(code: .unavailable, message: "the connection was lost as soon as it was made"))
            }
        }
        return isWanted
    }

    /// The connection takes no more calls.
    func lost(_ connection: ClientConnection) {
        state.withLock { if $0.connection === connection { $0.connection = nil } }
    }

    func failed(_ error: RPCError) {
        let waiters = state.withLock { state -> [Waiter] in
            state.failure = error
            let refused = state.waiters.filter { !$0.waitsForReady }
            state.waiters.removeAll { !$0.waitsForReady }
            return refused
        }
        for waiter in waiters { waiter.continuation.resume(throwing: error) }
    }

    /// Waits, but not past the end.
    func pause(_ duration: Duration) async {
        let sleep = ConcurrentTask { _ = try? await ConcurrentTask<Never, Never>.sleep(for: duration) }
        let isStopping = state.withLock { state in
            state.pause = sleep
            return state.isStopping
        }
        if isStopping { sleep.cancel() }
        await sleep.value
        state.withLock { state in
            state.pause = nil
            // The next call tries anew, and waits for how that ends.
            state.failure = nil
        }
    }

    /// No further calls; those that are under way may end.
    func stop() {
        let (waiters, idler, connection, connecting, pause) = state.withLock { state in
            state.isStopping = true
            defer {
                state.waiters = []
                state.idler = nil
                state.connection = nil
            }
            return (state.waiters, state.idler, state.connection, state.connecting, state.pause)
        }
        for waiter in waiters { waiter.continuation.resume(throwing: Self.stopped) }
        pause?.cancel()
        connection?.drain()
        connecting?.closeNow("the client has stopped")
        idler?.resume()
    }

    /// The task has ended; whoever comes late is told.
    func finish() { stop() }

    /// What a connection attempt failed of.
    static func words(_ error: any Error) -> String {
        if let error = error as? NIOConnectionError {
            if let dns = error.dnsAError ?? error.dnsAAAAError, error.connectionErrors.isEmpty { return "the name is not known (\(dns))" }
            return error.connectionErrors.map { words($0.error) }.first ?? "nobody answers"
        }
        if let error = error as? IOError { return String(cString: strerror(error.errnoCode)) }
        if case .connectTimeout? = error as? ChannelError { return "nobody answers" }
        return "\(error)"
    }
}
