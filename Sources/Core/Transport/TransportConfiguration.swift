/// Limits and times of a transport. The defaults suit a swarm on one network; every bound that a peer could exhaust is here.
public struct TransportConfiguration: Sendable {
    /// The largest message, in bytes, that is received from a peer with a certificate; larger ones end the call with `resourceExhausted`.
    public var maximumMessageBytes = 4 << 20
    /// The largest metadata of a call, counted as HTTP/2 does: names, values and 32 bytes for each field.
    public var maximumMetadataBytes = 16 << 10
    /// Calls that one peer may have open at once on one connection.
    public var maximumStreams = 1_000
    /// Bytes that a peer may send on a call before the handler has read them. At most 2^31 - 1.
    public var streamWindow = 256 << 10
    /// Bytes that may be under way to this end on a whole connection. At most 2^31 - 1.
    public var connectionWindow = 4 << 20
    /// Bytes of one call that wait to be sent before its writer is suspended.
    public var maximumUnsentBytes = 64 << 10

    /// How long nothing may be heard before the peer is asked whether it is there.
    public var keepaliveIdle: Duration = .seconds(10)
    /// How long the answer may take before the connection is given up.
    public var keepaliveAnswer: Duration = .seconds(5)
    /// How long TCP and TLS together may take to come up; also the life of a stranger's unfinished handshake.
    public var handshakeLimit: Duration = .seconds(10)
    /// The first pause after a failed connection; it doubles, with a random part, up to `maximumBackoff`.
    public var minimumBackoff: Duration = .milliseconds(100)
    public var maximumBackoff: Duration = .seconds(8)
    /// How long calls may go on over a connection whose peer was verified against roots that count no more, before they are cut.
    public var replacementLimit: Duration = .seconds(10)
    /// How long open calls may go on after the server was asked to stop; then they are cancelled.
    public var shutdownGrace: Duration = .seconds(5)

    /// What a peer without a valid certificate may take.
    public var strangers = StrangerLimits()
    /// What a peer may do that costs this end and brings nobody forward.
    public var abuse = AbuseLimits()

    /// Methods (`package.Service/Method`) that a client whose certificate has expired may call; all others answer it `unauthenticated`.
    /// Empty: a handshake with an expired certificate is refused.
    public var expiredCertificateMethods: Set<String> = []

    public init() {}
}

/// What peers without a certificate may take of a server, before and after the handshake. Those with an expired one count as such too.
public struct StrangerLimits: Sendable {
    /// Connections of all of them together; the oldest makes room for the newest.
    public var connections = 1_000
    /// Connections from one address; the oldest of that address makes room.
    public var connectionsPerAddress = 100
    /// Calls open at once on one connection.
    public var streams = 4
    public var maximumMessageBytes = 64 << 10
    public var streamWindow = 16 << 10
    /// How long a connection may live without an open call.
    public var idleLimit: Duration = .seconds(60)

    public init() {}
}

/// Token buckets against floods: so many at once, and so many more a second; then the connection ends with ENHANCE_YOUR_CALM.
public struct AbuseLimits: Sendable {
    /// Calls that the peer resets, or that it makes this end reset.
    public var resetBurst = 200
    public var resetsPerSecond = 50
    /// PING, SETTINGS, PRIORITY, WINDOW_UPDATE and empty DATA frames; each frame with data or headers allows one more.
    public var controlBurst = 500
    public var controlPerSecond = 100

    public init() {}
}
