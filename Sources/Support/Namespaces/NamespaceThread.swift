import Glibc
import PluginAPI
import Synchronization

/// One thread that stays inside one network namespace and does its work in the order in which it is given.
///
/// For state that belongs to a namespace and must be changed by one at a time: the thread is both the place and the lock.
public final class NamespaceThread: Sendable {
    private struct State {
        var jobs: [@Sendable () -> Void] = []
        var isStopped = false
    }

    private final class Queue: Sendable {
        let state = Mutex(State())
        /// Counts jobs, and one more for the end.
        let signal: ThreadSemaphore
        init() throws(ApusError) { signal = try ThreadSemaphore() }
    }

    private let queue: Queue

    /// Starts the thread inside the namespace at `path`, or inside the caller's when `path` is `nil`.
    /// - Throws: why the namespace cannot be entered.
    public init(in path: String?) throws(ApusError) {
        let queue = try Queue()
        self.queue = queue
        let entered = try ThreadSemaphore()
        let box = FailureBox()
        let thread = try DedicatedThread.start {
            do throws(ApusError) {
                try NetworkNamespaces.enter(path)
            } catch {
                box.error.withLock { $0 = error }
                entered.post()
                return
            }
            entered.post()
            Self.work(queue)
        }
        pthread_detach(thread)
        entered.wait()
        if let error = box.error.withLock({ $0 }) { throw error }
    }

    /// Runs `body` on the thread after everything that was given before.
    /// - Throws: `unavailable` after `stop`, and what `body` throws.
    public func run<Value: Sendable>(_ body: @escaping @Sendable () throws(ApusError) -> Value) async throws(ApusError) -> Value {
        let result: Result<Value, ApusError> = await withCheckedContinuation { continuation in
            let isAccepted = post {
                do throws(ApusError) {
                    continuation.resume(returning: .success(try body()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
            if !isAccepted { continuation.resume(returning: .failure(ApusError(.unavailable, "the network thread has ended"))) }
        }
        return try result.get()
    }

    /// Has `body` run on the thread after everything that was given before, without waiting. `false` after `stop`.
    @discardableResult
    public func post(_ body: @escaping @Sendable () -> Void) -> Bool {
        let isAccepted = queue.state.withLock { state in
            if !state.isStopped { state.jobs.append(body) }
            return !state.isStopped
        }
        if isAccepted { queue.signal.post() }
        return isAccepted
    }

    /// Ends the thread after the work it has; further calls throw. May be called more than once.
    public func stop() {
        queue.state.withLock { $0.isStopped = true }
        queue.signal.post()
    }

    deinit { stop() }

    private static func work(_ queue: Queue) {
        while true {
            queue.signal.wait()
            let (job, ends) = queue.state.withLock { state -> ((@Sendable () -> Void)?, Bool) in
                state.jobs.isEmpty ? (nil, state.isStopped) : (state.jobs.removeFirst(), false)
            }
            job?()
            if ends { return }
        }
    }

    private final class FailureBox: Sendable {
        let error = Mutex<ApusError?>(nil)
    }
}
