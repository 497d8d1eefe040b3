import CNetlink
import Glibc
import Namespaces
import PluginAPI

/// A netlink socket for many messages at once. The kernel takes them one after the other and answers only to those that it refuses.
///
/// The socket stays in the namespace in which it was opened and is used by one thread at a time.
final class NetlinkChannel {
    private let socket: Int32
    private var sequence: UInt32 = 0

    /// Messages that go in one datagram. Were all refused, their answers still fit the socket's receive buffer.
    private static let batchSize = 128
    private static let bufferSize = 1 << 16
    /// SOL_NETLINK, which Glibc's module does not show.
    private static let netlinkLevel: Int32 = 270

    /// - Parameters:
    ///   - protocol: NETLINK_ROUTE or NETLINK_XFRM.
    ///   - path: of a pinned namespace; `nil` is the calling thread's.
    /// - Throws: `unavailable` when the kernel has no such protocol.
    init(_ protocol: Int32, inNamespace path: String? = nil) throws(ApusError) {
        if let path {
            socket = try NetworkNamespaces.runBlocking(in: path) { () throws(ApusError) in try Self.open(`protocol`) }
        } else {
            socket = try Self.open(`protocol`)
        }
    }

    deinit { close(socket) }

    /// Sends all messages, in order.
    /// - Returns: the error numbers of those that were refused, by their place. All others are in force.
    func send(_ messages: [NetlinkMessage]) throws(ApusError) -> [Int: Int32] {
        var refusals: [Int: Int32] = [:]
        var start = 0
        while start < messages.count {
            let end = min(start + Self.batchSize, messages.count)
            let first = sequence &+ 1
            var bytes: [UInt8] = []
            for index in start..<end {
                sequence &+= 1
                bytes += messages[index].bytes(sequence: sequence, flags: index == end - 1 ? NLM_F_ACK : 0)
            }
            try transmit(bytes)
            try receive(until: sequence) { type, number, body in
                guard type == UInt16(NLMSG_ERROR), let code = body.number(at: 0, as: Int32.self) else { return }
                if code != 0 { refusals[start + Int(number &- first)] = -code }
            }
            start = end
        }
        return refusals
    }

    /// Asks for a list.
    /// - Returns: the bodies of its messages. What changes meanwhile may be in it or not.
    func dump(_ message: NetlinkMessage) throws(ApusError) -> [ArraySlice<UInt8>] {
        sequence &+= 1
        try transmit(message.bytes(sequence: sequence, flags: NLM_F_DUMP))
        var bodies: [ArraySlice<UInt8>] = []
        var refusal: Int32 = 0
        try receive(until: sequence) { type, _, body in
            if type == UInt16(NLMSG_ERROR) || type == UInt16(NLMSG_DONE) {
                refusal = body.number(at: 0, as: Int32.self) ?? 0
            } else {
                bodies.append(body)
            }
        }
        guard refusal == 0 else { throw .refusal("the kernel gives no list", -refusal) }
        return bodies
    }

    private static func open(_ protocol: Int32) throws(ApusError) -> Int32 {
        let socket = Glibc.socket(AF_NETLINK, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), `protocol`)
        guard socket >= 0 else { throw .refusal("cannot open a netlink socket", errno) }
        var yes: Int32 = 1
        // Refusals need not repeat the message.
        setsockopt(socket, netlinkLevel, NETLINK_CAP_ACK, &yes, socklen_t(MemoryLayout<Int32>.size))
        // The kernel answers at once; a thread must not be lost should it ever not.
        var patience = timeval(tv_sec: 30, tv_usec: 0)
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        return socket
    }

    private func transmit(_ bytes: [UInt8]) throws(ApusError) {
        while Glibc.send(socket, bytes, bytes.count, 0) != bytes.count {
            guard errno == EINTR else { throw .refusal("cannot send to the kernel", errno) }
        }
    }

    /// Hands every answer on, up to the one that ends what `last` asked: an acknowledgement, a refusal, or the end of a list.
    private func receive(until last: UInt32, _ take: (_ type: UInt16, _ sequence: UInt32, _ body: ArraySlice<UInt8>) -> Void) throws(ApusError) {
        var buffer = [UInt8](repeating: 0, count: Self.bufferSize)
        while true {
            let count = recv(socket, &buffer, buffer.count, 0)
            guard count >= 0 else {
                if errno == EINTR { continue }
                throw .refusal("the kernel does not answer", errno)
            }
            // A copy that the bodies share.
            var rest = Array(buffer.prefix(count))[...]
            while rest.count >= 16 {
                let length = Int(rest.number(at: 0, as: UInt32.self) ?? 0)
                guard length >= 16, length <= rest.count else { break }
                let type = rest.number(at: 4, as: UInt16.self) ?? 0
                let number = rest.number(at: 8, as: UInt32.self) ?? 0
                take(type, number, rest.dropFirst(16).prefix(length - 16))
                if number == last, type == UInt16(NLMSG_ERROR) || type == UInt16(NLMSG_DONE) { return }
                rest = rest.dropFirst((length + 3) & ~3)
            }
        }
    }

}

extension ApusError {
    /// What the kernel's error number means, behind what was being done.
    static func refusal(_ doing: String, _ number: Int32) -> ApusError {
        let code: Code =
            switch number {
            case ENOENT, ENODEV, ESRCH: .notFound
            case EEXIST, EBUSY: .conflict
            case EPERM, EACCES: .permissionDenied
            case EOPNOTSUPP, EAFNOSUPPORT, EPROTONOSUPPORT, ENOSYS: .unavailable
            default: .failed
            }
        return ApusError(code, "\(doing): \(String(cString: strerror(number)))")
    }
}
