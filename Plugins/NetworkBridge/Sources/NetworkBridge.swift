import NFTables
import Namespaces
import Netlink
import PluginAPI
import Synchronization

/// Networks on one node: a bridge for each, an interface pair for each container, and the node's address for what leaves.
///
/// Configuration: `host-namespace` is the path of a network namespace that stands for the host's; without it the engine's own is used.
public final class NetworkBridge: NetworkDriver {
    let host: any HostServices
    let hostNamespace: String?
    /// Everything that changes a network as a whole is done here, one at a time.
    private let thread: NamespaceThread
    private let rules: NFTables
    /// Kept, because to close such a socket waits for what the kernel still has to clean up. Used on the thread alone.
    private let netfilter = Mutex<NetfilterSocket?>(nil)
    private let reported = Mutex<Set<NFTables.DroppingChain>>([])
    /// `nil` as long as nobody has told: what an engine of before left in the table stays.
    private let surroundings = Mutex<NetworkSurroundings?>(nil)

    /// - Throws: `unavailable` without nftables, and when the namespace of the configuration cannot be entered.
    public init(host: any HostServices) throws(ApusError) {
        let namespace = host.configuration["host-namespace"]
        self.host = host
        hostNamespace = namespace
        thread = try NamespaceThread(in: namespace)
        rules = try NetworkNamespaces.runBlocking(in: namespace) { () throws(ApusError) in try NFTables() }
    }

    public func shutDown() async { thread.stop() }

    public func create(_ network: LocalNetwork) async throws(ApusError) {
        let plan = try BridgePlan(network)
        do throws(ApusError) {
            try await thread.run { [self] () throws(ApusError) in
                try prepareKernel(plan)
                try makeBridge(plan)
                let isNewTable = try !hasTable()
                let surroundings = surroundings.withLock { $0 }
                try rules.run(BridgeRules.install(plan) + (surroundings.map(BridgeRules.surroundings) ?? ""))
                let table = isNewTable ? ", with a new table" : ""
                host.log(.debug, "network \(plan.networkName): bridge \(plan.bridgeName) with \(plan.gateway) is in place\(table)")
                reportDroppingChains()
            }
        } catch {
            throw error.during("network \(network.name)")
        }
    }

    public func remove(_ network: LocalNetwork) async throws(ApusError) {
        let plan = try BridgePlan(network)
        do throws(ApusError) {
            try await thread.run { [self] () throws(ApusError) in
                let netlink = try NetlinkSocket()
                if let bridge = try netlink.link(named: plan.bridgeName) {
                    let ports = try netlink.links().filter { $0.masterIndex == bridge.index }
                    guard ports.isEmpty else {
                        throw ApusError(.conflict, "\(ports.count) container(s) are in it still; disconnect or remove them first")
                    }
                    guard bridge.kind == "bridge" else { throw ApusError(.conflict, "\(plan.bridgeName) is no bridge, but \(bridge.kind)") }
                    try netlink.removeLink(named: plan.bridgeName)
                }
                guard try hasTable() else { return }
                try rules.run(BridgeRules.uninstall(plan))
                let listing = try rules.run(BridgeRules.listBridges)
                if !listing.contains("elements") { try rules.run(BridgeRules.removeTable) }
            }
        } catch {
            throw error.during("network \(network.name)")
        }
    }

    public func setSurroundings(_ surroundings: NetworkSurroundings) async throws(ApusError) {
        self.surroundings.withLock { $0 = surroundings }
        try await thread.run { [self] () throws(ApusError) in
            // Without a network of this driver there is nobody to keep off; the first one brings the table.
            guard try hasTable() else { return }
            do throws(ApusError) {
                try rules.run(BridgeRules.frame + BridgeRules.surroundings(surroundings))
            } catch {
                throw error.during("containers are not kept off the swarm's sockets")
            }
        }
    }

