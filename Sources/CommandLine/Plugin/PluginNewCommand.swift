import ArgumentParser
import Glibc
import PluginAPI

struct PluginNewCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "new", abstract: "Write the package of a new plugin, which builds as it is.",
        discussion: "Build it with `swift build -c release`, then hand the library to `apus plugin install`. It knows the package PluginAPI alone.")

    @Option(help: ArgumentHelp("Folder to write into; NAME without it. It must not exist, or be empty.", valueName: "folder")) var path: String?
    @Option(help: ArgumentHelp("Folder of the package PluginAPI that it depends on.", valueName: "folder")) var pluginApi: String?
    @Argument(help: "What it does: \(PluginRole.allCases.map(\.rawValue).joined(separator: ", ")).") var role: String
    @Argument(help: "Its name; scheduler/NAME and so on is how it is enabled.") var name: String

    func run(with context: CommandContext) async throws {
        guard let role = PluginRole(rawValue: role) else {
            throw ApusError(
                .invalidArgument,
                "\"\(role)\" is not a role of a plugin; the roles are \(PluginRole.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        let interface = try pluginApi.map { path throws(ApusError) in try LocalFile.absolute(path) } ?? Self.installedInterface()
        let files = try PluginTemplate.files(role: role, name: name, pluginAPIPath: interface)
        let folder = try LocalFile.absolute(path ?? name)
        guard LocalFile.isMissingOrEmpty(folder) else {
            throw ApusError(.conflict, "\(folder) exists and is not empty: name another folder with --path")
        }
        for file in files {
            let target = "\(folder)/\(file.path)"
            try LocalFile.makeFolders(String(target[..<(target.lastIndex(of: "/") ?? target.startIndex)]))
            try LocalFile.create(target, file.text)
        }
        context.console.line(folder)
        context.console.errorLine("Next: cd \(folder) && swift build -c release, then `apus plugin install` with the .so that it makes.")
    }

    /// Where an installed Apus, or its sources, has the package PluginAPI, seen from this program.
    private static func installedInterface() -> String {
        guard let path = realpath("/proc/self/exe", nil) else { return "../PluginAPI" }
        defer { free(path) }
        var folder = String(cString: path)
        while let end = folder.lastIndex(of: "/") {
            folder = String(folder[..<end])
            for candidate in ["lib/apus/PluginAPI", "share/apus/PluginAPI", "Sources/PluginAPI"] {
                if access("\(folder)/\(candidate)/Package.swift", R_OK) == 0 { return "\(folder)/\(candidate)" }
            }
        }
        return "../PluginAPI"
    }
}
