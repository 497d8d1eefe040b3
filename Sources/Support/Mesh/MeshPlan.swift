import Netlink
import PluginAPI

/// A mesh in the form in which two of them are compared.
struct MeshPlan: Sendable, Hashable {
    let state: MeshState
    /// Without duplicates, sorted.
    let subnets: [IPPrefix]
    let device: MeshDevice

    /// What VXLAN, UDP and IP take of the underlay's packets, in bytes.
    static func overhead(over underlay: IPAddress) -> Int { underlay.isIPv4 ? 50 : 70 }
    /// IPv6 needs this much, in bytes.
    static let leastMTU = 1280

    /// - Parameter underlayMTU: in bytes.
    /// - Throws: `invalidArgument` for a state that makes no sense, `unavailable` for an encrypted one.
    init(_ state: MeshState, subnets: [IPPrefix], underlayMTU: Int) throws(ApusError) {
        try Self.check(state)
        self.state = state
        self.subnets = Set(subnets.map(\.network)).sorted { ($0.address, $0.length) < ($1.address, $1.length) }
        let room = underlayMTU - Self.overhead(over: state.underlay)
        device = MeshDevice(
            name: Mesh.deviceName, vni: state.vni, port: state.dataPathPort, local: state.underlay,
            macAddress: MACAddress(containerWith: state.address.address), mtu: state.mtu > 0 ? state.mtu : max(room, Self.leastMTU))
    }

    /// Whether a change from the other is one of elements alone.
    func hasSameFrame(as other: MeshPlan) -> Bool {
        device == other.device && state.address == other.state.address && state.addressV6 == other.state.addressV6
    }

    /// Where the other nodes' devices are.
    var forwarding: Set<MeshForwarding> { Set(state.nodes.map { MeshForwarding(macAddress: $0.macAddress, node: $0.underlay) }) }

    private static func check(_ state: MeshState) throws(ApusError) {
        func refuse(_ reason: String) -> ApusError { ApusError(.invalidArgument, "the ingress network \(state.networkID.short): \(reason)") }
        if state.isEncrypted {
            throw ApusError(.unavailable, "the ingress network \(state.networkID.short) is to be encrypted, which this balancer cannot do")
        }
        guard (1...0xff_ffff).contains(state.vni) else { throw refuse("\(state.vni) is no number of a VXLAN: it is 1 to 16777215") }
        guard state.dataPathPort > 0 else { throw refuse("the data path port is 0") }
        guard state.mtu == 0 || (leastMTU...65535).contains(state.mtu) else { throw refuse("the MTU must be \(leastMTU) to 65535, not \(state.mtu)") }
        guard state.address.address.isIPv4, state.addressV6.map({ !$0.address.isIPv4 }) ?? true else {
            throw refuse("it needs an IPv4 address, and an IPv6 one beside it at most")
        }
        var indexes: Set<UInt16> = []
        for node in state.nodes {
            guard node.index > 0, indexes.insert(node.index).inserted else { throw refuse("two nodes have the index \(node.index), or it is 0") }
            guard node.address.isIPv4, node.underlay.isIPv4 == state.underlay.isIPv4 else {
                throw refuse("the node \(node.address) at \(node.underlay) has addresses of other families than this one")
            }
        }
        var addresses: Set<IPAddress> = []
        func take(_ address: IPAddress, _ addressV6: IPAddress?) throws(ApusError) {
            guard address.isIPv4, addressV6.map({ !$0.isIPv4 }) ?? true else { throw refuse("the task \(address) has an address of the wrong family") }
            for address in [address, addressV6] {
                guard let address else { continue }
                guard addresses.insert(address).inserted else { throw refuse("two tasks have the address \(address)") }
            }
        }
        for task in state.remoteTasks { try take(task.address, task.addressV6) }
        for task in state.localTasks {
            try take(task.address, task.addressV6)
            guard task.target.isIPv4, task.targetV6.map({ !$0.isIPv4 }) ?? true else {
                throw refuse("the task \(task.address) has a target of the wrong family")
            }
        }
    }
}

extension MeshState {
    /// With the nodes and tasks of an earlier state that are not in the way of this one's.
    func extended(by old: MeshState) -> MeshState {
        if old.nodes == nodes && old.remoteTasks == remoteTasks && old.localTasks == localTasks { return self }
        var state = self
        let (indexes, macs) = (Set(nodes.map(\.index)), Set(nodes.map(\.macAddress)))
        state.nodes += old.nodes.filter {
            !indexes.contains($0.index) && !macs.contains($0.macAddress) && $0.underlay.isIPv4 == underlay.isIPv4 && $0.underlay != underlay
        }
        var taken: Set<IPAddress> = []
        for task in remoteTasks { taken.formUnion([task.address, task.addressV6].compactMap { $0 }) }
        for task in localTasks { taken.formUnion([task.address, task.addressV6].compactMap { $0 }) }
        state.remoteTasks += old.remoteTasks.filter { task in ![task.address, task.addressV6].contains { $0.map { taken.contains($0) } ?? false } }
        state.localTasks += old.localTasks.filter { task in ![task.address, task.addressV6].contains { $0.map { taken.contains($0) } ?? false } }
        return state
    }
}
