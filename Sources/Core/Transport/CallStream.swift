import CNGHTTP2
import GRPCCore
import NIOCore
import PluginAPI
import Synchronization

/// What a call carries in either direction.
enum CallPart: Sendable {
    case metadata(Metadata)
    case message([UInt8])
    case status(Status, Metadata)
}

/// One call: the meeting point of a handler's or caller's tasks with the event loop of the connection.
///
/// Parts go through queues that are bounded in both directions: what comes in, by the stream's HTTP/2 window, which opens as parts are
/// read; what goes out, by suspending the writer. The fields without a lock belong to the event loop.
final class CallStream: @unchecked Sendable {
    let connection: Connection
    let maximumUnsentBytes: Int
    let creditThreshold: Int

    // Of the event loop.
    /// The number in HTTP/2; 0 while a client has not sent it.
    var number: Int32 = 0
    var decoder: MessageDecoder
    var headers = IncomingHeaders()
    /// What still comes in is thrown away.
    var isDiscarding = false
    var hasAnswered = false
    /// Whether the peer's first headers have come.
    var hasHeard = false
    /// Whether this end has reset it; a second reset of a request that is not sent yet would break the connection.
    var isReset = false

    /// What a client calls.
    var call: MethodDescriptor?

    let shared: Mutex<Shared>

    struct Waiter {
        var number: UInt64
        var continuation: UnsafeContinuation<Void, any Error>
    }

    enum OutboundEnd {
        case half
        case trailers(Status, Metadata)
    }

    struct Shared: ~Copyable {
        var parts = CircularBuffer<CallPart>()
        var unreadBytes = 0
        /// Bytes of the window that the peer has used and not got back.
        var uncredited = 0
        var isInboundEnded = false
        var inboundFailure: RPCError?
        var reader: UnsafeContinuation<CallPart?, any Error>?

        var head: Metadata?
        var hasHead = false
        var messages = CircularBuffer<[UInt8]>()
        /// Of the first message with its prefix, what has been sent.
        var sentOfFirst = 0
        var unsentBytes = 0
        var outboundEnd: OutboundEnd?
        /// Whether the end has been handed to HTTP/2.
        var isOutboundSent = false
        var writers: [Waiter] = []
        var nextWaiter: UInt64 = 0
        var isScheduled = false

        /// The stream is gone, and what writers are told.
        var failure: RPCError?
        var task: ConcurrentTask<Void, Never>?
        var cancellation: ServerContext.RPCCancellationHandle?
        var isCancelled = false
    }

    init(connection: Connection, maximumMessageBytes: Int, window: Int) {
        self.connection = connection
        decoder = MessageDecoder(maximumLength: maximumMessageBytes)
        maximumUnsentBytes = connection.configuration.maximumUnsentBytes
        creditThreshold = max(window / 4, 1)
        shared = Mutex(Shared())
    }

    // MARK: reading, from any task

    private enum Taken {
        case part(CallPart?, credit: Int)
        case failed(RPCError)
        case nothing
    }

    private func take(_ shared: inout Shared) -> Taken {
        if let part = shared.parts.popFirst() {
            if case .message(let bytes) = part { shared.unreadBytes -= bytes.count + MessageFraming.prefixLength }
            return .part(part, credit: credit(&shared))
        }
        if let failure = shared.inboundFailure { return .failed(failure) }
        return shared.isInboundEnded ? .part(nil, credit: 0) : .nothing
    }

    private func credit(_ shared: inout Shared) -> Int {
        let free = shared.uncredited - shared.unreadBytes
        guard free >= creditThreshold, !shared.isInboundEnded else { return 0 }
        shared.uncredited -= free
        return free
    }

