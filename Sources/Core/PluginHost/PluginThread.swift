import CLinux
import Glibc
import PluginAPI
import Synchronization

/// One thread for what blocks and must not run twice at once: libltdl, which is not made for threads, and the files of plugins.
///
/// It lives as long as the process.
final class PluginThread: Sendable {
    static let shared = PluginThread()

    private struct State: Sendable {
        var jobs: [@Sendable () -> Void] = []
        var isStarted = false
    }

    /// Outlives the thread because the only instances are never freed.
    private final class Signal: @unchecked Sendable {
        let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

        init() { sem_init(semaphore, 0, 0) }

        func post() { sem_post(semaphore) }

        func wait() {
            while sem_wait(semaphore) != 0, errno == EINTR {}
        }
    }

    private let state = Mutex(State())
    private let signal = Signal()

    /// `PR_SET_NAME` of prctl(2).
    private static let setName: Int32 = 15

    private init() {}

    /// Runs the body on the thread, after those before it.
    func run<Result: Sendable>(_ body: @escaping @Sendable () throws(ApusError) -> Result) async throws(ApusError) -> Result {
        let result: Swift.Result<Result, ApusError> = await withCheckedContinuation { continuation in
            submit {
                do throws(ApusError) {
                    continuation.resume(returning: .success(try body()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
        return try result.get()
    }

    private func submit(_ job: @escaping @Sendable () -> Void) {
        let mustStart = state.withLock { state in
            state.jobs.append(job)
            defer { state.isStarted = true }
            return !state.isStarted
        }
        if mustStart, !start() {
            // No thread to be had: late is better than never, and jobs stay one at a time because nothing else takes them.
            state.withLock { $0.isStarted = false }
            runNext()
            return
        }
        signal.post()
    }

    private func runNext() {
        let job = state.withLock { $0.jobs.isEmpty ? nil : $0.jobs.removeFirst() }
        job?()
    }

    private func start() -> Bool {
        var thread = pthread_t()
        let context = Unmanaged.passRetained(self).toOpaque()
        let result = pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                let this = Unmanaged<PluginThread>.fromOpaque(context).takeRetainedValue()
                "apus-plugins".withCString { name in _ = apus_prctl(PluginThread.setName, UInt(bitPattern: name), 0, 0, 0) }
                while true {
                    this.signal.wait()
                    this.runNext()
                }
            }, context)
        guard result == 0 else {
            Unmanaged<PluginThread>.fromOpaque(context).release()
            return false
        }
        pthread_detach(thread)
        return true
    }
}
