import Glibc
import Namespaces
public import PluginAPI

/// A container's interface: one end of a pair in its network namespace, the other a port of a bridge in the calling thread's.
public struct ContainerInterface: Sendable {
    /// Inside of the container.
    public var name: String
    /// On the bridge.
    public var portName: String
    /// Of the container's pinned namespace.
    public var sandboxPath: String
    public var macAddress: MACAddress
    public var mtu: Int
    /// With the lengths of their networks.
    public var addresses: [IPPrefix] = []
    /// Where the default routes lead, one for each family at most.
    public var gateways: [IPAddress] = []

    public init(name: String, portName: String, sandboxPath: String, macAddress: MACAddress, mtu: Int) {
        self.name = name
        self.portName = portName
        self.sandboxPath = sandboxPath
        self.macAddress = macAddress
        self.mtu = mtu
    }

    /// Makes what is missing of it; a pair of an earlier call that is whole stays, so that no connection is harmed. After an error nothing of it is left.
    ///
    /// - Parameter netlink: of the calling thread's namespace, which the bridge is in.
    public func connect(toBridgeAt bridge: Int, _ netlink: NetlinkSocket, isHairpin: Bool, isIsolated: Bool) throws(ApusError) {
        do throws(ApusError) {
            try makePair(netlink, bridge)
            try SystemSetting.ensure("net/ipv6/conf/\(portName)/disable_ipv6", "1")
            guard let port = try netlink.link(named: portName) else { throw ApusError(.failed, "the interface \(portName) vanished") }
            try netlink.change(bridgePortAt: port.index, isHairpin: isHairpin, isIsolated: isIsolated)
            try NetworkNamespaces.runBlocking(in: sandboxPath) { () throws(ApusError) in try configure() }
        } catch {
            do throws(ApusError) { try netlink.removeLink(named: portName) } catch {}
            throw error
        }
    }

    private func makePair(_ netlink: NetlinkSocket, _ bridge: Int) throws(ApusError) {
        let sandbox = open(sandboxPath, O_RDONLY | O_CLOEXEC)
        guard sandbox >= 0 else {
            throw ApusError(errno == ENOENT ? .notFound : .failed, "cannot open the network namespace \(sandboxPath): \(String(cString: strerror(errno)))")
        }
        defer { close(sandbox) }
        var pair = VethPair(name: portName, peerName: name, mtu: mtu)
        pair.masterIndex = bridge
        pair.peerNamespace = sandbox
        pair.peerMACAddress = macAddress
        do throws(ApusError) {
            try netlink.createVethPair(pair)
        } catch {
            guard error.code == .conflict, let existing = try netlink.link(named: portName) else { throw error }
            let inside = try NetlinkSocket(inNamespace: sandboxPath).link(named: name)
            if let inside, inside.index == existing.peerIndex, inside.macAddress == macAddress {
                try netlink.change(linkAt: existing.index, LinkChange(isUp: true, mtu: mtu, masterIndex: bridge))
            } else {
                try netlink.removeLink(named: portName)
                try netlink.createVethPair(pair)
            }
        }
    }

    /// What is done inside of the container's namespace.
    private func configure() throws(ApusError) {
        let netlink = try NetlinkSocket()
        guard let link = try netlink.link(named: name) else { throw ApusError(.failed, "the interface \(name) did not arrive in the container") }
        if let loopback = try netlink.link(named: "lo"), !loopback.isUp { try netlink.change(linkAt: loopback.index, LinkChange(isUp: true)) }
        // The kernel then announces the address when the interface is set up, to whoever knows an earlier owner.
        try SystemSetting.ensure("net/ipv4/conf/\(name)/arp_notify", "1")
        let hasIPv6 = addresses.contains { !$0.address.isIPv4 }
        try SystemSetting.ensure("net/ipv6/conf/\(name)/disable_ipv6", hasIPv6 ? "0" : "1")
        if hasIPv6 {
            try SystemSetting.ensure("net/ipv6/conf/\(name)/accept_ra", "0")
            try SystemSetting.ensure("net/ipv6/conf/\(name)/accept_dad", "0")
        }
        for address in addresses { try netlink.addAddress(address, toLinkAt: link.index) }
        if !link.isUp { try netlink.change(linkAt: link.index, LinkChange(isUp: true)) }
        for gateway in gateways {
            if let route = Route.byDefault(gateway: gateway, linkIndex: link.index) { try netlink.setRoute(route) }
        }
    }
}
