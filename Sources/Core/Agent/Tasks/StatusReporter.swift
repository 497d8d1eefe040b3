import Dispatcher
import Logging
import PluginAPI
import Synchronization

/// Sends the states of tasks to the manager: at once when it is free, all that came meanwhile together when it is not. A task's latest state
/// replaces the one before.
final class StatusReporter: Sendable {
    private let pending = Mutex<[ID: TaskStatus]>([:])
    private let wakeups: AsyncStream<Void>
    private let wake: AsyncStream<Void>.Continuation
    private let source: any AssignmentSource
    private let clock: EngineClock
    private let logger: Logger

    init(source: any AssignmentSource, clock: EngineClock, logger: Logger) {
        self.source = source
        self.clock = clock
        self.logger = logger
        (wakeups, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    func put(_ task: ID, _ status: TaskStatus) {
        pending.withLock { $0[task] = status }
        wake.yield()
    }

    /// Reports until it is cancelled.
    func run() async {
        var delay: Duration = .milliseconds(100)
        for await _ in wakeups {
            while true {
                let batch = pending.withLock { pending in
                    let batch = pending
                    pending = [:]
                    return batch
                }
                if batch.isEmpty { break }
                do throws(ApusError) {
                    try await source.report(batch)
                    delay = .milliseconds(100)
                } catch {
                    pending.withLock { $0.merge(batch) { newer, _ in newer } }
                    if ConcurrentTask.isCancelled { return }
                    logger.warning("the states of \(batch.count) tasks could not be reported, they will be again: \(error.message)")
                    do { try await clock.sleep(delay) } catch { return }
                    delay = min(delay * 2, .seconds(8))
                }
            }
        }
    }
}
