import Dispatcher
import Logging
import PluginAPI
import Synchronization
import Wire

/// A container's place in one network.
enum NetworkPlace: Sendable {
    /// In a network of the node.
    case local(NodeNetwork, aliases: [String], address: String)
    /// In a network of the swarm, with the addresses that the managers gave.
    case swarm(NetworkAttachment)

    var name: String {
        switch self {
        case .local(let network, _, _): network.name
        case .swarm(let attachment): attachment.network.spec.name
        }
    }

    var networkID: ID {
        switch self {
        case .local(let network, _, _): network.id
        case .swarm(let attachment): attachment.network.id
        }
    }

    /// `host` and `none` go with no other network.
    var isAlone: Bool { if case .local(let network, _, _) = self { network.local == nil } else { false } }
    var isSwarm: Bool { if case .swarm = self { true } else { false } }
}

extension ContainerEngine {
    /// Where a container is to be: networks of the swarm first, then those of the node; the gateway network last, for whoever needs it.
    ///
    /// Places of a container that is no task are asked from the managers, and noted, so that they are given back.
    func places(
        for request: ContainerRequest, of configuration: ContainerConfiguration, _ notes: inout ContainerNotes
    ) async throws(ApusError) -> [NetworkPlace] {
        let wanted = request.networks.isEmpty && !request.isPublishedBySwarm ? [ContainerNetwork(target: "bridge")] : request.networks
        var places: [NetworkPlace] = []
        do throws(ApusError) {
            for target in wanted {
                let place = try await place(target, of: configuration, &notes)
                if places.contains(where: { $0.networkID == place.networkID }) {
                    throw ApusError(.invalidArgument, "the network \(place.name) is named twice")
                }
                places.append(place)
            }
            if let alone = places.first(where: \.isAlone), places.count > 1 {
                throw ApusError(.invalidArgument, "the network \(alone.name) cannot be joined together with others")
            }
            places = places.filter(\.isSwarm) + places.filter { !$0.isSwarm }
            if needsGateway(places, request) {
                places.append(.local(try await nodeNetworks.gatewayNetwork(), aliases: [], address: ""))
            }
        } catch {
            await giveBackAttachments(notes)
            throw error
        }
        return places
    }

    /// The world is reached by a network of the node. Who is in networks of the swarm alone has none, unless they are all internal and nothing is
    /// published.
    private func needsGateway(_ places: [NetworkPlace], _ request: ContainerRequest) -> Bool {
        guard places.allSatisfy(\.isSwarm) else { return false }
        if request.isPublishedBySwarm || !request.publishedPorts.isEmpty || request.publishesAllPorts { return true }
        let table = state.withLock { $0.endpoints }
        return !places.allSatisfy { table.networks[$0.networkID]?.network.spec.isInternal ?? false }
    }

    private func place(
        _ target: ContainerNetwork, of configuration: ContainerConfiguration, _ notes: inout ContainerNotes
    ) async throws(ApusError) -> NetworkPlace {
        if let place = target.place {
            _ = try await swarmNetwork(place.network.id, named: place.network.spec.name)
            return .swarm(place)
        }
        if target.target.hasPrefix("container:") {
            throw ApusError(.unimplemented, "sharing the network of another container (\(target.target)) is not supported yet")
        }
        do throws(ApusError) {
            return .local(try nodeNetworks.find(target.target), aliases: target.aliases, address: target.address)
        } catch {
            guard error.code == .notFound, let provider = state.withLock({ $0.attachments }) else { throw error }
            var wanted = NetworkPlaceRequest(network: target.target, containerID: configuration.id, containerName: configuration.name)
            wanted.aliases = target.aliases
            wanted.address = target.address
            let attachment = try await provider.attach(wanted)
            notes.attachments.append(attachment.id.text)
            guard let place = attachment.networks.first else {
                throw ApusError(.failed, "the managers gave no place in the network \(target.target)")
            }
            _ = try await swarmNetwork(place.network.id, named: place.network.spec.name)
            return .swarm(place)
        }
    }

    /// The interface that a place comes to; `nil` in `host` and `none`.
    func endpoint(at place: NetworkPlace, of container: ID) throws(ApusError) -> ContainerEndpoint? {
        var endpoint = ContainerEndpoint()
        endpoint.networkID = place.networkID
        endpoint.networkName = place.name
        switch place {
        case .local(let network, let aliases, let wanted):
            guard let gateway = network.gatewayPrefix else { return nil }
            let address = try reserveAddress(in: network, gateway, for: container, wanted: wanted)
            endpoint.address = address.description
            endpoint.gateway = network.isInternal ? "" : gateway.address.description
            endpoint.addressV6 = network.addressV6(for: address.address)?.description ?? ""
            endpoint.gatewayV6 = network.isInternal || endpoint.addressV6.isEmpty ? "" : IPPrefix(network.gatewayV6)?.address.description ?? ""
            endpoint.macAddress = MACAddress(containerWith: address.address).description
            endpoint.aliases = aliases
        case .swarm(let attachment):
            let prefixes = attachment.addresses.compactMap { IPPrefix($0) }
            guard let address = prefixes.first(where: \.address.isIPv4) else {
                throw ApusError(.failed, "the managers gave no address in the network \(place.name)")
            }
            endpoint.address = address.description
            endpoint.addressV6 = prefixes.first { !$0.address.isIPv4 }?.description ?? ""
            endpoint.macAddress = MACAddress(containerWith: address.address).description
            endpoint.aliases = attachment.aliases
        }
        return endpoint
    }

    /// Gives the places of a container that is no task back to the managers, as far as they can be reached; who cannot be told now is told when
    /// the managers show the place again.
    func giveBackAttachments(_ notes: ContainerNotes) async {
        guard !notes.attachments.isEmpty, let provider = state.withLock({ $0.attachments }) else { return }
        for attachment in notes.attachments {
            do throws(ApusError) {
                try await provider.detach(ID(attachment))
            } catch {
                logger.warning("a place in a network of the swarm is not given back yet: \(error.message)")
            }
        }
    }

    func holds(attachment: ID) -> Bool {
        state.withLock { $0.records.values.contains { $0.notes.attachments.contains(attachment.text) } }
    }

    func giveBack(attachment: ID) async {
        var notes = ContainerNotes()
        notes.attachments = [attachment.text]
        await giveBackAttachments(notes)
    }

    /// Who gives places in networks of the swarm; `nil` outside of one.
    public func setAttachmentProvider(_ provider: (any AttachmentProvider)?) { state.withLock { $0.attachments = provider } }

    /// Whether names are resolved by the engine's name server: in every network but `bridge`, `host`, `none` and the gateway network alone.
    func usesNameServer(_ configuration: ContainerConfiguration) -> Bool {
        guard names != nil else { return false }
        return configuration.endpoints.contains { !["bridge", NodeNetwork.gatewayName].contains($0.networkName) }
    }
}
