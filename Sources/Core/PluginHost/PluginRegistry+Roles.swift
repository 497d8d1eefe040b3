public import PluginAPI
import Synchronization

/// The plugins in use, as what they are.
extension PluginRegistry {
    /// The scheduler in use, or the one of that name if it is in use.
    /// - Throws: `notFound` when none is enabled. The same for the other roles.
    public func scheduler(named name: String? = nil) throws(ApusError) -> any Scheduler { try plugin(.scheduler, name, as: (any Scheduler).self) }

    /// The authority in use, or the one of that name if it is in use.
    public func certificateAuthority(named name: String? = nil) throws(ApusError) -> any CertificateAuthority {
        try plugin(.certificateAuthority, name, as: (any CertificateAuthority).self)
    }

    /// The balancer in use, or the one of that name if it is in use.
    public func balancer(named name: String? = nil) throws(ApusError) -> any LoadBalancer { try plugin(.balancer, name, as: (any LoadBalancer).self) }

    /// The driver of that name; several are in use at once.
    public func network(named name: String) throws(ApusError) -> any NetworkDriver { try plugin(.network, name, as: (any NetworkDriver).self) }

    /// The runtime of that name, or the first.
    public func runtime(named name: String? = nil) throws(ApusError) -> any Runtime { try plugin(.runtime, name, as: (any Runtime).self) }

    /// All networks in use, by name.
    public var networks: [String: any NetworkDriver] { plugins(.network, as: (any NetworkDriver).self) }

    /// All runtimes in use, by name.
    public var runtimes: [String: any Runtime] { plugins(.runtime, as: (any Runtime).self) }

    /// The plugins in use.
    public var enabled: [PluginIdentity] { state.withLock { $0.active.keys.sorted() } }

    private func plugin<Role>(_ role: PluginRole, _ name: String?, as type: Role.Type) throws(ApusError) -> Role {
        let found = state.withLock { state in
            state.active.filter { $0.key.role == role && (name == nil || $0.key.name == name) }.min { $0.key < $1.key }?.value.plugin
        }
        guard let plugin = found as? Role else {
            let what = name.map { "\(role.rawValue)/\($0)" } ?? "a plugin for the role \(role.rawValue)"
            throw ApusError(.notFound, "\(what) is not enabled: see apus plugin ls")
        }
        return plugin
    }

    private func plugins<Role>(_ role: PluginRole, as type: Role.Type) -> [String: Role] {
        let found = state.withLock { state in state.active.filter { $0.key.role == role } }
        return Dictionary(uniqueKeysWithValues: found.compactMap { identity, active in (active.plugin as? Role).map { (identity.name, $0) } })
    }
}

/// A plugin that has a role in the place of the one that is to have it.
public struct PluginSubstitution: Sendable, Hashable {
    /// Which root has chosen, or which is the default.
    public var wanted: PluginIdentity
    /// `nil`: none.
    public var used: PluginIdentity?
    /// Why the wanted one does not work; empty when that is not known.
    public var reason: String
}

extension PluginRegistry {
    /// What is in use for a role of which there is one, when that is not what is wanted.
    public func substitution(for role: PluginRole) -> PluginSubstitution? {
        state.withLock { state in
            let chosen = state.selection.enabled.keys.filter { $0.role == role }.min()
            let wanted = chosen ?? PluginIdentity(role, role.defaultName)
            let used = state.active.keys.filter { $0.role == role }.min()
            guard used != wanted else { return nil }
            let reason = PluginListing(state).infos.first { $0.identity == wanted && !$0.reason.isEmpty }?.reason ?? ""
            return PluginSubstitution(wanted: wanted, used: used, reason: reason)
        }
    }
}

extension PluginRole {
    /// Whether the plugin has this role's protocol.
    func isServed(by plugin: any Plugin) -> Bool {
        switch self {
        case .scheduler: plugin is any Scheduler
        case .certificateAuthority: plugin is any CertificateAuthority
        case .network: plugin is any NetworkDriver
        case .balancer: plugin is any LoadBalancer
        case .runtime: plugin is any Runtime
        @unknown default: false
        }
    }

    var protocolName: String {
        switch self {
        case .scheduler: "Scheduler"
        case .certificateAuthority: "CertificateAuthority"
        case .network: "NetworkDriver"
        case .balancer: "LoadBalancer"
        case .runtime: "Runtime"
        @unknown default: rawValue
        }
    }
}
