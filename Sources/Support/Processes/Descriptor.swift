import CLinux
import Glibc
public import PluginAPI
import Synchronization

/// A file descriptor that is closed once, at the latest with its object.
public final class Descriptor: Sendable {
    private let value: Mutex<Int32>

    /// Takes the descriptor over: nobody else may close it.
    public init(_ number: Int32) { value = Mutex(number) }

    /// -1 after `close`.
    public var number: Int32 { value.withLock { $0 } }

    /// Does nothing the second time.
    public func close() {
        let number = value.withLock { value in
            defer { value = -1 }
            return value
        }
        if number >= 0 { Glibc.close(number) }
    }

    deinit { close() }

    private func makeNonBlocking() {
        let number = number
        _ = fcntl(number, F_SETFL, fcntl(number, F_GETFL) | O_NONBLOCK)
    }

    /// Reads to the end without holding a thread; what is past the limit is dropped. Closes.
    public func collect(limit: Int) async -> [UInt8] {
        makeNonBlocking()
        defer { close() }
        var content: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = read(number, &buffer, buffer.count)
            if count > 0 {
                content.append(contentsOf: buffer[..<min(count, max(0, limit - content.count))])
            } else if count < 0, errno == EAGAIN {
                await ReadinessPoller.shared.waitUntilReadable(number)
            } else if count == 0 || errno != EINTR {
                return content
            }
        }
    }

    /// Writes everything without holding a thread, unless the reader goes away. Closes.
    public func feed(_ bytes: [UInt8]) async {
        makeNonBlocking()
        defer { close() }
        var offset = 0
        while offset < bytes.count {
            let count = bytes.withUnsafeBytes { write(number, $0.baseAddress.map { $0 + offset }, bytes.count - offset) }
            if count > 0 {
                offset += count
            } else if errno == EAGAIN {
                await ReadinessPoller.shared.waitUntilWritable(number)
            } else if errno != EINTR {
                return
            }
        }
    }
}

/// Both ends of a pipe; neither is inherited unless asked for.
public struct Pipe: Sendable {
    public let reader: Descriptor
    public let writer: Descriptor

    public init() throws(ApusError) {
        var ends: [Int32] = [-1, -1]
        guard apus_pipe2(&ends, O_CLOEXEC) == 0 else { throw ApusError(.failed, "cannot make a pipe: \(String(cString: strerror(errno)))") }
        reader = Descriptor(ends[0])
        writer = Descriptor(ends[1])
    }
}
