import Agent
import Coding
import Orchestration
import PluginAPI
import Store
import Swarm
import Wire

/// `/networks`: those of this node, and on a manager those of the swarm.
struct NetworkRoutes: Sendable {
    let containers: ContainerEngine
    let swarm: SwarmNode
    /// The plugin that makes networks of a kind.
    let driver: @Sendable (String) throws(ApusError) -> any NetworkDriver

    func add(to router: inout Router) {
        router.add("GET", "/networks") { request throws(ApusError) in try await list(request) }
        router.add("POST", "/networks/create") { request throws(ApusError) in try await create(request) }
        router.add("POST", "/networks/prune") { request throws(ApusError) in try await prune(request) }
        router.missing("POST", "/networks/{id}/connect", "connecting a running container to a network")
        router.missing("POST", "/networks/{id}/disconnect", "disconnecting a running container from a network")
        router.add("GET", "/networks/{id}") { request throws(ApusError) in
            let snapshot = await snapshot(for: request)
            switch try find(request.parameter("id"), scope: request.text("scope") ?? "", snapshot) {
            case .local(let network): return .json(NetworkJSON.local(network, members: containers.list()))
            case .swarm(let network, let snapshot):
                return .json(NetworkJSON.swarm(network, in: snapshot, members: containers.list(), isVerbose: request.flag("verbose")))
            }
        }
        router.add("DELETE", "/networks/{id}") { request throws(ApusError) in try await remove(request) }
    }

    // MARK: Finding

    /// A network as it is found.
    private enum Found {
        case local(NodeNetwork)
        case swarm(Network, StoreSnapshot)
    }

    /// The swarm's objects on a manager. Without a majority what this manager knows: the node's own networks are not to be out of reach then.
    private func snapshot(for request: APIRequest) async -> StoreSnapshot? {
        guard let manager = swarm.managerPart else { return nil }
        return (try? await swarm.snapshot(for: request)) ?? manager.store.read()
    }

    /// By id, by name, by the beginning of an id; the node's own first.
    private func find(_ reference: String, scope: String = "", _ snapshot: StoreSnapshot?) throws(ApusError) -> Found {
        let own = scope == "swarm" ? [] : containers.networks()
        let shared = scope == "local" ? [] : snapshot.map { Array($0.networks.values) } ?? []
        if let network = own.first(where: { $0.id.text == reference }) { return .local(network) }
        if let snapshot, let network = shared.first(where: { $0.id.text == reference }) { return .swarm(network, snapshot) }
        if let network = own.first(where: { $0.name == reference }) { return .local(network) }
        if let snapshot, let network = shared.first(where: { $0.spec.name == reference }) { return .swarm(network, snapshot) }
        guard !reference.isEmpty else { throw ApusError(.notFound, "network \(reference) not found") }
        let ownMatches = own.filter { $0.id.text.hasPrefix(reference) }
        let sharedMatches = shared.filter { $0.id.text.hasPrefix(reference) }
        guard ownMatches.count + sharedMatches.count <= 1 else {
            throw ApusError(
                .invalidArgument, "network \(reference) is ambiguous (\(ownMatches.count + sharedMatches.count) matches found based on ID prefix)")
        }
        if let network = ownMatches.first { return .local(network) }
        if let snapshot, let network = sharedMatches.first { return .swarm(network, snapshot) }
        throw ApusError(.notFound, "network \(reference) not found")
    }

    // MARK: Listing

