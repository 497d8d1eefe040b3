import PluginAPI

/// How long the restart policy waits before the next start: 100 ms, doubled every time up to a minute, from the beginning again after ten
/// seconds of running.
struct RestartBackoff: Sendable, Hashable {
    static let first: Duration = .milliseconds(100)
    static let limit: Duration = .seconds(60)
    static let goodRun: Duration = .seconds(10)

    private(set) var delay: Duration = .zero

    /// The delay after a run of that length.
    mutating func next(afterRunOf length: Duration) -> Duration {
        if length >= Self.goodRun { delay = .zero }
        delay = delay == .zero ? Self.first : min(delay * 2, Self.limit)
        return delay
    }

    mutating func reset() { delay = .zero }
}

extension ContainerRestartPolicy {
    /// Whether a container that ended is to be started again.
    func restarts(exitCode: Int64, restartCount: Int, isStoppedByUser: Bool) -> Bool {
        if isStoppedByUser { return false }
        switch name {
        case .no: return false
        case .always, .unlessStopped: return true
        case .onFailure: return exitCode != 0 && (maximumRetryCount == 0 || restartCount < maximumRetryCount)
        }
    }

    /// Whether an engine that starts finds a container ended that it must start.
    func startsWithEngine(ranBefore: Bool, exitCode: Int64, isStoppedByUser: Bool) -> Bool {
        switch name {
        case .no: false
        case .always: ranBefore
        case .unlessStopped: ranBefore && !isStoppedByUser
        case .onFailure: ranBefore && !isStoppedByUser && exitCode != 0
        }
    }

    /// The error that the Engine API gives for a policy that makes no sense.
    func check(removesWhenEnded: Bool) throws(ApusError) {
        if name != .no, removesWhenEnded {
            throw ApusError(.invalidArgument, "can't create 'AutoRemove' container with restart policy")
        }
        if maximumRetryCount < 0 {
            throw ApusError(.invalidArgument, "maximum retry count cannot be negative")
        }
        if maximumRetryCount > 0, name != .onFailure {
            throw ApusError(.invalidArgument, "maximum retry count cannot be used with restart policy '\(name.rawValue)', only with 'on-failure'")
        }
    }
}
