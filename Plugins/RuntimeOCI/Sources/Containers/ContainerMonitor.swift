import CLinux
import Files
import Glibc
import PluginAPI
import Processes
import Synchronization

/// One thread that notices what happens to all containers: exit files, kills for want of memory, the end of a conmon, logs that grow.
final class ContainerMonitor: Sendable {
    struct Handlers: Sendable {
        /// The container with this id has ended, perhaps. May come more than once.
        var ended: @Sendable (String) -> Void
        var outOfMemory: @Sendable (String) -> Void
        var log: @Sendable (LogLevel, String) -> Void
    }

    private enum Watch {
        case exits
        case bundle(String)
        case log(String)
    }

    private struct Watched {
        var bundle: Int32 = -1
        var monitor: Int32 = -1
        var logWatch: Int32 = -1
        var rotation: LogRotation?
    }

    private struct State {
        var watches: [Int32: Watch] = [:]
        var containers: [String: Watched] = [:]
        /// By descriptor of its conmon.
        var monitors: [Int32: String] = [:]
        /// Logs that were written to lately; looked at until they rest.
        var growing: Set<String> = []
        var isStopped = false
    }

    private let exits: String
    private let handlers: Handlers
    private let inotify: Int32
    private let poll: Int32
    private let wake: Int32
    private let state = Mutex(State())
    private let ended = Mutex<[CheckedContinuation<Void, Never>]?>([])

    /// How often a log that is being written to is looked at, in milliseconds.
    private static let growthInterval: Int32 = 200

