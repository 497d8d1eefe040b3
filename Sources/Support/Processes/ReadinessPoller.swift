import CLinux
import Glibc
import Synchronization

/// One thread that waits for many descriptors (epoll(7)), so that waiting for a process or a pipe costs no thread.
public final class ReadinessPoller: Sendable {
    public static let shared = ReadinessPoller()

    private struct Waiter {
        var number: Int32
        var continuation: CheckedContinuation<Void, Never>
    }

    private struct State {
        var waiters: [UInt64: Waiter] = [:]
        var next: UInt64 = 0
    }

    private let poll: Int32
    private let state = Mutex(State())

    private init() {
        poll = epoll_create1(Int32(EPOLL_CLOEXEC))
        startThread(named: "apus-poll") { [self] in run() }
    }

    /// Returns when the descriptor can be read or has ended, at once if it cannot be watched (a plain file).
    public func waitUntilReadable(_ descriptor: Int32) async { await wait(descriptor, EPOLLIN.rawValue) }

    /// Returns when the descriptor can be written or its reader is gone.
    public func waitUntilWritable(_ descriptor: Int32) async { await wait(descriptor, EPOLLOUT.rawValue) }

    private func wait(_ descriptor: Int32, _ events: UInt32) async {
        // Its own descriptor for each wait: one number can be in an epoll set only once.
        let own = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
        guard own >= 0 else { return }
        await withCheckedContinuation { continuation in
            let key = state.withLock { state in
                state.next += 1
                state.waiters[state.next] = Waiter(number: own, continuation: continuation)
                return state.next
            }
            var event = epoll_event()
            event.events = events | EPOLLONESHOT.rawValue
            event.data.u64 = key
            if epoll_ctl(poll, EPOLL_CTL_ADD, own, &event) != 0 { resume(key) }
        }
    }

    private func resume(_ key: UInt64) {
        guard let waiter = state.withLock({ $0.waiters.removeValue(forKey: key) }) else { return }
        // Removed by hand: a process that holds a copy of the open file would keep it in the set.
        epoll_ctl(poll, EPOLL_CTL_DEL, waiter.number, nil)
        close(waiter.number)
        waiter.continuation.resume()
    }

    private func run() {
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        while true {
            let count = epoll_wait(poll, &events, Int32(events.count), -1)
            for event in events.prefix(Int(max(0, count))) { resume(event.data.u64) }
        }
    }
}

/// Starts a thread for blocking work, which must not happen in the cooperative pool.
public func startThread(named name: String, _ body: @escaping @Sendable () -> Void) {
    final class Box: Sendable {
        let name: String
        let body: @Sendable () -> Void
        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
    var thread = pthread_t()
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    // Address space only; what is not touched costs nothing.
    pthread_attr_setstacksize(&attributes, 512 << 10)
    defer { pthread_attr_destroy(&attributes) }
    let box = Unmanaged.passRetained(Box(name: name, body: body))
    let result = pthread_create(
        &thread, &attributes,
        { argument in
            guard let argument else { return nil }
            let box = Unmanaged<Box>.fromOpaque(argument).takeRetainedValue()
            apus_name_thread(box.name)
            box.body()
            return nil
        }, box.toOpaque())
    if result != 0 {
        // Without threads nothing can be done; the work is done here so that nobody waits for ever.
        box.release()
        body()
    }
}

/// Runs blocking work on a thread of its own and waits for it without holding a thread of the cooperative pool.
public func onThread<Value: Sendable>(named name: String = "apus-block", _ body: @escaping @Sendable () -> Value) async -> Value {
    await withCheckedContinuation { continuation in
        startThread(named: name) { continuation.resume(returning: body()) }
    }
}
