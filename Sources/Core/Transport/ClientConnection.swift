import CNGHTTP2
import GRPCCore
import Logging
import NIOCore
import Synchronization

/// A connection that this end opened.
final class ClientConnection: Connection, @unchecked Sendable {
    private struct Progress {
        /// `nil` until it is known whether the connection is of use.
        var outcome: Result<Void, RPCError>?
        var waiter: CheckedContinuation<Void, any Error>?
        var isOver = false
        var overWaiter: CheckedContinuation<Void, Never>?
        /// Calls that hold the connection.
        var calls = 0
        /// No further calls: this end stops, or the peer does.
        var isDraining = false
    }

    private let progress = Mutex(Progress())
    private let authority: String
    /// Told once, when the connection takes no more calls.
    private let onDrain: @Sendable (ClientConnection) -> Void
    /// Told when it does not because another one is to take its place, while it still stands.
    private let onRetire: @Sendable () -> Void

    init(
        configuration: TransportConfiguration, security: ConnectionSecurity, authority: String, eventLoop: any EventLoop, logger: Logger,
        onDrain: @escaping @Sendable (ClientConnection) -> Void, onRetire: @escaping @Sendable () -> Void = {}
    ) {
        self.onRetire = onRetire
        self.authority = authority
        self.onDrain = onDrain
        super.init(configuration: configuration, security: security, eventLoop: eventLoop, logger: logger)
    }

    // MARK: life

    /// Returns when the peer has sent its settings: with TLS 1.3 a server refuses a client only after the client believes to be through.
    func waitUntilReady() async throws {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                let outcome = progress.withLock { progress -> Result<Void, RPCError>? in
                    if progress.outcome == nil { progress.waiter = continuation }
                    return progress.outcome
                }
                if let outcome { continuation.resume(with: outcome) }
            }
        } onCancel: {
            closeNow("connecting was cancelled")
        }
    }

    /// Returns when the connection is closed.
    func waitUntilOver() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = progress.withLock { progress in
                    if !progress.isOver { progress.overWaiter = continuation }
                    return progress.isOver
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            closeNow("the client has stopped")
        }
    }

    private func settle(_ outcome: Result<Void, RPCError>) {
        let waiter = progress.withLock { progress -> CheckedContinuation<Void, any Error>? in
            guard progress.outcome == nil else { return nil }
            progress.outcome = outcome
            defer { progress.waiter = nil }
            return progress.waiter
        }
        waiter?.resume(with: outcome)
    }

    override func settingsReceived() { settle(.success(())) }

    override func ended(_ reason: String) {
        settle(.failure(RPCError(code: .unavailable, message: reason)))
        let waiter = progress.withLock { progress in
            progress.isOver = true
            defer { progress.overWaiter = nil }
            return progress.overWaiter
        }
        drain()
        waiter?.resume()
    }

    override func goAwayReceived(code: UInt32, reason: String) {
        logger.debug(
            "a server takes no more calls",
            metadata: ["peer": "\(remoteAddress)", "code": "\(StatusMapping.name(ofCode: code))", "reason": "\(reason)"])
        retire()
    }

    override func retire() {
        drain()
        onRetire()
    }

    /// No further calls; closes after the last.
    func drain() {
        let (isFirst, isIdle) = progress.withLock { progress in
            defer { progress.isDraining = true }
            return (!progress.isDraining, progress.calls == 0)
        }
        if isFirst { onDrain(self) }
        if isIdle { shutDown() }
    }

    // MARK: calls

    /// Holds the connection for a call; `false` when it takes none.
    func hold() -> Bool {
        progress.withLock { progress in
            guard !progress.isDraining else { return false }
            progress.calls += 1
            return true
        }
    }

    func letGo() {
        let isLast = progress.withLock { progress in
            progress.calls -= 1
            return progress.isDraining && progress.calls == 0
        }
        if isLast { shutDown() }
    }

    override func begin(_ stream: CallStream, _ metadata: Metadata) {
        guard let session, stream.number == 0, let call = stream.call else { return }
        do throws(RPCError) {
            let headers = try OutgoingHeaders.request(call, authority: authority, isSecure: security.credentials != nil, metadata)
            guard let number = session.request(headers) else { throw RPCError(code: .unavailable, message: "the connection takes no more calls") }
            stream.number = number
            streams[number] = stream
        } catch {
            stream.close(error)
        }
    }

    override func headersComplete(_ stream: CallStream, isFirst: Bool, endsStream: Bool) {
        let headers = stream.headers
        if headers.size > configuration.maximumMetadataBytes {
            return fail(stream, .resourceExhausted, "the metadata is larger than the limit of \(configuration.maximumMetadataBytes) bytes")
        }
        if endsStream {
            let outcome = headers.outcome
            let isInside = stream.decoder.isInsideMessage
            if isInside, outcome.code == .ok { return fail(stream, .internalError, "the call ended inside a message") }
            stream.deliver(.status(outcome, headers.metadata))
            stream.endInbound()
            return
        }
        guard isFirst else { return fail(stream, .internalError, "the server sent headers in the middle of a call") }
        if headers.httpStatus != 200 {
            stream.deliver(.status(Status(httpStatusCode: headers.httpStatus), [:]))
            stream.endInbound()
            return reset(stream, NGHTTP2_CANCEL)
        }
        if !headers.isGRPC { return fail(stream, .unknown, "the answer is not gRPC but \"\(headers.contentType.prefix(80))\"") }
        if !headers.encoding.isEmpty, headers.encoding != "identity" {
            return fail(stream, .internalError, "the answer is compressed (\(headers.encoding.prefix(40))), which was not agreed")
        }
        stream.deliver(.metadata(headers.metadata))
    }

    override func inputEnded(_ stream: CallStream) { fail(stream, .internalError, "the server ended the call without a status") }

    override func decodingFailed(_ stream: CallStream) { reset(stream, NGHTTP2_CANCEL) }

    private func fail(_ stream: CallStream, _ code: RPCError.Code, _ message: String) {
        stream.endInbound(RPCError(code: code, message: message))
        reset(stream, NGHTTP2_CANCEL)
    }

}
