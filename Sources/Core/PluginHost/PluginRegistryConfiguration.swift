public import Logging

/// Where plugins are and what they are given.
public struct PluginRegistryConfiguration: Sendable {
    /// The default set, `<prefix>/lib/apus/plugins`.
    public var defaultDirectory: String
    /// Folders of further plugins, in the order of precedence; `install` copies into the last,
    /// which is the one that the engine was started with.
    public var dropInDirectories: [String]
    /// `/var/lib/apus`: `plugins/enabled.json`, and a folder for each plugin's state.
    public var dataRoot: String
    /// `/run/apus`: a folder for each plugin's running state.
    public var execRoot: String
    public var engineVersion: String
    /// `role/name` to the options of `--plugin-opt`.
    public var options: [String: [String: String]]
    public var logger: Logger

    public init(
        defaultDirectory: String, dropInDirectories: [String] = ["/usr/local/lib/apus/plugins"], dataRoot: String = "/var/lib/apus",
        execRoot: String = "/run/apus", engineVersion: String, options: [String: [String: String]] = [:],
        logger: Logger = Logger(label: "apus.plugins")
    ) {
        self.defaultDirectory = defaultDirectory
        self.dropInDirectories = dropInDirectories
        self.dataRoot = dataRoot
        self.execRoot = execRoot
        self.engineVersion = engineVersion
        self.options = options
        self.logger = logger
    }

    var selectionPath: String { "\(dataRoot)/plugins/enabled.json" }
}
