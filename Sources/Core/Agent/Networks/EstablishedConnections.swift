import Files
import Namespaces
import PluginAPI

/// The connections that clients have with a container, from its `/proc/<pid>/net/tcp` and `tcp6` (proc(5)). Pure, but for `count(process:)`.
enum EstablishedConnections {
    /// Connections to ports on which somebody in the namespace listens; those over loopback, such as health checks, do not count.
    static func count(tables: [String]) -> Int {
        var listening: Set<Substring> = []
        var connected: [Substring] = []
        for line in tables.lazy.flatMap({ $0.split(whereSeparator: \.isNewline).dropFirst() }) {
            let fields = line.split(separator: " ", maxSplits: 4, omittingEmptySubsequences: true)
            guard fields.count >= 4, let port = port(fields[1]) else { continue }
            switch fields[3] {
            case "0A": listening.insert(port)
            case "01" where !isLoopback(fields[2]): connected.append(port)
            default: break
            }
        }
        return connected.count { listening.contains($0) }
    }

    /// Of the namespace of a process; 0 when it has ended.
    static func count(process: Int64) async -> Int {
        let tables = try? await DedicatedThread.run { () throws(ApusError) -> [String] in
            ["tcp", "tcp6"].compactMap { try? Files.readText("/proc/\(process)/net/\($0)") }
        }
        return count(tables: tables ?? [])
    }

    private static func port(_ socket: Substring) -> Substring? {
        guard let colon = socket.lastIndex(of: ":") else { return nil }
        return socket[socket.index(after: colon)...]
    }

    /// Addresses are 32-bit words in the machine's order; every machine that Apus runs on is little-endian.
    private static func isLoopback(_ socket: Substring) -> Bool {
        guard let colon = socket.lastIndex(of: ":") else { return false }
        let address = socket[..<colon]
        if address.utf8.count == 8 { return address.hasSuffix("7F") }
        return address == "00000000000000000000000001000000" || address.hasPrefix("0000000000000000FFFF0000") && address.hasSuffix("7F")
    }
}
