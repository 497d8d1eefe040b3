import CLinux
import Glibc
import Namespaces
import PluginAPI
import Synchronization

/// Passes on the TCP connections that the kernel does not: those to the node over IPv6, [::1] among them, to backends that have IPv4 addresses.
///
/// It accepts on the sockets that hold the ports. The number of connections is bounded; those above it are refused.
public final class Proxy: Sendable {
    /// A port that is listened on.
    private struct Listener: Sendable {
        var backends: [Backend]
        var turn = 0
    }

    public static let defaultConnectionLimit = 512

    private struct State {
        var listeners: [Int32: Listener] = [:]
        /// Of the mesh.
        var markedPrefixes: [IPPrefix] = []
        /// Sockets that are listened on no longer, for the thread to close.
        var closing: [Int32] = []
        var isStopped = false
    }

    private let connectionLimit: Int
    private let closed: ThreadSemaphore
    private let state = Mutex(State())
    private let thread: NamespaceThread
    private let wakeReader: Int32
    private let wakeWriter: Int32

    /// - Parameters:
    ///   - namespace: the host's, in which backends are connected to; `nil` is the engine's own.
    ///   - connectionLimit: at the same time, over all ports.
    public init(in namespace: String?, connectionLimit: Int) throws(ApusError) {
        self.connectionLimit = connectionLimit
        closed = try ThreadSemaphore()
        var ends: [Int32] = [-1, -1]
        guard apus_pipe2(&ends, O_CLOEXEC | O_NONBLOCK) == 0 else {
            throw ApusError(.failed, "cannot make a pipe: \(String(cString: strerror(errno)))")
        }
        (wakeReader, wakeWriter) = (ends[0], ends[1])
        do throws(ApusError) {
            thread = try NamespaceThread(in: namespace)
        } catch {
            close(ends[0])
            close(ends[1])
            throw error
        }
        // The thread keeps the proxy alive until it is stopped.
        thread.post { self.serve() }
    }

    deinit {
        close(wakeReader)
        close(wakeWriter)
    }

    /// Listens on these sockets from now on; connections stay. Blocks until the sockets in `closing`, which no longer belong to it, are closed.
    ///
    /// The thread closes them, because a port is not free for as long as someone polls its socket.
    /// - Parameter prefixes: where backends are only reached with the mark of the mesh.
    public func listen(on backends: [Int32: [Backend]], markingFor prefixes: [IPPrefix], closing: [Int32]) {
        let isStopped = state.withLock { state in
            var listeners: [Int32: Listener] = [:]
            for (socket, backends) in backends { listeners[socket] = Listener(backends: backends, turn: state.listeners[socket]?.turn ?? 0) }
            state.listeners = listeners
            state.markedPrefixes = prefixes
            state.closing = closing
            return state.isStopped
        }
        if isStopped {
            for socket in closing { close(socket) }
            return
        }
        wake()
        if !closing.isEmpty { closed.wait() }
    }

    /// Ends all connections and the thread.
    public func stop() async {
        state.withLock { $0.isStopped = true }
        wake()
        // The thread is free again when it has left its loop.
        do throws(ApusError) { try await thread.run {} } catch {}
        thread.stop()
    }

    private func wake() { _ = write(wakeWriter, [1], 1) }

    private func serve() {
        var relays: [Relay] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        var isShortOfDescriptors = false
        defer { for relay in relays { close(relay.client) } }
        while true {
            guard let listeners = takeListeners() else { return }
            var events = [pollfd(fd: wakeReader, events: Int16(POLLIN), revents: 0)]
            for relay in relays {
                let wanted = relay.wanted
                // A hang-up is reported without being asked for, and would wake the loop for as long as nothing can be done about it.
                events.append(pollfd(fd: wanted.client == 0 ? -1 : relay.client, events: wanted.client, revents: 0))
                events.append(pollfd(fd: wanted.server == 0 ? -1 : relay.server, events: wanted.server, revents: 0))
            }
            let firstListener = events.count
            if !isShortOfDescriptors { events += listeners.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) } }
            // Without a free descriptor a waiting client would wake the loop for ever.
            let count = poll(&events, nfds_t(events.count), isShortOfDescriptors ? 100 : -1)
            isShortOfDescriptors = false
            guard count >= 0 else { continue }
            if events[0].revents != 0 { while read(wakeReader, &buffer, buffer.count) > 0 {} }
            var open: [Relay] = []
            for (index, relay) in relays.enumerated() {
                let (client, server) = (events[1 + 2 * index].revents, events[2 + 2 * index].revents)
                if client == 0 && server == 0 || relay.advance(clientEvents: client, serverEvents: server, &buffer) {
                    open.append(relay)
                } else {
                    Sockets.endClient(relay)
                }
            }
            relays = open
            for event in events[firstListener...] where event.revents & Int16(POLLIN) != 0 {
                switch accept(on: event.fd) {
                case .none: break
                case .shortOfDescriptors: isShortOfDescriptors = true
                case .client(let client, let backends, let prefixes):
                    let relay = Relay(client: client, backends: backends, markingFor: prefixes)
                    if relays.count < connectionLimit, relay.connectNext() { relays.append(relay) } else { Sockets.abort(client) }
                }
            }
        }
    }

    /// What to listen on, or `nil` at the end. Closes what is to be closed: nothing is polled at this moment.
    private func takeListeners() -> [Int32]? {
        let (listeners, closing, isStopped) = state.withLock { state in
            defer { state.closing = [] }
            return (Array(state.listeners.keys), state.closing, state.isStopped)
        }
        for socket in closing { close(socket) }
        if !closing.isEmpty { closed.post() }
        return isStopped ? nil : listeners
    }

    private enum Acceptance {
        case none
        case shortOfDescriptors
        case client(Int32, [Backend], markedPrefixes: [IPPrefix])
    }

    /// Accepts, unless the socket is listened on no longer.
    private func accept(on socket: Int32) -> Acceptance {
        state.withLock { state in
            guard var listener = state.listeners[socket] else { return .none }
            let client = Glibc.accept(socket, nil, nil)
            guard client >= 0 else { return errno == EMFILE || errno == ENFILE ? .shortOfDescriptors : .none }
            // A program started in between inherits nothing: the engine's children close what they are not given.
            _ = apus_fcntl(client, F_SETFD, FD_CLOEXEC)
            _ = apus_fcntl(client, F_SETFL, O_NONBLOCK)
            let count = listener.backends.count
            let order = (0..<min(3, count)).map { listener.backends[(listener.turn + $0) % count] }
            listener.turn = count > 0 ? (listener.turn + 1) % count : 0
            state.listeners[socket] = listener
            return .client(client, order, markedPrefixes: state.markedPrefixes)
        }
    }
}

extension Sockets {
    /// Closes the client's side: as an abort when no backend could be reached or it broke, which a client must be able to tell from an answer's end.
    fileprivate static func endClient(_ relay: Relay) {
        if relay.isComplete { close(relay.client) } else { abort(relay.client) }
    }
}
