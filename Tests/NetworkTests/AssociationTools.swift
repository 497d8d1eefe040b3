import Glibc
import Namespaces
import PluginAPI

/// SCTP (RFC 9260), by the kernel where it has it, and else by raw packets: what forwards and translates them needs no SCTP of its own.
enum Association {
    /// The number of the protocol.
    static let transport: Int32 = 132

    /// Whether this kernel has SCTP. Debian's has; then it answers packets itself.
    static let isInKernel: Bool = {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), transport)
        if descriptor >= 0 { close(descriptor) }
        return descriptor >= 0
    }()

    /// A raw socket for packets of SCTP in the calling thread's namespace, with five seconds of patience.
    static func rawSocket() throws(ApusError) -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), transport)
        guard descriptor >= 0 else { throw ApusError(.failed, "socket: errno \(errno)") }
        var time = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        return descriptor
    }

    /// What every first packet here says that the answer must begin with.
    static let tag: [UInt8] = [1, 2, 3, 4]

    /// An INIT chunk alone in its packet.
    static func initiation(from source: UInt16, to destination: UInt16) -> [UInt8] {
        packet(from: source, to: destination, tag: [0, 0, 0, 0], [1, 0, 0, 20] + tag + [0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1])
    }

    /// An INIT ACK chunk, with a cookie of four bytes.
    static func acknowledgement(from source: UInt16, to destination: UInt16) -> [UInt8] {
        packet(from: source, to: destination, tag: tag, [2, 0, 0, 28, 5, 6, 7, 8, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 7, 0, 8, 9, 9, 9, 9])
    }

    private static func packet(from source: UInt16, to destination: UInt16, tag: [UInt8], _ chunk: [UInt8]) -> [UInt8] {
        var packet = [UInt8(source >> 8), UInt8(source & 0xff), UInt8(destination >> 8), UInt8(destination & 0xff)] + tag + [0, 0, 0, 0] + chunk
        var checksum = UInt32.max
        for byte in packet {
            checksum ^= UInt32(byte)
            for _ in 0..<8 { checksum = checksum & 1 == 1 ? checksum >> 1 ^ 0x82f6_3b78 : checksum >> 1 }
        }
        withUnsafeBytes(of: (~checksum).littleEndian) { packet.replaceSubrange(8..<12, with: $0) }
        return packet
    }

    static func send(_ packet: [UInt8], by descriptor: Int32, to address: IPAddress) throws(ApusError) {
        guard SocketAddress(address, 0).with({ sendto(descriptor, packet, packet.count, 0, $0, $1) }) == packet.count else {
            throw ApusError(.failed, "sendto: errno \(errno)")
        }
    }

    /// A packet that came, behind its IPv4 header of 20 bytes.
    struct Received: Sendable {
        var source: IPAddress
        var sourcePort: UInt16
        var targetPort: UInt16
        /// The first chunk's: 1 of INIT, 2 of INIT ACK.
        var chunk: UInt8
    }

    /// - Throws: `timedOut` when none comes in five seconds.
    static func receive(_ descriptor: Int32) async throws(ApusError) -> Received {
        try await DedicatedThread.run { () throws(ApusError) in
            var buffer = [UInt8](repeating: 0, count: 200)
            guard recv(descriptor, &buffer, buffer.count, 0) > 32, let source = IPAddress(bytes: Array(buffer[12..<16])) else {
                throw ApusError(.timedOut, "no packet: errno \(errno)")
            }
            return Received(
                source: source, sourcePort: UInt16(buffer[20]) << 8 | UInt16(buffer[21]), targetPort: UInt16(buffer[22]) << 8 | UInt16(buffer[23]),
                chunk: buffer[32])
        }
    }
}
