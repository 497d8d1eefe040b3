import CLinux
import Glibc
package import PluginAPI
import Synchronization

/// A thread of the system's own, for work that blocks.
package enum Thread {
    // PR_SET_NAME of <linux/prctl.h>, which Swift's Glibc does not carry.
    private static let setName: Int32 = 15

    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// Starts a detached thread; whoever starts it arranges to hear of its end.
    package static func start(_ name: String, _ run: @escaping @Sendable () -> Void) throws(ApusError) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        let body = Unmanaged.passRetained(
            Body {
                // The kernel keeps fifteen characters.
                name.withCString { _ = apus_prctl(setName, UInt(bitPattern: $0), 0, 0, 0) }
                run()
            })
        var thread = pthread_t()
        let result = pthread_create(
            &thread, &attributes,
            { argument in
                if let argument { Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, body.toOpaque())
        guard result == 0 else {
            body.release()
            throw ApusError(.failed, "no thread could be started: \(String(cString: strerror(result)))")
        }
    }
}

/// Wakes one waiting thread. A call before the wait is not lost.
final class WakeUp: @unchecked Sendable {
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    // Guarded by `lock`.
    private var isSet = false

    init() {
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

    func wake() {
        pthread_mutex_lock(lock)
        isSet = true
        pthread_cond_signal(condition)
        pthread_mutex_unlock(lock)
    }

    /// Returns after `wake`, or at a time of the monotonic clock in nanoseconds.
    func wait(until deadline: Int64?) {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while !isSet {
            if let deadline {
                var time = timespec(tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
                if pthread_cond_timedwait(condition, lock, &time) == ETIMEDOUT { return }
            } else {
                pthread_cond_wait(condition, lock)
            }
        }
        isSet = false
    }

    /// The monotonic clock in nanoseconds.
    static var now: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

/// Something that happens once, and that many may wait for.
package final class Promise<Value: Sendable>: Sendable {
    private enum State {
        case waiting([CheckedContinuation<Value, Never>])
        case done(Value)
    }

    private let state = Mutex(State.waiting([]))

    package init() {}

    /// Only the first value counts.
    package func fulfil(_ value: Value) {
        let waiters = state.withLock { state -> [CheckedContinuation<Value, Never>] in
            guard case .waiting(let waiters) = state else { return [] }
            state = .done(value)
            return waiters
        }
        for waiter in waiters { waiter.resume(returning: value) }
    }

    /// Waits for the value; every caller gets the same.
    package func value() async -> Value {
        await withCheckedContinuation { continuation in
            let value = state.withLock { state -> Value? in
                switch state {
                case .waiting(let waiters):
                    state = .waiting(waiters + [continuation])
                    return nil
                case .done(let value):
                    return value
                }
            }
            if let value { continuation.resume(returning: value) }
        }
    }
}