    init(exits: String, handlers: Handlers) throws(ApusError) {
        self.exits = exits
        self.handlers = handlers
        inotify = inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC))
        poll = epoll_create1(Int32(EPOLL_CLOEXEC))
        wake = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard inotify >= 0, poll >= 0, wake >= 0 else { throw Files.lastError("cannot watch containers") }
        try Files.makeDirectory(exits)
        let watch = inotify_add_watch(inotify, exits, UInt32(IN_MOVED_TO | IN_CLOSE_WRITE))
        guard watch >= 0 else { throw Files.lastError("cannot watch \(exits)") }
        state.withLock { $0.watches[watch] = .exits }
        add(inotify)
        add(wake)
        startThread(named: "apus-monitor") { [self] in run() }
    }

    deinit {
        close(inotify)
        close(poll)
        close(wake)
    }

    private func add(_ descriptor: Int32) {
        var event = epoll_event()
        event.events = EPOLLIN.rawValue
        event.data.fd = descriptor
        epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event)
    }

    /// Watches a container that runs, until `unwatch`.
    func watch(_ id: String, bundle: ContainerBundle, monitor: ProcessIdentity?, rotation: LogRotation?) {
        let descriptor = monitor.map { apus_pidfd_open($0.number) } ?? -1
        state.withLock { state in
            var watched = Watched(rotation: rotation)
            watched.bundle = inotify_add_watch(inotify, bundle.path, UInt32(IN_CREATE))
            if watched.bundle >= 0 { state.watches[watched.bundle] = .bundle(id) }
            if descriptor >= 0 {
                watched.monitor = descriptor
                state.monitors[descriptor] = id
            }
            state.containers[id] = watched
            // The first look sets the watch on the log.
            if rotation != nil { state.growing.insert(id) }
        }
        if descriptor >= 0 { add(descriptor) }
        if rotation != nil { signal() }
    }

    func unwatch(_ id: String) {
        state.withLock { state in
            guard let watched = state.containers.removeValue(forKey: id) else { return }
            state.growing.remove(id)
            for watch in [watched.bundle, watched.logWatch] where watch >= 0 {
                state.watches[watch] = nil
                inotify_rm_watch(inotify, watch)
            }
            if watched.monitor >= 0 {
                state.monitors[watched.monitor] = nil
                close(watched.monitor)
            }
        }
    }

    /// Ends the thread.
    func stop() async {
        state.withLock { $0.isStopped = true }
        signal()
        await withCheckedContinuation { continuation in
            let isEnded = ended.withLock { waiting in
                guard waiting != nil else { return true }
                waiting?.append(continuation)
                return false
            }
            if isEnded { continuation.resume() }
        }
    }

    private func signal() {
        var one: UInt64 = 1
        write(wake, &one, 8)
    }

    private func run() {
        ThreadSignals.blockBrokenPipe()
        var events = [epoll_event](repeating: epoll_event(), count: 32)
        while true {
            let isGrowing = state.withLock { !$0.growing.isEmpty }
            let count = epoll_wait(poll, &events, Int32(events.count), isGrowing ? Self.growthInterval : -1)
            if state.withLock({ $0.isStopped }) { break }
            for event in events.prefix(Int(max(0, count))) {
                switch event.data.fd {
                case inotify: readChanges()
                case wake:
                    var number: UInt64 = 0
                    read(wake, &number, 8)
                default: monitorEnded(event.data.fd)
                }
            }
            if isGrowing { lookAtLogs() }
        }
        let waiting = ended.withLock { waiting in
            defer { waiting = nil }
            return waiting ?? []
        }
        for continuation in waiting { continuation.resume() }
    }

    private func monitorEnded(_ descriptor: Int32) {
        epoll_ctl(poll, EPOLL_CTL_DEL, descriptor, nil)
        if let id = state.withLock({ $0.monitors[descriptor] }) { handlers.ended(id) }
    }

    private func readChanges() {
        for change in InotifyReader.read(inotify) {
            if change.mask & UInt32(IN_Q_OVERFLOW) != 0 {
                for name in (try? Files.list(exits)) ?? [] { handlers.ended(name) }
                continue
            }
            switch state.withLock({ $0.watches[change.watch] }) {
            case .exits:
                // Under its final name it is complete.
                if change.mask & UInt32(IN_MOVED_TO) != 0 { handlers.ended(change.name) }
            case .bundle(let id): if change.name == "oom" { handlers.outOfMemory(id) }
            case .log(let id):
                state.withLock { state in
                    state.watches[change.watch] = nil
                    state.containers[id]?.logWatch = -1
                    if state.containers[id] != nil { state.growing.insert(id) }
                }
            case nil: break
            }
        }
    }

    /// Rotates logs that are large enough, and goes back to waiting for those that rest.
    private func lookAtLogs() {
        let growing = state.withLock { state in state.growing.compactMap { id in state.containers[id]?.rotation.map { (id, $0) } } }
        for (id, rotation) in growing {
            var rotation = rotation
            let rests = rotation.look(log: handlers.log)
            state.withLock { state in
                guard state.containers[id] != nil else { return }
                state.containers[id]?.rotation = rotation
                guard rests else { return }
                state.growing.remove(id)
                let watch = inotify_add_watch(inotify, rotation.path, UInt32(IN_MODIFY) | UInt32(IN_ONESHOT))
                guard watch >= 0 else { return }
                state.watches[watch] = .log(id)
                state.containers[id]?.logWatch = watch
            }
        }
    }
}

/// The changes that an inotify descriptor has ready.
enum InotifyReader {
    struct Change {
        var watch: Int32
        var mask: UInt32
        var name: String
    }

    static func read(_ descriptor: Int32) -> [Change] {
        var result: [Change] = []
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            guard count > 0 else { return result }
            buffer.withUnsafeBytes { bytes in
                var offset = 0
                // struct inotify_event: watch, mask, cookie, length of the name, the name with zeros after it.
                while offset + 16 <= count {
                    let length = Int(bytes.loadUnaligned(fromByteOffset: offset + 12, as: UInt32.self))
                    let name = bytes[(offset + 16)..<min(count, offset + 16 + length)].prefix { $0 != 0 }
                    result.append(
                        Change(
                            watch: bytes.loadUnaligned(fromByteOffset: offset, as: Int32.self),
                            mask: bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self), name: String(decoding: name, as: UTF8.self)))
                    offset += 16 + length
                }
            }
        }
    }
}
