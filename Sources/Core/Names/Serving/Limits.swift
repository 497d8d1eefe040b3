/// How much the name server takes on at the same time. What one sandbox has too much of is taken from that sandbox alone.
public struct NameServerLimits: Sendable, Hashable {
    /// Queries that wait for upstream servers, of one sandbox. More fail at once.
    public var forwardedPerSandbox = 128
    /// And of all. For one more, the sandbox with the most loses its oldest.
    public var forwarded = 1024
    /// TCP connections of one sandbox. For one more, the one that was silent longest is closed.
    public var connectionsPerSandbox = 32
    /// And of all. For one more, the sandbox with the most loses one.
    public var connections = 512
    /// Queries of one sandbox that are looked at in a second; so many may come at once. Datagrams that its socket cannot keep until then are lost.
    public var queriesPerSecond = 10_000
    /// A TCP connection that is silent for so long is closed.
    public var silence: Duration = .seconds(10)

    public init() {}
}
