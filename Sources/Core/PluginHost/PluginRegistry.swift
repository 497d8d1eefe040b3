import Concurrency
import Files
public import PluginAPI
import Synchronization

/// All plugins of this engine: what is there, what is in use, and switching between them.
///
/// A file is only read until it is enabled: nothing of it runs before. One scheduler, one certificate authority and one balancer are enabled
/// at a time, so enabling another takes the place of the first; networks and runtimes are sets. Calls that change something come one after the other;
/// whatever a plugin does wrong ends up as a reason in `list()`, and never harms the others.
public final class PluginRegistry: Sendable {
    /// A plugin in use.
    struct Active: Sendable {
        var plugin: any Plugin
        var path: String
        var sha256: String
        var isDefault: Bool
        var manifest: PluginManifest
    }

    struct State: Sendable {
        var scanner = PluginScanner()
        var candidates: [PluginCandidate] = []
        /// Images in memory, in use or not.
        var loaded: [PluginIdentity: LoadedPlugin] = [:]
        var active: [PluginIdentity: Active] = [:]
        /// Certificate authorities that sign beside the one in use, while a root is rotated.
        var standby: [PluginIdentity: Active] = [:]
        /// Why a content could not be loaded or made, by path and SHA-256.
        var failures: [String: String] = [:]
        var selection = PluginSelection()
        var hooks = PluginRegistryHooks()
    }

    let configuration: PluginRegistryConfiguration
    public let counters = PluginCounters()
    let state = Mutex(State())
    let gate = AsyncGate()

    public init(_ configuration: PluginRegistryConfiguration) {
        self.configuration = configuration
    }

    /// What the engine wants to be asked and told.
    public func setHooks(_ hooks: PluginRegistryHooks) {
        state.withLock { $0.hooks = hooks }
    }

    /// Looks through the folders again. Reads only what has changed.
    public func rescan() async {
        let found = try? await PluginThread.shared.run { [self] () throws(ApusError) in
            var scanner = state.withLock { $0.scanner }
            let candidates = scanner.scan(configuration)
            return (scanner, candidates)
        }
        guard let found else { return }
        state.withLock { ($0.scanner, $0.candidates) = found }
    }

    /// Every plugin with its state and the reason for it, by role and name.
    public func list() async -> [PluginInfo] {
        await rescan()
        return state.withLock { PluginListing($0).infos }
    }

    /// One plugin, by `role/name`, `role-name`, a name that only one role has, or the name of a file that is listed.
    /// - Throws: `notFound`, or `invalidArgument` when several are meant.
    public func inspect(_ name: String) async throws(ApusError) -> PluginInfo {
        try Self.find(name, in: await list())
    }

    static func find(_ name: String, in infos: [PluginInfo]) throws(ApusError) -> PluginInfo {
        let bare = name.hasSuffix(":latest") ? String(name.dropLast(7)) : name
        let identity = PluginIdentity(bare)
        var found = infos.filter { $0.name == bare || (identity != nil && $0.identity == identity) }
        if found.isEmpty { found = infos.filter { $0.identity?.name == bare } }
        // Of several files for one plugin, the one that can be used is meant.
        if Set(found.compactMap(\.identity)).count == 1, let usable = found.first(where: { $0.state != .refused && $0.state != .incompatible }) {
            return usable
        }
        guard let first = found.first else { throw ApusError(.notFound, "plugin \(name) not found: see apus plugin ls") }
        guard Set(found.compactMap(\.identity)).count <= 1 else {
            let names = found.map(\.name).joined(separator: ", ")
            throw ApusError(.invalidArgument, "plugin \(name) could be any of \(names): give the role too")
        }
        return first
    }
}

/// What the engine wants to be asked before, and told after, a plugin is switched.
public struct PluginRegistryHooks: Sendable {
    /// Why a plugin cannot be disabled now, such as a network that it made; `nil` when it can.
    public var inUse: @Sendable (PluginIdentity) async -> String?
    /// Another plugin, or one more or less, is enabled for the role. A plugin that was replaced is shut down when this has returned,
    /// so let go of it here.
    public var changed: @Sendable (PluginRole) async -> Void

    public init(
        inUse: @escaping @Sendable (PluginIdentity) async -> String? = { _ in nil },
        changed: @escaping @Sendable (PluginRole) async -> Void = { _ in }
    ) {
        self.inUse = inUse
        self.changed = changed
    }
}

extension PluginRole {
    /// One at a time is enabled.
    var isExclusive: Bool {
        switch self {
        case .scheduler, .certificateAuthority, .balancer: true
        case .network, .runtime: false
        @unknown default: false
        }
    }

    /// What of the default set is enabled when root has chosen nothing.
    var defaultName: String {
        switch self {
        case .scheduler: "spread"
        case .certificateAuthority: "internal"
        case .network: "bridge"
        case .balancer: "nftables"
        case .runtime: "oci"
        @unknown default: ""
        }
    }
}
