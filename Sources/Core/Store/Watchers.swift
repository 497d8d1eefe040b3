import PluginAPI

/// Those who follow commits, and the commits that a late one can still get.
struct Watchers {
    private var continuations: [UInt64: AsyncStream<StoreCommit>.Continuation] = [:]
    private var nextID: UInt64 = 0
    /// The newest commits, oldest first.
    private var history: [StoreCommit] = []
    /// The version before the first of `history`.
    private var historyBase: Version
    private let historyLimit: Int
    private let watchLimit: Int

    init(version: Version, historyLimit: Int, watchLimit: Int) {
        historyBase = version
        self.historyLimit = historyLimit
        self.watchLimit = watchLimit
    }

    /// A stream of every commit from now on, with its id.
    mutating func add() -> (id: UInt64, stream: AsyncStream<StoreCommit>, continuation: AsyncStream<StoreCommit>.Continuation) {
        let (stream, continuation) = AsyncStream.makeStream(of: StoreCommit.self, bufferingPolicy: .bufferingOldest(watchLimit))
        nextID += 1
        continuations[nextID] = continuation
        return (nextID, stream, continuation)
    }

    /// Commits after a version; `nil` when some of them are forgotten.
    func commits(after version: Version) -> [StoreCommit]? {
        guard version >= historyBase else { return nil }
        // Versions rise, so that the first newer one is found by halving.
        var low = 0
        var high = history.count
        while low < high {
            let middle = (low + high) / 2
            if history[middle].version <= version { low = middle + 1 } else { high = middle }
        }
        return Array(history[low...])
    }

    mutating func remove(_ id: UInt64) { continuations[id] = nil }

    /// Hands out a commit. Returns the streams of those who fell too far behind: the caller ends them, outside of its lock.
    mutating func publish(_ commit: StoreCommit) -> [AsyncStream<StoreCommit>.Continuation] {
        history.append(commit)
        if history.count >= 2 * historyLimit {
            let forgotten = history.count - historyLimit
            historyBase = history[forgotten - 1].version
            history.removeFirst(forgotten)
        }
        var slow: [AsyncStream<StoreCommit>.Continuation] = []
        for (id, continuation) in continuations {
            guard case .dropped = continuation.yield(commit) else { continue }
            continuations[id] = nil
            slow.append(continuation)
        }
        return slow
    }

    /// All streams, to be ended outside of the lock.
    mutating func removeAll() -> [AsyncStream<StoreCommit>.Continuation] {
        defer { continuations = [:] }
        return Array(continuations.values)
    }

    /// Begins anew at a version that was not reached commit by commit.
    mutating func reset(to version: Version) {
        history = []
        historyBase = version
    }
}
