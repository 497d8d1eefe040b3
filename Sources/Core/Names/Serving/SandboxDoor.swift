import Glibc
import NFTables
import Namespaces
import Netlink
import PluginAPI

/// The name server's sockets in a sandbox, and the rules that lead to them.
///
/// Nothing listens on port 53 itself, so that a container may. The sockets keep the sandbox's namespace alive until they are closed.
struct SandboxDoor: Sendable {
    static let table = "apus-names"

    /// Of the namespace, so that another one at the same path is told from it.
    let identity: UInt64
    let datagrams: Int32
    let listener: Int32

    /// Opens sockets at ports that the system chooses and, in one transaction, leads to them what goes to port 53 of the sandbox's address.
    /// - Throws: `notFound` when no namespace is at `path`; `unavailable` when its kernel has no nftables.
    static func open(at path: String) async throws(ApusError) -> SandboxDoor {
        try await NetworkNamespaces.run(in: path) { () throws(ApusError) in
            let identity = try identity(ofNamespaceAt: "/proc/thread-self/ns/net")
            let datagrams = try Sockets.open(AF_INET, SOCK_DGRAM)
            var listener: Int32 = -1
            do throws(ApusError) {
                // What a flood leaves unread is no more than this.
                Sockets.set(datagrams, SOL_SOCKET, SO_RCVBUF, 64 << 10)
                let datagramPort = try Sockets.bind(datagrams, to: ResolverFile.sandboxAddress)
                listener = try Sockets.open(AF_INET, SOCK_STREAM)
                let streamPort = try Sockets.bind(listener, to: ResolverFile.sandboxAddress)
                guard listen(listener, 64) == 0 else { throw Sockets.failure("cannot listen in the sandbox") }
                try NFTables().run(rules(datagramPort: datagramPort, streamPort: streamPort))
            } catch {
                close(datagrams)
                if listener >= 0 { close(listener) }
                throw error
            }
            forgetEarlierQueries()
            return SandboxDoor(identity: identity, datagrams: datagrams, listener: listener)
        }
    }

    /// Removes the rules, unless the sandbox is gone already.
    static func removeRules(at path: String) async throws(ApusError) {
        guard NetworkNamespaces.isPinned(path: path) else { return }
        try await NetworkNamespaces.run(in: path) { () throws(ApusError) -> Void in
            try NFTables().run("add table ip \(table)\ndelete table ip \(table)\n")
        }
    }

    /// Which namespace is at `path`; follows a link.
    static func identity(ofNamespaceAt path: String) throws(ApusError) -> UInt64 {
        var information = stat()
        guard stat(path, &information) == 0 else {
            throw ApusError(errno == ENOENT ? .notFound : .failed, "cannot look at the network namespace \(path): \(String(cString: strerror(errno)))")
        }
        return UInt64(information.st_ino)
    }

    static func rules(datagramPort: UInt16, streamPort: UInt16) -> String {
        let address = ResolverFile.sandboxAddress
        return """
            add table ip \(table)
            add chain ip \(table) output { type nat hook output priority -100; policy accept; }
            flush chain ip \(table) output
            add rule ip \(table) output ip daddr \(address) udp dport 53 dnat to \(address):\(datagramPort)
            add rule ip \(table) output ip daddr \(address) tcp dport 53 dnat to \(address):\(streamPort)

            """
    }

    /// What is tracked still leads to the sockets of an earlier engine: a program that asks again from the same port would be refused for half a minute.
    private static func forgetEarlierQueries() {
        do throws(ApusError) {
            let netfilter = try NetfilterSocket()
            let earlier = try netfilter.connections { connection in
                connection.original.transport == UInt8(IPPROTO_UDP) && connection.original.destinationPort == 53
                    && connection.original.destination == ResolverFile.sandboxAddress
            }
            for connection in earlier { try netfilter.forget(connection) }
        } catch {
            // New queries come from new ports; nothing is lost but that half minute.
        }
    }
}
