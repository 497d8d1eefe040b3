import Glibc
import PluginAPI

/// A POSIX semaphore, for threads that wait for each other. Starts at 0.
public final class ThreadSemaphore: Sendable {
    nonisolated(unsafe) private let semaphore: UnsafeMutablePointer<sem_t>

    public init() throws(ApusError) {
        semaphore = .allocate(capacity: 1)
        guard sem_init(semaphore, 0, 0) == 0 else {
            semaphore.deallocate()
            throw .system("cannot make a semaphore")
        }
    }

    /// Lets one waiting thread go on, or the next that waits.
    public func post() { sem_post(semaphore) }
    /// Blocks the calling thread, which must not be one of the cooperative pool.
    public func wait() { while sem_wait(semaphore) != 0, errno == EINTR {} }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }
}
