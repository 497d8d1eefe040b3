/// A token bucket: `burst` at once and `perSecond` afterwards. A value; the clock is the caller's, in nanoseconds.
struct TokenBucket {
    private let burst: Double
    private let perSecond: Double
    private var tokens: Double
    private var last: UInt64 = 0

    init(burst: Int, perSecond: Int) {
        self.burst = Double(max(burst, 1))
        self.perSecond = Double(max(perSecond, 0))
        tokens = self.burst
    }

    /// Whether there was a token.
    mutating func take(now: UInt64) -> Bool {
        if now > last {
            if last != 0 { tokens = min(burst, tokens + Double(now - last) / 1e9 * perSecond) }
            last = now
        }
        guard tokens >= 1 else { return false }
        tokens -= 1
        return true
    }

    /// One more, up to the burst.
    mutating func give() { tokens = min(burst, tokens + 1) }
}

/// What one connection may still send of the frames that cost and bring nothing.
struct FrameBudget {
    private var resets: TokenBucket
    private var control: TokenBucket

    init(_ limits: AbuseLimits) {
        resets = TokenBucket(burst: limits.resetBurst, perSecond: limits.resetsPerSecond)
        control = TokenBucket(burst: limits.controlBurst, perSecond: limits.controlPerSecond)
    }

    mutating func reset(now: UInt64) -> Bool { resets.take(now: now) }
    mutating func controlFrame(now: UInt64) -> Bool { control.take(now: now) }
    mutating func usefulFrame() { control.give() }
}
