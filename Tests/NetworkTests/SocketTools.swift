import Glibc
import Namespaces
import PluginAPI
import Synchronization

/// The system's form of an address and port.
struct SocketAddress {
    var storage = sockaddr_storage()
    var length: socklen_t = 0
    let family: Int32

    init(_ address: IPAddress, _ port: UInt16) {
        family = address.isIPv4 ? AF_INET : AF_INET6
        withUnsafeMutableBytes(of: &storage) { bytes in
            bytes.storeBytes(of: sa_family_t(address.isIPv4 ? AF_INET : AF_INET6), as: sa_family_t.self)
            bytes.storeBytes(of: port.bigEndian, toByteOffset: 2, as: UInt16.self)
            for (index, byte) in address.bytes.enumerated() { bytes[(address.isIPv4 ? 4 : 8) + index] = byte }
        }
        length = socklen_t(address.isIPv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size)
    }

    func with<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        withUnsafePointer(to: storage) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) } }
    }

    static func text(_ storage: sockaddr_storage) -> String {
        withUnsafeBytes(of: storage) { bytes in
            let isIPv4 = bytes.load(as: sa_family_t.self) == sa_family_t(AF_INET)
            var raw = Array(bytes[(isIPv4 ? 4 : 8)..<(isIPv4 ? 8 : 24)])
            if !isIPv4, raw.prefix(12) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] { raw = Array(raw.suffix(4)) }
            return IPAddress(bytes: raw)?.description ?? "?"
        }
    }
}

private func failed(_ doing: String) -> ApusError { ApusError(.failed, "\(doing): \(String(cString: strerror(errno)))") }

private func patience(_ descriptor: Int32, seconds: Int) {
    var time = timeval(tv_sec: seconds, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
}

/// A server inside a namespace. Over TCP and SCTP it says `name client-address`, then repeats what it is told until the client ends.
/// Over UDP it answers each datagram with `name client-address`.
final class Server: Sendable {
    let descriptor: Int32
    private let stopPipe: (reading: Int32, writing: Int32)
    private let work: ConcurrentTask<Void, Never>

    init(_ name: String, in namespace: String, _ address: String = "0.0.0.0", port: UInt16, udp: Bool = false, sctp: Bool = false) throws(ApusError) {
        guard let address = IPAddress(address) else { throw ApusError(.invalidArgument, address) }
        let descriptor = try NetworkNamespaces.runBlocking(in: namespace) { () throws(ApusError) in
            let kind = Int32((udp ? SOCK_DGRAM : SOCK_STREAM).rawValue | SOCK_CLOEXEC.rawValue)
            let descriptor = socket(address.isIPv4 ? AF_INET : AF_INET6, kind, sctp ? Association.transport : 0)
            guard SocketAddress(address, port).with({ bind(descriptor, $0, $1) }) == 0, udp || listen(descriptor, 100) == 0 else {
                close(descriptor)
                throw failed("bind \(address):\(port)")
            }
            return descriptor
        }
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw failed("pipe") }
        let stopEvent = ends[0]
        self.descriptor = descriptor
        stopPipe = (ends[0], ends[1])
        work = ConcurrentTask {
            try? await DedicatedThread.run { () throws(ApusError) in Self.serve(descriptor, stopEvent, name, udp: udp) }
        }
    }

    /// Ends the server and its connections.
    func stop() async {
        close(stopPipe.writing)
        await work.value
        close(descriptor)
        close(stopPipe.reading)
    }

    private static func serve(_ listener: Int32, _ stopEvent: Int32, _ name: String, udp: Bool) {
        var clients: [Int32] = []
        defer { for client in clients { close(client) } }
        while true {
            var events = ([stopEvent, listener] + clients).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            guard poll(&events, nfds_t(events.count), -1) > 0, events[0].revents == 0 else { return }
            var from = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            for event in events.dropFirst(2) where event.revents != 0 {
                var buffer = [UInt8](repeating: 0, count: 4096)
                let count = read(event.fd, &buffer, buffer.count)
                if count > 0 {
                    _ = send(event.fd, buffer, count, Int32(MSG_NOSIGNAL))
                } else {
                    close(event.fd)
                    clients.removeAll { $0 == event.fd }
                }
            }
            guard events[1].revents != 0 else { continue }
            withUnsafeMutablePointer(to: &from) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                    if udp {
                        var buffer = [UInt8](repeating: 0, count: 4096)
                        guard recvfrom(listener, &buffer, buffer.count, 0, address, &length) >= 0 else { return }
                        let answer = Array("\(name) \(SocketAddress.text(pointer.pointee))".utf8)
                        sendto(listener, answer, answer.count, 0, address, length)
                    } else {
                        let client = accept(listener, address, &length)
                        guard client >= 0 else { return }
                        let greeting = Array("\(name) \(SocketAddress.text(pointer.pointee))\n".utf8)
                        _ = send(client, greeting, greeting.count, Int32(MSG_NOSIGNAL))
                        clients.append(client)
                    }
                }
            }
        }
    }
}