    private func hasTable() throws(ApusError) -> Bool {
        let result: Result<Bool, ApusError> = netfilter.withLock { netfilter in
            do throws(ApusError) {
                let socket = if let netfilter { netfilter } else { try NetfilterSocket() }
                netfilter = socket
                return .success(try socket.hasTable(BridgeRules.table))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// The node must forward; nothing else about it is changed.
    private func prepareKernel(_ plan: BridgePlan) throws(ApusError) {
        if try SystemSetting.ensure("net/ipv4/ip_forward", "1") {
            host.log(.info, "net.ipv4.ip_forward was off; it is on now, so that containers reach other machines and published ports work")
        }
        guard plan.gatewayV6 != nil, let forwarding = SystemSetting.read("net/ipv6/conf/all/forwarding"), forwarding != "1" else { return }
        // A machine that forwards ignores router advertisements unless it is told to heed them all the same: it would lose its own default route.
        for link in try NetlinkSocket().links() where SystemSetting.read("net/ipv6/conf/\(link.name)/accept_ra") == "1" {
            try SystemSetting.write("net/ipv6/conf/\(link.name)/accept_ra", "2")
        }
        if try SystemSetting.ensure("net/ipv6/conf/all/forwarding", "1") {
            host.log(.info, "net.ipv6.conf.all.forwarding was off; it is on now, for network \(plan.networkName)")
        }
    }

    private func makeBridge(_ plan: BridgePlan) throws(ApusError) {
        let netlink = try NetlinkSocket()
        var bridge = try netlink.link(named: plan.bridgeName)
        if bridge == nil {
            let taken = try netlink.addresses().first { plan.gateway.overlaps($0.prefix) || plan.gatewayV6?.overlaps($0.prefix) ?? false }
            if let taken {
                let owner = try netlink.link(at: taken.linkIndex)?.name ?? "another interface"
                throw ApusError(.conflict, "its subnet \(plan.gateway.network) overlaps \(taken.prefix) of \(owner); choose another subnet")
            }
            try netlink.createBridge(named: plan.bridgeName, macAddress: plan.macAddress, mtu: plan.mtu)
            bridge = try netlink.link(named: plan.bridgeName)
        }
        guard let bridge else { throw ApusError(.failed, "the bridge \(plan.bridgeName) vanished while it was being made") }
        guard bridge.kind == "bridge" else {
            throw ApusError(.conflict, "an interface named \(plan.bridgeName) exists and is no bridge; choose another com.docker.network.bridge.name")
        }
        try SystemSetting.ensure("net/ipv6/conf/\(plan.bridgeName)/disable_ipv6", plan.gatewayV6 == nil ? "1" : "0")
        // An address of ours is nobody else's; to wait until that is checked would hold the first connections back.
        if plan.gatewayV6 != nil { try SystemSetting.ensure("net/ipv6/conf/\(plan.bridgeName)/accept_dad", "0") }
        let present = Set(try netlink.addresses(ofLinkAt: bridge.index).map(\.prefix))
        for address in [plan.gateway, plan.gatewayV6] {
            if let address, !present.contains(address) { try netlink.addAddress(address, toLinkAt: bridge.index) }
        }
        if !bridge.isUp || bridge.mtu != plan.mtu { try netlink.change(linkAt: bridge.index, LinkChange(isUp: true, mtu: plan.mtu)) }
    }

    /// Another program's drop cannot be overruled from a table of ours, so it is named with the remedy, once.
    private func reportDroppingChains() {
        let chains: [NFTables.DroppingChain]
        do throws(ApusError) {
            chains = try rules.droppingForwardChains()
        } catch {
            host.log(.debug, "the forward chains cannot be listed: \(error)")
            return
        }
        for chain in chains where reported.withLock({ $0.insert(chain).inserted }) {
            host.log(
                .warning,
                "the chain \(chain.chain) of the nftables table \(chain.table) drops what it does not accept (dockerd and some firewalls leave it so): "
                    + "containers may not reach other machines, nor be reached. Accept it there: nft insert rule \(chain.table) \(chain.chain) accept, "
                    + "or: nft chain \(chain.table) \(chain.chain) '{ policy accept; }'")
        }
    }
}
