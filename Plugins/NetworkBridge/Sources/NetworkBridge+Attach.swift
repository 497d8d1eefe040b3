import Glibc
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
            let name = plan.hostInterface(for: request.containerID)
            do throws(ApusError) {
                try Self.makePair(netlink, named: name, on: bridge, request, plan)
                try SystemSetting.ensure("net/ipv6/conf/\(name)/disable_ipv6", "1")
                guard let port = try netlink.link(named: name) else { throw ApusError(.failed, "the interface \(name) vanished") }
                // Where bridge netfilter is on, a container that connects to itself by a published port comes back by its own port.
                try netlink.change(bridgePortAt: port.index, isHairpin: true, isIsolated: !plan.allowsPeers)
                try NetworkNamespaces.runBlocking(in: request.sandboxPath) { () throws(ApusError) in try Self.configure(request, plan) }
            } catch {
                do throws(ApusError) { try netlink.removeLink(named: name) } catch {}
                throw error
            }
            return true
        }
    }

    private static func makePair(
        _ netlink: NetlinkSocket, named name: String, on bridge: Link, _ request: AttachRequest, _ plan: BridgePlan
    ) throws(ApusError) {
        let sandbox = open(request.sandboxPath, O_RDONLY | O_CLOEXEC)
        guard sandbox >= 0 else {
            throw ApusError(
                errno == ENOENT ? .notFound : .failed, "cannot open the network namespace \(request.sandboxPath): \(String(cString: strerror(errno)))"
            )
        }
        defer { close(sandbox) }
        var pair = VethPair(name: name, peerName: request.interfaceName, mtu: plan.mtu)
        pair.masterIndex = bridge.index
        pair.peerNamespace = sandbox
        pair.peerMACAddress = request.macAddress
        do throws(ApusError) {
            try netlink.createVethPair(pair)
        } catch {
            guard error.code == .conflict, let existing = try netlink.link(named: name) else { throw error }
            // A pair of an earlier attach is kept when it is whole, so that a second call harms no connection.
            let inside = try NetlinkSocket(inNamespace: request.sandboxPath).link(named: request.interfaceName)
            if let inside, inside.index == existing.peerIndex, inside.macAddress == request.macAddress {
                try netlink.change(linkAt: existing.index, LinkChange(isUp: true, mtu: plan.mtu, masterIndex: bridge.index))
            } else {
                try netlink.removeLink(named: name)
                try netlink.createVethPair(pair)
            }
        }
    }

    /// What is done inside of the container's namespace.
    private static func configure(_ request: AttachRequest, _ plan: BridgePlan) throws(ApusError) {
        let netlink = try NetlinkSocket()
        let name = request.interfaceName
        guard let link = try netlink.link(named: name) else { throw ApusError(.failed, "the interface \(name) did not arrive in the container") }
        if let loopback = try netlink.link(named: "lo"), !loopback.isUp { try netlink.change(linkAt: loopback.index, LinkChange(isUp: true)) }
        // The kernel then announces the address when the interface is set up, to whoever knows an earlier owner.
        try SystemSetting.ensure("net/ipv4/conf/\(name)/arp_notify", "1")
        try SystemSetting.ensure("net/ipv6/conf/\(name)/disable_ipv6", request.addressV6 == nil ? "1" : "0")
        try netlink.addAddress(request.address, toLinkAt: link.index)
        if let address = request.addressV6 {
            try SystemSetting.ensure("net/ipv6/conf/\(name)/accept_ra", "0")
            try SystemSetting.ensure("net/ipv6/conf/\(name)/accept_dad", "0")
            try netlink.addAddress(address, toLinkAt: link.index)
        }
        if !link.isUp { try netlink.change(linkAt: link.index, LinkChange(isUp: true)) }
        guard request.isDefaultRoute, !plan.isInternal else { return }
        for gateway in [plan.gateway.address, request.addressV6 == nil ? nil : plan.gatewayV6?.address] {
            if let gateway, let route = Route.byDefault(gateway: gateway, linkIndex: link.index) { try netlink.setRoute(route) }
        }
    }
}
