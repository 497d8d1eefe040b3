import CNGHTTP2
import GRPCCore
import Logging
import NIOCore
import PluginAPI
import Synchronization
import Wire

/// A connection that a client opened.
final class ServerConnection: Connection, @unchecked Sendable {
    let server: ServerCore
    /// Its number among the strangers, until a certificate was seen.
    let strangerNumber: UInt64
    private var isStranger = true
    private var lastBusy = NIODeadline.now()
    /// Handlers that have not returned, also those of calls that are gone: a peer that resets what it opens gets no more of them.
    private let running = Atomic<Int>(0)
    private var peerConnection = PeerConnection()

    init(server: ServerCore, strangerNumber: UInt64, eventLoop: any EventLoop) {
        self.server = server
        self.strangerNumber = strangerNumber
        super.init(configuration: server.configuration, security: server.security, eventLoop: eventLoop, logger: server.logger)
    }

    override var isServer: Bool { true }

    // MARK: life

    override func opened() {
        isStranger = security.credentials != nil && (peer == nil || peer?.isExpired == true)
        if isStranger { server.strangers.setOpen(strangerNumber) } else { server.strangers.remove(strangerNumber) }
        server.statistics.withLock { $0.opened += 1 }
        peerConnection = PeerConnection(
            identity: peer?.identity, isExpired: peer?.isExpired ?? false, certificate: peer?.der ?? [], remoteAddress: remoteAddress)
    }

    override func sessionSettings() -> HTTP2Session.Settings {
        var settings = super.sessionSettings()
        guard security.credentials != nil, peer == nil || peer?.isExpired == true else { return settings }
        settings.maximumStreams = configuration.strangers.streams
        settings.streamWindow = configuration.strangers.streamWindow
        settings.connectionWindow = 65_535
        return settings
    }

    override func ended(_ reason: String) {
        server.strangers.remove(strangerNumber)
        server.remove(self)
        logger.debug("a connection ended", metadata: ["peer": "\(remoteAddress)", "reason": "\(reason)"])
    }

    override func handshakeFailed(_ reason: String, isRefusal: Bool) {
        server.statistics.withLock { statistics in
            if isRefusal { statistics.refusedCertificates += 1 } else { statistics.failedHandshakes += 1 }
        }
        server.refusals.log(
            isRefusal ? "a peer was refused" : "a handshake failed", logger, ["peer": "\(remoteAddress)", "reason": "\(reason)"])
    }

    override func violated(_ failure: HTTP2Failure) {
        server.statistics.withLock { statistics in
            if failure.kind == .flood { statistics.floods += 1 } else { statistics.protocolViolations += 1 }
        }
        if failure.kind == .flood {
            server.refusals.log("a peer floods, its connection ends", logger, ["peer": "\(remoteAddress)", "reason": "\(failure.reason)"])
        } else {
            logger.debug("a peer breaks the protocol", metadata: ["peer": "\(remoteAddress)", "reason": "\(failure.reason)"])
        }
    }

    override func tick() {
        if !streams.isEmpty { lastBusy = .now() }
        if isStranger, NIODeadline.now() - lastBusy > TimeAmount(configuration.strangers.idleLimit) { close("a stranger was idle for too long") }
    }

    // MARK: calls

    override func makeStream() -> CallStream? {
        CallStream(
            connection: self,
            maximumMessageBytes: isStranger
                ? min(configuration.strangers.maximumMessageBytes, configuration.maximumMessageBytes) : configuration.maximumMessageBytes,
            window: isStranger ? configuration.strangers.streamWindow : configuration.streamWindow)
    }

    override func headersComplete(_ stream: CallStream, isFirst: Bool, endsStream: Bool) {
        guard isFirst else {
            // A client's trailers say nothing in gRPC.
            if endsStream { inputEnded(stream) }
            return
        }
        let headers = stream.headers
        if headers.method != "POST" { return refuse(stream, http: 405) }
        if !headers.isGRPC { return refuse(stream, http: 415) }
        if headers.size > configuration.maximumMetadataBytes {
            return refuse(stream, .resourceExhausted, "the metadata is larger than the limit of \(configuration.maximumMetadataBytes) bytes")
        }
        guard let descriptor = headers.descriptor else { return refuse(stream, .unimplemented, "the path is not /package.Service/Method") }
        if !headers.encoding.isEmpty, headers.encoding != "identity" {
            return refuse(stream, .unimplemented, "messages are taken as they are, not as \(headers.encoding.prefix(40))")
        }
        if let key = headers.malformed { return refuse(stream, .invalidArgument, "the metadata \"\(key.prefix(80))\" is not Base64") }
        if peer?.isExpired == true, !configuration.expiredCertificateMethods.contains(descriptor.fullyQualifiedMethod) {
            return refuse(stream, .unauthenticated, "the certificate has expired; it may only be renewed")
        }
        // A handler returns a little after its call has ended, when the client may have opened the next already: hence the double.
        let limit = 2 * (isStranger ? configuration.strangers.streams : configuration.maximumStreams)
        guard running.load(ordering: .relaxed) < limit, server.beginCall() else {
            return reset(stream, NGHTTP2_REFUSED_STREAM)
        }
        lastBusy = .now()
        running.wrappingAdd(1, ordering: .relaxed)
        stream.deliver(.metadata(headers.metadata))
        if endsStream { inputEnded(stream) }
        run(stream, descriptor)
    }

    /// Starts the handler. The task belongs to the stream, which cancels it when it goes, and to the server, which waits for it.
    private func run(_ stream: CallStream, _ descriptor: MethodDescriptor) {
        let peer = peerConnection
        let localAddress = Addresses.text(context?.channel.localAddress)
        let server = self.server
        let task = ConcurrentTask { [self] in
            await withServerContextRPCCancellationHandle { handle in
                var serverContext = ServerContext(
                    descriptor: descriptor, remotePeer: peer.remoteAddress, localPeer: localAddress, cancellation: handle)
                serverContext.transportSpecific = peer
                stream.adopt(handle)
                let call = ServerCall(stream: stream)
                await withRPCCancellationHandler {
                    await PeerConnection.$current.withValue(peer) {
                        await PeerIdentity.$current.withValue(peer.identity) {
                            await server.handle(
                                RPCStream(
                                    descriptor: descriptor, inbound: RPCAsyncSequence(wrapping: RequestParts(stream: stream)),
                                    outbound: RPCWriter.Closable(wrapping: call)), serverContext)
                        }
                    }
                } onCancelRPC: {
                    stream.cancelTask()
                }
                call.end()
            }
            running.wrappingSubtract(1, ordering: .relaxed)
            server.endCall()
        }
        stream.adopt(task)
    }

    override func begin(_ stream: CallStream, _ metadata: Metadata) {
        guard streams[stream.number] === stream, let session else { return }
        _ = session.respond(stream: stream.number, OutgoingHeaders.response(metadata))
    }

    override func inputEnded(_ stream: CallStream) {
        stream.endInbound(stream.decoder.isInsideMessage ? RPCError(code: .internalError, message: "the call ended inside a message") : nil)
    }

    private func refuse(_ stream: CallStream, _ code: Status.Code, _ message: String) {
        stream.isDiscarding = true
        _ = session?.respondAndEnd(stream: stream.number, OutgoingHeaders.statusOnly(Status(code: code, message: message), [:]))
    }

    private func refuse(_ stream: CallStream, http code: Int) {
        stream.isDiscarding = true
        _ = session?.respondAndEnd(stream: stream.number, OutgoingHeaders.http(code))
    }
}
