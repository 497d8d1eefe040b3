import NFTables
import Namespaces
import Netlink
import PluginAPI
import Synchronization

/// What is encrypted on this node.
struct Encryption: Sendable {
    /// A network whose packets must not be seen on the wire.
    struct Network: Sendable, Hashable {
        var vni: UInt32
        var port: UInt16
        var underlay: IPAddress
    }

    var networks: [ID: Network] = [:]
    /// `nil` as long as nobody has told.
    var keys: PairKeys?
    /// Whether the kernel has what all this asks for. After a failure it has not, and whatever needs it is refused.
    var isInForce = false

    /// Takes keys that are as new as those known, or newer: a request may be older than the last change.
    mutating func take(_ new: PairKeys) {
        if let keys, let last = keys.keys.last, let newLast = new.keys.last, newLast.number < last.number { return }
        keys = new
    }
}

/// Encryption of networks: IPsec between the nodes, for the packets of some VXLAN numbers.
///
/// A frame of an encrypted network gets a mark in the network's own namespace, where nobody else's rules are. VXLAN looks for the way of its outer packet by
/// that mark, and there the kernel's policies say: by ESP under the pair's key, or not at all. The table of the host's namespace has a second look: packets
/// of such a network that would leave, or have come, in the clear are dropped.
extension NetworkOverlay {
    /// Of frames of encrypted networks, and of the associations and policies: "APUS".
    static let encryptionMark: UInt32 = 0x4150_5553
    /// Packets after which an association is made again. The kernel's limit is twice that.
    static let packetLimit: UInt64 = 1 << 31
    private static let markTable = "apus-overlay"
    /// NFPROTO_BRIDGE of the kernel.
    private static let bridgeFamily: UInt8 = 7

    /// Whether this kernel can encrypt. Runs on the thread.
    func probeEncryption(_ underlay: IPAddress?) throws(ApusError) {
        try SecurityTable(mark: Self.encryptionMark).probe(isIPv4: underlay?.isIPv4 ?? true)
    }

    /// Prepares the encryption of a network before anything of it is made. Runs on the thread.
    func prepareEncryption(_ network: LocalNetwork, _ underlay: IPAddress) throws(ApusError) {
        let keys = try PairKeys(network.keys)
        guard state.withLock({ $0.surroundings?.address != nil }) else {
            throw ApusError(.unavailable, "an encrypted network needs to know the other nodes first; is this node in a swarm?")
        }
        let entry = Encryption.Network(vni: network.vni, port: network.dataPathPort, underlay: underlay)
        let isNew = state.withLock { $0.encryption.networks[network.id] != entry }
        if isNew { try probeEncryption(underlay) }
        let isInForce = state.withLock { state in
            let before = state.encryption.keys
            state.encryption.networks[network.id] = entry
            state.encryption.take(keys)
            if isNew || state.encryption.keys != before { state.encryption.isInForce = false }
            return state.encryption.isInForce
        }
        if isInForce { return }
        try installRules()
        try reconcileEncryption()
    }

    /// Has the frames of an encrypted network marked, before its device is made. Runs on the thread.
    func markFrames(inNamespace path: String) throws(ApusError) {
        try NetworkNamespaces.runBlocking(in: path) { () throws(ApusError) in
            guard try !NetfilterSocket().hasTable(Self.markTable, family: Self.bridgeFamily) else { return }
            try NFTables().run(
                """
                add table bridge \(Self.markTable)
                add chain bridge \(Self.markTable) frames { type filter hook postrouting priority 0; }
                add rule bridge \(Self.markTable) frames oifname "\(OverlayPlan.deviceName)" meta mark set \(Self.encryptionMark)
                """)
        }
    }

    /// Forgets a network that is removed. Runs on the thread.
    func endEncryption(of network: ID) throws(ApusError) {
        let isEncrypted = state.withLock { state in
            guard state.encryption.networks.removeValue(forKey: network) != nil else { return false }
            state.encryption.isInForce = false
            return true
        }
        guard isEncrypted else { return }
        try installRules()
        try reconcileEncryption()
    }

