import Namespaces
import Netlink
import PluginAPI

extension NetworkOverlay {
    public func attach(_ request: AttachRequest) async throws(ApusError) -> AttachAnswer {
        let plan = try OverlayPlan(request.network)
        guard plan.gateway.contains(request.address.address) else {
            throw ApusError(.invalidArgument, "network \(plan.name): the address \(request.address) is not in \(plan.gateway.network)")
        }
        let path = namespacePath(plan.id)
        if !NetworkNamespaces.isPinned(path: path) { try await create(request.network) }
        do throws(ApusError) {
            return try await NetworkNamespaces.run(in: path) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                guard let bridge = try netlink.link(named: OverlayPlan.bridge) else { throw ApusError(.failed, "its bridge is missing") }
                var interface = ContainerInterface(
                    name: request.interfaceName, portName: plan.portName(for: request.containerID), sandboxPath: request.sandboxPath,
                    macAddress: request.macAddress, mtu: bridge.mtu)
                interface.addresses = [request.address, request.addressV6].compactMap { $0 }
                if request.isDefaultRoute, !plan.isInternal { interface.gateways = [plan.gateway.address, plan.gatewayV6?.address].compactMap { $0 } }
                try interface.connect(toBridgeAt: bridge.index, netlink, isHairpin: false, isIsolated: false)
                return AttachAnswer(hostInterface: interface.portName, mtu: bridge.mtu)
            }
        } catch {
            throw error.during("container \(request.containerID.short), network \(plan.name)")
        }
    }

    public func detach(_ request: DetachRequest) async throws(ApusError) {
        let name = "\(request.network.id)/\(request.containerID)"
        let path = namespacePath(request.network.id)
        guard NetworkNamespaces.isPinned(path: path) else { return }
        let plan = try OverlayPlan(request.network)
        do throws(ApusError) {
            try await NetworkNamespaces.run(in: path) { () throws(ApusError) in
                // The other end, in the container, goes with it.
                try NetlinkSocket().removeLink(named: plan.portName(for: request.containerID))
            }
        } catch {
            throw error.during("network and container \(name)")
        }
    }
}
