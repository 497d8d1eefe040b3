import Glibc
import Synchronization

/// An HTTP server whose every byte a test decides: one thread to accept, one for each connection, blocking sockets.
///
/// Tests of two targets use this file; the other has it as a symbolic link.
final class ScriptedServer: Sendable {
    struct Request: Sendable {
        var method = ""
        /// With its query.
        var path = ""
        /// Names in lower case.
        var headers: [String: String] = [:]
        var body: [UInt8] = []
    }

    /// The server's side of one connection.
    final class Connection: Sendable {
        private let descriptor: Int32
        private let state = Mutex(false)

        init(_ descriptor: Int32) { self.descriptor = descriptor }

        var isClosed: Bool { state.withLock { $0 } }

        /// False when the client is gone.
        @discardableResult
        func write(_ bytes: some Collection<UInt8>) -> Bool {
            let bytes = Array(bytes)
            var offset = 0
            while offset < bytes.count {
                let count = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress.map { $0 + offset }, bytes.count - offset, Int32(MSG_NOSIGNAL)) }
                if count <= 0 { return false }
                offset += count
            }
            return true
        }

        @discardableResult
        func write(_ text: String) -> Bool { write(Array(text.utf8)) }

        /// A whole answer.
        func answer(_ status: Int, _ headers: [String: String] = [:], _ body: [UInt8] = []) {
            var text = "HTTP/1.1 \(status) Status\r\nContent-Length: \(body.count)\r\n"
            for (name, value) in headers where name != "Content-Length" { text += "\(name): \(value)\r\n" }
            write(text + "\r\n")
            write(body)
        }

        /// Ends the connection, with a reset if it is to look broken.
        func close(reset: Bool = false) {
            let isFirst = state.withLock { closed in
                defer { closed = true }
                return !closed
            }
            guard isFirst else { return }
            if reset {
                var option = linger(l_onoff: 1, l_linger: 0)
                setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
            } else {
                shutdown(descriptor, Int32(SHUT_RDWR))
            }
            Glibc.close(descriptor)
        }

        /// Returns when the client has closed its side.
        func waitForEnd() {
            var byte: UInt8 = 0
            while recv(descriptor, &byte, 1, 0) > 0 {}
        }

        fileprivate func readRequest() -> Request? {
            var buffer: [UInt8] = []
            var byte: UInt8 = 0
            while !buffer.suffix(4).elementsEqual([13, 10, 13, 10]) {
                guard buffer.count < 1 << 20, recv(descriptor, &byte, 1, 0) == 1 else { return nil }
                buffer.append(byte)
            }
            let lines = String(decoding: buffer, as: UTF8.self).split(separator: "\r\n")
            guard let first = lines.first?.split(separator: " "), first.count == 3 else { return nil }
            var request = Request(method: String(first[0]), path: String(first[1]))
            for line in lines.dropFirst() {
                guard let colon = line.firstIndex(of: ":") else { continue }
                request.headers[line[..<colon].lowercased()] = String(line[line.index(after: colon)...].drop { $0 == " " })
            }
            if let length = request.headers["content-length"].flatMap({ Int($0) }) {
                request.body = readExactly(length)
            } else if request.headers["transfer-encoding"]?.lowercased() == "chunked" {
                while let size = readLine().flatMap({ Int($0, radix: 16) }), size > 0 {
                    request.body += readExactly(size)
                    _ = readLine()
                }
                _ = readLine()
            }
            return request
        }

        private func readExactly(_ count: Int) -> [UInt8] {
            var bytes = [UInt8](repeating: 0, count: count)
            var offset = 0
            while offset < count {
                let read = bytes.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress.map { $0 + offset }, count - offset, 0) }
                if read <= 0 { break }
                offset += read
            }
            return Array(bytes.prefix(offset))
        }

        private func readLine() -> String? {
            var line: [UInt8] = []
            var byte: UInt8 = 0
            while recv(descriptor, &byte, 1, 0) == 1 {
                if byte == 10 { return String(decoding: line, as: UTF8.self) }
                if byte != 13 { line.append(byte) }
            }
            return nil
        }
    }

    typealias Handler = @Sendable (Request, Connection) -> Void

    private struct State {
        var requests: [Request] = []
        var connections: [Connection] = []
        var isStopped = false
    }

    private let listener: Int32
    let port: UInt16
    private let handler: Handler
    private let state = Mutex(State())

    /// Listens on a free port of 127.0.0.1, or on a unix socket.
    init(unixSocket: String? = nil, _ handler: @escaping Handler) {
        self.handler = handler
        var bound: UInt16 = 0
        let stream = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let listener = socket(unixSocket == nil ? AF_INET : AF_UNIX, stream, 0)
        self.listener = listener
        if let unixSocket {
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(unixSocket.utf8.prefix(100))) }
            withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
            }
        } else {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    _ = bind(listener, $0, length)
                    getsockname(listener, $0, &length)
                }
            }
            bound = UInt16(bigEndian: address.sin_port)
        }
        port = bound
        listen(listener, 64)
        Self.thread { [self] in accept() }
    }

    var url: String { "http://127.0.0.1:\(port)" }
    /// What has been asked so far.
    var requests: [Request] { state.withLock { $0.requests } }

    func stop() {
        let connections = state.withLock { state in
            defer { state.isStopped = true }
            return state.isStopped ? [] : state.connections
        }
        // The thread that accepts closes it.
        shutdown(listener, Int32(SHUT_RDWR))
        for connection in connections { connection.close() }
    }

    private func accept() {
        while true {
            let descriptor = Glibc.accept(listener, nil, nil)
            guard descriptor >= 0 else {
                if errno == EINTR || errno == ECONNABORTED { continue }
                close(listener)
                return
            }
            let connection = Connection(descriptor)
            let isStopped = state.withLock { state in
                state.connections.removeAll { $0.isClosed }
                state.connections.append(connection)
                return state.isStopped
            }
            if isStopped {
                connection.close()
                continue
            }
            Self.thread { [self] in
                while !connection.isClosed, let request = connection.readRequest() {
                    state.withLock { $0.requests.append(request) }
                    handler(request, connection)
                }
                connection.close()
            }
        }
    }

    private static func thread(_ body: @escaping @Sendable () -> Void) {
        final class Box: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Box(body))
        let result = pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<Box>.fromOpaque(context).takeRetainedValue().body() }
                return nil
            }, box.toOpaque())
        if result == 0 { pthread_detach(thread) } else { box.release() }
    }
}
