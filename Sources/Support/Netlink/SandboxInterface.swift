import CNetlink
import Glibc
import Namespaces
import PluginAPI

/// A container's interface: one end of a veth pair is a port of a bridge, the other is in the container's namespace.
public struct SandboxInterface: Sendable {
    /// Of the bridge's end.
    public var name: String
    public var bridgeIndex: Int
    public var mtu: Int
    public var request: AttachRequest
    /// Whether the container exchanges no frames with other isolated ones.
    public var isIsolated = false
    /// Where the default routes lead; none when they do not lead here.
    public var gateways: [IPAddress] = []

    public init(name: String, bridgeIndex: Int, mtu: Int, request: AttachRequest) {
        self.name = name
        self.bridgeIndex = bridgeIndex
        self.mtu = mtu
        self.request = request
    }

    /// The name of the bridge's end.
    ///
    /// It follows from the two identities, so that it is found again after a restart and when the container's namespace is gone.
    public static func name(network: ID, container: ID) -> String { "apv" + digest("\(network)/\(container)") }

    /// 48 bits of FNV-1a, in hexadecimal.
    private static func digest(_ text: String) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        let digits = String((hash ^ hash >> 48) & 0xffff_ffff_ffff, radix: 16)
        return String(repeating: "0", count: 12 - digits.count) + digits
    }
}

extension NetlinkSocket {
    /// Connects a container. A whole connection of an earlier call is kept; after an error nothing is left.
    ///
    /// The calling thread must be in the socket's namespace, which is the bridge's.
    public func connect(_ interface: SandboxInterface) throws(ApusError) {
        do throws(ApusError) {
            try makePair(interface)
            try SystemSetting.ensure("net/ipv6/conf/\(interface.name)/disable_ipv6", "1")
            guard let port = try link(named: interface.name) else { throw ApusError(.failed, "the interface \(interface.name) vanished") }
            // Where bridge netfilter is on, a container that connects to itself by a published port comes back by its own port.
            try change(bridgePortAt: port.index, isHairpin: true, isIsolated: interface.isIsolated)
            try NetworkNamespaces.runBlocking(in: interface.request.sandboxPath) { () throws(ApusError) in
                try Self.configure(interface)
            }
        } catch {
            do throws(ApusError) { try removeLink(named: interface.name) } catch {}
            throw error
        }
    }

    private func makePair(_ interface: SandboxInterface) throws(ApusError) {
        let request = interface.request
        let sandbox = open(request.sandboxPath, O_RDONLY | O_CLOEXEC)
        guard sandbox >= 0 else {
            throw ApusError(
                errno == ENOENT ? .notFound : .failed, "cannot open the network namespace \(request.sandboxPath): \(String(cString: strerror(errno)))"
            )
        }
        defer { close(sandbox) }
        var pair = VethPair(name: interface.name, peerName: request.interfaceName, mtu: interface.mtu)
        pair.masterIndex = interface.bridgeIndex
        pair.peerNamespace = sandbox
        pair.peerMACAddress = request.macAddress
        do throws(ApusError) {
            try createVethPair(pair)
        } catch {
            guard error.code == .conflict, let existing = try link(named: interface.name) else { throw error }
            // A pair of an earlier attach is kept when it is whole, so that a second call harms no connection.
            let inside = try NetlinkSocket(inNamespace: request.sandboxPath).link(named: request.interfaceName)
            if let inside, inside.index == existing.peerIndex, inside.macAddress == request.macAddress {
                try change(linkAt: existing.index, LinkChange(isUp: true, mtu: interface.mtu, masterIndex: interface.bridgeIndex))
            } else {
                try removeLink(named: interface.name)
                try createVethPair(pair)
            }
        }
    }

    /// What is done inside of the container's namespace.
    private static func configure(_ interface: SandboxInterface) throws(ApusError) {
        let request = interface.request
        let netlink = try NetlinkSocket()
        let name = request.interfaceName
        guard let link = try netlink.link(named: name) else { throw ApusError(.failed, "the interface \(name) did not arrive in the container") }
        if let loopback = try netlink.link(named: "lo"), !loopback.isUp { try netlink.change(linkAt: loopback.index, LinkChange(isUp: true)) }
        // The kernel then announces the address when the interface is set up, to whoever knows an earlier owner.
        try SystemSetting.ensure("net/ipv4/conf/\(name)/arp_notify", "1")
        try SystemSetting.ensure("net/ipv6/conf/\(name)/disable_ipv6", request.addressV6 == nil ? "1" : "0")
        try netlink.addAddress(request.address, toLinkAt: link.index)
        if let address = request.addressV6 {
            try SystemSetting.ensure("net/ipv6/conf/\(name)/accept_ra", "0")
            try SystemSetting.ensure("net/ipv6/conf/\(name)/accept_dad", "0")
            try netlink.addAddress(address, toLinkAt: link.index)
        }
        if !link.isUp { try netlink.change(linkAt: link.index, LinkChange(isUp: true)) }
        for gateway in interface.gateways {
            if let route = Route.byDefault(gateway: gateway, linkIndex: link.index) { try netlink.setRoute(route) }
        }
    }
}
