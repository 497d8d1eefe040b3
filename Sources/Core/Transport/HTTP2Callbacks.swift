import CNGHTTP2

/// The table of C functions that nghttp2 calls; each finds its session in the user data. One for the process, never changed.
final class HTTP2Callbacks: @unchecked Sendable {
    /// `nil` when memory was short at the start.
    static let shared = HTTP2Callbacks()

    let pointer: OpaquePointer

    private init?() {
        var made: OpaquePointer?
        guard nghttp2_session_callbacks_new(&made) == 0, let made else { return nil }
        pointer = made
        setFrameCallbacks()
        setStreamCallbacks()
    }

    deinit { nghttp2_session_callbacks_del(pointer) }

    private static func session(_ data: UnsafeMutableRawPointer?) -> HTTP2Session? {
        data.map { Unmanaged<HTTP2Session>.fromOpaque($0).takeUnretainedValue() }
    }

    private func setFrameCallbacks() {
        nghttp2_session_callbacks_set_on_begin_frame_callback(pointer) { _, header, data in
            guard let session = HTTP2Callbacks.session(data), let header else { return 0 }
            session.count(header.pointee)
            return 0
        }
        nghttp2_session_callbacks_set_on_frame_recv_callback(pointer) { _, frame, data in
            guard let session = HTTP2Callbacks.session(data), let frame else { return 0 }
            session.received(frame)
            return 0
        }
        nghttp2_session_callbacks_set_on_frame_send_callback(pointer) { _, frame, data in
            guard let session = HTTP2Callbacks.session(data), let frame else { return 0 }
            session.sent(frame)
            return 0
        }
        nghttp2_session_callbacks_set_on_frame_not_send_callback(pointer) { _, frame, _, data in
            guard let session = HTTP2Callbacks.session(data), let frame else { return 0 }
            if frame.pointee.hd.type == UInt8(NGHTTP2_HEADERS.rawValue), session.role == .client {
                session.events.closed(stream: frame.pointee.hd.stream_id, code: NGHTTP2_REFUSED_STREAM.rawValue)
            }
            return 0
        }
        nghttp2_session_callbacks_set_error_callback2(pointer) { _, _, text, length, data in
            guard let session = HTTP2Callbacks.session(data), let text else { return 0 }
            let bytes = UnsafeRawBufferPointer(start: text, count: min(length, 200))
            session.complaint = String(decoding: bytes, as: UTF8.self)
            return 0
        }
    }

    private func setStreamCallbacks() {
        nghttp2_session_callbacks_set_on_begin_headers_callback(pointer) { _, frame, data in
            guard let session = HTTP2Callbacks.session(data), let frame else { return 0 }
            let category = frame.pointee.headers.cat
            let accepted = session.events.headersBegan(
                stream: frame.pointee.hd.stream_id, isFirst: category == NGHTTP2_HCAT_REQUEST || category == NGHTTP2_HCAT_RESPONSE)
            return accepted ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
        }
        nghttp2_session_callbacks_set_on_header_callback(pointer) { _, frame, name, nameLength, value, valueLength, _, data in
            guard let session = HTTP2Callbacks.session(data), let frame else { return 0 }
            let accepted = session.events.header(
                stream: frame.pointee.hd.stream_id, name: UnsafeBufferPointer(start: name, count: nameLength),
                value: UnsafeBufferPointer(start: value, count: valueLength))
            return accepted ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
        }
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(pointer) { _, _, stream, bytes, count, data in
            guard let session = HTTP2Callbacks.session(data) else { return 0 }
            session.events.data(stream: stream, UnsafeRawBufferPointer(start: bytes, count: count))
            return 0
        }
        nghttp2_session_callbacks_set_on_stream_close_callback(pointer) { _, stream, code, data in
            guard let session = HTTP2Callbacks.session(data) else { return 0 }
            session.events.closed(stream: stream, code: code)
            return 0
        }
    }

    /// Where the bytes of a stream come from.
    static var provider: nghttp2_data_provider {
        nghttp2_data_provider(source: nghttp2_data_source()) { _, stream, buffer, length, flags, _, data in
            guard let session = HTTP2Callbacks.session(data), let buffer, let flags else { return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue) }
            switch session.events.produce(stream: stream, into: UnsafeMutableRawBufferPointer(start: buffer, count: length)) {
            case .bytes(let count): return count
            case .last(let count):
                flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
                return count
            case .trailers(let count, let block):
                flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue | NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
                guard session.trailers(stream: stream, block) else { return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue) }
                return count
            case .wait: return Int(NGHTTP2_ERR_DEFERRED.rawValue)
            }
        }
    }
}

extension HTTP2Session {
    /// Charges a frame to the budget of the peer.
    fileprivate func count(_ header: nghttp2_frame_hd) {
        let type = UInt32(header.type)
        if type == NGHTTP2_HEADERS.rawValue || type == NGHTTP2_DATA.rawValue && header.length > 0 {
            budget.usefulFrame()
        } else if type == NGHTTP2_RST_STREAM.rawValue {
            if !budget.reset(now: now) { giveUp("too many calls were reset") }
        } else if !(type == NGHTTP2_DATA.rawValue && header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0) {
            if !budget.controlFrame(now: now) { giveUp("too many frames without content") }
        }
    }

    fileprivate func received(_ frame: UnsafePointer<nghttp2_frame>) {
        let header = frame.pointee.hd
        let ends = header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
        let isAnswer = header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0
        switch UInt32(header.type) {
        case NGHTTP2_HEADERS.rawValue: events.headersEnded(stream: header.stream_id, endsStream: ends)
        case NGHTTP2_DATA.rawValue: if ends { events.remoteEnded(stream: header.stream_id) }
        case NGHTTP2_SETTINGS.rawValue: if !isAnswer { events.settingsReceived() }
        case NGHTTP2_PING.rawValue: if isAnswer { pingsAnswered += 1 }
        case NGHTTP2_GOAWAY.rawValue:
            let goAway = frame.pointee.goaway
            let text = UnsafeRawBufferPointer(start: goAway.opaque_data, count: min(goAway.opaque_data_len, 200))
            events.goAwayReceived(code: goAway.error_code, reason: String(decoding: text, as: UTF8.self))
        default: break
        }
    }

    fileprivate func sent(_ frame: UnsafePointer<nghttp2_frame>) {
        let header = frame.pointee.hd
        if UInt32(header.type) == NGHTTP2_DATA.rawValue, header.length > 0 {
            // The peer opens its windows for it, the stream's and the connection's.
            budget.usefulFrame()
            budget.usefulFrame()
        }
        if UInt32(header.type) == NGHTTP2_GOAWAY.rawValue, frame.pointee.goaway.error_code != NGHTTP2_NO_ERROR.rawValue, fault == nil {
            let name = StatusMapping.name(ofCode: frame.pointee.goaway.error_code)
            fault = HTTP2Failure(kind: .protocolViolation, reason: complaint.isEmpty ? name : "\(name): \(complaint)")
        }
        if UInt32(header.type) == NGHTTP2_RST_STREAM.rawValue {
            // What makes this end reset costs as much as a reset by the peer.
            let code = frame.pointee.rst_stream.error_code
            if role == .server, code != NGHTTP2_NO_ERROR.rawValue, code != NGHTTP2_CANCEL.rawValue, !budget.reset(now: now) {
                giveUp("too many calls had to be reset")
            }
        } else if role == .server, header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0, !isRemoteEnded(stream: header.stream_id) {
            // The answer is complete and the peer still sends (RFC 9113, section 8.1).
            reset(stream: header.stream_id, NGHTTP2_NO_ERROR)
        }
    }
}
