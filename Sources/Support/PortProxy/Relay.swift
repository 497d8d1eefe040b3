import Glibc
import Mesh
import PluginAPI

/// One connection of the proxy: what a client says goes to a backend, and back. Used by the proxy's thread alone.
final class Relay {
    let client: Int32
    private(set) var server: Int32 = -1
    private var isConnecting = false
    private var remaining: [Backend]
    private let markedPrefixes: [IPPrefix]
    private var toServer = Flow()
    private var toClient = Flow()

    /// One direction.
    private struct Flow {
        /// Read, and not written yet.
        var pending: ArraySlice<UInt8> = []
        /// Nothing more comes.
        var isEnded = false
        /// The other side was told so.
        var isClosed = false
    }

    /// - Parameters:
    ///   - backends: the ones to try, in order.
    ///   - prefixes: where backends are only reached with the mark of the mesh.
    init(client: Int32, backends: [Backend], markingFor prefixes: [IPPrefix]) {
        self.client = client
        remaining = backends
        markedPrefixes = prefixes
        Sockets.set(client, SOL_SOCKET, SO_KEEPALIVE, 1)
        Sockets.set(client, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
    }

    deinit { if server >= 0 { close(server) } }

    /// Connects to the next backend. `false` when there is none left.
    func connectNext() -> Bool {
        if server >= 0 { close(server) }
        server = -1
        while !remaining.isEmpty {
            let backend = remaining.removeFirst()
            let target = SocketAddress(backend.address, backend.port)
            server = socket(target.family, Int32(SOCK_STREAM.rawValue) | Sockets.nonBlocking, 0)
            guard server >= 0 else { return false }
            Sockets.set(server, SOL_SOCKET, SO_KEEPALIVE, 1)
            Sockets.set(server, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
            if markedPrefixes.contains(where: { $0.contains(backend.address) }) {
                Sockets.set(server, SOL_SOCKET, SO_MARK, Int32(bitPattern: MeshMarks.socket))
            }
            isConnecting = true
            if target.with({ connect(server, $0, $1) }) == 0 || errno == EINPROGRESS { return true }
            close(server)
            server = -1
        }
        return false
    }

    /// Whether both sides have ended in peace.
    var isComplete: Bool { toServer.isClosed && toClient.isClosed }

    /// What to wait for on the client's side and on the backend's.
    var wanted: (client: Int16, server: Int16) {
        if isConnecting { return (0, Int16(POLLOUT)) }
        func events(reading: Flow, writing: Flow) -> Int16 {
            (reading.isEnded || !reading.pending.isEmpty ? 0 : Int16(POLLIN)) | (writing.pending.isEmpty ? 0 : Int16(POLLOUT))
        }
        return (events(reading: toServer, writing: toClient), events(reading: toClient, writing: toServer))
    }

    /// Moves what can be moved. `false` when the connection is over; then the client is still open.
    func advance(clientEvents: Int16, serverEvents: Int16, _ buffer: inout [UInt8]) -> Bool {
        if isConnecting {
            guard serverEvents != 0 else { return true }
            var failure: Int32 = 0
            var length = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(server, SOL_SOCKET, SO_ERROR, &failure, &length)
            guard failure == 0 else { return connectNext() }
            isConnecting = false
        }
        // An end without data shows as POLLHUP or POLLERR alone: reading tells which.
        guard Self.move(&toServer, from: client, to: server, clientEvents != 0, &buffer),
            Self.move(&toClient, from: server, to: client, serverEvents != 0, &buffer)
        else { return false }
        return !isComplete
    }

    private static func move(_ flow: inout Flow, from source: Int32, to target: Int32, _ isReadable: Bool, _ buffer: inout [UInt8]) -> Bool {
        if isReadable, !flow.isEnded, flow.pending.isEmpty {
            let count = recv(source, &buffer, buffer.count, 0)
            if count > 0 {
                flow.pending = buffer[..<count]
            } else if count == 0 {
                flow.isEnded = true
            } else if errno != EAGAIN, errno != EINTR {
                return false
            }
        }
        if !flow.pending.isEmpty {
            let sent = flow.pending.withUnsafeBytes { send(target, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if sent < 0, errno != EAGAIN, errno != EINTR { return false }
            if sent > 0 {
                // Only what is left is kept, in a buffer of its own size.
                let left = flow.pending.dropFirst(sent)
                flow.pending = left.isEmpty ? [] : ArraySlice(Array(left))
            }
        }
        if flow.isEnded, flow.pending.isEmpty, !flow.isClosed {
            shutdown(target, Int32(SHUT_WR))
            flow.isClosed = true
        }
        return true
    }
}
