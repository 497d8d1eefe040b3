import Events
import Orchestration
import PluginAPI
import PluginHost
import Store
import Swarm
import Wire

/// Switches plugins: those of this engine in its registry, scheduler and certificate authority on all managers, by the cluster object.
struct PluginController: Sendable {
    let registry: PluginRegistry
    let swarm: SwarmNode
    let agreed: SwarmPlugins
    let events: EventHub

    func list() async -> [PluginInfo] {
        await registry.rescan()
        return await registry.list()
    }

    func inspect(_ name: String) async throws(ApusError) -> PluginInfo { try await registry.inspect(name) }

    /// Takes effect at once, on all managers where it is one of the swarm's; no running task moves.
    func enable(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let plugin = try await registry.inspect(request.parameter("name"))
        guard isOfSwarm(plugin) else {
            try await registry.enable(request.parameter("name"))
            publish("enable", plugin)
            return .empty(200)
        }
        return try await swarm.onLeader(request) { manager throws(ApusError) in
            try await agree(on: plugin, manager)
            publish("enable", plugin)
            return .empty(200)
        }
    }

    /// In the place of the swarm's scheduler or certificate authority comes the default one.
    func disable(_ request: APIRequest) async throws(ApusError) -> APIResponse {
        let plugin = try await registry.inspect(request.parameter("name"))
        let force = request.flag("force")
        guard isOfSwarm(plugin) else {
            try await registry.disable(request.parameter("name"), force: force)
            publish("disable", plugin)
            return .empty(200)
        }
        return try await swarm.onLeader(request) { manager throws(ApusError) in
            try await giveUp(plugin, force: force, manager)
            publish("disable", plugin)
            return .empty(200)
        }
    }

    func install(from path: String) async throws(ApusError) -> PluginInfo {
        let plugin = try await registry.install(from: path)
        await agreed.reapply()
        publish("install", plugin)
        return plugin
    }

    /// With `force`, also one that is enabled.
    func remove(_ request: APIRequest) async throws(ApusError) -> PluginInfo {
        let name = request.parameter("name")
        let plugin = try await registry.inspect(name)
        if request.flag("force"), plugin.isEnabled, !plugin.isDefault, isOfSwarm(plugin) {
            var call = try APIRequest.parse(method: "POST", target: "/plugins/\(plugin.name)/disable?force=1", headers: request.headers)
            call.parameters["name"] = plugin.name
            _ = try await disable(call)
            // On a follower the news come by the log.
            await agreed.apply(try await swarm.snapshot(for: call).cluster?.plugins ?? ActivePlugins())
        }
        try await registry.remove(name, force: request.flag("force"))
        publish("remove", plugin)
        return plugin
    }

    // MARK: The swarm's

    private func isOfSwarm(_ plugin: PluginInfo) -> Bool {
        guard swarm.status.state != .inactive else { return false }
        return plugin.identity?.role == .scheduler || plugin.identity?.role == .certificateAuthority
    }

    /// Has all managers use the plugin. To be called on the leader.
    /// - Throws: `conflict` when one that answers has not the same file, or when the root would have to change.
    private func agree(on plugin: PluginInfo, _ manager: ManagerPart) async throws(ApusError) {
        guard let identity = plugin.identity else { throw ApusError(.conflict, "plugin \(plugin.name) cannot be enabled: \(plugin.reason)") }
        let agreement = PluginAgreement(plugin, identity)
        if identity.role == .certificateAuthority { try await checkAuthorityStays(agreement, manager) }
        try await checkAll(plugin, identity, manager)
        do throws(ApusError) {
            // Before it is recorded it must work here.
            try await registry.use(agreement)
            try await manager.store.update { transaction throws(ApusError) in
                guard var cluster = transaction.snapshot.cluster else { throw ApusError(.unavailable, "the store has no swarm yet; try again") }
                let before = cluster.plugins
                if identity.role == .scheduler {
                    cluster.plugins.scheduler = agreement.recorded
                } else {
                    cluster.plugins.certificateAuthority = agreement.recorded
                }
                if cluster.plugins != before { try transaction.update(.cluster(cluster)) }
            }
        } catch {
            if let cluster = manager.store.read().cluster { await agreed.apply(cluster.plugins) }
            throw error
        }
        if let cluster = manager.store.read().cluster { await agreed.apply(cluster.plugins) }
        if identity.role == .scheduler { manager.orchestration.schedulerChanged() }
    }

