import Events
import Orchestration
import PluginAPI
import PluginHost
import Store
import Swarm

/// Switches plugins in the registry, and records in the store which scheduler and certificate authority the swarm uses.
struct PluginController: Sendable {
    let registry: PluginRegistry
    let swarm: SwarmNode
    let events: EventHub

    func list() async -> [PluginInfo] {
        await registry.rescan()
        return await registry.list()
    }

    func inspect(_ name: String) async throws(ApusError) -> PluginInfo { try await registry.inspect(name) }

    /// Takes effect at once; no running task moves.
    func enable(_ name: String) async throws(ApusError) {
        let plugin = try await registry.inspect(name)
        try await registry.enable(name)
        try await record()
        publish("enable", plugin)
    }

    func disable(_ name: String, force: Bool) async throws(ApusError) {
        let plugin = try await registry.inspect(name)
        try await registry.disable(name, force: force)
        try await record()
        publish("disable", plugin)
    }

    func install(from path: String) async throws(ApusError) -> PluginInfo {
        let plugin = try await registry.install(from: path)
        publish("install", plugin)
        return plugin
    }

    /// With `force`, also one that is enabled.
    func remove(_ name: String, force: Bool) async throws(ApusError) -> PluginInfo {
        let plugin = try await registry.inspect(name)
        try await registry.remove(name, force: force)
        try await record()
        publish("remove", plugin)
        return plugin
    }

    /// Makes the cluster object say what is in force; the schedule goes on with the other scheduler.
    private func record() async throws(ApusError) {
        guard let manager = swarm.managerPart else { return }
        let active = Self.active(registry)
        guard manager.store.isLeader else { return }
        try await manager.store.update { transaction throws(ApusError) in
            guard var cluster = transaction.snapshot.cluster, cluster.plugins != active else { return }
            cluster.plugins = active
            try transaction.update(.cluster(cluster))
        }
        manager.orchestration.schedulerChanged()
    }

    /// The names of the plugins that are active for the whole swarm.
    static func active(_ registry: PluginRegistry) -> ActivePlugins {
        var active = ActivePlugins()
        for identity in registry.enabled {
            switch identity.role {
            case .scheduler: active.scheduler = identity.name
            case .certificateAuthority: active.certificateAuthority = identity.name
            default: continue
            }
        }
        return active
    }

    private func publish(_ action: String, _ plugin: PluginInfo) {
        events.publish(EngineEvent(type: "plugin", action: action, actorID: plugin.name, attributes: ["name": plugin.name], time: .now))
    }
}
