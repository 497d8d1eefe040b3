import Allocation
import Files
import Glibc
import Names
import Namespaces
public import PluginAPI
import Synchronization

extension ContainerEngine {
    /// Makes a container ready to start, and returns its id. After an error nothing of it is left.
    ///
    /// `notFound` "No such image: x:latest" when the image is not here (the caller pulls), or is for another platform than the one that was asked for;
    /// `conflict` when the name is taken; `invalidArgument` and `unimplemented` for the request's values.
    public func create(_ request: ContainerRequest) async throws(ApusError) -> ID {
        try request.check()
        let image = try await localImage(of: request)
        try request.platform?.check(image, request.configuration.imageReference)
        let merged = try ImageMerge.merge(request, with: image)
        try request.restartPolicy.check(removesWhenEnded: request.configuration.removeWhenEnded)
        let id = ID.randomContainer()
        var configuration = merged.configuration
        configuration.id = id
        if !request.runtime.isEmpty { configuration.annotations[ContainerConfiguration.runtimeAnnotation] = request.runtime }
        configuration.createdAt = self.configuration.clock.now()
        configuration.name = try reserveName(request.name, for: id)
        do throws(ApusError) {
            try await place(&configuration, request, merged)
            try await addFiles(request.files, to: &configuration)
            try await make(configuration, preparesNetwork: request.preparesNetwork)
        } catch {
            await removeFiles(of: configuration.id)
            state.withLock { release(configuration, in: &$0) }
            throw error
        }
        return id
    }

    /// The image that the request names by reference or id; `notFound` as Docker words it, or in the words of the runtime of the request's choice.
    private func localImage(of request: ContainerRequest) async throws(ApusError) -> Image {
        let reference = request.configuration.imageReference
        guard !reference.isEmpty else { throw ApusError(.invalidArgument, "the request names no image") }
        guard request.runtime.isEmpty else { return try await runtime(named: request.runtime).image(reference) }
        do throws(ApusError) {
            return try await runtime.image(reference)
        } catch {
            throw error.code == .notFound ? ApusError(.notFound, "No such image: \(Self.withTag(reference))") : error
        }
    }

    /// `x` is `x:latest`.
    static func withTag(_ reference: String) -> String {
        let name = reference.split(separator: "/", omittingEmptySubsequences: false).last ?? ""
        return name.contains(":") || name.contains("@") || reference.contains("@") ? reference : reference + ":latest"
    }

    private func reserveName(_ wanted: String?, for id: ID) throws(ApusError) -> String {
        var wanted = wanted.flatMap { $0.isEmpty ? nil : $0 }
        if let name = wanted, name.hasPrefix("/") { wanted = String(name.dropFirst()) }
        if let wanted { try ContainerName.check(wanted) }
        let holder: ID? = state.withLock { state in
            guard let wanted else { return nil }
            if let holder = state.names[wanted] { return holder }
            state.names[wanted] = id
            return nil
        }
        if let wanted, let holder {
            throw Self.nameTaken(wanted, by: holder)
        }
        if let wanted { return wanted }
        return state.withLock { state in
            var generator = SystemRandomNumberGenerator()
            let name = ContainerName.generate(using: &generator) { state.names[$0] != nil }
            state.names[name] = id
            return name
        }
    }

    static func nameTaken(_ name: String, by holder: ID) -> ApusError {
        let advice = "You have to remove (or rename) that container to be able to reuse that name."
        return ApusError(.conflict, "Conflict. The container name \"/\(name)\" is already in use by container \"\(holder)\". \(advice)")
    }

