import Coding
import Glibc
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import PluginAPI
import Processes

/// Serves the Engine API on sockets (HTTP/1.1 on swift-nio).
///
/// Each connection is a child of the server's task, and each request a child of its connection: when a client goes away, what was done
/// for it is cancelled.
struct HTTPServer: Sendable {
    typealias Channel = NIOAsyncChannel<HTTPServerRequestPart, HTTPServerResponsePart>

    /// Bodies of JSON; what streams its body has no limit here.
    static let bodyLimit = 8 << 20

    /// How long a client may take to notice the end of a connection that this side has ended.
    static let lingering: Duration = .seconds(2)

    let router: Router
    let logger: Logger
    /// Headers of every answer.
    let commonHeaders: [(String, String)]

    /// Binds a unix socket, readable and writable by root and one group.
    /// - Throws: `conflict` when another program answers there.
    static func bind(unixSocket path: String, group: gid_t?, on loops: any EventLoopGroup) async throws(ApusError) -> NIOAsyncChannel<Channel, Never> {
        if Self.answers(path) { throw ApusError(.conflict, "another program already listens on \(path); stop it, or choose another --host") }
        unlink(path)
        do {
            let server = try await ServerBootstrap(group: loops)
                .serverChannelOption(.backlog, value: 1024)
                .serverChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        // A program that a plugin starts must not hold the socket when this engine has ended.
                        try channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { socket in
                            _ = fcntl(socket, F_SETFD, FD_CLOEXEC)
                        }
                    }
                }
                .bind(unixDomainSocketPath: path) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.configureHTTPServerPipeline(withPipeliningAssistance: false, withErrorHandling: true)
                        return try Channel(
                            wrappingChannelSynchronously: channel,
                            // The end of the answers is told at once, while the rest of a request is still read.
                            configuration: .init(isOutboundHalfClosureEnabled: true))
                    }
                }
            guard chmod(path, 0o660) == 0, chown(path, 0, group ?? 0) == 0 else {
                throw ApusError(.failed, "cannot set the permissions of \(path): \(String(cString: strerror(errno)))")
            }
            return server
        } catch let error as ApusError {
            throw error
        } catch {
            throw ApusError(.failed, "cannot listen on \(path): \(error)")
        }
    }

    private static func answers(_ path: String) -> Bool {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let fits = withUnsafeMutableBytes(of: &address.sun_path) { target in
            guard path.utf8.count < target.count else { return false }
            target.copyBytes(from: path.utf8)
            return true
        }
        guard fits else { return false }
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0 }
        }
    }

    /// Serves until cancelled.
    func run(_ listener: NIOAsyncChannel<Channel, Never>) async {
        do {
            try await listener.executeThenClose { connections in
                try await withThrowingDiscardingTaskGroup { group in
                    for try await connection in connections {
                        group.addTask { await serve(connection) }
                    }
                }
            }
        } catch {
            if !(error is CancellationError) { logger.error("the API stopped listening: \(error)") }
        }
    }

    private func serve(_ connection: Channel) async {
        do {
            try await connection.executeThenClose { inbound, outbound in
                try await withThrowingTaskGroup(of: Bool.self) { group in
                    var parts = inbound.makeAsyncIterator()
                    // At most one request at a time; while it is answered, the next part is awaited, which tells when the client goes away.
                    var isAnswering = false
                    while let part = try await parts.next() {
                        guard case .head(let head) = part else { continue }
                        if isAnswering, try await group.next() != true { break }
                        isAnswering = true
                        guard try await receive(head, &parts, outbound, connection.channel, &group) else { break }
                    }
                    group.cancelAll()
                }
            }
        } catch {
            logger.debug("connection ended: \(error)")
        }
    }

    /// Reads the body and starts the answer. Returns false when the connection must end.
    private func receive(
        _ head: HTTPRequestHead, _ parts: inout NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator,
        _ outbound: NIOAsyncChannelOutboundWriter<HTTPServerResponsePart>, _ channel: any NIOCore.Channel,
        _ group: inout ThrowingTaskGroup<Bool, any Error>
    ) async throws -> Bool {
        let writer = ResponseWriter(outbound: outbound, channel: channel, head: head, commonHeaders: commonHeaders)
        var request: APIRequest
        let route: Router.Route
        do throws(ApusError) {
            var headers: [String: String] = [:]
            for (name, value) in head.headers { headers[name.lowercased()] = value }
            request = try APIRequest.parse(method: head.method.rawValue, target: head.uri, headers: headers)
            (route, request.parameters) = try router.find(request.method, request.path)
            let length = head.headers.first(name: "content-length").flatMap { Int($0) } ?? 0
            guard route.streamsBody || length <= Self.bodyLimit else { throw Self.tooLarge }
        } catch {
            return try await refuse(error, &parts, writer, &group)
        }
        logger.debug("\(request.method) \(head.uri)")
        if head.headers.first(name: "expect")?.lowercased() == "100-continue" {
            try await outbound.write(.head(HTTPResponseHead(version: head.version, status: .continue)))
        }
        if route.streamsBody {
            return try await stream(request, route, &parts, writer, &group)
        }
        while let part = try await parts.next() {
            switch part {
            case .head: continue
            case .body(let buffer):
                guard request.body.count + buffer.readableBytes <= Self.bodyLimit else {
                    request.body = []
                    return try await refuse(Self.tooLarge, &parts, writer, &group)
                }
                request.body.append(contentsOf: buffer.readableBytesView)
            case .end:
                let complete = request
                group.addTask { try await writer.send(await answer(complete, route), closing: !head.isKeepAlive) }
                return true
            }
        }
        return false
    }

    private static var tooLarge: ApusError { ApusError(.tooLarge, "the body is larger than \(bodyLimit) bytes") }

    /// Answers before the request has ended. The rest of it is read and dropped: a socket that is closed with bytes unread takes the answer
    /// from a client that still sends.
    private func refuse(
        _ error: ApusError, _ parts: inout NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator, _ writer: ResponseWriter,
        _ group: inout ThrowingTaskGroup<Bool, any Error>
    ) async throws -> Bool {
        group.addTask { try await writer.send(.error(error), closing: true) }
        while try await parts.next() != nil {}
        return false
    }

    /// Feeds the body into a pipe while the route reads it.
    private func stream(
        _ request: APIRequest, _ route: Router.Route,
        _ parts: inout NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator, _ writer: ResponseWriter,
        _ group: inout ThrowingTaskGroup<Bool, any Error>
    ) async throws -> Bool {
        let pipe = try Pipe()
        let reader = pipe.reader
        var request = request
        request.bodyDescriptor = reader.number
        let complete = request
        group.addTask {
            let response = await answer(complete, route)
            // Closed here, so that the feeder is not left waiting for a reader that has seen enough.
            reader.close()
            return try await writer.send(response, closing: true)
        }
        let feeder = BodyFeeder(pipe.writer)
        var isComplete = false
        // A body that was cut short must not look like one that ended: the route is cancelled before its pipe ends.
        defer {
            if !isComplete { group.cancelAll() }
            feeder.close()
        }
        while !isComplete, let part = try await parts.next() {
            switch part {
            case .head: continue
            case .body(let buffer): await feeder.write(Array(buffer.readableBytesView))
            case .end: isComplete = true
            }
        }
        return isComplete
    }

    private func answer(_ request: APIRequest, _ route: Router.Route) async -> APIResponse {
        do throws(ApusError) {
            return try await route.handler(request)
        } catch {
            if error.code.httpStatus == 500 { logger.warning("\(request.method) /\(request.path.joined(separator: "/")): \(error)") }
            return .error(error)
        }
    }
}

