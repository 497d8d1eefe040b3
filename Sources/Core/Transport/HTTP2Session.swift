import CNGHTTP2

/// What an HTTP/2 session tells its owner, from within `receive` and `drain`. The owner may submit, resume, reset and consume from here.
protocol HTTP2Events: AnyObject {
    /// A block of headers begins; `isFirst` on the first of a stream. `false` refuses the stream.
    func headersBegan(stream: Int32, isFirst: Bool) -> Bool
    /// `false` ends the stream: the rest of the block is only decoded.
    func header(stream: Int32, name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>) -> Bool
    func headersEnded(stream: Int32, endsStream: Bool)
    func data(stream: Int32, _ bytes: UnsafeRawBufferPointer)
    func remoteEnded(stream: Int32)
    /// The stream is gone, for a reason of RFC 9113, section 7.
    func closed(stream: Int32, code: UInt32)
    /// Fills the buffer with what the stream has to send.
    func produce(stream: Int32, into buffer: UnsafeMutableRawBufferPointer) -> HTTP2Production
    func settingsReceived()
    func goAwayReceived(code: UInt32, reason: String)
}

/// What a stream had to send.
enum HTTP2Production {
    /// So many bytes, at least one, and maybe more afterwards.
    case bytes(Int)
    /// So many bytes, and the stream ends with them.
    case last(Int)
    /// So many bytes, and then these trailers.
    case trailers(Int, HeaderBlock)
    /// Nothing now; `resume` follows.
    case wait
}

/// Why a session ended, for the log.
struct HTTP2Failure: Error {
    enum Kind {
        /// Not HTTP/2 at all.
        case garbage
        /// Too many frames that bring nothing.
        case flood
        case protocolViolation
    }
    var kind: Kind
    var reason: String
}

/// One HTTP/2 connection (RFC 9113) by nghttp2: bytes in, bytes out, events. No input or output of its own, no clock.
///
/// Not thread-safe: its owner keeps it on one event loop.
final class HTTP2Session {
    enum Role { case client, server }

    struct Settings {
        var maximumStreams: Int
        var streamWindow: Int
        var connectionWindow: Int
        var maximumMetadataBytes: Int
        var abuse: AbuseLimits
    }

    let role: Role
    unowned let events: any HTTP2Events
    private var session: OpaquePointer?
    var budget: FrameBudget
    /// The clock of the frame budgets, in nanoseconds; set by `receive`.
    var now: UInt64 = 0
    /// The last thing that nghttp2 complained of.
    var complaint = ""
    /// Why this end gives the connection up.
    var fault: HTTP2Failure?
    var pingsAnswered = 0

    /// `nil` when memory is short.
    init?(role: Role, settings: Settings, events: any HTTP2Events) {
        self.role = role
        self.events = events
        budget = FrameBudget(settings.abuse)
        var options: OpaquePointer?
        guard nghttp2_option_new(&options) == 0, let options, let callbacks = HTTP2Callbacks.shared else { return nil }
        defer { nghttp2_option_del(options) }
        nghttp2_option_set_no_auto_window_update(options, 1)
        nghttp2_option_set_no_closed_streams(options, 1)
        nghttp2_option_set_max_outbound_ack(options, 128)
        nghttp2_option_set_max_settings(options, 32)
        nghttp2_option_set_max_continuations(options, 8)
        nghttp2_option_set_max_reserved_remote_streams(options, 0)
        nghttp2_option_set_stream_reset_rate_limit(options, UInt64(settings.abuse.resetBurst * 2), UInt64(settings.abuse.resetsPerSecond * 2))
        let this = Unmanaged.passUnretained(self).toOpaque()
        let made =
            role == .server
            ? nghttp2_session_server_new2(&session, callbacks.pointer, this, options)
            : nghttp2_session_client_new2(&session, callbacks.pointer, this, options)
        guard made == 0 else { return nil }
        var entries = [
            Self.entry(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, settings.streamWindow),
            Self.entry(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, settings.maximumMetadataBytes),
        ]
        entries.append(
            role == .server
                ? Self.entry(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, settings.maximumStreams) : Self.entry(NGHTTP2_SETTINGS_ENABLE_PUSH, 0))
        guard nghttp2_submit_settings(session, 0, entries, entries.count) == 0,
            nghttp2_session_set_local_window_size(session, 0, 0, Int32(clamping: max(settings.connectionWindow, 65_535))) == 0
        else { return nil }
    }

    deinit { nghttp2_session_del(session) }

    private static func entry(_ id: nghttp2_settings_id, _ value: Int) -> nghttp2_settings_entry {
        nghttp2_settings_entry(settings_id: Int32(id.rawValue), value: UInt32(clamping: value))
    }

