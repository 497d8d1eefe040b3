import Concurrency
import Files
import Logging
public import PluginAPI
import Synchronization

extension PluginRegistry {
    /// Enables what was enabled before, and of the default set what nobody has disabled. Never throws: what does not work is logged and listed,
    /// and where only one can be enabled, the default takes its place. A balancer that this node's kernel cannot do does not work either; when none
    /// does, the one that is wanted is enabled all the same, and says with each call what is wrong.
    public func start() async {
        await gate.enter()
        defer { gate.leave() }
        await readSelection()
        await rescan()
        let (selection, candidates) = state.withLock { ($0.selection, $0.candidates) }
        for role in PluginRole.allCases {
            let chosen = selection.enabled.keys.filter { $0.role == role }.sorted()
            let defaults = candidates.filter { $0.isDefault && $0.identity?.role == role }.compactMap(\.identity)
            for identity in chosen { await enableAtStart(identity) }
            if role.isExclusive {
                let isServed = state.withLock { state in state.active.keys.contains { $0.role == role } }
                guard !isServed else { continue }
                let preferred = PluginIdentity(role, role.defaultName)
                for identity in (defaults.contains(preferred) ? [preferred] : []) + defaults where identity != chosen.first {
                    if await enableAtStart(identity) { break }
                }
                if role == .balancer, state.withLock({ state in !state.active.keys.contains { $0.role == role } }) {
                    await enableAtStart(chosen.first ?? preferred, isProbed: false)
                }
            } else {
                for identity in defaults where !selection.disabled.contains(identity) && !chosen.contains(identity) { await enableAtStart(identity) }
            }
        }
    }

    private func readSelection() async {
        let path = configuration.selectionPath
        do throws(ApusError) {
            let selection = try await PluginThread.shared.run { () throws(ApusError) in try PluginSelection.read(path) }
            state.withLock { $0.selection = selection }
        } catch {
            configuration.logger.error("\(error.message)")
        }
    }

    @discardableResult
    private func enableAtStart(_ identity: PluginIdentity, isProbed: Bool = true) async -> Bool {
        do throws(ApusError) {
            let info = state.withLock { state in PluginListing(state).infos.filter { $0.identity == identity } }
            let found = try Self.find(identity.description, in: info)
            // A changed drop-in is code that nobody has agreed to.
            guard found.state != .missing else { throw ApusError(.conflict, "plugin \(identity) is not enabled: \(found.reason)") }
            try await activate(found, remember: false, isProbed: isProbed)
            return true
        } catch {
            configuration.logger.error("\(error.message)")
            return false
        }
    }

    /// Loads the plugin and puts it to use, at once and over restarts; of a role that has only one, in the other's place.
    /// An enabled one stays as it is.
    /// - Throws: `notFound`; `conflict` with the reason when it must not be loaded; `failed` with the reason when it could not be.
    @discardableResult
    public func enable(_ name: String) async throws(ApusError) -> any Plugin {
        await gate.enter()
        defer { gate.leave() }
        let info = try Self.find(name, in: await list())
        if let identity = info.identity, let active = state.withLock({ $0.active[identity] }) { return active.plugin }
        return try await activate(info, remember: true)
    }

    /// Takes the plugin out of use, at once and over restarts. Its image stays in memory. In the place of a scheduler, a certificate authority
    /// or a balancer comes the default one.
    /// - Parameter force: also when something uses it.
    /// - Throws: `notFound`; `conflict` when it is in use, or is the one that the engine falls back to.
    public func disable(_ name: String, force: Bool = false) async throws(ApusError) {
        await gate.enter()
        defer { gate.leave() }
        try await disableInTurn(name, force: force)
    }

    /// `disable` for one who is in the gate already.
    func disableInTurn(_ name: String, force: Bool) async throws(ApusError) {
        let infos = await list()
        let info = try Self.find(name, in: infos)
        guard let identity = info.identity else { throw ApusError(.conflict, "plugin \(info.name) is not enabled") }
        guard let active = state.withLock({ $0.active[identity] }) else {
            // Also forgets one that is missing or failed, so that it is not tried at the next start.
            try await remember { selection in selection.enabled[identity] = nil }
            return
        }
        if !force, let reason = await state.withLock({ $0.hooks.inUse })(identity) {
            throw ApusError(.conflict, "plugin \(identity) is in use: \(reason)")
        }
        if identity.role.isExclusive {
            let fallback = PluginIdentity(identity.role, identity.role.defaultName)
            if identity != fallback, let info = infos.first(where: { $0.identity == fallback && $0.isDefault && $0.state != .refused }) {
                try await activate(info, remember: true)
                return
            }
            guard !active.isDefault else {
                throw ApusError(.conflict, "the swarm cannot be without a \(identity.role.rawValue): enable another one, which takes its place")
            }
        } else if identity.role == .runtime, state.withLock({ state in state.active.keys.filter { $0.role == .runtime }.count }) == 1 {
            throw ApusError(.conflict, "\(identity) is the only runtime: enable another one first")
        }
        try await remember { selection in
            selection.enabled[identity] = nil
            if active.isDefault { selection.disabled.insert(identity) }
        }
        state.withLock { $0.active[identity] = nil }
        await retire([active], of: identity.role)
        configuration.logger.info("plugin \(identity) is disabled")
    }

    /// Ends all plugins, when the engine stops; what is enabled stays remembered.
    public func stop() async {
        await gate.enter()
        defer { gate.leave() }
        let active = state.withLock { state in
            defer { (state.active, state.standby) = ([:], [:]) }
            return state.active.sorted { $0.key < $1.key } + state.standby.sorted { $0.key < $1.key }
        }
        for (_, active) in active.reversed() { await active.plugin.shutDown() }
    }