    /// Networks, ports, files, volumes and notes.
    private func place(_ configuration: inout ContainerConfiguration, _ request: ContainerRequest, _ merged: ImageMerge.Answer)
        async throws(ApusError)
    {
        var notes = ContainerNotes()
        notes.restartPolicy = request.restartPolicy
        notes.exposedPorts = merged.exposedPorts
        notes.entrypoint = merged.entrypoint
        notes.command = merged.command
        notes.taskID = request.taskID
        notes.serviceID = request.serviceID

        let places = try await places(for: request, of: configuration, &notes)
        let alone = places.first(where: \.isAlone)
        notes.networkMode = places.first?.name ?? "bridge"
        let isOnHost = alone?.name == "host"
        if configuration.hostname.isEmpty { configuration.hostname = isOnHost ? NodeDescriptionGatherer.hostname() : configuration.id.short }

        let ports = try publishedPorts(request, merged, of: configuration.id)
        notes.publishedPorts = alone == nil ? ports : []
        configuration.networkNamespacePath = isOnHost ? "" : self.configuration.namespacePath(configuration.id)
        for place in places {
            guard var endpoint = try endpoint(at: place, of: configuration.id) else { continue }
            endpoint.interfaceName = "eth\(configuration.endpoints.count)"
            configuration.endpoints.append(endpoint)
        }
        if let index = configuration.endpoints.firstIndex(where: { nodeNetworks.isLocal($0.networkID) }) {
            configuration.endpoints[index].ports = notes.publishedPorts
        }
        notes.resolvers = request.dns?.nameservers ?? []
        try await writeFiles(&configuration, request, isOnHost: isOnHost)
        for path in merged.volumes {
            var mount = Mount()
            mount.kind = .volume
            mount.target = path
            configuration.mounts.append(mount)
        }
        for index in configuration.mounts.indices where configuration.mounts[index].kind == .volume && configuration.mounts[index].source.isEmpty {
            let name = ID.randomContainer().text
            configuration.mounts[index].source = name
            notes.anonymousVolumes.append(name)
        }
        notes.write(to: &configuration)
    }

    private func publishedPorts(_ request: ContainerRequest, _ merged: ImageMerge.Answer, of id: ID) throws(ApusError) -> [ContainerPort] {
        var ports = request.publishedPorts
        if request.publishesAllPorts {
            for text in merged.exposedPorts {
                let parts = text.split(separator: "/")
                guard let number = parts.first.flatMap({ UInt64($0) }),
                    let transport = TransportProtocol(rawValue: parts.count > 1 ? String(parts[1]) : "tcp"),
                    !ports.contains(where: { $0.containerPort == number && $0.transport == transport })
                else { continue }
                var port = ContainerPort()
                port.transport = transport
                port.containerPort = number
                ports.append(port)
            }
        }
        try PublishedPorts.check(ports)
        ports = PublishedPorts.withoutRepetitions(ports)
        for index in ports.indices where ports[index].hostPort == 0 {
            let port = ports[index]
            let isFree = configuration.isHostPortFree
            let range = configuration.ephemeralPorts
            let answer: Result<UInt16, ApusError> = state.withLock { state in
                let taken =
                    state.records.values.flatMap { $0.notes.publishedPorts.compactMap(PublishedPorts.claim) } + state.pendingClaims.values.joined()
                    + Self.claims(of: state.servicePorts)
                do throws(ApusError) {
                    let address = PublishedPorts.address(port.hostAddress)
                    let chosen = try PublishedPorts.choose(
                        port.transport, address: address, in: range, taken: taken, from: state.nextEphemeralPort, isFree: isFree)
                    state.nextEphemeralPort = chosen &- range.lowerBound &+ 1
                    state.pendingClaims[id, default: []].append(.init(transport: port.transport, address: address, port: chosen))
                    return .success(chosen)
                } catch {
                    return .failure(error)
                }
            }
            ports[index].hostPort = UInt64(try answer.get())
        }
        return ports
    }

    static func claims(of servicePorts: [ID: [PortConfig]]) -> [PublishedPorts.Claim] {
        servicePorts.values.joined().compactMap { port in
            guard port.publishMode == .ingress, let number = UInt16(exactly: port.publishedPort), number > 0 else { return nil }
            return PublishedPorts.Claim(transport: port.transport, address: nil, port: number)
        }
    }

    func reserveAddress(in network: NodeNetwork, _ gateway: IPPrefix, for id: ID, wanted: String) throws(ApusError) -> IPPrefix {
        let answer: Result<IPPrefix, ApusError> = state.withLock { state in
            do throws(ApusError) {
                let taken = state.addresses[network.id] ?? [:]
                let address: IPAddress
                if wanted.isEmpty {
                    let pool = try AddressPool(subnet: gateway, gateway: gateway.address)
                    guard let free = pool.next(inUse: Set(taken.keys), after: state.lastAddresses[network.id]) else {
                        throw ApusError(
                            .unavailable,
                            "no address is free in the network \(network.name) (\(gateway.network)); remove containers or make a larger network")
                    }
                    address = free
                    state.lastAddresses[network.id] = address
                } else {
                    guard let own = IPAddress(wanted), gateway.contains(own), own != gateway.network.address else {
                        throw ApusError(.invalidArgument, "the address \(wanted) is not in the network \(network.name) (\(gateway.network))")
                    }
                    guard taken[own] == nil, own != gateway.address else { throw ApusError(.conflict, "Address already in use: \(own)") }
                    address = own
                }
                guard let prefix = IPPrefix(address, length: gateway.length) else {
                    throw ApusError(.failed, "the network \(network.name) has no length")
                }
                state.addresses[network.id, default: [:]][address] = id
                return .success(prefix)
            } catch {
                return .failure(error)
            }
        }
        return try answer.get()
    }

