import Events
import Logging
import PluginAPI
import PluginHost
import Store
import Synchronization
import Wire

/// Keeps this manager's scheduler and certificate authority what the swarm has agreed on, whoever leads.
///
/// One that cannot be used does not keep a manager from leading: it places with the default scheduler, or issues no certificates, and says so.
final class SwarmPlugins: Sendable {
    private struct State {
        /// Why what was agreed on is not in use here.
        var lacking: [PluginRole: String] = [:]
        var agreed: ActivePlugins?
        var onScheduler: @Sendable () -> Void = {}
    }

    private let registry: PluginRegistry
    private let events: EventHub
    private let logger: Logger
    private let state = Mutex(State())

    init(registry: PluginRegistry, events: EventHub, logger: Logger) {
        self.registry = registry
        self.events = events
        self.logger = logger
    }

    /// What is called when tasks are to be placed by another scheduler.
    func onScheduler(_ changed: @escaping @Sendable () -> Void) { state.withLock { $0.onScheduler = changed } }

    /// Follows what the cluster object says until it is cancelled, or the store is closed.
    func follow(_ store: ObjectStore) async {
        while !ConcurrentTask.isCancelled {
            let (snapshot, commits) = store.watch()
            if let cluster = snapshot.cluster { await apply(cluster.plugins) }
            for await commit in commits {
                guard
                    let cluster = commit.changes.compactMap({ change -> Cluster? in
                        if case .cluster(let cluster) = change.object { cluster } else { nil }
                    }).last
                else { continue }
                await apply(cluster.plugins)
            }
            try? await ConcurrentTask.sleep(for: .milliseconds(50))
        }
    }

    /// Takes into use what was agreed on.
    func apply(_ agreed: ActivePlugins) async {
        state.withLock { $0.agreed = agreed }
        for (role, text) in [(PluginRole.scheduler, agreed.scheduler), (.certificateAuthority, agreed.certificateAuthority)] where !text.isEmpty {
            let before = registry.enabled.first { $0.role == role }
            do throws(ApusError) {
                guard let agreement = PluginAgreement(role, recorded: text) else {
                    throw ApusError(.corrupt, "\(role.rawValue) \"\(text)\" is not the name of a plugin")
                }
                try await registry.use(agreement)
                state.withLock { $0.lacking[role] = nil }
            } catch {
                lack(role, text, error)
                if role == .scheduler { try? await registry.useDefault(.scheduler) }
            }
            if role == .scheduler, registry.enabled.first(where: { $0.role == role }) != before { state.withLock { $0.onScheduler }() }
        }
    }

    /// Looks again: a file may have come, or gone.
    func reapply() async {
        if let agreed = state.withLock(\.agreed) { await apply(agreed) }
    }

    private func lack(_ role: PluginRole, _ name: String, _ error: ApusError) {
        let isNews = state.withLock { $0.lacking.updateValue(error.message, forKey: role) } != error.message
        guard isNews else { return }
        // The digest is in the reason, where it matters.
        let name = String(name.prefix { $0 != "@" })
        logger.error("the swarm's \(role.rawValue) \(name) cannot be used here; \(Self.consequence(role)): \(error.message)")
        events.publish(
            EngineEvent(
                type: "plugin", action: "missing", actorID: "\(role.rawValue)/\(name)",
                attributes: ["name": "\(role.rawValue)/\(name)", "reason": error.message], time: .now))
    }

    private static func consequence(_ role: PluginRole) -> String {
        role == .scheduler ? "while this manager leads, tasks are placed with the default scheduler" : "while this manager leads, no certificate is issued"
    }

    /// For `info`.
    var warnings: [String] {
        state.withLock(\.lacking).sorted { $0.key.rawValue < $1.key.rawValue }.map { role, reason in
            "WARNING: \(Self.consequence(role)), for it lacks the \(role.rawValue) of the swarm: \(reason)"
        }
    }

    /// A certificate authority by what the cluster object says.
    /// - Throws: `unavailable` when it cannot be used here: requests wait for a leader that can.
    func authority(_ text: String) async throws(ApusError) -> any CertificateAuthority {
        guard let agreement = PluginAgreement(.certificateAuthority, recorded: text) else {
            throw ApusError(.unavailable, "the certificate authority \"\(text)\" is not the name of a plugin")
        }
        do throws(ApusError) {
            return try await registry.certificateAuthority(agreement)
        } catch {
            lack(.certificateAuthority, text, error)
            throw ApusError(.unavailable, "this manager cannot issue certificates: \(error.message)")
        }
    }

    /// What is in use for the whole swarm, as the cluster object records it.
    var active: ActivePlugins {
        var active = ActivePlugins()
        for agreement in registry.agreements {
            switch agreement.identity.role {
            case .scheduler: active.scheduler = agreement.recorded
            case .certificateAuthority: active.certificateAuthority = agreement.recorded
            default: continue
            }
        }
        return active
    }

    /// What this engine has of a plugin.
    func report(_ name: String) async -> PluginReport {
        var report = PluginReport()
        do throws(ApusError) {
            let info = try await registry.inspect(name)
            report.version = info.manifest?.version ?? ""
            report.sha256 = info.sha256
            switch info.state {
            // One that is missing has another file than the one that root had chosen: the swarm's choice is another.
            case .available, .enabled, .disabled: break
            case .missing where !info.path.isEmpty: break
            default: report.problem = info.reason.isEmpty ? "it is \(info.state.rawValue)" : info.reason
            }
        } catch {
            report.problem = error.code == .notFound ? "it is not installed there" : error.message
        }
        return report
    }
}
