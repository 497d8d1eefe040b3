import PluginAPI

/// Decides from the results of health checks whether a container is well. A value: it neither waits nor runs anything.
struct HealthMonitor: Sendable, Hashable {
    /// Results that are kept.
    static let remembered = 5
    /// Bytes of output that are kept of each.
    static let outputLimit = 4096

    let interval: Duration
    let timeout: Duration
    let startPeriod: Duration
    let startInterval: Duration
    let retries: Int
    let arguments: [String]

    private(set) var status: HealthState = .starting
    private(set) var failingStreak = 0
    private(set) var log: [HealthResult] = []
    /// Ends with the first success or the start period.
    private(set) var isStarting = true
    private var startedAt: Timestamp

    /// `nil` when there is nothing to check: no test, or `NONE`.
    init?(_ check: Healthcheck?, startedAt: Timestamp) {
        guard let check, let arguments = Self.arguments(of: check.test) else { return nil }
        self.arguments = arguments
        interval = check.interval > .zero ? check.interval : .seconds(30)
        timeout = check.timeout > .zero ? check.timeout : .seconds(30)
        startPeriod = check.startPeriod > .zero ? check.startPeriod : .zero
        startInterval = check.startInterval > .zero ? check.startInterval : .seconds(5)
        retries = check.retries > 0 ? Int(check.retries) : 3
        self.startedAt = startedAt
    }

    /// The command line of a test, `nil` when it is off.
    static func arguments(of test: [String]) -> [String]? {
        switch test.first {
        case nil, "NONE": nil
        case "CMD": test.count > 1 ? Array(test.dropFirst()) : nil
        case "CMD-SHELL": test.count > 1 ? ["/bin/sh", "-c", test.dropFirst().joined(separator: " ")] : nil
        default: nil
        }
    }

    /// From the end of one check to the next.
    func delay(at now: Timestamp) -> Duration {
        // Docker uses the start interval only when there is a start period.
        isStarting && startPeriod > .zero && now - startedAt < startPeriod ? startInterval : interval
    }

    /// Takes a result; returns the new status when it changed.
    mutating func take(_ result: HealthResult) -> HealthState? {
        log.append(result)
        if log.count > Self.remembered { log.removeFirst(log.count - Self.remembered) }
        let before = status
        if result.exitCode == 0 {
            failingStreak = 0
            isStarting = false
            status = .healthy
        } else {
            if isStarting, result.startedAt - startedAt < startPeriod { return nil }
            isStarting = false
            failingStreak += 1
            if failingStreak >= retries { status = .unhealthy }
        }
        return status == before ? nil : status
    }

    var summary: ContainerHealth { ContainerHealth(status: status, failingStreak: failingStreak, log: log) }
}
