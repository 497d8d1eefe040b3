import PluginAPI
import Synchronization

/// What has changed since the one reader looked last.
final class Mailbox<Key: Hashable & Sendable>: Sendable {
    struct News: Sendable {
        var keys: Set<Key> = []
        /// Something was missed: everything is to be compared.
        var isEverything = false

        var isEmpty: Bool { keys.isEmpty && !isEverything }
        var count: Int { isEverything ? .max : keys.count }
    }

    /// Keys that are kept; what goes beyond is looked for by comparing everything.
    static var limit: Int { 10_000 }

    private let news = Mutex(News())
    private let wakeups: AsyncStream<Void>
    private let wake: AsyncStream<Void>.Continuation

    init() { (wakeups, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1)) }

    /// Also without a key the reader looks.
    func add(_ keys: some Sequence<Key>) {
        news.withLock { news in
            guard !news.isEverything else { return }
            news.keys.formUnion(keys)
            if news.count > Self.limit { news = News(isEverything: true) }
        }
        wake.yield()
    }

    func addEverything() {
        news.withLock { $0 = News(isEverything: true) }
        wake.yield()
    }

    /// The reader gets the end of the stream.
    func close() { wake.finish() }

    func take() -> News {
        news.withLock { news in
            defer { news = News() }
            return news
        }
    }

    var count: Int { news.withLock(\.count) }

    /// Returns the next time that there is something to take, but lets more come first: the first change goes at once, then it is waited for a
    /// tenth of a second since the last message, or until there are a hundred.
    /// - Returns: false at the end.
    func wait(after last: ContinuousClock.Instant, _ iterator: inout AsyncStream<Void>.Iterator) async throws -> Bool {
        guard await iterator.next() != nil else { return false }
        while count < 100, case let rest = last + .milliseconds(100) - .now, rest > .zero {
            try await ConcurrentTask.sleep(for: min(rest, .milliseconds(20)))
        }
        return true
    }

    /// One element each time that there is something to take. For one reader.
    var signals: AsyncStream<Void> { wakeups }
}
