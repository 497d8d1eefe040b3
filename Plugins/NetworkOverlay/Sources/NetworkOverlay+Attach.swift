import Namespaces
import Netlink
import PluginAPI

extension NetworkOverlay {
    public func attach(_ request: AttachRequest) async throws(ApusError) -> AttachAnswer {
        let plan = try OverlayPlan(request.network)
        guard plan.gateway.contains(request.address.address), request.addressV6.map({ plan.gatewayV6?.contains($0.address) ?? false }) ?? true else {
            throw ApusError(
                .invalidArgument,
                "network \(plan.networkName): \(request.address)\(request.addressV6.map { " or \($0)" } ?? "") is not in \(plan.gateway.network)"
                    + (plan.gatewayV6.map { " and \($0.network)" } ?? ""))
        }
        do throws(ApusError) {
            // Also what someone removed behind our back.
            let device = try await thread.run { [self] () throws(ApusError) in try make(request.network, plan) }
            return try await connect(request, plan, device)
        } catch {
            throw error.during("container \(request.containerID.short), network \(plan.networkName)")
        }
    }

    public func detach(_ request: DetachRequest) async throws(ApusError) {
        let path = namespacePath(request.network.id)
        guard NetworkNamespaces.isPinned(path: path) else { return }
        // The other end, in the container, goes with it.
        try NetlinkSocket(inNamespace: path).removeLink(named: SandboxInterface.name(network: request.network.id, container: request.containerID))
    }

    private func connect(_ request: AttachRequest, _ plan: OverlayPlan, _ device: Link) async throws(ApusError) -> AttachAnswer {
        try await NetworkNamespaces.run(in: namespacePath(plan.id)) { () throws(ApusError) in
            let netlink = try NetlinkSocket()
            guard let bridge = try netlink.link(named: OverlayPlan.bridgeName) else {
                throw ApusError(.conflict, "the network is being removed")
            }
            var interface = SandboxInterface(
                name: SandboxInterface.name(network: plan.id, container: request.containerID), bridgeIndex: bridge.index, mtu: device.mtu,
                request: request)
            if request.isDefaultRoute {
                interface.gateways = [plan.gateway.address]
                if request.addressV6 != nil, let gateway = plan.gatewayV6 { interface.gateways.append(gateway.address) }
            }
            try netlink.connect(interface)
            // A task that comes here from another node is no peer any more, also before the peers are told anew.
            let addresses = [request.address.address] + (request.addressV6.map { [$0.address] } ?? [])
            try ForwardingTable(ofDeviceAt: device.index, inNamespace: nil).apply(
                addresses.map { .removeNeighbour($0) } + [.removeTunnel(request.macAddress), .removePort(request.macAddress)])
            return AttachAnswer(hostInterface: interface.name, mtu: device.mtu)
        }
    }
}