    private func list(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let filters = try Filters(request.text("filters"), known: ["dangling", "driver", "id", "label", "name", "scope", "type"])
        for word in filters["scope"] where !["local", "swarm", "global"].contains(word) {
            throw ApusError(.invalidArgument, "invalid filter 'scope=\(word)': it is local or swarm")
        }
        for word in filters["type"] where !["builtin", "custom"].contains(word) {
            throw ApusError(.invalidArgument, "invalid filter: 'type'='\(word)': it is builtin or custom")
        }
        let dangling = try Self.danglingFilter(filters)
        let snapshot = await snapshot(for: request)
        let members = containers.list()
        let own = containers.networks().filter { network in
            filters.name("name", network.name) && filters.prefix("id", network.id.text) && filters.exact("driver", network.driver)
                && filters.labels("label", network.labels) && filters.exact("scope", "local")
                && filters.any("type") { ($0 == "builtin") == network.isPredefined }
                && dangling.map { $0 == (!network.isPredefined && !Self.isUsed(network.id, by: members)) } ?? true
        }
        let shared = (snapshot.map { Array($0.networks.values) } ?? []).filter { network in
            filters.name("name", network.spec.name) && filters.prefix("id", network.id.text) && filters.exact("driver", network.driverName)
                && filters.labels("label", network.spec.labels) && filters.exact("scope", "swarm") && filters.any("type") { $0 == "custom" }
                && dangling.map { $0 == isDangling(network, snapshot, members) } ?? true
        }
        return .json(.array(own.map { NetworkJSON.local($0) } + shared.sorted { $0.spec.name < $1.spec.name }.map { NetworkJSON.swarm($0) }))
    }

    private static func danglingFilter(_ filters: Filters) throws(ApusError) -> Bool? {
        guard let word = filters["dangling"].first else { return nil }
        guard filters["dangling"].count == 1, ["true", "1", "false", "0"].contains(word) else {
            throw ApusError(.invalidArgument, "invalid filter 'dangling=\(filters["dangling"].joined(separator: ","))': it is true or false")
        }
        return ["true", "1"].contains(word)
    }

    private static func isUsed(_ network: ID, by members: [ContainerDetails]) -> Bool {
        members.contains { container in container.configuration.endpoints.contains { $0.networkID == network } }
    }

    private func isDangling(_ network: Network, _ snapshot: StoreSnapshot?, _ members: [ContainerDetails]) -> Bool {
        guard let snapshot, !network.spec.ingress, !Self.isUsed(network.id, by: members) else { return false }
        return NetworkDraft.users(of: network, in: snapshot).isEmpty
    }

    // MARK: Making

    private func create(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let body = try NetworkCreateBody(request.json())
        // Another manager has looked for the plugin already.
        if request.isForwarded { return try await createShared(body, request) }
        let name = body.driverName
        guard name != "host", name != "null" else {
            throw ApusError(.permissionDenied, "only one instance of \"\(name)\" network is allowed")
        }
        let plugin: any NetworkDriver
        do throws(ApusError) { plugin = try driver(name) } catch {
            throw ApusError(.notFound, "plugin \"\(name)\" not found: there is no network driver of that name on this node; see apus plugin ls")
        }
        guard plugin.scope == .swarm else { return try await createLocal(body) }
        guard body.scope != "local" else {
            throw ApusError(.invalidArgument, "the driver \(name) makes networks of the swarm; leave --scope local out")
        }
        let snapshot = try await swarm.snapshot(for: request)
        // What is wrong is said before the driver is asked, which needs a subnet.
        let draft = try NetworkDraft.create(body.spec, reserved: body.reserved, in: snapshot)
        try await plugin.check(draft.localNetwork(cluster: snapshot.cluster))
        return try await createShared(body, request)
    }

    private func createShared(_ body: NetworkCreateBody, _ request: APIRequest) async throws(ApusError) -> APIResponse {
        try await swarm.onLeader(request) { manager throws(ApusError) in
            let id = try await manager.store.update { transaction throws(ApusError) in
                let network = try NetworkDraft.create(body.spec, reserved: body.reserved, in: transaction)
                try transaction.create(.network(network))
                return network.id
            }
            return .json(["Id": .string(id.text), "Warning": ""], status: 201)
        }
    }

    private func createLocal(_ body: NetworkCreateBody) async throws(ApusError) -> APIResponse {
        let network = try await containers.createNetwork(try body.nodeRequest())
        return .json(["Id": .string(network.id.text), "Warning": ""], status: 201)
    }

    // MARK: Removing

    private func remove(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let reference = request.parameter("id")
        // Whoever hands it on has looked among its own networks already.
        let snapshot = await snapshot(for: request)
        switch try find(reference, scope: request.isForwarded ? "swarm" : "", snapshot) {
        case .local(let network):
            try await containers.removeNetwork(network.id.text)
            return .empty(204)
        case .swarm(let network, _):
            return try await swarm.onLeader(request) { manager throws(ApusError) in
                try await Self.remove(network.id, manager)
                return .empty(204)
            }
        }
    }

