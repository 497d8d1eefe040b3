import Namespaces
import Netlink
import PluginAPI

extension NetworkBridge {
    public func attach(_ request: AttachRequest) async throws(ApusError) -> AttachAnswer {
        let plan = try BridgePlan(request.network)
        guard plan.gateway.contains(request.address.address) else {
            throw ApusError(.invalidArgument, "network \(plan.networkName): the address \(request.address) is not in \(plan.gateway.network)")
        }
        do throws(ApusError) {
            if try await connect(request, plan) == false {
                // The bridge is gone: someone removed it behind our back.
                try await create(request.network)
                guard try await connect(request, plan) else { throw ApusError(.failed, "the bridge \(plan.bridgeName) is missing") }
            }
        } catch {
            throw error.during("container \(request.containerID.short), network \(plan.networkName)")
        }
        return AttachAnswer(hostInterface: plan.hostInterface(for: request.containerID), mtu: plan.mtu)
    }

    public func detach(_ request: DetachRequest) async throws(ApusError) {
        let plan = try BridgePlan(request.network)
        try await NetworkNamespaces.run(in: hostNamespace) { () throws(ApusError) in
            // The other end, in the container, goes with it.
            try NetlinkSocket().removeLink(named: plan.hostInterface(for: request.containerID))
        }
    }

    /// Connects the container. Returns `false` when there is no bridge.
    private func connect(_ request: AttachRequest, _ plan: BridgePlan) async throws(ApusError) -> Bool {
        try await NetworkNamespaces.run(in: hostNamespace) { () throws(ApusError) in
            let netlink = try NetlinkSocket()
            guard let bridge = try netlink.link(named: plan.bridgeName) else { return false }
            var interface = SandboxInterface(
                name: plan.hostInterface(for: request.containerID), bridgeIndex: bridge.index, mtu: plan.mtu, request: request)
            // Where bridge netfilter is on, the rules see what is bridged, and let through what the balancer translated: a task that asks a published port
            // may be led to a neighbour, or to itself. Where it is off, such packets are routed, and only the ports themselves can keep the others apart.
            interface.isIsolated = !plan.allowsPeers && SystemSetting.read("net/bridge/bridge-nf-call-iptables") != "1"
            if request.isDefaultRoute, !plan.isInternal {
                interface.gateways = [plan.gateway.address]
                if request.addressV6 != nil, let gateway = plan.gatewayV6 { interface.gateways.append(gateway.address) }
            }
            try netlink.connect(interface)
            return true
        }
    }
}
