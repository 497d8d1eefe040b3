import Files
import Glibc
import PluginAPI

@testable import PluginHost

/// Folders and a registry for one test.
final class Bench: Sendable {
    let folder: String
    let registry: PluginRegistry

    var defaults: String { "\(folder)/default" }
    var dropIns: String { "\(folder)/drop-ins" }
    var more: String { "\(folder)/more" }
    var dataRoot: String { "\(folder)/data" }

    init(options: [String: [String: String]] = [:]) throws {
        folder = try Files.makeTemporaryDirectory(prefix: "apus-plugins")
        for name in ["default", "drop-ins", "more", "data", "run"] {
            try Files.makeDirectory("\(folder)/\(name)", permissions: 0o755)
            chmod("\(folder)/\(name)", 0o755)
        }
        registry = PluginRegistry(Self.configuration(folder, options))
    }

    deinit { try? Files.removeTree(folder) }

    /// Another engine on the same folders, as after a restart. Images of the first are still in memory.
    func restarted(options: [String: [String: String]] = [:]) -> PluginRegistry { PluginRegistry(Self.configuration(folder, options)) }

    private static func configuration(_ folder: String, _ options: [String: [String: String]]) -> PluginRegistryConfiguration {
        PluginRegistryConfiguration(
            defaultDirectory: "\(folder)/default", dropInDirectories: ["\(folder)/drop-ins", "\(folder)/more"], dataRoot: "\(folder)/data",
            execRoot: "\(folder)/run", engineVersion: "1.2.3", options: options)
    }

    /// Writes a file as `install` would, without its checks.
    @discardableResult
    func put(_ bytes: [UInt8], _ name: String, in folder: String? = nil) throws -> String {
        let path = "\(folder ?? dropIns)/\(name)"
        try Files.writeAtomically(bytes, to: path, permissions: 0o755, sync: false)
        return path
    }

    /// A good plugin under a name of its own, so that tests do not meet in memory.
    @discardableResult
    func putGood(_ name: String, in folder: String? = nil, file: String? = nil) throws -> String {
        try put(try Patch(Workshop.shelf().good).named(name).bytes, file ?? "scheduler-\(name).so", in: folder)
    }

    func info(_ name: String) async throws -> PluginInfo { try await registry.inspect(name) }
}
