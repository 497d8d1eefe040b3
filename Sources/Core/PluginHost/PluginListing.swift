import PluginAPI

/// The states of all plugins, from what is on disk, in memory and chosen. Pure.
struct PluginListing {
    let infos: [PluginInfo]

    init(_ state: PluginRegistry.State) {
        var infos: [PluginInfo] = []
        let winners = Self.winners(state)
        for candidate in state.candidates { infos.append(Self.info(of: candidate, state, winners)) }
        let paths = Set(state.candidates.map(\.path))
        for (identity, active) in state.active where !paths.contains(active.path) {
            infos.append(
                PluginInfo(
                    name: identity.description, identity: identity, state: .enabled,
                    reason: "its file is gone; it goes on working until the engine restarts: install it again", path: active.path,
                    manifest: active.manifest, sha256: active.sha256, isDefault: active.isDefault, isLoaded: true))
        }
        let named = Set(infos.compactMap(\.identity))
        for (identity, sha256) in state.selection.enabled where !named.contains(identity) {
            infos.append(
                PluginInfo(
                    name: identity.description, identity: identity, state: .missing,
                    reason: "it was enabled, and its file is gone: install it again, or forget it with apus plugin disable \(identity)", path: "",
                    manifest: nil, sha256: sha256, isDefault: false, isLoaded: false))
        }
        self.infos = infos.sorted { left, right in
            (left.identity?.role.number ?? .max, left.name, left.isDefault ? 0 : 1, left.path)
                < (right.identity?.role.number ?? .max, right.name, right.isDefault ? 0 : 1, right.path)
        }
    }

    /// Of the files for one plugin, the path of the one that counts: the one in use, or else the first that is usable.
    static func winners(_ state: PluginRegistry.State) -> [PluginIdentity: String] {
        var winners = state.active.mapValues(\.path)
        for candidate in state.candidates where candidate.problem == nil {
            if let identity = candidate.identity, winners[identity] == nil { winners[identity] = candidate.path }
        }
        return winners
    }

    private static func info(of candidate: PluginCandidate, _ state: PluginRegistry.State, _ winners: [PluginIdentity: String]) -> PluginInfo {
        let (standing, reason) = standing(of: candidate, state, winners)
        let isLoaded = candidate.identity.flatMap { state.loaded[$0] }.map { $0.sha256 == candidate.sha256 } ?? false
        return PluginInfo(
            name: candidate.identity?.description ?? candidate.fileName, identity: candidate.identity, state: standing, reason: reason,
            path: candidate.path, manifest: candidate.manifest, sha256: candidate.sha256, isDefault: candidate.isDefault, isLoaded: isLoaded)
    }

    private static func standing(
        of candidate: PluginCandidate, _ state: PluginRegistry.State, _ winners: [PluginIdentity: String]
    ) -> (PluginState, String) {
        if let active = state.active.values.first(where: { $0.path == candidate.path }) {
            if candidate.sha256 == active.sha256, candidate.problem == nil { return (.enabled, "") }
            let what = candidate.problem.map { "its file cannot be loaded any more (\($0.reason))" } ?? "its file has changed since it was loaded"
            return (.enabled, "\(what); the old one goes on working until the engine restarts")
        }
        if let problem = candidate.problem { return (problem.state, problem.reason) }
        guard let identity = candidate.identity else { return (.refused, "it has no name") }
        if let winner = winners[identity], winner != candidate.path {
            return (.refused, "\(winner) has the same role and name, and comes first")
        }
        if let failure = state.failures[failureKey(candidate.path, candidate.sha256)] { return (.failed, failure) }
        if let chosen = state.selection.enabled[identity], !chosen.isEmpty, chosen != candidate.sha256 {
            return (.missing, "the file is not the one that was enabled (its SHA-256 was \(chosen.prefix(12))…): enable it again if you trust it")
        }
        if let loaded = state.loaded[identity] {
            return loaded.sha256 == candidate.sha256
                ? (.disabled, "") : (.disabled, "the file has changed since it was loaded: restart the engine to use it")
        }
        return (.available, "")
    }

    static func failureKey(_ path: String, _ sha256: String) -> String { "\(path)\u{0}\(sha256)" }
}
