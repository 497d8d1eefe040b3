import Dispatcher
import Names
import PluginAPI
import Wire

/// What the name server of this node answers: names of services and tasks in networks of the swarm, and of containers in networks of the node. Pure.
enum NodeNames {
    /// - Parameters:
    ///   - containers: those with a name server.
    ///   - localNetworks: of the node; names are resolved in those that users made.
    ///   - hostResolver: the host's `resolv.conf`.
    static func state(
        view: EndpointView, containers: some Collection<ContainerRecord>, localNetworks: [NodeNetwork], hostResolver: String
    ) -> NameState {
        var state = NameState()
        for network in localNetworks where network.local != nil && !network.isPredefined {
            state.networks[network.id] = names(in: network, containers: containers)
        }
        for (id, entry) in view.table.networks where !entry.network.spec.ingress {
            state.networks[id] = names(in: id, called: entry.network.spec.name, view)
        }
        let upstream = ResolverFile(hostResolver).servers
        for container in containers where !container.configuration.networkNamespacePath.isEmpty {
            var sandbox = SandboxNames()
            sandbox.networks = container.configuration.endpoints.map(\.networkID).filter { state.networks[$0] != nil }
            let own = container.notes.resolvers.compactMap { UpstreamServer($0) }
            sandbox.upstream = own.isEmpty ? upstream : own
            state.sandboxes[container.configuration.networkNamespacePath] = sandbox
        }
        return state
    }

    private static func names(in network: NodeNetwork, containers: some Collection<ContainerRecord>) -> NetworkNames {
        var names = Collector(network: network.name)
        for container in containers where container.isRunning || container.isAttached {
            for endpoint in container.configuration.endpoints where endpoint.networkID == network.id {
                let addresses = [endpoint.address, endpoint.addressV6].compactMap { IPPrefix($0)?.address }
                let configuration = container.configuration
                for name in [configuration.name, configuration.id.short, configuration.hostname] + endpoint.aliases { names.add(name, addresses) }
                names.point(addresses, to: configuration.name)
            }
        }
        return names.finish(subnets: [network.gatewayPrefix?.network, IPPrefix(network.gatewayV6)?.network].compactMap { $0 })
    }

    private static func names(in network: ID, called name: String, _ view: EndpointView) -> NetworkNames {
        var names = Collector(network: name)
        let serving = view.servingAddresses(in: network)
        for service in view.table.services.values {
            let virtual = service.virtualIPs.filter { $0.networkID == network }.compactMap { IPPrefix($0.address)?.address }
            let tasks = serving[service.id] ?? []
            let isMember =
                !virtual.isEmpty || !tasks.isEmpty
                || view.table.tasks.values.contains { task in
                    task.serviceID == service.id && task.attachments.contains { $0.network.id == network }
                }
            guard isMember else { continue }
            let addresses = service.mode == .dnsRoundRobin ? tasks : virtual
            let aliases = service.aliases.first { $0.networkID == network }?.names ?? []
            for name in [service.name] + aliases { names.add(name, addresses) }
            names.add("tasks.\(service.name)", tasks)
            names.point(virtual, to: service.name)
        }
        for task in view.table.tasks.values {
            for attachment in task.attachments where attachment.network.id == network {
                let addresses = [attachment.ipv4, attachment.ipv6].compactMap { $0 }
                names.add(task.name, addresses)
                // The aliases of a service's task are the service's.
                if task.serviceID.isEmpty { for alias in attachment.aliases { names.add(alias, addresses) } }
                names.point(addresses, to: task.name)
            }
        }
        let local = view.localNetwork(network)
        return names.finish(subnets: [local?.gateway.network, local?.gatewayV6?.network].compactMap { $0 })
    }

    private struct Collector {
        private var names: NetworkNames

        init(network: String) {
            names = NetworkNames(name: network)
        }

        mutating func add(_ name: String, _ addresses: [IPAddress]) {
            guard !name.isEmpty else { return }
            names.names[name.lowercased(), default: []] += addresses
        }

        mutating func point(_ addresses: [IPAddress], to name: String) {
            for address in addresses where !name.isEmpty { names.pointers[address] = "\(name).\(names.name)" }
        }

        /// Sorted, so that equal states are equal.
        func finish(subnets: [IPPrefix]) -> NetworkNames {
            var answer = names
            answer.subnets = subnets
            answer.names = names.names.mapValues { Set($0).sorted() }
            return answer
        }
    }
}
