import CLinux
import Glibc
import PluginAPI

/// The system's form of an address and port.
struct SocketAddress {
    private var storage = sockaddr_storage()
    let family: Int32

    /// - Throws: `notFound` when the zone names no interface.
    init(_ address: IPAddress, _ port: UInt16, zone: String = "") throws(ApusError) {
        let isIPv4 = address.isIPv4
        family = isIPv4 ? AF_INET : AF_INET6
        var scope: UInt32 = 0
        if !zone.isEmpty {
            scope = UInt32(zone) ?? if_nametoindex(zone)
            guard scope > 0 else { throw ApusError(.notFound, "there is no interface \(zone)") }
        }
        // Both forms start with the family and the port; the address follows, in IPv6 behind four bytes of flow information and before the scope.
        withUnsafeMutableBytes(of: &storage) { bytes in
            bytes.storeBytes(of: sa_family_t(isIPv4 ? AF_INET : AF_INET6), as: sa_family_t.self)
            bytes.storeBytes(of: port.bigEndian, toByteOffset: 2, as: UInt16.self)
            for (index, byte) in address.bytes.enumerated() { bytes[(isIPv4 ? 4 : 8) + index] = byte }
            if !isIPv4 { bytes.storeBytes(of: scope, toByteOffset: 24, as: UInt32.self) }
        }
    }

    func with(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        let length = family == AF_INET ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
        return withUnsafePointer(to: storage) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(length)) } }
    }
}

/// Calls on sockets that never block.
enum Sockets {
    /// What a socket has for a reader.
    enum Reading {
        case bytes([UInt8])
        case ended
        case nothing
        case failed(Int32)
    }

    static func open(_ family: Int32, _ kind: __socket_type) throws(ApusError) -> Int32 {
        let descriptor = socket(family, Int32(kind.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw failure("cannot open a socket") }
        return descriptor
    }

    static func set(_ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
        var value = value
        setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    /// Binds to a port that the system chooses, and returns it.
    static func bind(_ descriptor: Int32, to address: IPAddress) throws(ApusError) -> UInt16 {
        let wanted = try SocketAddress(address, 0)
        guard wanted.with({ Glibc.bind(descriptor, $0, $1) }) == 0 else { throw failure("cannot bind a socket to \(address)") }
        var bound = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let code = withUnsafeMutablePointer(to: &bound) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        guard code == 0 else { throw failure("cannot read the port of a socket") }
        return UInt16(bigEndian: bound.sin_port)
    }

    /// One datagram and its sender; `nil` when there is none. `buffer` bounds its length.
    static func receive(_ descriptor: Int32, _ buffer: inout [UInt8]) -> (bytes: [UInt8], sender: sockaddr_in)? {
        var sender = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let count = withUnsafeMutablePointer(to: &sender) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { recvfrom(descriptor, &buffer, buffer.count, 0, $0, &length) }
        }
        return count >= 0 ? (Array(buffer.prefix(count)), sender) : nil
    }

    /// Sends a datagram; what has no room is lost, as datagrams may be.
    static func send(_ descriptor: Int32, _ bytes: [UInt8], to receiver: sockaddr_in) {
        withUnsafePointer(to: receiver) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = sendto(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL), $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    /// Reads at most `limit` bytes, and no more than `buffer` has room for.
    static func read(_ descriptor: Int32, _ buffer: inout [UInt8], limit: Int = .max) -> Reading {
        while true {
            let count = recv(descriptor, &buffer, min(limit, buffer.count), 0)
            if count > 0 { return .bytes(Array(buffer.prefix(count))) }
            if count == 0 { return .ended }
            if errno == EAGAIN { return .nothing }
            if errno != EINTR { return .failed(errno) }
        }
    }

    /// Returns how many bytes were taken, or `nil` when the other side is gone.
    static func write(_ descriptor: Int32, _ bytes: ArraySlice<UInt8>) -> Int? {
        while true {
            let count = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count >= 0 { return count }
            if errno == EAGAIN { return 0 }
            if errno != EINTR { return nil }
        }
    }

    static func failure(_ doing: String, _ number: Int32 = errno) -> ApusError {
        ApusError(.failed, "\(doing): \(String(cString: strerror(number)))")
    }
}

/// An epoll(7) set whose members have numbers that are never used twice: an event of a socket that is closed by now meets nobody.
struct ReadinessSet: ~Copyable {
    let descriptor: Int32

    init() throws(ApusError) {
        descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard descriptor >= 0 else { throw Sockets.failure("cannot make an epoll set") }
    }

    func add(_ member: Int32, _ token: UInt64, writing: Bool = false) { control(EPOLL_CTL_ADD, member, token, reading: true, writing: writing) }

    func change(_ member: Int32, _ token: UInt64, reading: Bool, writing: Bool) {
        control(EPOLL_CTL_MOD, member, token, reading: reading, writing: writing)
    }

    /// Removed by hand before it is closed: a process being started may hold a copy of it for a moment, which would keep it in the set.
    func close(_ member: Int32) {
        epoll_ctl(descriptor, EPOLL_CTL_DEL, member, nil)
        Glibc.close(member)
    }

    private func control(_ operation: Int32, _ member: Int32, _ token: UInt64, reading: Bool, writing: Bool) {
        var event = epoll_event()
        event.events = (reading ? EPOLLIN.rawValue : 0) | (writing ? EPOLLOUT.rawValue : 0)
        event.data.u64 = token
        epoll_ctl(descriptor, operation, member, &event)
    }

    deinit { Glibc.close(descriptor) }
}
