import Coding
import Files
import PluginAPI

/// What root has chosen, over restarts: `<data-root>/plugins/enabled.json`.
///
/// ```json
/// {"enabled": [{"name": "scheduler/roundrobin", "sha256": "…"}, {"name": "scheduler/binpack"}], "disabled": ["network/bridge"]}
/// ```
struct PluginSelection: Sendable, Hashable {
    /// Plugin to SHA-256; empty for a plugin of the default set, which changes with the engine.
    var enabled: [PluginIdentity: String] = [:]
    /// Plugins of the default set that would be enabled otherwise.
    var disabled: Set<PluginIdentity> = []

    init() {}

    /// Reads what `json` has written. What is of another kind is refused, never left out: without its digest, a plugin would be trusted as one of
    /// the default set.
    init(_ text: some Collection<UInt8>) throws(ApusError) {
        let value = try JSONValue.parse(text)
        guard value.object != nil else { throw ApusError(.corrupt, "it is \(value.kind), not an object") }
        for entry in try Self.list(value, "enabled") {
            guard let identity = entry["name"]?.string.flatMap({ PluginIdentity($0) }) else {
                throw ApusError(.corrupt, "an entry of \"enabled\" has no name of the form role/name")
            }
            var digest = ""
            if let written = entry["sha256"] {
                guard let text = written.string, text.utf8.count == 64, text.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }) else {
                    throw ApusError(.corrupt, "\"sha256\" of \(identity) is not 64 hexadecimal digits")
                }
                digest = text
            }
            guard enabled.updateValue(digest, forKey: identity) == nil else { throw ApusError(.corrupt, "\(identity) is enabled twice") }
        }
        for entry in try Self.list(value, "disabled") {
            guard let identity = entry.string.flatMap({ PluginIdentity($0) }) else {
                throw ApusError(.corrupt, "an entry of \"disabled\" is not of the form role/name")
            }
            disabled.insert(identity)
        }
    }

    private static func list(_ value: JSONValue, _ key: String) throws(ApusError) -> [JSONValue] {
        guard let list = value[key] else { return [] }
        guard let array = list.array else { throw ApusError(.corrupt, "\"\(key)\" is \(list.kind), not an array") }
        return array
    }

    var json: JSONValue {
        let enabled = enabled.sorted { $0.key < $1.key }.map { identity, sha256 -> JSONValue in
            var entry: JSONValue = ["name": .string(identity.description)]
            if !sha256.isEmpty { entry["sha256"] = .string(sha256) }
            return entry
        }
        return ["enabled": .array(enabled), "disabled": JSONValue(disabled.sorted().map(\.description))]
    }

    /// An absent file is an empty choice.
    static func read(_ path: String) throws(ApusError) -> PluginSelection {
        guard Files.exists(path) else { return PluginSelection() }
        do throws(ApusError) {
            return try PluginSelection(Files.read(path, limit: 1 << 20))
        } catch {
            throw ApusError(
                .corrupt, "\(path) is damaged (\(error.message)): remove it to begin with the default set, then enable your plugins again")
        }
    }

    func write(_ path: String) throws(ApusError) {
        try Files.writeAtomically(Array(json.text(pretty: true).utf8) + [0x0a], to: path)
    }
}