    /// Finds the encrypted networks that an engine of before has made: what guards them must not end before somebody speaks of them. Runs on the thread.
    func recoverEncryption() throws(ApusError) {
        for name in pinnedNetworks() {
            let path = namespacePath(ID(name))
            let device = try NetworkNamespaces.runBlocking(in: path) { () throws(ApusError) -> VXLANDevice? in
                guard try NetfilterSocket().hasTable(Self.markTable, family: Self.bridgeFamily) else { return nil }
                return try NetlinkSocket().vxlan(named: OverlayPlan.deviceName)
            }
            guard let device else { continue }
            state.withLock { $0.encryption.networks[ID(name)] = Encryption.Network(vni: device.vni, port: device.port, underlay: device.local) }
        }
    }

    /// Brings associations and policies to what the other nodes and the keys ask for. Runs on the thread.
    ///
    /// What receives comes first, then what sends, then the policies that choose it: so a new key is understood before it is used, and nothing is lost.
    func reconcileEncryption() throws(ApusError) {
        let (encryption, surroundings) = state.withLock { state in
            // The next swarm counts its keys from the start.
            if let surroundings = state.surroundings, surroundings.address == nil { state.encryption.keys = nil }
            return (state.encryption, state.surroundings)
        }
        guard let surroundings, surroundings.address == nil || encryption.networks.isEmpty || encryption.keys != nil else { return }
        var wanted: Set<SecurityAssociation> = []
        var outgoing: Set<SecurityAssociation> = []
        var policies: Set<SecurityPolicy> = []
        let ports = Set(encryption.networks.values.map(\.port))
        for underlay in Set(encryption.networks.values.map(\.underlay)) {
            // As long as there is such a network, also outside of a swarm.
            for port in ports { policies.insert(SecurityPolicy(port: port, action: .block(isIPv4: underlay.isIPv4))) }
            guard let keys = encryption.keys else { continue }
            for member in surroundings.members where member.isIPv4 == underlay.isIPv4 && member != underlay {
                wanted.formUnion(try keys.receiving(from: member, at: underlay))
                let sending = try keys.sending(to: member, from: underlay)
                outgoing.insert(sending)
                for port in ports {
                    policies.insert(SecurityPolicy(port: port, action: .protect(source: underlay, destination: member, spi: sending.spi)))
                }
            }
        }
        wanted.formUnion(outgoing)
        try apply(wanted, outgoing, policies)
        state.withLock { $0.encryption.isInForce = true }
    }

    private func apply(_ wanted: Set<SecurityAssociation>, _ outgoing: Set<SecurityAssociation>, _ policies: Set<SecurityPolicy>) throws(ApusError) {
        let table: SecurityTable
        do throws(ApusError) {
            table = try SecurityTable(mark: Self.encryptionMark)
        } catch {
            // A kernel that knows nothing of it has nothing to remove.
            if policies.isEmpty { return }
            throw error
        }
        let present = try table.associations()
        // The one that would run out of numbers goes, and comes again.
        let spent = present.filter { outgoing.contains($0.association) && $0.packets >= Self.packetLimit }.map(\.association)
        let stale = present.map(\.association).filter { !wanted.contains($0) }
        // One with the right number and another key, of a swarm of before, is in the way of the right one.
        let taken = Set(wanted.map { Place($0) })
        let blocking = stale.filter { taken.contains(Place($0)) }
        try table.remove(spent + blocking)
        let missing = wanted.subtracting(present.map(\.association)).union(spent)
        try table.add(missing.filter { !outgoing.contains($0) } + missing.filter(outgoing.contains))
        let presentPolicies = Set(try table.policies())
        // Blocks first: a node whose policy goes is not sent to in the clear.
        let new = policies.subtracting(presentPolicies)
        try table.set(new.filter(\.isBlock) + new.filter { !$0.isBlock })
        let kept = Set(policies.map(\.packets))
        let old = presentPolicies.filter { !kept.contains($0.packets) }
        try table.remove(old.filter { !$0.isBlock } + old.filter(\.isBlock))
        try table.remove(stale.filter { !blocking.contains($0) })
        if !missing.isEmpty || !new.isEmpty { host.log(.debug, "encryption: \(wanted.count) associations, \(missing.count) of them new") }
    }

    /// By what the kernel finds an association.
    private struct Place: Hashable {
        let destination: IPAddress
        let spi: UInt32

        init(_ association: SecurityAssociation) {
            destination = association.destination
            spi = association.spi
        }
    }
}
