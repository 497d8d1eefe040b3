public import PluginAPI

/// A plugin that the managers of a swarm have agreed on, as the cluster object records it: `spread`, or `fair@sha256:` and 64 digits.
///
/// A plugin of the default set changes with the engine, so its name is enough; any other is one file and no other.
public struct PluginAgreement: Sendable, Hashable {
    public var identity: PluginIdentity
    /// Of the file; empty for a plugin of the default set.
    public var sha256: String

    public init(_ identity: PluginIdentity, sha256: String) {
        self.identity = identity
        self.sha256 = sha256
    }

    public init(_ plugin: PluginInfo, _ identity: PluginIdentity) { self.init(identity, sha256: plugin.isDefault ? "" : plugin.sha256) }

    /// From the cluster object; `nil` when nothing is recorded, or nothing that is understood.
    public init?(_ role: PluginRole, recorded text: String) {
        let halves = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        guard let name = halves.first, PluginRecordLayout.isName(String(name)) else { return nil }
        identity = PluginIdentity(role, String(name))
        guard halves.count == 2 else {
            sha256 = ""
            return
        }
        guard halves[1].hasPrefix("sha256:"), halves[1].utf8.count == 71 else { return nil }
        sha256 = String(halves[1].dropFirst(7))
    }

    public var recorded: String { sha256.isEmpty ? identity.name : "\(identity.name)@sha256:\(sha256)" }

    func isMet(by active: PluginRegistry.Active) -> Bool { sha256.isEmpty ? active.isDefault : active.sha256 == sha256 }
}
