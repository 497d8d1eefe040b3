import Files
import Glibc
import HTTPClient
import OpenSSL
import PluginAPI
import Synchronization

/// A blob on its way into a file that is named by its digest. What has arrived stays for the next attempt, until it proves wrong.
struct BlobDownload: Sendable {
    let descriptor: ContentDescriptor
    let path: String
    let session: RegistrySession
    let client: HTTPClient
    let stallTimeout: Duration
    let report: @Sendable (PullProgress) -> Void

    private static let maximumFailures = 5

    /// Returns when the file holds the whole blob and its digest is right.
    func run() async throws(ApusError) {
        var failures = 0
        var delay = Duration.milliseconds(200)
        var reached: Int64 = 0
        while true {
            let sink = try await open()
            defer { sink.close() }
            if sink.count < descriptor.size || descriptor.size == 0 {
                let result = try await attempt(sink)
                if case .failure(let failure) = result {
                    // Each attempt that brings something is a new beginning.
                    if sink.count > reached { failures = 0 }
                    reached = max(reached, sink.count)
                    failures += 1
                    guard failure.isTransient || failure.error.code == .unavailable, failures < Self.maximumFailures else {
                        if failure.error.code == .corrupt || failure.error.code == .tooLarge { unlink(path) }
                        throw failure.error
                    }
                    try await RegistrySession.pause(failure.delay ?? delay)
                    delay = min(delay * 2, .seconds(5))
                    continue
                }
            }
            report(PullProgress(id: descriptor.digest.short, status: "Verifying Checksum"))
            guard sink.count == descriptor.size else {
                unlink(path)
                throw ApusError(
                    .corrupt, "\(session.target.name) sent \(sink.count) bytes of \(descriptor.digest) where the manifest says \(descriptor.size)")
            }
            let actual = sink.digest()
            guard actual == descriptor.digest else {
                unlink(path)
                throw ApusError(.corrupt, "\(session.target.name) sent a blob of digest \(actual) where \(descriptor.digest) was asked for")
            }
            report(PullProgress(id: descriptor.digest.short, status: "Download complete", current: descriptor.size, total: descriptor.size))
            return
        }
    }

    private func open() async throws(ApusError) -> BlobSink {
        let (path, limit) = (path, descriptor.size)
        return try await onBlockingThread { () throws(ApusError) in try BlobSink(path: path, limit: limit) }
    }

    private func attempt(_ sink: BlobSink) async throws(ApusError) -> Result<HTTPHead, RegistrySession.Failure> {
        let (descriptor, report, name) = (descriptor, report, session.target.name)
        let progress = ProgressThrottle()
        return try await session.ask("/v2/\(session.target.repository)/blobs/\(descriptor.digest)", what: "the layer \(descriptor.digest.short)") {
            (request) throws(HTTPFailure) -> HTTPHead in
            var request = request
            request.redirectLimit = 10
            request.stallTimeout = stallTimeout
            let start = sink.count
            if start > 0 { request.headers["Range"] = "bytes=\(start)-" }
            return try await client.transfer(request) { (head) throws(ApusError) in
                if head.status == 206 {
                    guard let range = head.headers["Content-Range"], range.hasPrefix("bytes \(start)-") else {
                        throw ApusError(.corrupt, "\(name) sent another part of \(descriptor.digest) than it was asked for")
                    }
                } else if head.isSuccess || head.status == 416 {
                    // The whole from its beginning: this registry knows no ranges, or what we had was more than there is.
                    try sink.restart()
                }
                if head.isSuccess, head.status != 206, let length = head.headers["Content-Length"].flatMap({ Int64($0) }), length != descriptor.size {
                    throw ApusError(.corrupt, "\(name) offers \(length) bytes of \(descriptor.digest) where the manifest says \(descriptor.size)")
                }
                sink.accepts = head.isSuccess
            } onChunk: { (chunk) throws(ApusError) in
                guard sink.accepts else { return }
                guard try sink.append(chunk) else {
                    throw ApusError(.corrupt, "\(name) sends more bytes of \(descriptor.digest) than the \(descriptor.size) of the manifest")
                }
                if progress.isDue {
                    report(PullProgress(id: descriptor.digest.short, status: "Downloading", current: sink.count, total: descriptor.size))
                }
            }
        } status: {
            $0
        }
    }
}

/// The file of a download with the digest of what is in it.
private final class BlobSink: Sendable {
    private struct State {
        var descriptor: Int32
        var stream: SHA256Stream
        var count: Int64 = 0
        var accepts = false
    }

    private let state: Mutex<State>
    private let path: String
    private let limit: Int64

    /// Reads again what an earlier attempt left.
    init(path: String, limit: Int64) throws(ApusError) {
        let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Files.lastError("cannot write \(path)") }
        var initial: State
        do throws(ApusError) {
            initial = State(descriptor: descriptor, stream: try SHA256Stream())
            var buffer = [UInt8](repeating: 0, count: 256 << 10)
            while true {
                let count = read(descriptor, &buffer, buffer.count)
                if count < 0, errno == EINTR { continue }
                guard count >= 0 else { throw Files.lastError("cannot read \(path)") }
                if count == 0 { break }
                initial.stream.update(buffer[..<count])
                initial.count += Int64(count)
            }
            if initial.count > limit {
                guard ftruncate(descriptor, 0) == 0, lseek(descriptor, 0, SEEK_SET) == 0 else { throw Files.lastError("cannot empty \(path)") }
                initial.stream = try SHA256Stream()
                initial.count = 0
            }
        } catch {
            Glibc.close(descriptor)
            throw error
        }
        state = Mutex(initial)
        self.path = path
        self.limit = limit
    }

    var count: Int64 { state.withLock { $0.count } }

    var accepts: Bool {
        get { state.withLock { $0.accepts } }
        set { state.withLock { $0.accepts = newValue } }
    }

    func restart() throws(ApusError) {
        try state.withLock { (state) throws(ApusError) in
            guard state.count > 0 else { return }
            guard ftruncate(state.descriptor, 0) == 0, lseek(state.descriptor, 0, SEEK_SET) == 0 else {
                throw Files.lastError("cannot empty \(path)")
            }
            _ = state.stream.finish()
            state.count = 0
        }
    }

    /// False when that would be more than there may be.
    func append(_ bytes: [UInt8]) throws(ApusError) -> Bool {
        try state.withLock { (state) throws(ApusError) in
            guard state.count + Int64(bytes.count) <= limit else { return false }
            try Files.write(bytes, descriptor: state.descriptor, name: path)
            state.stream.update(bytes)
            state.count += Int64(bytes.count)
            return true
        }
    }

    func digest() -> ContentDigest { state.withLock { ContentDigest(finishing: &$0.stream) } }

    func close() {
        state.withLock { state in
            if state.descriptor >= 0 { Glibc.close(state.descriptor) }
            state.descriptor = -1
        }
    }

    deinit { close() }
}

/// Ten reports a second are enough for anybody.
private final class ProgressThrottle: Sendable {
    private let last = Mutex<ContinuousClock.Instant?>(nil)

    var isDue: Bool {
        let now = ContinuousClock.now
        return last.withLock { last in
            if let last, now - last < .milliseconds(100) { return false }
            last = now
            return true
        }
    }
}