    /// For one who is in the gate.
    @discardableResult
    func activate(_ info: PluginInfo, remember isRemembered: Bool, isProbed: Bool = true) async throws(ApusError) -> any Plugin {
        guard let identity = info.identity, info.state != .refused, info.state != .incompatible, !info.path.isEmpty else {
            throw ApusError(info.path.isEmpty ? .notFound : .conflict, "plugin \(info.name) cannot be enabled: \(info.reason)")
        }
        let made: (active: Active, loaded: LoadedPlugin)
        do throws(ApusError) {
            made = try await PluginThread.shared.run { [self] () throws(ApusError) in try make(identity, info) }
        } catch {
            throw ApusError(error.code, "plugin \(identity) cannot be enabled: \(error.message)")
        }
        if isProbed { try await probe(made.active, identity, info) }
        if isRemembered {
            do throws(ApusError) {
                try await remember { selection in
                    selection.disabled.remove(identity)
                    if identity.role.isExclusive { selection.enabled = selection.enabled.filter { $0.key.role != identity.role } }
                    let isImplied = info.isDefault && (!identity.role.isExclusive || identity.name == identity.role.defaultName)
                    selection.enabled[identity] = isImplied ? nil : info.isDefault ? "" : made.active.sha256
                }
            } catch {
                await made.active.plugin.shutDown()
                throw error
            }
        }
        let replaced = state.withLock { state in
            var replaced: [Active] = []
            if identity.role.isExclusive {
                for other in state.active.keys where other.role == identity.role {
                    if let active = state.active.removeValue(forKey: other) { replaced.append(active) }
                }
            }
            state.active[identity] = made.active
            if let standby = state.standby.removeValue(forKey: identity) { replaced.append(standby) }
            return replaced
        }
        await retire(replaced, of: identity.role)
        configuration.logger.info("plugin \(identity) \(made.active.manifest.version) is enabled", metadata: ["path": "\(info.path)"])
        return made.active.plugin
    }

    /// Whether this node has what a balancer needs; one for which it has not is ended again, and the reason kept for the list.
    private func probe(_ active: Active, _ identity: PluginIdentity, _ info: PluginInfo) async throws(ApusError) {
        guard let balancer = active.plugin as? any LoadBalancer else { return }
        do throws(ApusError) { try await balancer.probe() } catch {
            state.withLock { $0.failures[PluginListing.failureKey(info.path, active.sha256)] = error.message }
            await balancer.shutDown()
            throw ApusError(error.code, "plugin \(identity) cannot be enabled: \(error.message)")
        }
    }

    private func retire(_ replaced: [Active], of role: PluginRole) async {
        await state.withLock { $0.hooks.changed }(role)
        for active in replaced { await active.plugin.shutDown() }
    }

    func forget(_ identity: PluginIdentity) async throws(ApusError) {
        try await remember { selection in selection.enabled[identity] = nil }
    }

    private func remember(_ change: @Sendable (inout PluginSelection) -> Void) async throws(ApusError) {
        let old = state.withLock { $0.selection }
        var changed = old
        change(&changed)
        guard changed != old else { return }
        let selection = changed
        let path = configuration.selectionPath
        try await PluginThread.shared.run { () throws(ApusError) in
            try Files.makeDirectory(Files.parent(path), permissions: 0o700)
            try selection.write(path)
        }
        state.withLock { $0.selection = selection }
    }

    /// On the plugin thread: opens, checks, loads and makes, all of one and the same file. A failure is kept for the list.
    func make(_ identity: PluginIdentity, _ info: PluginInfo) throws(ApusError) -> (active: Active, loaded: LoadedPlugin) {
        try PluginFile.checkFolder(Files.parent(info.path))
        let file = try PluginFile(path: info.path)
        try file.checkOwnership()
        let bytes = try file.read()
        let content = PluginContent(bytes)
        if let problem = content.problem { throw ApusError(.conflict, problem.reason) }
        guard let manifest = content.manifest, PluginIdentity(manifest.role, manifest.name) == identity else {
            throw ApusError(.conflict, "its file has changed just now: try again")
        }
        let failureKey = PluginListing.failureKey(info.path, content.sha256)
        do throws(ApusError) {
            let loaded = try load(identity, file, bytes, content, manifest)
            let plugin: any Plugin
            do throws(ApusError) {
                plugin = try loaded.factory.makePlugin(host: PluginHostServices(identity, configuration, counters: counters))
            } catch {
                throw ApusError(.failed, "it could not be started: \(error.message)")
            }
            guard identity.role.isServed(by: plugin) else {
                throw ApusError(.failed, "what it makes is not a \(identity.role.protocolName), which its record promises")
            }
            state.withLock { $0.failures[failureKey] = nil }
            let active = Active(plugin: plugin, path: info.path, sha256: content.sha256, isDefault: info.isDefault, manifest: manifest)
            return (active, loaded)
        } catch {
            if error.code != .conflict { state.withLock { $0.failures[failureKey] = error.message } }
            throw error
        }
    }

    private func load(
        _ identity: PluginIdentity, _ file: PluginFile, _ bytes: [UInt8], _ content: PluginContent, _ manifest: PluginManifest
    ) throws(ApusError) -> LoadedPlugin {
        if let loaded = state.withLock({ $0.loaded[identity] }) {
            guard loaded.sha256 == content.sha256 else {
                throw ApusError(
                    .conflict, "an older file of it is in memory, and Swift code cannot be unloaded: restart the engine to use the new one")
            }
            return loaded
        }
        let loaded = try PluginLoader.load(file, bytes, manifest, sha256: content.sha256)
        state.withLock { $0.loaded[identity] = loaded }
        return loaded
    }
}
