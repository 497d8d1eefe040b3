import Glibc
import NFTables
import Namespaces
import Netlink
import PluginAPI
import Synchronization

extension NetworkOverlay {
    /// Makes what is missing of a network, and leaves alone what is right. Runs on the thread.
    /// - Returns: the VXLAN device.
    func make(_ network: LocalNetwork, _ plan: OverlayPlan) throws(ApusError) -> Link {
        guard (1...0xff_ffff).contains(network.vni) else {
            throw ApusError(.invalidArgument, "\(network.vni) is no number of a VXLAN: it must be from 1 to 16777215")
        }
        guard network.dataPathPort > 0 else { throw ApusError(.invalidArgument, "0 is no port for VXLAN") }
        guard let underlay = network.underlay else {
            throw ApusError(.invalidArgument, "an overlay needs the node's address on the underlay; is this node in a swarm?")
        }
        let hostLinks = try NetlinkSocket()
        guard let owner = try hostLinks.addresses().first(where: { $0.prefix.address == underlay }), let uplink = try hostLinks.link(at: owner.linkIndex)
        else {
            throw ApusError(.unavailable, "no interface has the node's address \(underlay); give the one to use with --data-path-addr")
        }
        let mtu = plan.mtu(ofUnderlay: uplink.mtu, isIPv4: underlay.isIPv4)
        guard mtu >= (plan.gatewayV6 == nil ? 68 : 1280) else {
            throw ApusError(.unavailable, "the MTU of \(uplink.name) is \(uplink.mtu), which leaves the network only \(mtu)")
        }
        try repairRules()
        let path = namespacePath(plan.id)
        if plan.isEncrypted { try prepareEncryption(network, underlay) }
        try makeNamespace(path)
        if plan.isEncrypted { try markFrames(inNamespace: path) }
        let device = VXLANDevice(name: OverlayPlan.deviceName, vni: network.vni, local: underlay, port: network.dataPathPort)
        let inside = try NetlinkSocket(inNamespace: path)
        let bridge = try makeBridge(plan, mtu, inside, path)
        if try inside.vxlan(named: device.name) != device {
            try inside.removeLink(named: device.name)
            try makeDevice(device, mtu, hostLinks, path)
        }
        guard let link = try inside.link(named: device.name) else { throw ApusError(.failed, "the device \(device.name) vanished while it was being made") }
        if link.masterIndex != bridge.index || !link.isUp || link.mtu != mtu {
            try inside.change(linkAt: link.index, LinkChange(mtu: mtu, masterIndex: bridge.index))
            try ForwardingTable(ofDeviceAt: link.index, inNamespace: path).closePort()
            do throws(ApusError) {
                try inside.change(linkAt: link.index, LinkChange(isUp: true))
            } catch {
                // Only then does it take the port.
                throw error.during("the VXLAN device cannot be set up; is the UDP port \(device.port) of this node taken by another program?")
            }
            host.log(.debug, "network \(plan.networkName): VXLAN \(network.vni) from \(underlay) of \(uplink.name), MTU \(mtu), is in place")
        }
        return link
    }

    /// The names of the namespaces that are pinned.
    func pinnedNetworks() -> [String] {
        guard let folder = opendir("\(host.runDirectory)/netns") else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name != ".", name != "..", NetworkNamespaces.isPinned(path: namespacePath(ID(name))) { names.append(name) }
        }
        return names
    }

    private func makeNamespace(_ path: String) throws(ApusError) {
        if NetworkNamespaces.isPinned(path: path) { return }
        let folder = "\(host.runDirectory)/netns"
        guard mkdir(folder, 0o700) == 0 || errno == EEXIST else {
            throw ApusError(.failed, "cannot make the folder \(folder): \(String(cString: strerror(errno)))")
        }
        try NetworkNamespaces.create(path: path)
        try NetworkNamespaces.runBlocking(in: path) { () throws(ApusError) in
            // The namespace joins frames; it routes nothing, and no netfilter looks at what the bridge joins.
            for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/default/accept_ra"] {
                try SystemSetting.ensure(setting, "0")
            }
            for setting in ["iptables", "ip6tables", "arptables"] { try SystemSetting.ensure("net/bridge/bridge-nf-call-\(setting)", "0") }
        }
    }

    private func makeBridge(_ plan: OverlayPlan, _ mtu: Int, _ inside: NetlinkSocket, _ path: String) throws(ApusError) -> Link {
        let name = OverlayPlan.bridgeName
        if try inside.link(named: name) == nil { try inside.createBridge(named: name, macAddress: plan.macAddress, mtu: mtu) }
        guard let bridge = try inside.link(named: name) else { throw ApusError(.failed, "the bridge \(name) vanished while it was being made") }
        if !bridge.isUp || bridge.mtu != mtu {
            try NetworkNamespaces.runBlocking(in: path) { () throws(ApusError) in
                // The bridge has nothing to say of its own.
                _ = try SystemSetting.ensure("net/ipv6/conf/\(name)/disable_ipv6", "1")
            }
            try inside.change(linkAt: bridge.index, LinkChange(isUp: true, mtu: mtu))
        }
        return bridge
    }

    private func makeDevice(_ device: VXLANDevice, _ mtu: Int, _ hostLinks: NetlinkSocket, _ path: String) throws(ApusError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw ApusError(.failed, "cannot open the network namespace \(path): \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        do throws(ApusError) {
            try hostLinks.createVXLAN(device, inNamespace: descriptor, mtu: mtu)
        } catch {
            guard error.code == .conflict else { throw error }
            throw ApusError(.conflict, "another VXLAN device of this node has the number \(device.vni) and port \(device.port) already (\(error))")
        }
        try NetworkNamespaces.runBlocking(in: path) { () throws(ApusError) in
            // It answers for others in IPv6, so it must have IPv6, but no address.
            _ = try SystemSetting.ensure("net/ipv6/conf/\(device.name)/addr_gen_mode", "1")
        }
    }

    /// Makes the table of the host's namespace, or removes it outside of a swarm. Runs on the thread.
    func installRules() throws(ApusError) {
        guard let surroundings = state.withLock({ $0.surroundings }) else { return }
        guard surroundings.address != nil else {
            if try hasTable() { try rules.run(OverlayRules.uninstall) }
            return
        }
        let encrypted = Set(state.withLock { $0.encryption.networks.values.map(\.vni) })
        try rules.run(OverlayRules.install(surroundings, encrypted: encrypted.sorted()))
    }

    /// Makes the table of the host's namespace again when someone has flushed it. Runs on the thread.
    func repairRules() throws(ApusError) {
        guard state.withLock({ $0.surroundings?.address != nil }), try !hasTable() else { return }
        host.log(.warning, "the table of the swarm's networks was gone (did someone flush the ruleset?) and is made anew")
        try installRules()
    }

    private func hasTable() throws(ApusError) -> Bool {
        let result: Result<Bool, ApusError> = state.withLock { state in
            do throws(ApusError) {
                let socket = if let netfilter = state.netfilter { netfilter } else { try NetfilterSocket() }
                state.netfilter = socket
                return .success(try socket.hasTable(OverlayRules.table))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}