    private func writeFiles(_ configuration: inout ContainerConfiguration, _ request: ContainerRequest, isOnHost: Bool) async throws(ApusError) {
        let (resolverPath, hostsPath) = (self.configuration.resolverPath, self.configuration.hostsPath)
        let (resolver, hosts) = try await DedicatedThread.run { () throws(ApusError) -> (String, String) in
            ((try? Files.readText(resolverPath)) ?? "", isOnHost ? (try? Files.readText(hostsPath)) ?? "" : "")
        }
        configuration.resolverFile =
            usesNameServer(configuration)
            ? ResolverFile.sandboxText(host: resolver, dns: request.dns)
            : ContainerFiles.resolver(host: resolver, dns: request.dns, keepsLoopback: isOnHost)
        if isOnHost, !hosts.isEmpty {
            let lines = try request.extraHosts.map { (line) throws(ApusError) in try ContainerFiles.extraHost(line, gateway: nil) + "\n" }
            configuration.hostsFile = hosts + (hosts.hasSuffix("\n") ? "" : "\n") + lines.joined()
            return
        }
        let gateway = configuration.endpoints.lazy.compactMap { IPAddress($0.gateway) }.first
        configuration.hostsFile = try ContainerFiles.hosts(
            addresses: configuration.endpoints.compactMap { IPPrefix($0.address)?.address }, hostname: configuration.hostname,
            domainname: configuration.domainname, id: configuration.id, aliases: configuration.endpoints.flatMap(\.aliases),
            extraHosts: request.extraHosts, gateway: gateway)
    }

    /// Volumes, the network when it is to be ready early, and the container itself.
    private func make(_ configuration: ContainerConfiguration, preparesNetwork: Bool) async throws(ApusError) {
        let notes = ContainerNotes(of: configuration)
        do throws(ApusError) {
            for mount in configuration.mounts where mount.kind == .volume {
                var volume = Volume()
                volume.name = mount.source
                volume.driver = mount.volumeOptions?.driver?.name ?? ""
                volume.options = mount.volumeOptions?.driver?.options ?? [:]
                volume.labels = mount.volumeOptions?.labels ?? [:]
                volume.isAnonymous = notes.anonymousVolumes.contains(mount.source)
                _ = try await runtime.createVolume(volume)
            }
            // The two have nothing to do with each other, and both take milliseconds that a user waits for.
            async let prepared: ApusError? = preparesNetwork ? attachQuietly(configuration) : nil
            var failure: ApusError?
            do throws(ApusError) {
                try await runtime.create(configuration)
            } catch {
                failure = error
            }
            let preparation = await prepared
            if let failure { throw failure }
            if let preparation {
                try? await runtime.remove(configuration.id)
                throw preparation
            }
        } catch {
            if preparesNetwork { await detachNetworks(configuration) }
            await giveBackAttachments(notes)
            for volume in notes.anonymousVolumes { try? await runtime.removeVolume(name: volume) }
            throw error
        }
        var record = ContainerRecord(containerOf(configuration))
        record.isAttached = preparesNetwork
        let inserted = record
        state.withLock { state in
            state.pendingClaims[configuration.id] = nil
            state.records[configuration.id] = inserted
        }
        publish("create", inserted)
        // What its namespace needs is in place by the time that it starts.
        if preparesNetwork, usesNameServer(configuration) { requestBalance() }
    }

    private func containerOf(_ configuration: ContainerConfiguration) -> Container {
        var container = Container()
        container.configuration = configuration
        return container
    }

    private func attachQuietly(_ configuration: ContainerConfiguration) async -> ApusError? {
        do throws(ApusError) {
            try await attachNetworks(configuration)
            return nil
        } catch {
            return error
        }
    }
}
