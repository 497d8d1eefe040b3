import CNGHTTP2
import GRPCCore
import Logging
import NIOCore
import PluginAPI
import Wire

/// One connection, of either side: joins the socket, TLS and HTTP/2, and moves the bytes of its calls.
///
/// All fields without a lock belong to the channel's event loop. Tasks reach it through a mailbox that wakes the loop once for any
/// number of orders.
class Connection: ChannelInboundHandler, HTTP2Events, CheckedConnection, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    enum Phase { case handshaking, open, closed }

    let configuration: TransportConfiguration
    let logger: Logger
    let eventLoop: any EventLoop
    let security: ConnectionSecurity
    private let mailbox = Mailbox()

    private(set) var phase = Phase.handshaking
    private(set) var context: ChannelHandlerContext?
    private(set) var session: HTTP2Session?
    private var tls: TLSSession?
    private var verifiedWith: TLSContext?
    private var registration: UInt64?
    var streams: [Int32: CallStream] = [:]
    private(set) var lastHeard = NIODeadline.now()
    private var pingSent: NIODeadline?
    private var timer: Scheduled<Void>?
    private var expiry: Scheduled<Void>?
    private var isFlushing = false
    private var isShuttingDown = false
    private var needsCheck = false
    /// Its peer was verified against roots that count no more; another connection takes its place.
    private var isOutdated = false
    private(set) var remoteAddress = ""

    init(configuration: TransportConfiguration, security: ConnectionSecurity, eventLoop: any EventLoop, logger: Logger) {
        self.configuration = configuration
        self.security = security
        self.eventLoop = eventLoop
        self.logger = logger
    }

    var isServer: Bool { false }
    var peer: PeerCertificate? { tls?.peer }

    // MARK: for the two sides to fill in

    func sessionSettings() -> HTTP2Session.Settings {
        HTTP2Session.Settings(
            maximumStreams: configuration.maximumStreams, streamWindow: configuration.streamWindow, connectionWindow: configuration.connectionWindow,
            maximumMetadataBytes: configuration.maximumMetadataBytes, abuse: configuration.abuse)
    }
    func makeStream() -> CallStream? { nil }
    func headersComplete(_ stream: CallStream, isFirst: Bool, endsStream: Bool) {}
    func begin(_ stream: CallStream, _ metadata: Metadata) {}
    func opened() {}
    func ended(_ reason: String) {}
    func streamClosed(_ stream: CallStream, code: UInt32) {}
    func tick() {}
    func settingsReceived() {}
    func goAwayReceived(code: UInt32, reason: String) {}
    func inputEnded(_ stream: CallStream) {}
    func decodingFailed(_ stream: CallStream) {}

    // MARK: life

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        if phase == .closed {
            // It was given up before there was a socket.
            context.close(promise: nil)
        } else if context.channel.isActive {
            start()
        }
    }

    func channelActive(context: ChannelHandlerContext) { start() }

    private func start() {
        guard timer == nil, phase == .handshaking, let context else { return }
        remoteAddress = Addresses.text(context.channel.remoteAddress)
        lastHeard = .now()
        schedule(after: configuration.handshakeLimit)
        guard let credentials = security.credentials else {
            open()
            return
        }
        let tlsContext = credentials.context
        verifiedWith = tlsContext
        guard
            let tls = TLSSession(
                context: tlsContext, role: isServer ? .server : .client, verification: security.verification, policy: security.refusal(of:))
        else {
            close("memory is short")
            return
        }
        self.tls = tls
        registration = credentials.add(self)
        if !isServer { handshake(UnsafeRawBufferPointer(start: nil, count: 0)) }
    }

    private func open() {
        guard let made = HTTP2Session(role: isServer ? .server : .client, settings: sessionSettings(), events: self) else {
            close("memory is short")
            return
        }
        session = made
        phase = .open
        schedule(after: configuration.keepaliveIdle)
        if let peer { armExpiry(peer) }
        // The credentials may have changed since the handshake began.
        if let credentials = security.credentials, needsCheck || credentials.context !== verifiedWith { check() }
        guard phase == .open else { return }
        opened()
        flush()
    }

    private func armExpiry(_ peer: PeerCertificate) {
        guard !peer.isExpired else { return }
        let left = max(peer.notAfter - PeerCertificate.now(), .zero)
        // The clock may be set meanwhile: look again every hour.
        expiry = eventLoop.scheduleTask(in: TimeAmount(min(left + .milliseconds(10), .seconds(3600)))) { [weak self] in
            guard let self, phase == .open else { return }
            if peer.notAfter <= PeerCertificate.now() {
                logger.info(
                    "a connection ends with its peer's certificate", metadata: ["peer": "\(remoteAddress)", "node": "\(peer.identity.nodeID)"])
                close("the peer's certificate has expired")
            } else {
                armExpiry(peer)
            }
        }
    }

    /// Ends the connection; calls get `unavailable` with the reason.
    func close(_ reason: String) {
        guard phase != .closed else { return }
        let wasOpen = phase == .open
        phase = .closed
        timer?.cancel()
        expiry?.cancel()
        if let registration { security.credentials?.remove(registration) }
        let error = RPCError(code: .unavailable, message: reason)
        for order in mailbox.close(error) { Mailbox.refuse(order, error) }
        for stream in streams.values {
            stream.close(error)
            streamClosed(stream, code: NGHTTP2_INTERNAL_ERROR.rawValue)
        }
        streams = [:]
        ended(reason)
        if let context {
            if let tls {
                // Also what libssl has to say about a handshake that failed: its alert names the reason to the peer.
                if wasOpen { tls.sayGoodbye() }
                if let output = tls.takeOutput() { context.writeAndFlush(wrapOutboundOut(output), promise: nil) }
            }
            context.close(promise: nil)
        }
        session = nil
        tls = nil
    }

    func channelInactive(context: ChannelHandlerContext) { close("the connection was closed by the peer") }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { close("the connection failed: \(error)") }

    func handlerRemoved(context: ChannelHandlerContext) {
        close("the connection is gone")
        self.context = nil
    }

    // MARK: bytes in

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard phase != .closed else { return }
        lastHeard = .now()
        unwrapInboundIn(data).withUnsafeReadableBytes { bytes in
            if phase == .handshaking { handshake(bytes) } else if tls != nil { decrypt(bytes) } else { receive(bytes) }
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) { flush() }

    func channelWritabilityChanged(context: ChannelHandlerContext) { flush() }

    private func handshake(_ bytes: UnsafeRawBufferPointer) {
        guard let tls else { return }
        tls.feed(bytes) {
            switch tls.handshake() {
            case .done:
                open()
                readDecrypted(tls)
            case .needsInput:
                if let output = tls.takeOutput(), let context { context.writeAndFlush(wrapOutboundOut(output), promise: nil) }
            case .ended: close("the peer ended the TLS handshake")
            case .failed(let reason):
                handshakeFailed(reason, isRefusal: tls.refusal != nil)
                close(reason)
            }
        }
    }

    func handshakeFailed(_ reason: String, isRefusal: Bool) {}

    private func decrypt(_ bytes: UnsafeRawBufferPointer) {
        guard let tls else { return }
        tls.feed(bytes) { readDecrypted(tls) }
    }

    private func readDecrypted(_ tls: TLSSession) {
        withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 16) { buffer in
            while phase == .open {
                var count = 0
                switch tls.read(into: buffer, count: &count) {
                case .done: receive(UnsafeRawBufferPointer(rebasing: buffer.prefix(count)))
                case .needsInput: return
                case .ended: return close("the peer ended the connection")
                case .failed(let reason):
                    handshakeFailed(reason, isRefusal: false)
                    return close("TLS: \(reason)")
                }
            }
        }
    }

    private func receive(_ bytes: UnsafeRawBufferPointer) {
        guard let session else { return }
        do throws(HTTP2Failure) {
            try session.receive(bytes, now: NIODeadline.now().uptimeNanoseconds)
        } catch {
            flush()
            guard phase == .open else { return }
            violated(error)
            close("HTTP/2: \(error.reason)")
        }
    }

    func violated(_ failure: HTTP2Failure) {}

    // MARK: bytes out

    /// Sends what there is, while the socket takes it: what it does not take stays with the calls, and their writers wait.
    func flush() {
        guard phase == .open, !isFlushing, let session, let context else { return }
        isFlushing = true
        var isSound = true
        while isSound, phase == .open, context.channel.isWritable, session.wantsWrite {
            var plain = context.channel.allocator.buffer(capacity: 2048)
            isSound = session.drain { piece in
                plain.writeBytes(piece)
                return plain.readableBytes < 32 << 10
            }
            guard plain.readableBytes > 0 else { break }
            guard let tls else {
                context.writeAndFlush(wrapOutboundOut(plain), promise: nil)
                continue
            }
            if case .failed(let reason) = plain.withUnsafeReadableBytes({ tls.write($0) }) {
                isFlushing = false
                return close("TLS: \(reason)")
            }
            if let output = tls.takeOutput() { context.writeAndFlush(wrapOutboundOut(output), promise: nil) }
        }
        isFlushing = false
        if let fault = session.fault, !session.wantsWrite || !isSound {
            violated(fault)
            close("HTTP/2: \(fault.reason)")
        } else if !isSound {
            close("HTTP/2 failed: \(session.complaint)")
        } else if !session.wantsWrite, !session.wantsRead {
            close(session.complaint.isEmpty ? "the connection ended in order" : "HTTP/2: \(session.complaint)")
        } else if isShuttingDown, streams.isEmpty, !session.wantsWrite {
            close("the connection ended in order")
        }
    }

    // MARK: orders of tasks

    /// From any thread.
    func post(_ order: Mailbox.Order) {
        if mailbox.post(order) { eventLoop.execute { self.carryOut() } }
    }

    private func carryOut() {
        let orders = mailbox.take()
        guard phase == .open, let session else {
            for order in orders { Mailbox.refuse(order, RPCError(code: .unavailable, message: "the connection is not open")) }
            return
        }
        for order in orders {
            switch order {
            case .wrote(let stream): carryOut(stream, session)
            case .credit(let stream, let count): if streams[stream.number] === stream { session.consume(stream: stream.number, count) }
            case .cancel(let stream):
                if stream.number == 0 {
                    stream.close(CallStream.cancelled)
                } else {
                    reset(stream, NGHTTP2_CANCEL)
                }
            }
        }
        flush()
    }

    /// Ends a stream from this side, once.
    func reset(_ stream: CallStream, _ code: nghttp2_error_code) {
        stream.isDiscarding = true
        guard streams[stream.number] === stream, !stream.isReset else { return }
        stream.isReset = true
        session?.reset(stream: stream.number, code)
    }

    private func carryOut(_ stream: CallStream, _ session: HTTP2Session) {
        switch stream.errand() {
        case .begin(let metadata): begin(stream, metadata)
        case .statusOnly(let status, let metadata):
            if streams[stream.number] === stream { _ = session.respondAndEnd(stream: stream.number, OutgoingHeaders.statusOnly(status, metadata)) }
        case .resume: if streams[stream.number] === stream { session.resume(stream: stream.number) }
        case .nothing: break
        }
    }

    // MARK: time

    private func schedule(after delay: Duration) {
        timer?.cancel()
        timer = eventLoop.scheduleTask(in: TimeAmount(delay)) { [weak self] in self?.timePassed() }
    }

    private func timePassed() {
        switch phase {
        case .closed: return
        case .handshaking:
            handshakeFailed("no handshake within \(configuration.handshakeLimit)", isRefusal: false)
            close("no handshake within \(configuration.handshakeLimit)")
        case .open:
            tick()
            guard phase == .open else { return }
            let now = NIODeadline.now()
            if let pingSent, lastHeard < pingSent {
                close("the peer has not answered for \(configuration.keepaliveAnswer)")
                return
            }
            pingSent = nil
            let idle = now - lastHeard
            let limit = TimeAmount(configuration.keepaliveIdle)
            if idle >= limit {
                pingSent = now
                session?.ping()
                schedule(after: configuration.keepaliveAnswer)
                flush()
            } else {
                schedule(after: .nanoseconds((limit - idle).nanoseconds))
            }
        }
    }

    // MARK: from outside, any thread

    func recheck() { eventLoop.execute { self.check() } }

    private func check() {
        if phase == .handshaking { needsCheck = true }
        guard phase == .open, let tls, let credentials = security.credentials, let finding = tls.reverify(with: credentials.context) else { return }
        let node = "\(tls.peer?.identity.nodeID ?? "")"
        switch finding {
        case .refused(let reason):
            logger.notice("a live connection is refused now", metadata: ["peer": "\(remoteAddress)", "node": "\(node)", "reason": "\(reason)"])
            close("the peer is refused: \(reason)")
        case .outdated(let reason):
            guard !isOutdated else { return }
            isOutdated = true
            logger.debug("a live connection is to be replaced", metadata: ["peer": "\(remoteAddress)", "node": "\(node)", "reason": "\(reason)"])
            retire()
            // Whoever has a certificate of the present root has another connection by then.
            eventLoop.scheduleTask(in: TimeAmount(configuration.replacementLimit)) { [weak self] in self?.close("the peer is refused: \(reason)") }
        }
    }

    /// Takes no new calls, and makes the peer's or this end's calls go to another connection. On the event loop.
    func retire() { shutDown() }

    /// Lets open calls end, takes no new ones, then closes.
    func shutDown() {
        eventLoop.execute {
            guard self.phase == .open, !self.isShuttingDown else {
                if self.phase == .handshaking { self.close("this end is stopping") }
                return
            }
            self.isShuttingDown = true
            if self.isServer { self.session?.announceShutdown() }
            self.flush()
            guard self.phase == .open, self.isServer else { return }
            // Calls that crossed the announcement still come in; a moment later no more are taken.
            self.eventLoop.scheduleTask(in: .milliseconds(100)) { [weak self] in
                guard let self, phase == .open else { return }
                session?.refuseFurtherStreams()
                flush()
            }
        }
    }

    func closeNow(_ reason: String) { eventLoop.execute { self.close(reason) } }
}
