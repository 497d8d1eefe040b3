import PluginAPI
import Synchronization

/// Hands pieces of a log from the one who has it to the one who reads it. There is never more than one piece on its way: who gives waits until
/// the reader has taken the last.
final class LogPipe: Sendable {
    private struct Contents {
        var piece: [UInt8]?
        /// `success` at the end of the log.
        var end: Result<Void, ApusError>?
    }

    private let contents = Mutex(Contents())
    private let space: AsyncStream<Void>
    private let taken: AsyncStream<Void>.Continuation
    private let arrivals: AsyncStream<Void>
    private let arrived: AsyncStream<Void>.Continuation

    init() {
        (space, taken) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        (arrivals, arrived) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    /// Returns when the piece is on its way. For one giver.
    /// - Throws: why nobody takes it: `cancelled`, or what `finish` was told.
    func give(_ piece: [UInt8]) async throws(ApusError) {
        var iterator = space.makeAsyncIterator()
        while true {
            let (isGiven, end) = contents.withLock { contents in
                guard contents.end == nil, contents.piece == nil else { return (false, contents.end) }
                contents.piece = piece
                return (true, nil)
            }
            if isGiven {
                arrived.yield()
                return
            }
            if let end {
                try end.get()
                throw ApusError(.cancelled, "nobody reads the log any more")
            }
            _ = await iterator.next()
            if ConcurrentTask.isCancelled { throw ApusError(CancellationError()) }
        }
    }

    /// The next piece; `nil` at the end. For one taker.
    /// - Throws: why the log broke off; `cancelled`.
    func take() async throws(ApusError) -> [UInt8]? {
        var iterator = arrivals.makeAsyncIterator()
        while true {
            let (piece, end) = contents.withLock { contents in
                defer { contents.piece = nil }
                return (contents.piece, contents.end)
            }
            if let piece {
                taken.yield()
                return piece
            }
            if let end {
                try end.get()
                return nil
            }
            _ = await iterator.next()
            if ConcurrentTask.isCancelled { throw ApusError(CancellationError()) }
        }
    }

    /// Nothing is given any more; what is on its way can still be taken. The first end counts.
    func finish(_ error: ApusError? = nil) {
        contents.withLock { contents in contents.end = contents.end ?? error.map { .failure($0) } ?? .success(()) }
        taken.finish()
        arrived.finish()
    }
}
