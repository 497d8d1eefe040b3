public import PluginAPI

/// Networks of a swarm whose nodes are on one link, of nothing but routes: no bridge, no tunnel, packets go as they are.
///
/// Every call says how things are to be, may come again, and then repairs what is missing; so nothing is remembered here, and after a restart
/// of the engine everything is found again in the kernel. All of it is done by the command ip(8), as an administrator would by hand.
public final class RoutedNetwork: NetworkDriver {
    private let host: any HostServices
    private let ip: Command

    /// Settings: `program` is the path of ip(8), `/usr/sbin/ip`; `namespace` the path of a network namespace that stands for the node's, for tests.
    public init(host: any HostServices) {
        self.host = host
        ip = Command(
            program: host.configuration["program"] ?? "/usr/sbin/ip", namespace: host.configuration["namespace"], runDirectory: host.runDirectory)
    }

    public var scope: NetworkScope { .swarm }

    public func check(_ network: LocalNetwork) async throws(ApusError) {
        _ = try RoutedPlan(network)
        _ = try await ip.run(["-V"])
    }

    public func create(_ network: LocalNetwork) async throws(ApusError) {
        let plan = try RoutedPlan(network)
        do throws(ApusError) {
            if try await ip.run(["-o", "-4", "route", "show", "exact", "\(plan.subnet)", "proto", "\(RoutedPlan.subnetProtocol)"]).isEmpty {
                let addresses = Listing.addresses(try await ip.run(["-o", "-4", "address", "show"]))
                if let taken = addresses.first(where: { plan.subnet.overlaps($0.prefix) && !plan.owns($0.interface) }) {
                    throw ApusError(.conflict, "its subnet \(plan.subnet) overlaps \(taken.prefix) of \(taken.interface); choose another subnet")
                }
            }
            try await ip.forward()
            try await ip.batch(plan.creation)
        } catch {
            throw error.during("network \(network.name)")
        }
        host.log(.debug, "network \(plan.name): \(plan.subnet) is routed")
    }

    public func remove(_ network: LocalNetwork) async throws(ApusError) {
        let plan = try RoutedPlan(network)
        do throws(ApusError) {
            let members = Listing.interfaces(try await ip.run(["-o", "link", "show", "type", "veth"])).filter { plan.owns($0) }
            guard members.isEmpty else {
                throw ApusError(.conflict, "\(members.count) container(s) are in it still (\(members.joined(separator: ", ")))")
            }
            for number in [RoutedPlan.peersProtocol, RoutedPlan.subnetProtocol] {
                _ = try await ip.run(["-4", "route", "flush", "root", "\(plan.subnet)", "proto", "\(number)"])
            }
        } catch {
            throw error.during("network \(network.name)")
        }
    }

    public func attach(_ request: AttachRequest) async throws(ApusError) -> AttachAnswer {
        let plan = try RoutedPlan(request.network)
        let interface = plan.hostInterface(of: request.containerID)
        guard plan.subnet.contains(request.address.address), request.addressV6 == nil else {
            throw ApusError(.invalidArgument, "network \(plan.name): the address \(request.address) is not in \(plan.subnet)")
        }
        do throws(ApusError) {
            // What a manager of this node, or somebody with a flush, took away comes back with the next container.
            try await create(request.network)
            let inside = Listing.interfaces(try await ip.run(["-o", "link", "show"], in: request.sandboxPath))
            if !inside.contains(request.interfaceName) {
                // An end without the other is of a container that was here before.
                try await removeLink(interface)
                try await ip.batch(plan.pair(request))
            }
            try await ip.batch(plan.inside(request), in: request.sandboxPath)
            try await ip.batch(plan.outside(request))
        } catch {
            try? await removeLink(interface)
            throw error.during("container \(request.containerID.short), network \(plan.name)")
        }
        host.count("attachments", by: 1)
        return AttachAnswer(hostInterface: interface, mtu: plan.mtu)
    }

    public func detach(_ request: DetachRequest) async throws(ApusError) {
        // The other end, in the container, and the route go with it.
        try await removeLink(try RoutedPlan(request.network).hostInterface(of: request.containerID))
    }

    public func setPeers(_ request: PeersRequest) async throws(ApusError) {
        let plan = try RoutedPlan(request.network)
        do throws(ApusError) {
            let listing = try await ip.run(["-o", "-4", "route", "show", "root", "\(plan.subnet)", "proto", "\(RoutedPlan.peersProtocol)"])
            try await ip.batch(plan.changes(from: Listing.routes(listing), to: request.peers))
        } catch {
            throw error.during("network \(plan.name): the nodes must be on one link")
        }
    }

    private func removeLink(_ interface: String) async throws(ApusError) {
        let interfaces = Listing.interfaces(try await ip.run(["-o", "link", "show", "type", "veth"]))
        guard interfaces.contains(interface) else { return }
        do throws(ApusError) {
            _ = try await ip.run(["link", "delete", "dev", interface])
        } catch {
            // It may have gone with its namespace in between.
            guard try await Listing.interfaces(ip.run(["-o", "link", "show", "type", "veth"])).contains(interface) else { return }
            throw error
        }
    }
}
