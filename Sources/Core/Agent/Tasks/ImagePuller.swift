import Logging
import PluginAPI
import Synchronization

/// Brings images for tasks: one pull per reference and credentials for all tasks that want it at the same time, and for a few seconds its result for those that
/// come later.
final class ImagePuller: Sendable {
    struct Configuration: Sendable {
        /// How long a pull's result stands, good or bad.
        var memory: Duration = .seconds(10)
        /// How long a task waits for the registry when the image is here already.
        var patience: Duration = .seconds(5)
    }

    private struct Key: Hashable {
        var reference: String
        var credentials: RegistryCredentials?
    }

    private struct Pull {
        var number: UInt64
        var result: Result<Void, ApusError>?
        var finishedAt: Timestamp = .never
        var waiting: [UInt64: CheckedContinuation<Result<Void, ApusError>?, Never>] = [:]
    }

    private struct State {
        var pulls: [Key: Pull] = [:]
        var next: UInt64 = 0
    }

    private let state = Mutex(State())
    private let runtime: any Runtime
    private let clock: EngineClock
    private let tasks: BackgroundTasks
    private let configuration: Configuration
    private let logger: Logger

    init(runtime: any Runtime, clock: EngineClock, tasks: BackgroundTasks, configuration: Configuration = Configuration(), logger: Logger) {
        self.runtime = runtime
        self.clock = clock
        self.tasks = tasks
        self.configuration = configuration
        self.logger = logger
    }

    /// Returns when the image is here. A reference with a digest that is here is not pulled; any other is, and what is here serves when the
    /// registry fails or is slow.
    func bring(_ reference: String, credentials: RegistryCredentials? = nil) async throws(ApusError) {
        let isHere = await isPresent(reference)
        if isHere, reference.contains("@sha256:") { return }
        guard let result = await pulled(Key(reference: reference, credentials: credentials), patience: isHere ? configuration.patience : nil) else {
            if ConcurrentTask.isCancelled { throw ApusError(.cancelled, "the pull of \(reference) was cancelled") }
            return
        }
        guard case .failure(let error) = result else { return }
        if await isPresent(reference) { return }
        let missing = "No such image: \(ContainerEngine.withTag(reference))"
        throw error.code == .notFound ? ApusError(.notFound, missing) : ApusError(error.code, "\(missing) (it could not be pulled: \(error.message))")
    }

    private func isPresent(_ reference: String) async -> Bool {
        do throws(ApusError) {
            _ = try await runtime.image(reference)
            return true
        } catch {
            return false
        }
    }

    /// The result of the shared pull; `nil` when the patience ends or the caller is cancelled.
    private func pulled(_ key: Key, patience: Duration?) async -> Result<Void, ApusError>? {
        let now = clock.now()
        let (waiter, begins): (UInt64, UInt64?) = state.withLock { state in
            state.next += 1
            let waiter = state.next
            if let pull = state.pulls[key], pull.result == nil || now - pull.finishedAt < configuration.memory { return (waiter, nil) }
            state.pulls[key] = Pull(number: waiter)
            return (waiter, waiter)
        }
        if let begins, !tasks.add("pull", { await self.pull(key, begins) }) {
            finish(key, begins, .failure(ApusError(.cancelled, "the engine is stopping")))
        }
        let timer = "patience/\(waiter)"
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer: Result<Void, ApusError>?? = state.withLock { state in
                    if let result = state.pulls[key]?.result { return .some(result) }
                    if ConcurrentTask.isCancelled { return .some(nil) }
                    state.pulls[key]?.waiting[waiter] = continuation
                    return nil
                }
                if let answer {
                    continuation.resume(returning: answer)
                } else if let patience {
                    tasks.add(timer) {
                        do { try await self.clock.sleep(patience) } catch { return }
                        self.leave(key, waiter)
                    }
                }
            }
        } onCancel: {
            leave(key, waiter)
        }
    }

    private func leave(_ key: Key, _ waiter: UInt64) {
        state.withLock { $0.pulls[key]?.waiting.removeValue(forKey: waiter) }?.resume(returning: nil)
    }

    private func pull(_ key: Key, _ number: UInt64) async {
        do throws(ApusError) {
            var request = PullRequest(reference: key.reference)
            request.credentials = key.credentials
            _ = try await runtime.pull(request) { _ in }
            finish(key, number, .success(()))
        } catch {
            logger.warning("\(key.reference) could not be pulled; tasks use the image that is here, if there is one: \(error.message)")
            finish(key, number, .failure(error))
        }
    }

    private func finish(_ key: Key, _ number: UInt64, _ result: Result<Void, ApusError>) {
        let waiting = state.withLock { state in
            guard var pull = state.pulls[key], pull.number == number else {
                return [UInt64: CheckedContinuation<Result<Void, ApusError>?, Never>]()
            }
            pull.result = result
            pull.finishedAt = clock.now()
            let waiting = pull.waiting
            pull.waiting = [:]
            state.pulls[key] = pull
            return waiting
        }
        for (waiter, continuation) in waiting {
            tasks.cancel("patience/\(waiter)")
            continuation.resume(returning: result)
        }
    }
}
