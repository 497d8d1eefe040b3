import NIOCore
import NIOPosix
import Synchronization

@testable import Transport

/// A TCP connection of a test that says what it likes.
final class RawPeer: Sendable {
    private final class Collector: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        let received = Mutex<[UInt8]>([])
        let isClosed = Mutex(false)

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = Array(unwrapInboundIn(data).readableBytesView)
            received.withLock { $0 += bytes }
        }

        func channelInactive(context: ChannelHandlerContext) { isClosed.withLock { $0 = true } }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }

    private let collector: Collector
    private let channel: any Channel

    init(port: Int) async throws {
        let collector = Collector()
        self.collector = collector
        channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(collector) } }
            .connect(host: "127.0.0.1", port: port).get()
    }

    /// Errors are none of the test's: the other end may have closed by then.
    func send(_ bytes: [UInt8]) async { try? await channel.writeAndFlush(ByteBuffer(bytes: bytes)).get() }
    func close() async { try? await channel.close() }
    var received: [UInt8] { collector.received.withLock { $0 } }
    var isClosed: Bool { collector.isClosed.withLock { $0 } }

    /// The error code of the first GOAWAY that came, over plain HTTP/2.
    var goAwayCode: UInt32? {
        let bytes = received
        var position = 0
        while position + 9 <= bytes.count {
            let length = Int(bytes[position]) << 16 | Int(bytes[position + 1]) << 8 | Int(bytes[position + 2])
            if bytes[position + 3] == 7, position + 17 <= bytes.count {
                return bytes[(position + 13)..<(position + 17)].reduce(0) { $0 << 8 | UInt32($1) }
            }
            position += 9 + length
        }
        return nil
    }
}

/// HTTP/2 frames by hand.
enum Frames {
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    static func frame(_ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = []) -> [UInt8] {
        let length = payload.count
        var bytes = [UInt8(length >> 16 & 255), UInt8(length >> 8 & 255), UInt8(length & 255), type, flags]
        for shift: UInt32 in [24, 16, 8, 0] { bytes.append(UInt8(stream >> shift & 255)) }
        return bytes + payload
    }

    static let settings = frame(4)
    static let settingsAnswer = frame(4, flags: 1)
    static let ping = frame(6, [0, 0, 0, 0, 0, 0, 0, 0])
    static func reset(_ stream: UInt32) -> [UInt8] { frame(3, stream: stream, [0, 0, 0, 8]) }
    static func data(_ stream: UInt32, _ bytes: [UInt8], ends: Bool = false) -> [UInt8] { frame(0, flags: ends ? 1 : 0, stream: stream, bytes) }

    /// Fields as HPACK's literals that nobody need remember.
    static func fields(_ fields: [(String, String)]) -> [UInt8] {
        var bytes: [UInt8] = []
        for (name, value) in fields {
            bytes.append(0)
            for text in [name, value] {
                bytes.append(UInt8(text.utf8.count))
                bytes += Array(text.utf8)
            }
        }
        return bytes
    }

    static func request(
        _ stream: UInt32, _ path: String, ends: Bool = false, method: String = "POST", contentType: String = "application/grpc",
        more: [(String, String)] = []
    ) -> [UInt8] {
        frame(
            1, flags: ends ? 5 : 4, stream: stream,
            fields(
                [
                    (":method", method), (":scheme", "http"), (":path", path), (":authority", "test"), ("content-type", contentType),
                    ("te", "trailers"),
                ]
                    + more))
    }

    static func message(_ bytes: [UInt8]) -> [UInt8] { MessageFraming.prefix(length: bytes.count) + bytes }
}
