import Files
import Namespaces
import PluginAPI

/// The TCP sockets in a container's network namespace, from its `/proc/<pid>/net/tcp` and `tcp6` (proc(5)). Pure, but for those that name a process.
enum ContainerSockets {
    private struct Socket {
        var local: Substring
        var remote: Substring
        var state: Substring
        var port: Substring

        static let listening = "0A"
        static let established = "01"
    }

    /// The connections that clients have with the namespace of a process; 0 when it has ended.
    static func countConnections(process: Int64) async -> Int { countConnections(tables: await tables(of: process)) }

    /// Connections to ports on which somebody in the namespace listens; those over loopback, such as health checks, do not count.
    static func countConnections(tables: [String]) -> Int {
        let sockets = sockets(in: tables)
        let listening = Set(sockets.lazy.filter { $0.state == Socket.listening }.map(\.port))
        return sockets.count { $0.state == Socket.established && !isLoopback($0.remote) && listening.contains($0.port) }
    }

    /// Whether somebody in the namespace of a process listens on all these ports.
    static func isListening(process: Int64, on ports: Set<UInt16>) async -> Bool { isListening(tables: await tables(of: process), on: ports) }

    /// Who listens on loopback alone is not there for clients.
    static func isListening(tables: [String], on ports: Set<UInt16>) -> Bool {
        let open = sockets(in: tables).lazy.filter { $0.state == Socket.listening && !isLoopback($0.local) }
        return ports.isSubset(of: open.compactMap { UInt16($0.port, radix: 16) })
    }

    private static func tables(of process: Int64) async -> [String] {
        let tables = try? await DedicatedThread.run { () throws(ApusError) -> [String] in
            ["tcp", "tcp6"].compactMap { try? Files.readText("/proc/\(process)/net/\($0)") }
        }
        return tables ?? []
    }

    private static func sockets(in tables: [String]) -> [Socket] {
        tables.flatMap { $0.split(whereSeparator: \.isNewline).dropFirst() }.compactMap { line in
            let fields = line.split(separator: " ", maxSplits: 4, omittingEmptySubsequences: true)
            guard fields.count >= 4, let colon = fields[1].lastIndex(of: ":") else { return nil }
            return Socket(local: fields[1], remote: fields[2], state: fields[3], port: fields[1][fields[1].index(after: colon)...])
        }
    }

    /// Addresses are 32-bit words in the machine's order; every machine that Apus runs on is little-endian.
    private static func isLoopback(_ socket: Substring) -> Bool {
        guard let colon = socket.lastIndex(of: ":") else { return false }
        let address = socket[..<colon]
        if address.utf8.count == 8 { return address.hasSuffix("7F") }
        return address == "00000000000000000000000001000000" || address.hasPrefix("0000000000000000FFFF0000") && address.hasSuffix("7F")
    }
}
