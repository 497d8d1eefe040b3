import CLinux
import Concurrency
import Glibc
import Logging
import Namespaces
public import PluginAPI
import Synchronization

public import struct Logging.Logger

/// The name servers of all sandboxes of a node: one thread for all of them, which sleeps for as long as nobody asks.
///
/// In each sandbox it is reached at 127.0.0.11, port 53, over UDP and TCP. What it does not know is asked for, from the engine's own network namespace,
/// at the sandbox's upstream servers.
public final class NameServer: Sendable {
    /// How many sandboxes are opened at the same time.
    private static let openingWidth = 8

    private let state: Mutex<ServerState>
    /// Of the readiness set in the state, which lives for as long as this.
    private let readiness: Int32
    private let wake: Int32
    private let gate = AsyncGate()
    private let logger: Logger

    /// Serves nobody until a state is applied, and answers nothing until it runs.
    public init(limits: NameServerLimits = NameServerLimits(), logger: Logger) throws(ApusError) {
        let state = try ServerState(limits: limits)
        readiness = state.readiness.descriptor
        wake = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard wake >= 0 else { throw Sockets.failure("cannot make an event descriptor") }
        state.readiness.add(wake, 0)
        self.state = Mutex(state)
        self.logger = logger
    }

    deinit {
        state.withLock { $0.removeAll() }
        close(wake)
    }

    public var statistics: NameServerStatistics { state.withLock { $0.statistics } }

    /// Answers until the task is cancelled or `stop` is called, then closes all sockets. The rules in the sandboxes stay, for the next engine to turn to itself.
    /// - Throws: when no thread can be started.
    public func run() async throws(ApusError) {
        let result: Result<Void, ApusError> = await withTaskCancellationHandler {
            do throws(ApusError) {
                return .success(try await DedicatedThread.run { () throws(ApusError) -> Void in self.serve() })
            } catch {
                return .failure(error)
            }
        } onCancel: {
            stop()
        }
        try result.get()
    }

    /// Ends `run`. May be called more than once.
    public func stop() {
        state.withLock { $0.isStopped = true }
        var one: UInt64 = 1
        _ = write(wake, &one, 8)
    }

    /// Returns when the state is in force: no answer that is sent later comes from an earlier one.
    ///
    /// Sandboxes that are new are opened, those that are gone are closed, and all others go on without an interruption; a namespace that was made anew at
    /// the same path is a new sandbox. A namespace lives for as long as it is served here, so a sandbox must be taken out of the state when it is removed.
    /// - Returns: why sandboxes are not served; they are tried again with the next state.
    @discardableResult
    public func apply(_ wanted: NameState) async -> [String: ApusError] {
        await gate.enter()
        defer { gate.leave() }
        let identities = wanted.sandboxes.keys.reduce(into: [String: UInt64]()) { found, path in
            do throws(ApusError) { found[path] = try SandboxDoor.identity(ofNamespaceAt: path) } catch {
                // Opening it fails with the reason.
            }
        }
        let (_, gone, missing) = state.withLock { state in
            // It is given back, so that its memory is not freed under the lock.
            let old = state.names
            state.names = wanted
            let gone = state.sandboxes.filter { wanted.sandboxes[$0.key] == nil || identities[$0.key] != $0.value.door.identity }.map(\.key)
            for path in gone { state.remove(path) }
            return (old, gone, wanted.sandboxes.keys.filter { state.sandboxes[$0] == nil })
        }
        let logger = logger
        _ = await Self.forEach(gone.filter { wanted.sandboxes[$0] == nil }) { path in
            do throws(ApusError) { try await SandboxDoor.removeRules(at: path) } catch {
                if error.code != .notFound { logger.warning("the name server's rules stay in the sandbox \(path): \(error)") }
            }
            return nil
        }
        let failures = await Self.forEach(missing) { path in await self.open(path) }
        for (path, error) in failures { logger.warning("there are no names in the sandbox \(path): \(error)") }
        return failures
    }

    /// Opens one sandbox; returns why it cannot be.
    private func open(_ path: String) async -> ApusError? {
        do throws(ApusError) {
            let door = try await SandboxDoor.open(at: path)
            let isAccepted = state.withLock { state in
                if !state.isStopped { state.add(door, at: path) }
                return !state.isStopped
            }
            guard !isAccepted else { return nil }
            close(door.datagrams)
            close(door.listener)
            return ApusError(.unavailable, "the name server has ended")
        } catch {
            return error
        }
    }

    /// Does the same for all, some at a time; returns the errors.
    private static func forEach(_ paths: [String], _ body: @escaping @Sendable (String) async -> ApusError?) async -> [String: ApusError] {
        await withTaskGroup(of: (String, ApusError?).self) { group in
            var failures: [String: ApusError] = [:]
            for (index, path) in paths.enumerated() {
                if index >= openingWidth, let (path, error) = await group.next() { failures[path] = error }
                group.addTask { (path, await body(path)) }
            }
            for await (path, error) in group { failures[path] = error }
            return failures
        }
    }

    /// The thread's loop. The lock is held for one socket's work at a time.
    private func serve() {
        _ = apus_name_thread("apus-names")
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        let broken = EPOLLERR.rawValue | EPOLLHUP.rawValue
        while true {
            let (isStopped, waitingTime) = state.withLock { ($0.isStopped, $0.waitingTime) }
            if isStopped { break }
            let count = epoll_wait(readiness, &events, Int32(events.count), waitingTime)
            let now = ContinuousClock.now
            for event in events.prefix(Int(max(0, count))) {
                state.withLock { $0.handle(event.data.u64, isBroken: event.events & broken != 0, now) }
            }
            state.withLock { $0.tick(now) }
        }
        state.withLock { $0.removeAll() }
    }
}
