import Concurrency
public import PluginAPI
import Synchronization

/// What the swarm has agreed on, and this engine follows.
extension PluginRegistry {
    /// Puts the plugin to use that the managers have agreed on, in the other's place, at once and over restarts. One in use stays as it is.
    /// - Throws: `notFound` when this engine does not have it, `conflict` when it has another file; `failed`.
    public func use(_ agreement: PluginAgreement) async throws(ApusError) {
        await gate.enter()
        defer { gate.leave() }
        if let active = state.withLock({ $0.active[agreement.identity] }), agreement.isMet(by: active) { return }
        try await activate(try await candidate(agreement), remember: true)
    }

    /// Puts the default of a role in the place of what cannot be used, without forgetting that.
    public func useDefault(_ role: PluginRole) async throws(ApusError) {
        await gate.enter()
        defer { gate.leave() }
        let identity = PluginIdentity(role, role.defaultName)
        if state.withLock({ $0.active[identity] }) != nil { return }
        guard let info = await list().first(where: { $0.identity == identity && $0.isDefault }) else {
            throw ApusError(.notFound, "the default set has no \(identity)")
        }
        try await activate(info, remember: false)
    }

    /// The certificate authority that was agreed on, also when it is not the one in use: while a root is rotated there are two.
    /// - Throws: as `use`.
    public func certificateAuthority(_ agreement: PluginAgreement) async throws(ApusError) -> any CertificateAuthority {
        if let found = ready(agreement) { return found }
        await gate.enter()
        defer { gate.leave() }
        if let found = ready(agreement) { return found }
        let (identity, info) = (agreement.identity, try await candidate(agreement))
        let made = try await PluginThread.shared.run { [self] () throws(ApusError) in try make(identity, info) }
        guard let authority = made.active.plugin as? any CertificateAuthority else {
            throw ApusError(.failed, "\(identity) is not a certificate authority")
        }
        let old = state.withLock { $0.standby.updateValue(made.active, forKey: identity) }
        await old?.plugin.shutDown()
        return authority
    }

    /// The plugins in use, as a swarm would agree on them.
    public var agreements: [PluginAgreement] {
        state.withLock { state in
            state.active.sorted { $0.key < $1.key }.map { PluginAgreement($0.key, sha256: $0.value.isDefault ? "" : $0.value.sha256) }
        }
    }

    private func ready(_ agreement: PluginAgreement) -> (any CertificateAuthority)? {
        let found = state.withLock { state in [state.active[agreement.identity], state.standby[agreement.identity]].compactMap { $0 } }
        return found.first { agreement.isMet(by: $0) }?.plugin as? any CertificateAuthority
    }

    /// The file that was agreed on.
    private func candidate(_ agreement: PluginAgreement) async throws(ApusError) -> PluginInfo {
        let infos = await list().filter { $0.identity == agreement.identity && !$0.path.isEmpty }
        if agreement.sha256.isEmpty {
            guard let info = infos.first(where: \.isDefault) else {
                throw ApusError(.notFound, "\(agreement.identity) is not in the default set of this engine: it is of another version")
            }
            return info
        }
        if let info = infos.first(where: { $0.sha256 == agreement.sha256 }) { return info }
        guard let other = infos.first else {
            throw ApusError(.notFound, "\(agreement.identity) is not installed on this node: apus plugin install FILE")
        }
        throw ApusError(
            .conflict,
            "\(other.path) is not the file of \(agreement.identity) that the swarm uses "
                + "(its SHA-256 is \(other.sha256.prefix(12))…, not \(agreement.sha256.prefix(12))…): install that one")
    }
}
