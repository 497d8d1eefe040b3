import CNGHTTP2
import GRPCCore
import PluginAPI
import Synchronization

/// What a handler writes to.
struct ServerCall: ClosableRPCWriterProtocol {
    let stream: CallStream

    func write(_ element: RPCResponsePart<[UInt8]>) async throws {
        switch element {
        case .metadata(let metadata): try stream.write(head: metadata)
        case .message(let bytes): try await stream.write(message: bytes, maximum: .max)
        case .status(let status, let metadata): stream.end(.trailers(status, metadata))
        }
    }

    func write(contentsOf elements: some Sequence<RPCResponsePart<[UInt8]>>) async throws {
        for element in elements { try await write(element) }
    }

    func finish() async { end() }

    func finish(throwing error: any Error) async {
        let status = (error as? RPCError).map { Status(code: Status.Code($0.code), message: $0.message) }
        stream.end(.trailers(status ?? Status(code: .unknown, message: "the handler failed"), [:]))
    }

    /// Every answer has a status; a handler that wrote none is a defect.
    func end() { stream.end(.trailers(Status(code: .internalError, message: "the handler ended without a status"), [:])) }
}

/// What a handler reads.
struct RequestParts: AsyncSequence, Sendable {
    typealias Element = RPCRequestPart<[UInt8]>
    typealias Failure = any Error
    let stream: CallStream

    struct AsyncIterator: AsyncIteratorProtocol {
        let stream: CallStream

        mutating func next(isolation actor: isolated (any Actor)?) async throws(any Error) -> RPCRequestPart<[UInt8]>? {
            switch try await stream.next(isolation: actor) {
            case .metadata(let metadata)?: .metadata(metadata)
            case .message(let bytes)?: .message(bytes)
            case .status?, nil: nil
            }
        }

        mutating func next() async throws -> RPCRequestPart<[UInt8]>? { try await next(isolation: nil) }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(stream: stream) }
}

/// The handler's task and the call, which end each other.
extension CallStream {
    func adopt(_ handle: ServerContext.RPCCancellationHandle) {
        let isGone = shared.withLock { shared in
            shared.cancellation = handle
            return shared.failure != nil
        }
        if isGone { handle.cancel() }
    }

    func adopt(_ task: ConcurrentTask<Void, Never>) {
        let isCancelled = shared.withLock { shared in
            shared.task = task
            return shared.isCancelled
        }
        if isCancelled { task.cancel() }
    }

    /// The deadline has passed, or the client is gone.
    func cancelTask() {
        let task = shared.withLock { shared in
            shared.isCancelled = true
            return shared.task
        }
        task?.cancel()
    }
}
