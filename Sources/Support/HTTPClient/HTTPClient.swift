import CCurl
public import PluginAPI
import Synchronization

/// An HTTP and HTTPS client over TCP and unix sockets, with libcurl on threads of its own.
///
/// ```swift
/// let client = HTTPClient()
/// let answer = try await client.send(HTTPRequest("GET", "http://apus/v1.50/info", unixSocket: "/run/apus.sock"))
/// ```
public final class HTTPClient: Sendable {
    private let pool: WorkerPool
    private let userAgent: String

    // curl asks for one call before threads use it.
    private static let isReady: Bool = apus_curl_global_init() == CURLE_OK

    /// - Parameter maximumTransfers: more wait for their turn. A stream that is followed counts as long as it lasts.
    public init(maximumTransfers: Int = 16, userAgent: String = "apus") {
        pool = WorkerPool(maximum: maximumTransfers)
        self.userAgent = userAgent
    }

    deinit { pool.close() }

    /// Sends a request and collects the answer, whatever its status. A body of more than `limit` bytes is `tooLarge`.
    public func send(_ request: HTTPRequest, limit: Int = 16 << 20) async throws(ApusError) -> HTTPResponse {
        do throws(HTTPFailure) {
            return try await collect(request, limit: limit)
        } catch {
            throw error.error
        }
    }

    /// Sends a request and hands over the answer as it arrives.
    ///
    /// Both functions are called on the transfer's thread, in order, and may block it: nothing more is read until they return.
    /// What they throw ends the transfer and is thrown here. Cancelling the caller's task ends the transfer at once.
    public func stream(
        _ request: HTTPRequest,
        onHead: @escaping @Sendable (HTTPHead) throws(ApusError) -> Void,
        onChunk: @escaping @Sendable ([UInt8]) throws(ApusError) -> Void
    ) async throws(ApusError) {
        do throws(HTTPFailure) {
            _ = try await transfer(request, onHead: onHead, onChunk: onChunk)
        } catch {
            throw error.error
        }
    }

    /// As `send`, with the kind of a failure.
    public func collect(_ request: HTTPRequest, limit: Int = 16 << 20) async throws(HTTPFailure) -> HTTPResponse {
        let body = CollectedBody(limit: limit)
        let url = request.url
        let head = try await transfer(request, onHead: { _ in }, onChunk: { (chunk) throws(ApusError) in try body.append(chunk, from: url) })
        return HTTPResponse(head: head, body: body.take())
    }

    /// As `stream`, with the kind of a failure; returns the head.
    public func transfer(
        _ request: HTTPRequest,
        onHead: @escaping @Sendable (HTTPHead) throws(ApusError) -> Void,
        onChunk: @escaping @Sendable ([UInt8]) throws(ApusError) -> Void
    ) async throws(HTTPFailure) -> HTTPHead {
        guard Self.isReady else { throw HTTPFailure(.other, "libcurl could not be initialised") }
        let transfer = Transfer(request: request, userAgent: userAgent, onHead: onHead, onChunk: onChunk)
        let completion = Completion()
        let result = await withTaskCancellationHandler {
            let isAccepted = pool.run { loop in completion.finish(loop.run(transfer)) }
            if !isAccepted { completion.finish(.failure(HTTPFailure(.other, "no thread could be made for an HTTP transfer"))) }
            return await completion.wait()
        } onCancel: {
            let hasBegun = transfer.cancel()
            // One that still waits for a thread need not wait for it to be told.
            if !hasBegun { completion.finish(.failure(HTTPFailure(.cancelled, "the request to \(request.url) was cancelled"))) }
        }
        return try result.get()
    }
}

/// The end of a transfer, told once by whoever comes first.
private final class Completion: Sendable {
    private struct State {
        var result: Result<HTTPHead, HTTPFailure>?
        var continuation: CheckedContinuation<Result<HTTPHead, HTTPFailure>, Never>?
    }

    private let state = Mutex(State())

    func finish(_ result: Result<HTTPHead, HTTPFailure>) {
        let continuation = state.withLock { state in
            guard state.result == nil else { return nil as CheckedContinuation<Result<HTTPHead, HTTPFailure>, Never>? }
            state.result = result
            defer { state.continuation = nil }
            return state.continuation
        }
        continuation?.resume(returning: result)
    }

    func wait() async -> Result<HTTPHead, HTTPFailure> {
        await withCheckedContinuation { continuation in
            let result = state.withLock { state in
                if state.result == nil { state.continuation = continuation }
                return state.result
            }
            if let result { continuation.resume(returning: result) }
        }
    }
}

private final class CollectedBody: Sendable {
    private let bytes = Mutex<[UInt8]>([])
    private let limit: Int

    init(limit: Int) { self.limit = limit }

    func append(_ chunk: [UInt8], from url: String) throws(ApusError) {
        let isTooLarge = bytes.withLock { bytes in
            guard bytes.count + chunk.count <= limit else { return true }
            bytes.append(contentsOf: chunk)
            return false
        }
        if isTooLarge { throw ApusError(.tooLarge, "the answer of \(url) is larger than \(limit) bytes") }
    }

    func take() -> [UInt8] { bytes.withLock { $0 } }
}
