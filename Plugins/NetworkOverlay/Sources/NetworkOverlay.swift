import Files
import Glibc
import NFTables
import Namespaces
import Netlink
import PluginAPI
import Synchronization

/// Networks that reach over all nodes of a swarm: VXLAN (RFC 7348) between the nodes, a bridge on each.
///
/// Each network has a network namespace of its own on every node that takes part: in it a bridge, the VXLAN device, and one end of each container's
/// interface pair. Neither the host's rules nor its routes are involved. Who is where is said by `setPeers` alone: the device learns nothing, answers
/// address resolution itself, and drops what it does not know, so nothing is flooded and no such question is on the wire.
///
/// Configuration: `host-namespace` is the path of a network namespace that stands for the host's; without it the engine's own is used.
public final class NetworkOverlay: NetworkDriver {
    let host: any HostServices
    let hostNamespace: String?
    /// Everything that changes a network as a whole is done here, one at a time.
    let thread: NamespaceThread
    let rules: NFTables
    let surroundings = Mutex(NetworkSurroundings())

    public var scope: NetworkScope { .swarm }

    /// - Throws: `unavailable` without nftables, and when the namespace of the configuration cannot be entered.
    public init(host: any HostServices) throws(ApusError) {
        let namespace = host.configuration["host-namespace"]
        self.host = host
        hostNamespace = namespace
        thread = try NamespaceThread(in: namespace)
        rules = try NetworkNamespaces.runBlocking(in: namespace) { () throws(ApusError) in try NFTables() }
        try Files.makeDirectory(host.runDirectory + "/netns")
    }

    public func shutDown() async { thread.stop() }

    func namespacePath(_ network: ID) -> String { "\(host.runDirectory)/netns/\(network)" }

    public func check(_ network: LocalNetwork) async throws(ApusError) {
        let plan = try OverlayPlan(network)
        if plan.isEncrypted || network.options["encrypted"].map({ $0 != "false" }) ?? false { try await probeEncryption() }
    }

    public func create(_ network: LocalNetwork) async throws(ApusError) {
        let plan = try OverlayPlan(network)
        guard let underlay = network.underlay else {
            throw ApusError(.invalidArgument, "network \(network.name): this node has no address for the data of overlay networks")
        }
        guard plan.vni > 0 else { throw ApusError(.invalidArgument, "network \(network.name): it has no number") }
        do throws(ApusError) {
            try await thread.run { [self] () throws(ApusError) in
                // What must not be in the clear is protected before anything can be sent.
                try encrypt(plan, network, underlay)
                try place(plan, underlay)
            }
        } catch {
            throw error.during("network \(network.name)")
        }
    }

    public func remove(_ network: LocalNetwork) async throws(ApusError) {
        let plan = try OverlayPlan(network)
        let path = namespacePath(plan.id)
        do throws(ApusError) {
            try await thread.run { [self] () throws(ApusError) in
                if NetworkNamespaces.isPinned(path: path) {
                    let netlink = try NetlinkSocket(inNamespace: path)
                    if let bridge = try netlink.link(named: OverlayPlan.bridge) {
                        let containers = try netlink.links().count { $0.masterIndex == bridge.index && $0.name != OverlayPlan.device }
                        guard containers == 0 else {
                            throw ApusError(.conflict, "\(containers) container(s) are in it still; disconnect or remove them first")
                        }
                    }
                    // The namespace ends some time after this, and its devices with it; the number must be free at once.
                    try netlink.removeLink(named: OverlayPlan.device)
                    try NetworkNamespaces.remove(path: path)
                }
                try forgetEncryption(of: plan)
            }
        } catch {
            throw error.during("network \(network.name)")
        }
    }

    // MARK: The network's namespace