    private static func remove(_ id: ID, _ manager: ManagerPart) async throws(ApusError) {
        try await manager.store.update { transaction throws(ApusError) in
            guard let network = transaction.snapshot.networks[id] else { throw ApusError(.notFound, "network \(id) not found") }
            try NetworkDraft.checkRemoval(of: network, in: transaction)
            try transaction.remove(.network, id)
        }
    }

    private func prune(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let filters = try Filters(request.text("filters"), known: ["label", "until"])
        guard filters["until"].count <= 1 else { throw ApusError(.invalidArgument, "more than one until filter specified") }
        let limit = try EventTime.parse(filters["until"].first, name: "until")
        func fits(_ labels: [String: String], _ createdAt: Timestamp) -> Bool {
            filters.labels("label", labels) && limit.map { createdAt < $0 } ?? true
        }
        var deleted: [JSONValue] = []
        if !request.isForwarded {
            let members = containers.list()
            for network in containers.networks()
            where !network.isPredefined && !Self.isUsed(network.id, by: members) && fits(network.labels, network.createdAt) {
                do throws(ApusError) {
                    try await containers.removeNetwork(network.id.text)
                    deleted.append(.string(network.name))
                } catch {
                    // Somebody has begun to use it meanwhile.
                    continue
                }
            }
        }
        guard let manager = swarm.managerPart else { return .json(["NetworksDeleted": .array(deleted)]) }
        if !manager.store.isLeader, !request.isForwarded, manager.leaderAddress != nil {
            guard let answer = try await manager.forward(request.forwarded) else {
                throw ApusError(.unavailable, "the managers have no leader now: try again")
            }
            if answer.status >= 400 { return APIResponse(answer) }
            deleted += (try? JSONValue.parse(answer.body))?["NetworksDeleted"]?.array ?? []
            return .json(["NetworksDeleted": .array(deleted)])
        }
        guard manager.store.isLeader else { return .json(["NetworksDeleted": .array(deleted)]) }
        for network in manager.store.read().networks.values.sorted(by: { $0.spec.name < $1.spec.name })
        where !network.spec.ingress && fits(network.spec.labels, network.createdAt) {
            do throws(ApusError) {
                try await Self.remove(network.id, manager)
                deleted.append(.string(network.spec.name))
            } catch {
                guard error.code == .invalidArgument || error.code == .notFound else { throw error }
            }
        }
        return .json(["NetworksDeleted": .array(deleted)])
    }
}

extension Network {
    /// As its driver is asked whether it can make it: with a key that is none, where there is no real one yet.
    fileprivate func localNetwork(cluster: Cluster?) throws(ApusError) -> LocalNetwork {
        let gateways = (ipam?.configs ?? []).compactMap { pool -> IPPrefix? in
            guard let subnet = IPPrefix(pool.subnet), let gateway = IPAddress(pool.gateway) else { return nil }
            return IPPrefix(gateway, length: subnet.length)
        }
        guard let gateway = gateways.first(where: \.address.isIPv4) else { throw ApusError(.failed, "the network \(spec.name) has no IPv4 subnet") }
        var local = LocalNetwork(id: id, name: spec.name, gateway: gateway)
        local.gatewayV6 = gateways.first { !$0.address.isIPv4 }
        local.isInternal = spec.isInternal
        local.options = (spec.driver?.options ?? [:]).merging(driver.options) { _, allocated in allocated }
        local.vni = UInt32(truncatingIfNeeded: vni)
        if let port = cluster.flatMap({ UInt16(exactly: $0.dataPathPort) }), port > 0 { local.dataPathPort = port }
        local.isEncrypted = isEncrypted
        if isEncrypted {
            local.keys = cluster?.networkKeys ?? []
            if local.keys.isEmpty {
                var key = NetworkKey()
                key.number = 1
                key.key = [UInt8](repeating: 0, count: 16)
                local.keys = [key]
            }
        }
        return local
    }
}