    private func giveUp(_ plugin: PluginInfo, force: Bool, _ manager: ManagerPart) async throws(ApusError) {
        guard let identity = plugin.identity, let cluster = manager.store.read().cluster else {
            throw ApusError(.conflict, "plugin \(plugin.name) is not enabled")
        }
        let recorded = identity.role == .scheduler ? cluster.plugins.scheduler : cluster.plugins.certificateAuthority
        let defaults = try await registry.inspect("\(identity.role.rawValue)/\(identity.role == .scheduler ? "spread" : "internal")")
        // The registry says what is wrong with giving up the default, and forgets what is not in use.
        guard PluginAgreement(identity.role, recorded: recorded)?.identity == identity, defaults.identity != identity else {
            return try await registry.disable(plugin.name, force: force)
        }
        try await agree(on: defaults, manager)
    }

    /// Before the swarm goes over to an authority with another root: every manager must be able to lead with it.
    func checkAuthority(_ text: String, _ manager: ManagerPart) async throws(ApusError) {
        guard let agreement = PluginAgreement(.certificateAuthority, recorded: text) else { return }
        try await checkAll(try await registry.inspect(agreement.identity.description), agreement.identity, manager)
    }

    /// An authority that signs with the swarm's own root may take the other's place as it is; for any other one the root must change.
    private func checkAuthorityStays(_ agreement: PluginAgreement, _ manager: ManagerPart) async throws(ApusError) {
        guard let cluster = manager.store.read().cluster, cluster.plugins.certificateAuthority != agreement.recorded else { return }
        guard cluster.rootRotation == nil else {
            throw ApusError(.conflict, "the root of the swarm is being rotated: wait until apus swarm ca says that it is over")
        }
        let authority = try await registry.certificateAuthority(agreement)
        if authority.isExternal {
            throw ApusError(
                .conflict,
                "\(agreement.identity) has a root of its own, and a swarm goes over to another root by a rotation: "
                    + "apus swarm ca --rotate --external-ca protocol=cfssl,url=URL --ca-cert FILE")
        }
        guard !cluster.root.key.isEmpty else {
            throw ApusError(
                .conflict,
                "the key of the swarm's root is with an external authority, and \(agreement.identity) needs it: "
                    + "apus swarm ca --rotate makes another root")
        }
    }

    /// Every manager that answers has the same version and the same file.
    private func checkAll(_ plugin: PluginInfo, _ identity: PluginIdentity, _ manager: ManagerPart) async throws(ApusError) {
        let own = await agreed.report(identity.description)
        guard own.problem.isEmpty else { throw ApusError(.conflict, "plugin \(identity) cannot be enabled: \(own.problem)") }
        let nodes = manager.store.read().nodes
        var others: [String] = []
        for (id, report) in await manager.pluginReports(identity.description).sorted(by: { $0.key < $1.key }) {
            let hostname = nodes[id]?.description.hostname ?? ""
            let name = hostname.isEmpty ? id.text : "\(hostname) (\(id.short))"
            if !report.problem.isEmpty {
                others.append("\(name): \(report.problem)")
            } else if report.version != own.version || report.sha256 != own.sha256 {
                others.append("\(name) has \(report.version), SHA-256 \(report.sha256.prefix(12))…, and not \(own.version), \(own.sha256.prefix(12))…")
            }
        }
        guard others.isEmpty else {
            throw ApusError(
                .conflict,
                "plugin \(identity) cannot be enabled: all managers need the same file of it. \(others.joined(separator: "; ")). "
                    + "Install it there with apus plugin install FILE")
        }
    }

    private func publish(_ action: String, _ plugin: PluginInfo) {
        events.publish(EngineEvent(type: "plugin", action: action, actorID: plugin.name, attributes: ["name": plugin.name], time: .now))
    }
}
