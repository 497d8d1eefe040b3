import Files
import PluginAPI

/// One file in a plugin folder, as it is now.
struct PluginCandidate: Sendable {
    var path: String
    var isDefault: Bool
    /// From the record, or else from the file's name.
    var identity: PluginIdentity?
    var manifest: PluginManifest?
    var sha256 = ""
    var problem: PluginProblem?

    var fileName: String { path.split(separator: "/").last.map(String.init) ?? path }
}

/// Looks through the plugin folders. Runs nothing of what it finds.
struct PluginScanner: Sendable {
    /// What was read of a file, kept as long as the file stays the same.
    private var contents: [String: (stamp: PluginFile.Stamp, content: PluginContent)] = [:]

    /// All plugin files: the default set's first, then folder by folder, by file name. Blocks.
    mutating func scan(_ configuration: PluginRegistryConfiguration) -> [PluginCandidate] {
        var candidates: [PluginCandidate] = []
        var seen: Set<String> = []
        let folders = [(configuration.defaultDirectory, true)] + configuration.dropInDirectories.map { ($0, false) }
        for (folder, isDefault) in folders where !folder.isEmpty && seen.insert(folder).inserted {
            guard Files.exists(folder), let names = try? Files.list(folder) else { continue }
            let problem = folderProblem(folder)
            for name in names where name.hasSuffix(".so") && !name.hasPrefix(".") {
                candidates.append(look(at: "\(folder)/\(name)", isDefault: isDefault, folderProblem: problem))
            }
        }
        let paths = Set(candidates.map(\.path))
        contents = contents.filter { paths.contains($0.key) }
        return candidates
    }

    private func folderProblem(_ folder: String) -> PluginProblem? {
        do throws(ApusError) {
            try PluginFile.checkFolder(folder)
            return nil
        } catch {
            return PluginProblem(.refused, error.message)
        }
    }

    private mutating func look(at path: String, isDefault: Bool, folderProblem: PluginProblem?) -> PluginCandidate {
        var candidate = PluginCandidate(path: path, isDefault: isDefault)
        candidate.identity = candidate.fileName.hasSuffix(".so") ? PluginIdentity(String(candidate.fileName.dropLast(3))) : nil
        do throws(ApusError) {
            let file = try PluginFile(path: path)
            try file.checkOwnership()
            let content: PluginContent
            if let known = contents[path], known.stamp == file.stamp {
                content = known.content
            } else {
                content = PluginContent(try file.read())
                contents[path] = (file.stamp, content)
            }
            candidate.sha256 = content.sha256
            candidate.manifest = content.manifest
            if let manifest = content.manifest { candidate.identity = PluginIdentity(manifest.role, manifest.name) }
            candidate.problem = folderProblem ?? content.problem
        } catch {
            candidate.problem = folderProblem ?? PluginProblem(error.code == .notFound ? .missing : .refused, error.message)
        }
        return candidate
    }
}
