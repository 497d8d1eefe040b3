public import PluginAPI

/// A plugin's role and name, which no two usable plugins share: `scheduler/spread`.
public struct PluginIdentity: Sendable, Hashable, Comparable, CustomStringConvertible {
    public var role: PluginRole
    public var name: String

    public init(_ role: PluginRole, _ name: String) {
        self.role = role
        self.name = name
    }

    /// From `role/name` or, as files are named, `role-name`; a tag after a colon does not count.
    public init?(_ text: String) {
        let bare = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).first.map(String.init) ?? text
        guard let separator = bare.firstIndex(where: { $0 == "/" || $0 == "-" }), let role = PluginRole(rawValue: String(bare[..<separator])) else {
            return nil
        }
        let name = String(bare[bare.index(after: separator)...])
        guard PluginRecordLayout.isName(name) else { return nil }
        self.init(role, name)
    }

    public var description: String { "\(role.rawValue)/\(name)" }

    /// The file's name in a plugin folder.
    public var fileName: String { "\(role.rawValue)-\(name).so" }

    public static func < (left: Self, right: Self) -> Bool { (left.role.number, left.name) < (right.role.number, right.name) }
}

/// Where a plugin stands.
public enum PluginState: String, Sendable, Hashable, CaseIterable {
    /// Good as far as it can be told without loading it; not enabled.
    case available
    /// In use.
    case enabled
    /// Was in use; its image stays in memory until the engine restarts, but is not used.
    case disabled
    /// For another version of the API or another compiler; never loaded.
    case incompatible
    /// Not a plugin, not safe, or second of its name; never loaded.
    case refused
    /// Could not be loaded or made.
    case failed
    /// Its file is gone, or it is to be enabled and its file is not the one that was.
    case missing
}

/// Why a plugin cannot be used.
struct PluginProblem: Sendable, Hashable {
    var state: PluginState
    var reason: String

    init(_ state: PluginState, _ reason: String) {
        self.state = state
        self.reason = reason
    }
}

/// A line of `apus plugin ls`.
public struct PluginInfo: Sendable, Hashable {
    /// `scheduler/spread`; the file's name when its record does not say.
    public var name: String
    /// Absent when neither the record nor the file's name tells it.
    public var identity: PluginIdentity?
    public var state: PluginState
    /// Why it is in this state, with what to do; empty when nothing is wrong.
    public var reason: String
    public var path: String
    /// From the record.
    public var manifest: PluginManifest?
    /// 64 hexadecimal digits; empty when the file could not be read.
    public var sha256: String
    /// Came with the engine, cannot be removed.
    public var isDefault: Bool
    /// Its code is in memory.
    public var isLoaded: Bool

    public var isEnabled: Bool { state == .enabled }
}
