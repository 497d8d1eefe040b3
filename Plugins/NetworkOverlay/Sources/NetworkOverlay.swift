import Glibc
import NFTables
import Namespaces
import Netlink
import PluginAPI
import Synchronization

/// Networks that span the nodes of a swarm: VXLAN, led by what the swarm knows instead of by what is seen on the wire.
///
/// Each network has a namespace of its own, which other people's rules and bridge netfilter do not see. In it is a bridge with the containers'
/// interfaces, and a VXLAN device whose UDP socket is the host's. Nothing is learned and nothing is flooded: a frame leaves the node only for a peer that
/// `setPeers` named, and whoever asks for a peer's hardware address is answered on the node itself.
///
/// Configuration: `host-namespace` is the path of a network namespace that stands for the host's; without it the engine's own is used.
public final class NetworkOverlay: NetworkDriver {
    let host: any HostServices
    let hostNamespace: String?
    /// Everything that changes a network as a whole is done here, one at a time.
    let thread: NamespaceThread
    let rules: NFTables
    let state = Mutex(State())
    private let maintenance = Mutex<ConcurrentTask<Void, Never>?>(nil)

    struct State: ~Copyable {
        /// `nil` as long as nobody has told: what an engine of before left stays.
        var surroundings: NetworkSurroundings?
        /// Whether the encrypted networks of an engine of before are known.
        var isRecovered = false
        var encryption = Encryption()
        /// Kept, because to close such a socket waits for what the kernel still has to clean up.
        var netfilter: NetfilterSocket?
    }

    public var scope: NetworkScope { .swarm }

    /// - Throws: `unavailable` without nftables, and when the namespace of the configuration cannot be entered.
    public init(host: any HostServices) throws(ApusError) {
        let namespace = host.configuration["host-namespace"]
        self.host = host
        hostNamespace = namespace
        thread = try NamespaceThread(in: namespace)
        rules = try NetworkNamespaces.runBlocking(in: namespace) { () throws(ApusError) in try NFTables() }
        maintenance.withLock { task in
            task = ConcurrentTask { [weak self] in
                while !ConcurrentTask.isCancelled {
                    do { try await ConcurrentTask.sleep(for: .seconds(60)) } catch { return }
                    await self?.maintain()
                }
            }
        }
    }

    public func shutDown() async {
        maintenance.withLock { $0?.cancel() }
        thread.stop()
    }

    public func check(_ network: LocalNetwork) async throws(ApusError) {
        let plan = try OverlayPlan(network)
        guard plan.isEncrypted else { return }
        do throws(ApusError) {
            try await thread.run { [self] () throws(ApusError) in try probeEncryption(network.underlay) }
        } catch {
            throw error.during("network \(network.name)")
        }
    }

    public func create(_ network: LocalNetwork) async throws(ApusError) {
        let plan = try OverlayPlan(network)
        do throws(ApusError) {
            try await thread.run { [self] () throws(ApusError) in _ = try make(network, plan) }
        } catch {
            throw error.during("network \(network.name)")
        }
    }

    public func remove(_ network: LocalNetwork) async throws(ApusError) {
        let plan = try OverlayPlan(network)
        do throws(ApusError) {
            try await thread.run { [self] () throws(ApusError) in
                let path = namespacePath(plan.id)
                if NetworkNamespaces.isPinned(path: path) {
                    let netlink = try NetlinkSocket(inNamespace: path)
                    if let bridge = try netlink.link(named: OverlayPlan.bridgeName) {
                        let ports = try netlink.links().filter { $0.masterIndex == bridge.index && $0.name != OverlayPlan.deviceName }
                        guard ports.isEmpty else {
                            throw ApusError(.conflict, "\(ports.count) container(s) are in it still; disconnect or remove them first")
                        }
                    }
                    // The kernel ends a namespace later; the number must be free at once.
                    try netlink.removeLink(named: OverlayPlan.deviceName)
                }
                try NetworkNamespaces.remove(path: path)
                try endEncryption(of: plan.id)
            }
        } catch {
            throw error.during("network \(network.name)")
        }
    }

    public func setPeers(_ request: PeersRequest) async throws(ApusError) {
        let plan = try OverlayPlan(request.network)
        do throws(ApusError) {
            try await thread.run { [self] () throws(ApusError) in
                let device = try make(request.network, plan)
                var wanted = ForwardingState()
                for peer in request.peers {
                    // To itself a packet would come back by another way; to another family the device has no socket.
                    guard peer.node != request.network.underlay, peer.node.isIPv4 == request.network.underlay?.isIPv4 else {
                        host.log(.warning, "network \(plan.networkName): \(peer.address) is out of reach, its node has the address \(peer.node)")
                        continue
                    }
                    wanted.add(peer.macAddress, at: peer.node, addresses: [peer.address] + (peer.addressV6.map { [$0] } ?? []))
                }
                let table = try ForwardingTable(ofDeviceAt: device.index, inNamespace: namespacePath(plan.id))
                let changes = try table.state().changes(to: wanted)
                try table.apply(changes)
                if !changes.isEmpty { host.log(.debug, "network \(plan.networkName): \(request.peers.count) peer(s), \(changes.count) change(s)") }
            }
        } catch {
            throw error.during("network \(request.network.name)")
        }
    }

    public func setSurroundings(_ surroundings: NetworkSurroundings) async throws(ApusError) {
        do throws(ApusError) {
            try await thread.run { [self] () throws(ApusError) in
                if state.withLock({ !$0.isRecovered }) { try recoverEncryption() }
                let isInForce = state.withLock { state in
                    state.isRecovered = true
                    if state.surroundings != surroundings { state.encryption.isInForce = false }
                    state.surroundings = surroundings
                    return state.encryption.isInForce
                }
                try installRules()
                if !isInForce { try reconcileEncryption() }
            }
        } catch {
            throw error.during("the networks of the swarm are not protected")
        }
    }

    /// What nobody asks for: rules that somebody has flushed, and associations that are about to run out of numbers.
    private func maintain() async {
        do throws(ApusError) {
            try await thread.run { [self] () throws(ApusError) in
                try repairRules()
                if state.withLock({ !$0.encryption.networks.isEmpty }) { try reconcileEncryption() }
            }
        } catch {
            host.log(.warning, "the networks of the swarm cannot be looked after: \(error)")
        }
    }

    /// The file on which a network's namespace is pinned.
    func namespacePath(_ network: ID) -> String { "\(host.runDirectory)/netns/\(network)" }
}
