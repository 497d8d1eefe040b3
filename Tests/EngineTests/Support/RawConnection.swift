import Glibc
import Processes

/// A connection to the engine's socket on which a test writes what no client would.
struct RawConnection: Sendable {
    private let descriptor: Descriptor

    init(_ path: String, timeout: Int = 60) throws {
        descriptor = Descriptor(socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0))
        var limit = timeval(tv_sec: timeout, tv_usec: 0)
        setsockopt(descriptor.number, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor.number, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let number = descriptor.number
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard result == 0 else { throw EngineFailure("cannot connect to \(path): \(String(cString: strerror(errno)))") }
    }

    /// Writes all of it; false when the other side takes no more.
    @discardableResult
    func write(_ bytes: [UInt8]) async -> Bool {
        let number = descriptor.number
        return await onThread {
            var offset = 0
            while offset < bytes.count {
                let count = bytes.withUnsafeBytes { Glibc.send(number, $0.baseAddress.map { $0 + offset }, bytes.count - offset, Int32(MSG_NOSIGNAL)) }
                if count < 0 { return false }
                offset += count
            }
            return true
        }
    }

    @discardableResult
    func write(_ text: String) async -> Bool { await write(Array(text.utf8)) }

    /// Reads until the text has come, or the other side ends; throws when nothing comes for too long.
    func read(until text: String? = nil) async throws -> String {
        let number = descriptor.number
        let result: (bytes: [UInt8], timedOut: Bool) = await onThread {
            var bytes: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 64 << 10)
            while true {
                if let text, String(decoding: bytes, as: UTF8.self).contains(text) { return (bytes, false) }
                let count = recv(number, &buffer, buffer.count, 0)
                if count < 0, errno == EAGAIN { return (bytes, true) }
                if count <= 0 { return (bytes, false) }
                bytes.append(contentsOf: buffer[..<count])
            }
        }
        let answer = String(decoding: result.bytes, as: UTF8.self)
        if result.timedOut { throw EngineFailure("the engine neither answered nor ended the connection; so far: \(answer)") }
        return answer
    }

    func close() { descriptor.close() }
}

/// Sends one request as it is written here and reads to the end.
extension EngineHarness {
    func raw(_ parts: String...) async throws -> String {
        let connection = try RawConnection(socket)
        defer { connection.close() }
        for part in parts { await connection.write(part) }
        return try await connection.read()
    }
}
