import PluginAPI
import Synchronization

/// What has changed for one node since its stream of assignments looked last.
final class AssignmentMailbox: Sendable {
    struct News: Sendable {
        var tasks: Set<ID> = []
        /// Services whose published ports are others.
        var services: Set<ID> = []
        /// Something was missed: everything is to be compared.
        var isEverything = false

        var isEmpty: Bool { tasks.isEmpty && services.isEmpty && !isEverything }
        var count: Int { isEverything ? .max : tasks.count + services.count }
    }

    /// Ids that are kept; what goes beyond is looked for by comparing everything.
    static var limit: Int { 10_000 }

    private let news = Mutex(News())
    private let wakeups: AsyncStream<Void>
    private let wake: AsyncStream<Void>.Continuation

    init() { (wakeups, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1)) }

    func add(_ change: (inout News) -> Void) {
        news.withLock { news in
            change(&news)
            if !news.isEverything, news.count > Self.limit {
                news = News()
                news.isEverything = true
            }
        }
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

    /// One element each time that there is something to take. For one reader.
    var signals: AsyncStream<Void> { wakeups }
}
