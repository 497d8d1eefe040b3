import CNGHTTP2
import GRPCCore

/// What HTTP/2 tells a connection.
extension Connection {
    func headersBegan(stream number: Int32, isFirst: Bool) -> Bool {
        if let stream = streams[number] {
            stream.headers = IncomingHeaders()
            return true
        }
        guard isFirst, let stream = makeStream() else { return false }
        stream.number = number
        streams[number] = stream
        return true
    }

    func header(stream number: Int32, name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>) -> Bool {
        guard let stream = streams[number] else { return false }
        stream.headers.size += name.count + value.count + 32
        // Past the bound nothing is kept; far past it, the stream is not worth an answer.
        guard stream.headers.size <= configuration.maximumMetadataBytes else { return stream.headers.size <= configuration.maximumMetadataBytes * 4 }
        stream.headers.add(name, value)
        return true
    }

    func headersEnded(stream number: Int32, endsStream: Bool) {
        guard let stream = streams[number], !stream.isDiscarding else { return }
        let isFirst = !stream.hasHeard
        stream.hasHeard = true
        headersComplete(stream, isFirst: isFirst, endsStream: endsStream)
        stream.headers = IncomingHeaders()
    }

    func data(stream number: Int32, _ bytes: UnsafeRawBufferPointer) {
        guard let session else { return }
        session.consumeConnection(bytes.count)
        guard let stream = streams[number], !stream.isDiscarding else {
            session.consume(stream: number, bytes.count)
            return
        }
        do throws(RPCError) {
            try stream.decoder.decode(bytes) { stream.deliver(.message($0)) }
        } catch {
            stream.isDiscarding = true
            stream.endInbound(error)
            decodingFailed(stream)
        }
        let credit = stream.received(bytes.count)
        if credit > 0 { session.consume(stream: number, credit) }
    }

    func remoteEnded(stream number: Int32) {
        guard let stream = streams[number], !stream.isDiscarding else { return }
        inputEnded(stream)
    }

    func closed(stream number: Int32, code: UInt32) {
        guard let stream = streams.removeValue(forKey: number) else { return }
        streamClosed(stream, code: code)
        stream.close(
            code == NGHTTP2_NO_ERROR.rawValue ? RPCError(code: .unavailable, message: "the call has ended") : StatusMapping.error(resetCode: code))
    }

    func produce(stream number: Int32, into buffer: UnsafeMutableRawBufferPointer) -> HTTP2Production {
        streams[number]?.produce(into: buffer) ?? .last(0)
    }
}