/// Writes a request's body into a pipe without holding a thread.
private final class BodyFeeder: Sendable {
    private let descriptor: Descriptor

    init(_ descriptor: Descriptor) {
        self.descriptor = descriptor
        _ = fcntl(descriptor.number, F_SETFL, O_NONBLOCK)
    }

    /// Bytes that nobody reads any more are dropped.
    func write(_ bytes: [UInt8]) async {
        var offset = 0
        while offset < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor.number, $0.baseAddress.map { $0 + offset }, bytes.count - offset) }
            if count > 0 {
                offset += count
            } else if errno == EAGAIN {
                await ReadinessPoller.shared.waitUntilWritable(descriptor.number)
            } else if errno != EINTR {
                return
            }
        }
    }

    func close() { descriptor.close() }
}

/// Writes one answer.
private struct ResponseWriter: APIResponseWriter {
    let outbound: NIOAsyncChannelOutboundWriter<HTTPServerResponsePart>
    let channel: any NIOCore.Channel
    let head: HTTPRequestHead
    let commonHeaders: [(String, String)]

    /// Returns whether the connection can take another request.
    func send(_ response: APIResponse, closing: Bool) async throws -> Bool {
        var headers = HTTPHeaders(commonHeaders + response.headers)
        if let type = response.contentType { headers.add(name: "Content-Type", value: type) }
        var closing = closing
        switch response.body {
        case .none: if response.status != 204, response.status != 304 { headers.add(name: "Content-Length", value: "0") }
        case .bytes(let bytes): headers.add(name: "Content-Length", value: String(bytes.count))
        case .stream: closing = true
        }
        if closing { headers.add(name: "Connection", value: "close") }
        try await outbound.write(
            .head(HTTPResponseHead(version: head.version, status: .init(statusCode: response.status), headers: headers)))
        if head.method != .HEAD {
            switch response.body {
            case .none: break
            case .bytes(let bytes): try await write(bytes)
            case .stream(let body): try await body(self)
            }
        }
        try await outbound.write(.end(nil))
        guard closing else { return true }
        outbound.finish()
        // The client ends the connection; one that does not is not waited for.
        try await ConcurrentTask.sleep(for: HTTPServer.lingering)
        try await channel.close()
        return false
    }

    func write(_ bytes: [UInt8]) async throws {
        if !bytes.isEmpty { try await outbound.write(.body(.byteBuffer(ByteBuffer(bytes: bytes)))) }
    }
}
