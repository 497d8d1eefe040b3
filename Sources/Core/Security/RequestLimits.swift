public import PluginAPI

/// So many at once, and so many a second after that.
public struct TokenBucket: Sendable, Hashable {
    public let capacity: Double
    /// A second.
    public let refill: Double
    private var level: Double
    private var filledAt: Timestamp

    public init(capacity: Double, refill: Double, now: Timestamp) {
        self.capacity = capacity
        self.refill = refill
        level = capacity
        filledAt = now
    }

    /// Takes one, if there is one.
    public mutating func take(now: Timestamp) -> Bool {
        fill(now)
        guard level >= 1 else { return false }
        level -= 1
        return true
    }

    /// Nothing was taken lately.
    public mutating func isFull(now: Timestamp) -> Bool {
        fill(now)
        return level >= capacity
    }

    private mutating func fill(_ now: Timestamp) {
        let seconds = Double((now - filledAt).nanoseconds) / 1e9
        // A clock that was set back must not stop the refill for as long as it was set back.
        level = min(capacity, level + max(0, seconds) * refill)
        filledAt = now
    }
}

/// A bucket for each key, of which only a bounded number is remembered.
public struct KeyedBuckets<Key: Hashable & Sendable>: Sendable {
    private let capacity: Double
    private let refill: Double
    private let limit: Int
    private var buckets: [Key: TokenBucket] = [:]

    /// - Parameter limit: Keys that are remembered. When there are more, those that have rested are forgotten, and if none has, all are refused
    ///   alike.
    public init(capacity: Double, refill: Double, limit: Int) {
        self.capacity = capacity
        self.refill = refill
        self.limit = limit
    }

    public var count: Int { buckets.count }

    /// Takes one from the key's bucket; false when it is empty, or when too many keys are remembered.
    public mutating func take(_ key: Key, now: Timestamp) -> Bool {
        if let taken = buckets[key]?.take(now: now) { return taken }
        if buckets.count >= limit {
            for key in Array(buckets.keys) where buckets[key]?.isFull(now: now) == true { buckets[key] = nil }
            guard buckets.count < limit else { return false }
        }
        var bucket = TokenBucket(capacity: capacity, refill: refill, now: now)
        defer { buckets[key] = bucket }
        return bucket.take(now: now)
    }
}

/// What may be asked of a certificate service, and how often.
public struct CertificateLimits: Sendable {
    /// A stranger's address: attempts at once, then a second.
    public var strangerBurst: Double = 20
    public var strangerRate: Double = 2
    /// Addresses of strangers that are remembered.
    public var strangers = 4096
    /// All requests to join, with a good token, and all renewals of expired certificates: at once, then a second.
    public var joinBurst: Double = 1000
    public var joinRate: Double = 100
    /// A node that renews: at once, then a second.
    public var renewalBurst: Double = 10
    public var renewalRate: Double = 0.2
    /// Nodes that may wait for `node accept`.
    public var waitingNodes = 1000
    /// Requests that the authority works on at the same time.
    public var signing = 64

    public init() {}
}
