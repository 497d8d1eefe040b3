import Glibc
import NFTables
import Namespaces
import PluginAPI

/// A frame for a network, in the bytes of a datagram to a node's VXLAN port, as someone would write it who wants to get in.
struct ForgedFrame {
    static let port: UInt16 = 7777
    let bytes: [UInt8]

    init(vni: UInt32, from source: MACAddress, _ sourceAddress: IPAddress, to destination: MACAddress, _ destinationAddress: IPAddress) {
        let payload = Array("let me in".utf8)
        var header: [UInt8] = [0x45, 0, 0, UInt8(28 + payload.count), 0, 0, 0, 0, 64, 17, 0, 0] + sourceAddress.bytes + destinationAddress.bytes
        var sum = stride(from: 0, to: 20, by: 2).reduce(UInt32(0)) { $0 + UInt32(header[$1]) << 8 + UInt32(header[$1 + 1]) }
        sum = (sum & 0xffff) + sum >> 16
        let checksum = ~UInt16(truncatingIfNeeded: (sum & 0xffff) + sum >> 16)
        header[10] = UInt8(checksum >> 8)
        header[11] = UInt8(checksum & 0xff)
        let port = [UInt8(Self.port >> 8), UInt8(Self.port & 0xff)]
        let datagram = port + port + [0, UInt8(8 + payload.count), 0, 0] + payload
        let tunnel: [UInt8] = [8, 0, 0, 0, UInt8(vni >> 16 & 0xff), UInt8(vni >> 8 & 0xff), UInt8(vni & 0xff), 0]
        bytes = tunnel + destination.bytes + source.bytes + [8, 0] + header + datagram
    }

    /// Sends it out of a namespace. Also what cannot be sent is no error.
    func send(from namespace: String, to address: IPAddress, port: UInt16 = 4789) async throws(ApusError) {
        try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in
            let target = SocketAddress(address, port)
            let descriptor = socket(target.family, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            defer { close(descriptor) }
            _ = target.with { sendto(descriptor, bytes, bytes.count, 0, $0, $1) }
        }
    }

    /// Counts such frames that reach a container, from now on.
    static func count(in namespace: String) async throws(ApusError) {
        try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in
            _ = try NFTables().run(
                "add table inet seen; add chain inet seen input { type filter hook input priority -300; }; "
                    + "add rule inet seen input udp dport \(port) counter")
        }
    }

    static func seen(in namespace: String) async throws(ApusError) -> Int {
        try await NetworkNamespaces.run(in: namespace) { () throws(ApusError) in
            let words = try NFTables().run("list chain inet seen input").split(separator: " ").map(String.init)
            guard let place = words.firstIndex(of: "packets"), words.indices.contains(place + 1) else { return -1 }
            return Int(words[place + 1]) ?? -1
        }
    }
}

/// Sends a datagram of a size that must not be cut on its way. Returns whether an answer came, or `nil` when the system knows that it is too long.
func sendWhole(from namespace: String, to address: String, port: UInt16, count: Int) async throws -> Bool? {
    let client = try await DatagramClient(from: namespace, to: address, port: port)
    return try await DedicatedThread.run { () throws(ApusError) -> Bool? in
        var discovery = IP_PMTUDISC_DO
        let isIPv4 = address.utf8.allSatisfy { $0 != UInt8(ascii: ":") }
        // IPV6_MTU_DISCOVER is 23.
        setsockopt(
            client.descriptor, Int32(isIPv4 ? IPPROTO_IP : IPPROTO_IPV6), isIPv4 ? IP_MTU_DISCOVER : 23, &discovery, socklen_t(MemoryLayout<Int32>.size))
        let bytes = [UInt8](repeating: 7, count: count)
        // A datagram may be lost, as when an interface has just come up.
        for _ in 0..<5 {
            guard send(client.descriptor, bytes, count, 0) == count else { return nil }
            var answer: [UInt8] = [0, 0]
            if recv(client.descriptor, &answer, 2, 0) > 0 { return true }
        }
        return false
    }
}

extension Connection {
    /// Sends so many bytes to a server that repeats them, and reads them back. Returns whether they are the same.
    func transfer(_ count: Int) async throws -> Bool {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
        async let sent = DedicatedThread.run { [descriptor] () throws(ApusError) -> Bool in
            var offset = 0
            while offset < count {
                let sent = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress?.advanced(by: offset), count - offset, Int32(MSG_NOSIGNAL)) }
                guard sent > 0 else { return false }
                offset += sent
            }
            return true
        }
        let received = try await DedicatedThread.run { [descriptor] () throws(ApusError) -> [UInt8] in
            var all: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            while all.count < count {
                let read = recv(descriptor, &buffer, buffer.count, 0)
                guard read > 0 else { break }
                all += buffer.prefix(read)
            }
            return all
        }
        return try await sent && received == bytes
    }
}

/// The error that something ends with, or `nil`.
func failure(_ body: () async throws -> Void) async -> ApusError? {
    do {
        try await body()
        return nil
    } catch {
        return ApusError(error)
    }
}
