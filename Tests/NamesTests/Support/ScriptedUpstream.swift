import Glibc
import PluginAPI
import Processes
import Synchronization

@testable import Names

/// An upstream server on this machine's loopback that does what it is told to: for each query, some messages, each after a while.
final class ScriptedUpstream: Sendable {
    struct Reaction {
        var bytes: [UInt8]
        var delay: Duration = .zero
    }
    typealias Script = @Sendable (_ query: [UInt8], _ name: String, _ isStream: Bool) -> [Reaction]

    let server: UpstreamServer
    private let script: Script
    private let datagrams: Int32
    private let listener: Int32
    private let isStopped = Mutex(false)
    private let seen = Mutex<[(name: String, isStream: Bool, port: UInt16, id: UInt16, bytes: [UInt8])]>([])

    /// - Parameter hasStreams: without them, TCP connections are refused.
    init(address text: String = "127.0.0.1", hasStreams: Bool = true, _ script: @escaping Script) throws {
        let address = try address(text)
        let datagrams = try Sockets.open(address.isIPv4 ? AF_INET : AF_INET6, SOCK_DGRAM)
        var port: UInt16 = 0
        var listener: Int32 = -1
        // One port for both; the next try has another one.
        for _ in 0..<100 where listener < 0 {
            port = UInt16.random(in: 20000...30000)
            let target = try SocketAddress(address, port)
            let stream = try Sockets.open(target.family, SOCK_STREAM)
            let isFree = target.with { Glibc.bind(stream, $0, $1) } == 0 && target.with { Glibc.bind(datagrams, $0, $1) } == 0
            if isFree { listener = stream } else { close(stream) }
        }
        guard listener >= 0, !hasStreams || listen(listener, 16) == 0 else { throw Sockets.failure("listen") }
        self.datagrams = datagrams
        self.listener = listener
        self.script = script
        server = UpstreamServer(address, port: port)
        startThread(named: "upstream") { self.serveDatagrams() }
        if hasStreams { startThread(named: "upstream") { self.serveStreams() } }
    }

    deinit {
        close(datagrams)
        close(listener)
    }

    /// Must be called in the end: the threads keep it alive until then.
    func stop() { isStopped.withLock { $0 = true } }

    var queries: [(name: String, isStream: Bool, port: UInt16, id: UInt16, bytes: [UInt8])] { seen.withLock { $0 } }

    private func react(_ bytes: [UInt8], isStream: Bool, port: UInt16, _ send: @escaping @Sendable ([UInt8]) -> Void) {
        guard case .query(let query) = Query.receive(bytes) else { return }
        let name = query.question.name.key ?? ""
        seen.withLock { $0.append((name, isStream, port, query.header.id, bytes)) }
        for reaction in script(bytes, name, isStream) {
            if reaction.delay == .zero { send(reaction.bytes) } else { _ = Deadline.shared.after(reaction.delay) { send(reaction.bytes) } }
        }
    }

    private func serveDatagrams() {
        let descriptor = datagrams
        var buffer = [UInt8](repeating: 0, count: 65535)
        while !isStopped.withLock({ $0 }) {
            var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&event, 1, 50) > 0 else { continue }
            var sender = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let count = withUnsafeMutablePointer(to: &sender) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { recvfrom(descriptor, &buffer, buffer.count, 0, $0, &length) }
            }
            guard count > 0 else { continue }
            let (to, size) = (sender, length)
            let port = withUnsafeBytes(of: sender) { UInt16(bigEndian: $0.load(fromByteOffset: 2, as: UInt16.self)) }
            react(Array(buffer.prefix(count)), isStream: false, port: port) { answer in
                withUnsafePointer(to: to) {
                    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = sendto(descriptor, answer, answer.count, Int32(MSG_NOSIGNAL), $0, size) }
                }
            }
        }
    }

    private func serveStreams() {
        let descriptor = listener
        while !isStopped.withLock({ $0 }) {
            var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&event, 1, 50) > 0 else { continue }
            let client = accept(descriptor, nil, nil)
            guard client >= 0 else { continue }
            startThread(named: "upstream") { [self] in
                var patience = timeval(tv_sec: 5, tv_usec: 0)
                setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
                defer { close(client) }
                var head: [UInt8] = [0, 0]
                while recv(client, &head, 2, Int32(MSG_WAITALL)) == 2 {
                    var message = [UInt8](repeating: 0, count: Int(head[0]) << 8 | Int(head[1]))
                    guard recv(client, &message, message.count, Int32(MSG_WAITALL)) == message.count else { return }
                    react(message, isStream: true, port: 0) { answer in
                        let frame = Client.frame(answer)
                        _ = Glibc.send(client, frame, frame.count, Int32(MSG_NOSIGNAL))
                    }
                }
            }
        }
    }
}
