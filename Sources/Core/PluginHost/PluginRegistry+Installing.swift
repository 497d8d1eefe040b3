import Concurrency
import Files
import Glibc
import Logging
public import PluginAPI

extension PluginRegistry {
    /// Copies a plugin into the last drop-in folder, as `<role>-<name>.so`. Nothing of it runs, and it is not enabled.
    ///
    /// A disabled plugin of the same role and name is replaced; if it has been in use since the engine started, the new one can be enabled
    /// after a restart.
    /// - Throws: `notFound`; `invalidArgument` with the reason when it is no plugin for this engine; `conflict` when the default set has it
    ///   or it is enabled.
    @discardableResult
    public func install(from path: String) async throws(ApusError) -> PluginInfo {
        await gate.enter()
        defer { gate.leave() }
        guard let folder = configuration.dropInDirectories.last else {
            throw ApusError(.unavailable, "this engine has no folder for further plugins: start it with --plugin-dir")
        }
        let (bytes, identity) = try await PluginThread.shared.run { () throws(ApusError) in
            let bytes = try PluginFile(path: path).read()
            let content = PluginContent(bytes)
            if let problem = content.problem { throw ApusError(.invalidArgument, "\(path) cannot be installed: \(problem.reason)") }
            guard let manifest = content.manifest else { throw ApusError(.invalidArgument, "\(path) is not a plugin") }
            return (bytes, PluginIdentity(manifest.role, manifest.name))
        }
        let target = "\(folder)/\(identity.fileName)"
        for info in await list() where info.identity == identity && info.state != .missing {
            if info.isDefault { throw ApusError(.conflict, "\(identity) belongs to the default set: give your plugin another name") }
            if info.isEnabled { throw ApusError(.conflict, "plugin \(identity) is enabled: disable it first") }
            if info.state != .refused, info.path != target {
                throw ApusError(.conflict, "plugin \(identity) is installed already, as \(info.path): remove that first")
            }
        }
        try await PluginThread.shared.run { () throws(ApusError) in
            // What root's umask leaves of the permissions may be less than others need to see the folder; that is theirs to decide.
            try Files.makeDirectory(folder, permissions: 0o755)
            try PluginFile.checkFolder(folder)
            try Files.writeAtomically(bytes, to: target, permissions: 0o755)
        }
        configuration.logger.info("plugin \(identity) is installed", metadata: ["path": "\(target)"])
        let infos = await list()
        guard let info = infos.first(where: { $0.path == target }) else { throw ApusError(.notFound, "\(target) is gone again") }
        return info
    }

    /// Removes a plugin's file, also one that is refused (by `role/name` or by the file's name), and what was remembered of it.
    /// - Parameter force: disables it first if it is enabled, whatever uses it.
    /// - Throws: `notFound`; `conflict` while it is enabled or when it came with the engine.
    public func remove(_ name: String, force: Bool = false) async throws(ApusError) {
        await gate.enter()
        defer { gate.leave() }
        let infos = await list()
        // A file that never worked is meant rather than the plugin in whose way it is only when nothing else has the name.
        let dropIns = infos.filter { !$0.isDefault }
        let info: PluginInfo
        do throws(ApusError) {
            info = try Self.find(name, in: dropIns)
        } catch {
            if error.code == .notFound, (try? Self.find(name, in: infos)) != nil {
                throw ApusError(.conflict, "plugin \(name) came with the engine and cannot be removed: disable it instead")
            }
            throw error
        }
        if info.isEnabled {
            guard force else { throw ApusError(.conflict, "plugin \(info.name) is enabled: disable it first") }
            try await disableInTurn(info.name, force: true)
        }
        let path = info.path
        if !path.isEmpty {
            try await PluginThread.shared.run { () throws(ApusError) in
                guard unlink(path) == 0 || errno == ENOENT else { throw Files.lastError("cannot remove \(path)") }
            }
        }
        if let identity = info.identity, info.state != .refused { try await forget(identity) }
        configuration.logger.info("plugin \(info.name) is removed", metadata: ["path": "\(path)"])
    }
}
