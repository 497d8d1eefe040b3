import CCurl
import Glibc

/// Threads that run blocking work, made when there is work and ended after ten idle seconds.
///
/// A worker keeps a value of its own from one piece of work to the next; here it is the multi handle with its open connections.
final class WorkerPool: @unchecked Sendable {
    // Everything below is touched only with `lock` held.
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var queue: [@Sendable (TransferLoop) -> Void] = []
    private var idle = 0
    private var workers = 0
    private var isClosed = false
    private let maximum: Int

    private static let idleSeconds = 10
    private static let stackSize = 512 << 10

    init(maximum: Int) {
        self.maximum = max(1, maximum)
        lock = .allocate(capacity: 1)
        condition = .allocate(capacity: 1)
        pthread_mutex_init(lock, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(lock)
        condition.deallocate()
        lock.deallocate()
    }

    /// Lets idle workers end; work that waits is still done.
    func close() {
        pthread_mutex_lock(lock)
        isClosed = true
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(lock)
    }

    /// Runs `work` on a thread of the pool, soon. False when no thread could be made.
    func run(_ work: @escaping @Sendable (TransferLoop) -> Void) -> Bool {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        queue.append(work)
        if idle >= queue.count {
            pthread_cond_signal(condition)
            return true
        }
        guard workers < maximum else { return true }
        guard startWorker() || workers > 0 else {
            queue.removeLast()
            return false
        }
        return true
    }

    private func startWorker() -> Bool {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        pthread_attr_setstacksize(&attributes, Self.stackSize)
        let retained = Unmanaged.passRetained(self)
        // A new thread inherits the mask: none of the process's signals is to interrupt a transfer, nor SIGPIPE to end the process.
        var all = sigset_t()
        var before = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        var thread = pthread_t()
        let result = pthread_create(
            &thread, &attributes,
            { context in
                guard let context else { return nil }
                Unmanaged<WorkerPool>.fromOpaque(context).takeRetainedValue().work()
                return nil
            }, retained.toOpaque())
        guard result == 0 else {
            retained.release()
            return false
        }
        workers += 1
        return true
    }

    private func work() {
        let loop = TransferLoop()
        while let work = next() { work(loop) }
    }

    private func next() -> (@Sendable (TransferLoop) -> Void)? {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        deadline.tv_sec += Self.idleSeconds
        idle += 1
        defer { idle -= 1 }
        while queue.isEmpty {
            if isClosed || pthread_cond_timedwait(condition, lock, &deadline) == ETIMEDOUT, queue.isEmpty {
                workers -= 1
                return nil
            }
        }
        return queue.removeFirst()
    }
}
