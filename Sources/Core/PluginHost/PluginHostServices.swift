import Files
import Logging
public import PluginAPI
import Synchronization

/// The counters of all plugins, for the engine's metrics.
public final class PluginCounters: Sendable {
    private let counters = Mutex<[String: Int]>([:])

    public init() {}

    func add(_ amount: Int, to name: String) {
        counters.withLock { $0[name, default: 0] &+= amount }
    }

    /// Name, `apus_plugin_<role>_<name>_<counter>`, to value.
    public var values: [String: Int] { counters.withLock { $0 } }
}

/// What one plugin gets from this engine.
public struct PluginHostServices: HostServices {
    public let engineVersion: String
    public let configuration: [String: String]
    public let stateDirectory: String
    public let runDirectory: String
    private let identity: PluginIdentity
    private let logger: Logger
    private let counters: PluginCounters

    /// Makes the plugin's folders, for root alone.
    public init(_ identity: PluginIdentity, _ registry: PluginRegistryConfiguration, counters: PluginCounters) throws(ApusError) {
        self.identity = identity
        self.counters = counters
        engineVersion = registry.engineVersion
        configuration = registry.options[identity.description] ?? [:]
        stateDirectory = "\(registry.dataRoot)/plugins/\(identity.role.rawValue)/\(identity.name)"
        runDirectory = "\(registry.execRoot)/plugins/\(identity.role.rawValue)/\(identity.name)"
        var logger = registry.logger
        logger[metadataKey: "plugin"] = "\(identity)"
        self.logger = logger
        try Files.makeDirectory(stateDirectory, permissions: 0o700)
        try Files.makeDirectory(runDirectory, permissions: 0o700)
    }

    /// In the engine's log, with the plugin's name.
    public func log(_ level: LogLevel, _ message: String) {
        let level: Logger.Level =
            switch level {
            case .debug: .debug
            case .info: .info
            case .warning: .warning
            case .error: .error
            @unknown default: .info
            }
        logger.log(level: level, "\(message)")
    }

    /// Adds to the counter `apus_plugin_<role>_<name>_<counter>`; a dash becomes an underscore.
    public func count(_ counter: String, by amount: Int) {
        let name = "apus_plugin_\(identity.role.rawValue)_\(identity.name)_\(counter)"
        counters.add(amount, to: String(decoding: name.utf8.map { $0 == UInt8(ascii: "-") ? UInt8(ascii: "_") : $0 }, as: UTF8.self))
    }
}
