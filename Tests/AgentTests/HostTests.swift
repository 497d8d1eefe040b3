import Files
import Glibc
import PluginAPI
import Testing

@testable import Agent

/// What touches the machine itself: sockets and namespaces.
@Suite struct HostTests {
    @Test(arguments: [TransportProtocol.tcp, .udp]) func aPortThatAProgramHoldsIsNotFree(_ transport: TransportProtocol) throws {
        let kind = transport == .tcp ? SOCK_STREAM : SOCK_DGRAM
        let descriptor = socket(AF_INET, Int32(kind.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        try #require(descriptor >= 0)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(descriptor, address, length) == 0 && (transport == .udp || listen(descriptor, 1) == 0)
                    && getsockname(descriptor, address, &length) == 0
            }
        }
        try #require(result)
        let port = UInt16(bigEndian: name.sin_port)
        let loopback = IPAddress(v4: 127, 0, 0, 1)
        #expect(!HostPorts.isFree(transport, loopback, port))
        #expect(!HostPorts.isFree(transport, nil, port))
        close(descriptor)
        #expect(HostPorts.isFree(transport, loopback, port))
    }

    @Test func namespacesArePinnedAndRemovedMoreThanOnce() async throws {
        let folder = try Files.makeTemporaryDirectory(prefix: "apus-agent-netns")
        defer { try? Files.removeTree(folder) }
        let path = folder + "/netns/one"
        let sandboxes = PinnedNamespaces()
        try await sandboxes.create(path: path)
        try await sandboxes.create(path: path)
        #expect(Files.exists(path))
        try await sandboxes.remove(path: path)
        try await sandboxes.remove(path: path)
        #expect(!Files.exists(path))
    }
}
