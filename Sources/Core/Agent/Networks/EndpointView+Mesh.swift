import Dispatcher
import PluginAPI
import Wire

extension EndpointView {
    /// The ingress network on this node; `nil` while there is none, or this node has no address in it yet.
    ///
    /// - Parameter target: where a container of this node is reached from the node itself.
    func mesh(target: (ContainerRecord) -> (IPAddress, IPAddress?)?) -> MeshState? {
        guard let ingress, let underlay, let own = table.nodes[node].flatMap(MeshAddresses.init), let vni = UInt32(exactly: ingress.network.vni)
        else { return nil }
        var mesh = MeshState(networkID: ingress.network.id, vni: vni, underlay: underlay, address: own.ipv4)
        mesh.addressV6 = own.ipv6
        if let port = UInt16(exactly: ingress.dataPathPort), port > 0 { mesh.dataPathPort = port }
        let options = (ingress.network.spec.driver?.options ?? [:]).merging(ingress.network.driver.options) { first, _ in first }
        mesh.mtu = options["com.docker.network.driver.mtu"].flatMap { Int($0) } ?? 0
        mesh.isEncrypted = Self.isEncrypted(ingress.network)
        mesh.keys = ingress.keys
        var indexes: [ID: UInt16] = [:]
        for other in table.nodes.values where other.id != node {
            guard let addresses = MeshAddresses(other), let index = addresses.index, let host = IPAddress(other.address) else { continue }
            indexes[other.id] = index
            mesh.nodes.append(
                MeshState.MeshNode(index: index, address: addresses.ipv4.address, addressV6: addresses.ipv6?.address, underlay: host))
        }
        mesh.nodes.sort { $0.index < $1.index }
        for task in table.tasks.values {
            guard let place = task.attachments.first(where: { $0.network.id == ingress.network.id }), let address = place.ipv4 else { continue }
            if task.nodeID == node {
                guard let container = containers[task.id], let (ipv4, ipv6) = target(container) else { continue }
                mesh.localTasks.append(MeshState.LocalTask(address: address, addressV6: place.ipv6, target: ipv4, targetV6: ipv6))
            } else if let index = indexes[task.nodeID] {
                mesh.remoteTasks.append(MeshState.RemoteTask(address: address, addressV6: place.ipv6, nodeIndex: index))
            }
        }
        mesh.localTasks.sort { $0.address < $1.address }
        mesh.remoteTasks.sort { $0.address < $1.address }
        return mesh
    }
}

/// A node's addresses in the ingress network.
private struct MeshAddresses {
    let ipv4: IPPrefix
    let ipv6: IPPrefix?

    /// `nil` without an IPv4 address.
    init?(_ node: EndpointNode) {
        let prefixes = node.meshAddresses.compactMap { IPPrefix($0) }
        guard let ipv4 = prefixes.first(where: \.address.isIPv4) else { return nil }
        self.ipv4 = ipv4
        ipv6 = prefixes.first { !$0.address.isIPv4 }
    }

    /// The distance from the network's first address; `nil` past 16 bits, which the mesh's marks cannot carry.
    var index: UInt16? {
        func number(_ address: IPAddress) -> UInt32 { address.bytes.reduce(0) { $0 << 8 | UInt32($1) } }
        return UInt16(exactly: number(ipv4.address) - number(ipv4.network.address))
    }
}
