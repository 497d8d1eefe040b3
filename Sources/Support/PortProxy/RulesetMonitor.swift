import CLinux
import Glibc
import Namespaces
import Netlink
import PluginAPI
import Synchronization

/// Calls when someone has removed a table from the host's ruleset, and every few seconds, on a thread of its own.
public final class RulesetMonitor: Sendable {
    /// Why it calls.
    public enum Occasion: Sendable {
        case tableRemoved
        case regular
    }

    private static let interval = Duration.seconds(3)

    private let thread: NamespaceThread
    private let stopPipe: (reading: Int32, writing: Int32)
    private let isStopped = Mutex(false)

    /// - Parameter namespace: the host's; `nil` is the engine's own.
    public init(in namespace: String?, _ call: @escaping @Sendable (Occasion) -> Void) throws(ApusError) {
        thread = try NamespaceThread(in: namespace)
        var ends: [Int32] = [-1, -1]
        guard apus_pipe2(&ends, O_CLOEXEC) == 0 else {
            thread.stop()
            throw ApusError(.failed, "cannot make a pipe: \(String(cString: strerror(errno)))")
        }
        stopPipe = (ends[0], ends[1])
        let reading = ends[0]
        thread.post {
            Self.watch(stopEvent: reading, call)
            close(reading)
        }
        thread.stop()
    }

    /// Ends the thread; a call that has begun goes on. May be called more than once.
    public func stop() {
        let isFirst = isStopped.withLock { isStopped in
            defer { isStopped = true }
            return !isStopped
        }
        if isFirst { close(stopPipe.writing) }
    }

    deinit { stop() }

    private static func watch(stopEvent: Int32, _ call: (Occasion) -> Void) {
        // Without the watcher the regular calls remain.
        let watcher: RulesetWatcher?
        do throws(ApusError) { watcher = try RulesetWatcher() } catch { watcher = nil }
        var last = ContinuousClock.now
        while true {
            let wait = max(.zero, interval - (ContinuousClock.now - last))
            var events = [
                pollfd(fd: stopEvent, events: Int16(POLLIN), revents: 0), pollfd(fd: watcher?.descriptor ?? -1, events: Int16(POLLIN), revents: 0),
            ]
            // Rounded up, so that it is over when it is over.
            _ = poll(&events, nfds_t(events.count), Int32(wait / .milliseconds(1)) + 1)
            if events[0].revents != 0 { return }
            if events[1].revents != 0, watcher?.tableWasRemoved() ?? false { call(.tableRemoved) }
            if ContinuousClock.now - last >= interval {
                last = ContinuousClock.now
                call(.regular)
            }
        }
    }
}