    /// The next part, `nil` at the end. One reader at a time.
    func next(isolation: isolated (any Actor)? = #isolation) async throws -> CallPart? {
        switch shared.withLock({ take(&$0) }) {
        case .part(let part, let credit):
            if credit > 0 { connection.post(.credit(self, credit)) }
            return part
        case .failed(let error): throw error
        case .nothing: break
        }
        return try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { continuation in
                let taken: Taken? = shared.withLock { shared in
                    let taken = take(&shared)
                    guard case .nothing = taken else { return taken }
                    guard !ConcurrentTask<Never, Never>.isCancelled else { return .failed(Self.cancelled) }
                    shared.reader = continuation
                    return nil
                }
                switch taken {
                case .part(let part, let credit):
                    if credit > 0 { connection.post(.credit(self, credit)) }
                    continuation.resume(returning: part)
                case .failed(let error): continuation.resume(throwing: error)
                case .nothing, nil: break
                }
            }
        } onCancel: {
            let reader = shared.withLock { shared in
                defer { shared.reader = nil }
                return shared.reader
            }
            reader?.resume(throwing: Self.cancelled)
        }
    }

    static let cancelled = RPCError(code: .cancelled, message: "the call was cancelled")

    // MARK: writing, from any task

    /// Sends the metadata that opens the call or its answer.
    func write(head: Metadata) throws {
        try submit { shared in
            guard !shared.hasHead else { throw RPCError(code: .internalError, message: "metadata was written twice") }
            shared.hasHead = true
            shared.head = head
        }
    }

    /// Sends a message; suspends while more than the bound waits to be sent.
    func write(message: [UInt8], maximum: Int, isolation: isolated (any Actor)? = #isolation) async throws {
        guard message.count <= min(maximum, Int(UInt32.max)) else {
            throw RPCError(code: .resourceExhausted, message: "a message of \(message.count) bytes is larger than the limit of \(maximum)")
        }
        let mustWait = try submit { shared in
            shared.messages.append(message)
            shared.unsentBytes += message.count + MessageFraming.prefixLength
        }
        if mustWait { try await waitForRoom() }
    }

    /// Ends the own direction. Does nothing when it has ended.
    func end(_ end: OutboundEnd) {
        _ = try? submit { shared in
            if case .trailers(let status, let metadata) = end, shared.isCancelled, status.code == .unknown {
                // The handler was cancelled for its deadline, and what it threw says nothing.
                shared.outboundEnd = .trailers(Status(code: .deadlineExceeded, message: "the deadline passed"), metadata)
            } else {
                shared.outboundEnd = end
            }
        }
    }

    @discardableResult
    private func submit(_ change: (inout Shared) throws -> Void) throws -> Bool {
        let (schedule, isFull) = try shared.withLock { shared in
            if let failure = shared.failure { throw failure }
            guard shared.outboundEnd == nil else { throw RPCError(code: .internalError, message: "this direction of the call has ended") }
            try change(&shared)
            let schedule = !shared.isScheduled
            shared.isScheduled = true
            return (schedule, shared.unsentBytes > maximumUnsentBytes)
        }
        if schedule { connection.post(.wrote(self)) }
        return isFull
    }

    private func waitForRoom(isolation: isolated (any Actor)? = #isolation) async throws {
        let number = shared.withLock { shared in
            shared.nextWaiter += 1
            return shared.nextWaiter
        }
        try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { (continuation: UnsafeContinuation<Void, any Error>) in
                let outcome: Result<Void, RPCError>? = shared.withLock { shared in
                    if let failure = shared.failure { return .failure(failure) }
                    guard shared.unsentBytes > maximumUnsentBytes else { return .success(()) }
                    guard !ConcurrentTask<Never, Never>.isCancelled else { return .failure(Self.cancelled) }
                    shared.writers.append(Waiter(number: number, continuation: continuation))
                    return nil
                }
                if let outcome { continuation.resume(with: outcome) }
            }
        } onCancel: {
            let waiter = shared.withLock { shared -> Waiter? in
                guard let index = shared.writers.firstIndex(where: { $0.number == number }) else { return nil }
                return shared.writers.remove(at: index)
            }
            waiter?.continuation.resume(throwing: Self.cancelled)
        }
    }

    /// Whether nothing more comes or goes.
    var isOver: Bool { shared.withLock { $0.failure != nil || $0.isInboundEnded && $0.isOutboundSent } }

    // MARK: the event loop's side

    /// Counts bytes that came in against the window; returns what can be given back at once.
    func received(_ count: Int) -> Int {
        shared.withLock { shared in
            shared.uncredited += count
            return credit(&shared)
        }
    }

    func deliver(_ part: CallPart) {
        let reader = shared.withLock { shared -> UnsafeContinuation<CallPart?, any Error>? in
            guard !shared.isInboundEnded, shared.inboundFailure == nil else { return nil }
            if let reader = shared.reader {
                shared.reader = nil
                return reader
            }
            if case .message(let bytes) = part { shared.unreadBytes += bytes.count + MessageFraming.prefixLength }
            shared.parts.append(part)
            return nil
        }
        reader?.resume(returning: part)
    }

    /// Nothing more comes in. `failure`: and that is an error.
    func endInbound(_ failure: RPCError? = nil) {
        let reader = shared.withLock { shared -> UnsafeContinuation<CallPart?, any Error>? in
            guard !shared.isInboundEnded, shared.inboundFailure == nil else { return nil }
            shared.isInboundEnded = failure == nil
            shared.inboundFailure = failure
            defer { shared.reader = nil }
            return shared.reader
        }
        if let failure { reader?.resume(throwing: failure) } else { reader?.resume(returning: nil) }
    }

    /// The stream is gone, from any thread. Whoever reads or writes gets `error`, unless his direction was complete.
    func close(_ error: RPCError) {
        endInbound(error)
        let (writers, cancellation) = shared.withLock { shared -> ([Waiter], ServerContext.RPCCancellationHandle?) in
            guard shared.failure == nil else { return ([], nil) }
            shared.failure = error
            shared.messages.removeAll()
            shared.head = nil
            shared.unsentBytes = 0
            defer { shared.writers = [] }
            return (shared.writers, shared.cancellation)
        }
        for writer in writers { writer.continuation.resume(throwing: error) }
        cancellation?.cancel()
    }
}