/// A client's TCP connection, or association of SCTP, out of a namespace.
final class Connection: Sendable {
    let descriptor: Int32

    /// - Parameters:
    ///   - localPort: the client's, or 0 for any.
    ///   - seconds: how long to wait for an answer; long, because a busy machine must not fail a test.
    init(
        from namespace: String, to address: String, port: UInt16, localPort: UInt16 = 0, seconds: Int = 15, sctp: Bool = false
    ) async throws(ApusError) {
        guard let address = IPAddress(address) else { throw ApusError(.invalidArgument, address) }
        descriptor = try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in
            let target = SocketAddress(address, port)
            let descriptor = socket(target.family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), sctp ? Association.transport : 0)
            patience(descriptor, seconds: seconds)
            if localPort > 0, let any = IPAddress(bytes: [UInt8](repeating: 0, count: address.bytes.count)) {
                var isReusable: Int32 = 1
                setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &isReusable, socklen_t(MemoryLayout<Int32>.size))
                guard SocketAddress(any, localPort).with({ bind(descriptor, $0, $1) }) == 0 else { throw failed("bind \(localPort)") }
            }
            guard target.with({ connect(descriptor, $0, $1) }) == 0 else {
                let error = ApusError(errno == ECONNREFUSED ? .permissionDenied : errno == EINPROGRESS ? .timedOut : .failed, "\(errno)")
                close(descriptor)
                throw error
            }
            return descriptor
        }
    }

    func readLine() async throws(ApusError) -> String {
        try await DedicatedThread.run { [descriptor] () throws(ApusError) in
            var line: [UInt8] = []
            var byte: UInt8 = 0
            while true {
                guard recv(descriptor, &byte, 1, 0) == 1 else { throw failed("read") }
                if byte == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
                line.append(byte)
            }
        }
    }

    /// Says a line and returns what comes back.
    func echo(_ text: String) async throws(ApusError) -> String {
        let bytes = Array((text + "\n").utf8)
        guard send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else { throw failed("write") }
        return try await readLine()
    }

    /// Says as many bytes, while it listens, and returns how many come back as they were said.
    func exchange(_ count: Int) async throws(ApusError) -> Int {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        let writer = ConcurrentTask { [descriptor] in
            try? await DedicatedThread.run { () throws(ApusError) in
                var rest = bytes[...]
                while !rest.isEmpty {
                    let sent = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
                    guard sent > 0 else { throw failed("write") }
                    rest = rest.dropFirst(sent)
                }
            }
        }
        let received = try await DedicatedThread.run { [descriptor] () throws(ApusError) in
            var received: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 65536)
            while received.count < count {
                let got = recv(descriptor, &buffer, buffer.count, 0)
                guard got > 0 else { throw failed("read after \(received.count) bytes") }
                received += buffer[..<got]
            }
            return received
        }
        await writer.value
        return zip(bytes, received).prefix { $0 == $1 }.count
    }

    deinit { close(descriptor) }

    /// Connects, and returns the greeting as the server's name and the client's address that it saw.
    static func greeting(from namespace: String, to address: String, port: UInt16) async throws(ApusError) -> [String] {
        let connection = try await Connection(from: namespace, to: address, port: port)
        return try await connection.readLine().split(separator: " ").map(String.init)
    }

    /// Whether nobody can be reached: what was refused, or lost.
    static func error(from namespace: String, to address: String, port: UInt16) async -> ApusError.Code? {
        do throws(ApusError) {
            _ = try await Connection(from: namespace, to: address, port: port, seconds: 3)
            return nil
        } catch { return error.code }
    }
}

/// A connected UDP socket in a namespace.
final class DatagramClient: Sendable {
    let descriptor: Int32

    init(from namespace: String, to address: String, port: UInt16) async throws(ApusError) {
        guard let address = IPAddress(address) else { throw ApusError(.invalidArgument, address) }
        descriptor = try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in
            let target = SocketAddress(address, port)
            let descriptor = socket(target.family, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            patience(descriptor, seconds: 3)
            guard target.with({ connect(descriptor, $0, $1) }) == 0 else { throw failed("connect") }
            return descriptor
        }
    }

    func ask() async throws(ApusError) -> [String] {
        try await DedicatedThread.run { [descriptor] () throws(ApusError) in
            var buffer = [UInt8](repeating: 0, count: 4096)
            guard send(descriptor, "hello", 5, 0) == 5 else { throw failed("send") }
            let count = recv(descriptor, &buffer, buffer.count, 0)
            guard count >= 0 else {
                throw ApusError(errno == ECONNREFUSED ? .permissionDenied : .timedOut, "no answer: errno \(errno)")
            }
            return String(decoding: buffer.prefix(count), as: UTF8.self).split(separator: " ").map(String.init)
        }
    }

    deinit { close(descriptor) }
}