    // MARK: bytes

    /// Takes what the peer sent.
    /// - Parameter now: Nanoseconds of any clock that does not go back.
    /// - Throws: Why the connection is to be closed, after what `drain` still gives.
    func receive(_ bytes: UnsafeRawBufferPointer, now: UInt64) throws(HTTP2Failure) {
        guard let base = bytes.bindMemory(to: UInt8.self).baseAddress, !bytes.isEmpty else { return }
        self.now = now
        let taken = nghttp2_session_mem_recv(session, base, bytes.count)
        if let fault { throw fault }
        guard taken < 0 else { return }
        let reason = complaint.isEmpty ? String(cString: nghttp2_strerror(Int32(clamping: taken))) : complaint
        switch Int32(clamping: taken) {
        case NGHTTP2_ERR_BAD_CLIENT_MAGIC.rawValue: throw HTTP2Failure(kind: .garbage, reason: "it does not speak HTTP/2")
        case NGHTTP2_ERR_FLOODED.rawValue: throw HTTP2Failure(kind: .flood, reason: reason)
        default: throw HTTP2Failure(kind: .protocolViolation, reason: reason)
        }
    }

    /// Hands out what is to be sent, piece by piece, until `body` says `false` or nothing is left.
    /// - Returns: Whether the session is still sound.
    func drain(_ body: (UnsafeRawBufferPointer) -> Bool) -> Bool {
        while true {
            var piece: UnsafePointer<UInt8>?
            let count = nghttp2_session_mem_send(session, &piece)
            guard count >= 0 else { return false }
            guard count > 0, let piece else { return true }
            guard body(UnsafeRawBufferPointer(start: piece, count: count)) else { return true }
        }
    }

    var wantsRead: Bool { nghttp2_session_want_read(session) != 0 }
    var wantsWrite: Bool { nghttp2_session_want_write(session) != 0 }

    // MARK: orders

    /// Opens a stream, as a client; `nil` when the connection has no numbers left or is ending.
    func request(_ headers: HeaderBlock) -> Int32? {
        var provider = HTTP2Callbacks.provider
        let stream = headers.withFields { fields, count in nghttp2_submit_request(session, nil, fields, count, &provider, nil) }
        return stream > 0 ? stream : nil
    }

    /// The first headers of an answer; what follows comes from `produce`.
    func respond(stream: Int32, _ headers: HeaderBlock) -> Bool {
        var provider = HTTP2Callbacks.provider
        return headers.withFields { fields, count in nghttp2_submit_response(session, stream, fields, count, &provider) } == 0
    }

    /// An answer of headers alone.
    func respondAndEnd(stream: Int32, _ headers: HeaderBlock) -> Bool {
        headers.withFields { fields, count in nghttp2_submit_response(session, stream, fields, count, nil) } == 0
    }

    func trailers(stream: Int32, _ headers: HeaderBlock) -> Bool {
        headers.withFields { fields, count in nghttp2_submit_trailer(session, stream, fields, count) } == 0
    }

    func resume(stream: Int32) { _ = nghttp2_session_resume_data(session, stream) }

    func reset(stream: Int32, _ code: nghttp2_error_code) { _ = nghttp2_submit_rst_stream(session, 0, stream, code.rawValue) }

    /// Lets the peer send so many bytes more on the stream.
    func consume(stream: Int32, _ count: Int) { _ = nghttp2_session_consume_stream(session, stream, count) }
    /// Lets the peer send so many bytes more on the connection.
    func consumeConnection(_ count: Int) { _ = nghttp2_session_consume_connection(session, count) }

    func ping() { _ = nghttp2_submit_ping(session, 0, nil) }

    /// Tells the peer to open no further stream; those that are under way still count.
    func announceShutdown() { _ = nghttp2_submit_shutdown_notice(session) }

    /// Refuses every stream after the last that was seen.
    func refuseFurtherStreams() {
        _ = nghttp2_submit_goaway(session, 0, nghttp2_session_get_last_proc_stream_id(session), NGHTTP2_NO_ERROR.rawValue, nil, 0)
    }

    /// Ends the connection once the GOAWAY is sent.
    func terminate(_ code: nghttp2_error_code) { _ = nghttp2_session_terminate_session(session, code.rawValue) }

    func isRemoteEnded(stream: Int32) -> Bool { nghttp2_session_get_stream_remote_close(session, stream) == 1 }

    /// A flood: says so to the peer and remembers it for `receive`.
    func giveUp(_ reason: String) {
        guard fault == nil else { return }
        fault = HTTP2Failure(kind: .flood, reason: reason)
        terminate(NGHTTP2_ENHANCE_YOUR_CALM)
    }
}
