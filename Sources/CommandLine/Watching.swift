import ArgumentParser
import PluginAPI

extension CommandContext {
    /// Runs something that only looks on. Ctrl-C ends the looking on, not what is looked at.
    /// - Parameter hint: how to see the rest.
    /// - Throws: what `body` throws; an exit code after Ctrl-C.
    func watching(_ hint: String, _ body: @escaping @Sendable () async throws -> Void) async throws {
        let work = ConcurrentTask { try await body() }
        do {
            try await interrupts.handling({ _ in work.cancel() }) {
                try await withTaskCancellationHandler {
                    try await work.value
                } onCancel: {
                    work.cancel()
                }
            }
        } catch {
            guard work.isCancelled else { throw error }
            console.errorLine(hint)
            throw ExitCode(130)
        }
    }
}

/// How long one that looks on bears with an engine that cannot answer: managers elect a leader in seconds, and connections are made anew when
/// certificates change.
struct Patience {
    private static let limit = Duration.seconds(60)
    private var since: Timestamp?

    /// - Throws: the error, when it is none that passes, or lasts too long.
    mutating func bear(_ error: ApusError, now: Timestamp) throws(ApusError) {
        guard error.code == .unavailable || error.code == .timedOut else { throw error }
        let begin = since ?? now
        since = begin
        if now - begin > Self.limit { throw error }
    }

    mutating func end() { since = nil }
}
