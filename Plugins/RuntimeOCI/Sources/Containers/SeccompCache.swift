import Coding
import PluginAPI
import Synchronization

/// Profiles that were resolved: most containers have the same.
final class SeccompCache: Sendable {
    static let shared = SeccompCache()

    private struct Key: Hashable {
        var profile: String
        var capabilities: [String]
    }

    private let resolved = Mutex<[Key: JSONValue]>([:])
    private static let limit = 16

    /// - Parameter profile: empty for the standard one, else Docker's JSON.
    func resolved(profile: String, capabilities: [String], kernel: KernelVersion) throws(ApusError) -> JSONValue {
        let key = Key(profile: profile, capabilities: capabilities)
        if let found = resolved.withLock({ $0[key] }) { return found }
        let source = profile.isEmpty ? SeccompProfile.standard : try SeccompProfile(dockerFormat: profile)
        let answer = source.resolve(capabilities: Set(capabilities), kernel: kernel)
        resolved.withLock { resolved in
            if resolved.count >= Self.limit { resolved.removeAll() }
            resolved[key] = answer
        }
        return answer
    }
}
