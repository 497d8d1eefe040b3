public import PluginAPI
import Wire

/// The secrets and configs that the tasks of a node need. In memory alone: they are never written to a node's disk, and never logged.
public struct AssignedFiles: Sendable, Hashable {
    public internal(set) var secrets: [ID: Secret] = [:]
    public internal(set) var configs: [ID: Config] = [:]

    public init(secrets: [ID: Secret] = [:], configs: [ID: Config] = [:]) {
        self.secrets = secrets
        self.configs = configs
    }

    /// Takes what a complete message brings and drops what it says is needed no more.
    mutating func apply(_ message: AssignmentsMessage) {
        if message.isFull { self = AssignedFiles() }
        for id in message.removedSecrets { secrets[ID(id)] = nil }
        for id in message.removedConfigs { configs[ID(id)] = nil }
        for secret in message.secrets where !secret.id.isEmpty { secrets[secret.id] = secret }
        for config in message.configs where !config.id.isEmpty { configs[config.id] = config }
    }
}

/// What can be looked into is logged some day: of these only how many there are.
extension AssignedFiles: CustomStringConvertible, CustomReflectable {
    public var description: String { "\(secrets.count) secrets and \(configs.count) configs" }
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}
