import PluginAPI
import Synchronization

/// News for one worker that takes all of it at once.
final class Inbox: Sendable {
    struct News {
        var events: [SwarmEvent] = []
        var schedulerChanged = false
        /// The store ended the watch.
        var isClosed = false
        var isEmpty: Bool { events.isEmpty && !schedulerChanged && !isClosed }
    }

    private struct Contents {
        var news = News()
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let contents = Mutex(Contents())

    func add(_ events: [SwarmEvent]) { change { $0.events += events } }
    func addSchedulerChange() { change { $0.schedulerChanged = true } }
    func close() { change { $0.isClosed = true } }

    func take() -> News {
        contents.withLock { contents in
            defer { contents.news = News() }
            return contents.news
        }
    }

    /// Returns when there are news, at the given time, or when cancelled.
    func wait(until time: Timestamp?, _ clock: some ManagerClock) async {
        guard let time else { return await wait() }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.wait() }
            group.addTask { await clock.sleep(until: time) }
            await group.next()
            group.cancelAll()
        }
    }

    private func wait() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isReady = contents.withLock { contents in
                    guard contents.news.isEmpty else { return true }
                    contents.waiter = continuation
                    return false
                }
                if isReady { return continuation.resume() }
                // A cancellation before the continuation was stored found nobody to wake.
                if ConcurrentTask.isCancelled { wake() }
            }
        } onCancel: {
            wake()
        }
    }

    private func change(_ body: (inout News) -> Void) {
        contents.withLock { body(&$0.news) }
        wake()
    }

    private func wake() {
        let waiter = contents.withLock { contents in
            defer { contents.waiter = nil }
            return contents.waiter
        }
        waiter?.resume()
    }
}
