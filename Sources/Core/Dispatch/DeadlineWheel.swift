import PluginAPI

/// Deadlines of very many nodes, most of which move on before they are due.
///
/// Every node is in one bucket of a tenth of a second. A later deadline costs nothing: it is looked at when the bucket of the old one comes up, and
/// the node is moved then. So a heartbeat writes one number, and there is no timer for a node.
/// After "Hashed and Hierarchical Timing Wheels", Varghese and Lauck, 1987.
struct DeadlineWheel {
    typealias Instant = ContinuousClock.Instant

    private let start: Instant
    private var buckets: [Int64: [ID]] = [:]
    /// The first bucket that has not been looked at.
    private var next: Int64 = 0

    static var resolution: Duration { .milliseconds(100) }

    init(start: Instant) { self.start = start }

    func bucket(of time: Instant) -> Int64 {
        let (seconds, attoseconds) = (time - start).components
        // Rounded up: a bucket that is due has only deadlines that are over.
        return seconds * 10 + (attoseconds + 99_999_999_999_999_999) / 100_000_000_000_000_000
    }

    /// Puts a node, that is in no bucket, into that of its deadline. Returns the bucket.
    mutating func add(_ node: ID, at deadline: Instant) -> Int64 {
        let bucket = max(next, bucket(of: deadline))
        buckets[bucket, default: []].append(node)
        return bucket
    }

    /// The buckets that are due, emptied.
    mutating func due(at now: Instant) -> [(bucket: Int64, nodes: [ID])] {
        let (seconds, attoseconds) = (now - start).components
        let last = seconds * 10 + attoseconds / 100_000_000_000_000_000
        guard last >= next else { return [] }
        var due: [(Int64, [ID])] = []
        // After a long sleep there are fewer buckets than tenths of seconds.
        if last - next > Int64(buckets.count) {
            for bucket in buckets.keys.filter({ $0 <= last }).sorted() { due.append((bucket, buckets.removeValue(forKey: bucket) ?? [])) }
        } else {
            for bucket in next...last { if let nodes = buckets.removeValue(forKey: bucket) { due.append((bucket, nodes)) } }
        }
        next = last + 1
        return due
    }

    var isEmpty: Bool { buckets.isEmpty }
}