    private func place(_ plan: OverlayPlan, _ underlay: IPAddress) throws(ApusError) {
        let path = namespacePath(plan.id)
        if !NetworkNamespaces.isPinned(path: path) { try NetworkNamespaces.create(path: path) }
        let mtu: Int
        if let wanted = plan.wantedMTU {
            mtu = wanted
        } else {
            mtu = try underlayMTU(underlay) - OverlayPlan.overhead(on: underlay, isEncrypted: plan.isEncrypted)
        }
        let netlink = try NetlinkSocket(inNamespace: path)
        var wanted = VXLANDevice(name: OverlayPlan.device, vni: plan.vni, port: plan.port, local: underlay, mtu: mtu)
        wanted.isProxy = true
        var isThere = false
        if var present = try netlink.vxlan(named: OverlayPlan.device) {
            present.macAddress = nil
            isThere = present == wanted
            if !isThere { try netlink.removeLink(named: OverlayPlan.device) }
        }
        if try netlink.link(named: OverlayPlan.bridge) == nil { try netlink.createBridge(named: OverlayPlan.bridge, macAddress: nil, mtu: mtu) }
        guard let bridge = try netlink.link(named: OverlayPlan.bridge) else { throw ApusError(.failed, "its bridge vanished while it was being made") }
        if !isThere { try makeDevice(wanted, path) }
        guard let device = try netlink.link(named: OverlayPlan.device) else { throw ApusError(.failed, "its VXLAN device vanished while it was being made") }
        if device.masterIndex != bridge.index || !device.isUp {
            try netlink.change(linkAt: device.index, LinkChange(isUp: true, masterIndex: bridge.index))
        }
        if !bridge.isUp || bridge.mtu != mtu { try netlink.change(linkAt: bridge.index, LinkChange(isUp: true, mtu: mtu)) }
        try NetworkNamespaces.runBlocking(in: path) { () throws(ApusError) in
            // Neither has business on the network itself.
            for name in [OverlayPlan.bridge, OverlayPlan.device] { try SystemSetting.ensure("net/ipv6/conf/\(name)/disable_ipv6", "1") }
        }
        if !isThere { host.log(.debug, "network \(plan.name): VXLAN \(plan.vni) from \(underlay), MTU \(mtu), is in place") }
    }

    private func makeDevice(_ device: VXLANDevice, _ path: String) throws(ApusError) {
        let namespace = open(path, O_RDONLY | O_CLOEXEC)
        guard namespace >= 0 else { throw ApusError(.failed, "cannot open the network namespace \(path): \(String(cString: strerror(errno)))") }
        defer { close(namespace) }
        do throws(ApusError) {
            try NetlinkSocket().createVXLAN(device, inNamespace: namespace)
        } catch {
            guard error.code == .conflict else { throw error }
            throw ApusError(.conflict, "another network of this machine has the number \(device.vni) on UDP port \(device.port)")
        }
    }

    private func underlayMTU(_ underlay: IPAddress) throws(ApusError) -> Int {
        let netlink = try NetlinkSocket()
        guard let address = try netlink.addresses().first(where: { $0.prefix.address == underlay }), let link = try netlink.link(at: address.linkIndex) else {
            throw ApusError(.unavailable, "this machine does not have the address \(underlay), which other nodes are to send to")
        }
        // The loopback's is larger than a packet can be.
        return min(link.mtu, 65535)
    }

    // MARK: Who is where

    public func setPeers(_ request: PeersRequest) async throws(ApusError) {
        let plan = try OverlayPlan(request.network)
        let path = namespacePath(plan.id)
        do throws(ApusError) {
            try await thread.run { [self] () throws(ApusError) in
                guard NetworkNamespaces.isPinned(path: path) else { return }
                let netlink = try NetlinkSocket(inNamespace: path)
                guard let device = try netlink.link(named: OverlayPlan.device) else { throw ApusError(.notFound, "its VXLAN device is gone") }
                try encrypt(plan, request)
                try Self.update(netlink, device.index, request.peers)
            }
        } catch {
            throw error.during("network \(request.network.name)")
        }
    }

    /// A hardware address is said to be somewhere before anybody is told of it, and is forgotten after nobody is told of it any more.
    private static func update(_ netlink: NetlinkSocket, _ index: Int, _ peers: [NetworkPeer]) throws(ApusError) {
        let wantedForwarding = Set(peers.map { ForwardingEntry(macAddress: $0.macAddress, node: $0.node) })
        let wantedNeighbours = Set(
            peers.flatMap { peer in
                [peer.address, peer.addressV6].compactMap { $0 }.map { NeighbourEntry(address: $0, macAddress: peer.macAddress) }
            })
        let forwarding = Set(try netlink.forwarding(ofLinkAt: index))
        let neighbours = Set(try netlink.neighbours(ofLinkAt: index))
        let addresses = Set(wantedNeighbours.map(\.address))
        for entry in neighbours where !addresses.contains(entry.address) { try netlink.removeNeighbour(entry, ofLinkAt: index) }
        for entry in wantedForwarding where !forwarding.contains(entry) { try netlink.setForwarding(entry, ofLinkAt: index) }
        for entry in wantedNeighbours where !neighbours.contains(entry) { try netlink.setNeighbour(entry, ofLinkAt: index) }
        let known = Set(wantedForwarding.map(\.macAddress))
        for entry in forwarding where !known.contains(entry.macAddress) { try netlink.removeForwarding(entry, ofLinkAt: index) }
    }
}
