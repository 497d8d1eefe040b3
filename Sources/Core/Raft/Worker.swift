import PluginAPI
import Synchronization

/// A thread of its own for one piece of blocking work after the other, so that none of it blocks the cooperative pool.
final class Worker: Sendable {
    private struct State {
        var jobs: [@Sendable () -> Void] = []
        var isStopped = false
    }

    private let state = Mutex(State())
    private let wakeUp = WakeUp()

    /// Owns the thread: the thread ends when this is gone and its work is done.
    final class Owner: Sendable {
        let worker: Worker

        init(_ name: String) throws(ApusError) {
            let worker = Worker()
            self.worker = worker
            try Thread.start(name) { worker.work() }
        }

        deinit { worker.stop() }

        /// Runs `body` on the thread, after what was given to it before.
        func run<Value: Sendable>(_ body: @escaping @Sendable () throws(ApusError) -> Value) async throws(ApusError) -> Value {
            let result = Promise<Result<Value, ApusError>>()
            worker.add {
                do throws(ApusError) { result.fulfil(.success(try body())) } catch { result.fulfil(.failure(error)) }
            }
            return try await result.value().get()
        }
    }

    private func add(_ job: @escaping @Sendable () -> Void) {
        state.withLock { $0.jobs.append(job) }
        wakeUp.wake()
    }

    private func stop() {
        state.withLock { $0.isStopped = true }
        wakeUp.wake()
    }

    private func work() {
        while true {
            let (jobs, isStopped) = state.withLock { state in
                defer { state.jobs = [] }
                return (state.jobs, state.isStopped)
            }
            for job in jobs { job() }
            if jobs.isEmpty {
                if isStopped { return }
                wakeUp.wait(until: nil)
            }
        }
    }
}
