import PluginAPI

/// What `apus plugin new` writes: a package that builds, is tested, and can be installed as it stands.
enum PluginTemplate {
    /// The files of a new plugin's package, each with its path inside of the package.
    ///
    /// - Parameters:
    ///   - name: as in `role/name`; `a`–`z`, `0`–`9` and inner `-`, 32 at most.
    ///   - pluginAPIPath: the folder of the package PluginAPI, absolute or relative to the new package.
    static func files(role: PluginRole, name: String, pluginAPIPath: String) throws(ApusError) -> [(path: String, text: String)] {
        guard PluginRecordLayout.isName(name) else {
            throw ApusError(
                .invalidArgument,
                "\"\(name)\" cannot be a plugin's name: it is up to 32 of a-z, 0-9 and -, begins with a letter and does not end with -")
        }
        let names = PluginTemplateNames(role: role, name: name)
        let sources = "Sources/\(names.module)"
        return [
            ("Package.swift", package(names, pluginAPIPath)),
            ("\(sources)/\(names.type).swift", PluginTemplateRoles.source(names)),
            ("\(sources)/Entry.swift", entry(names)),
            ("\(sources)/Record.swift", record(names)),
            ("\(sources)/Compiler.swift", PluginTemplateCompiler.text),
            ("Tests/\(names.module)Tests/\(names.type)Tests.swift", PluginTemplateRoles.test(names)),
            (".gitignore", ".build/\n"),
        ]
    }

    private static func package(_ names: PluginTemplateNames, _ pluginAPIPath: String) -> String {
        """
        // swift-tools-version: 6.2
        import PackageDescription

        // The package of the plugin interface, of the version of your engine: a release's sources, or a checkout of Apus.
        let pluginAPI = Context.environment["APUS_PLUGIN_API"] ?? "\(escaped(pluginAPIPath))"

        let package = Package(
            name: "\(names.role.rawValue)-\(names.name)",
            products: [.library(name: "\(names.module)", type: .dynamic, targets: ["\(names.module)"])],
            dependencies: [.package(path: pluginAPI)],
            targets: [
                .target(
                    name: "\(names.module)",
                    dependencies: [.product(name: "PluginAPI", package: "PluginAPI")],
                    // A missing C function must fail when the plugin is loaded, not when it is first called; the engine insists.
                    linkerSettings: [.unsafeFlags(["-Xlinker", "-z", "-Xlinker", "now"])]),
                .testTarget(
                    name: "\(names.module)Tests",
                    dependencies: ["\(names.module)", .product(name: "PluginAPI", package: "PluginAPI")]),
            ],
            swiftLanguageModes: [.v6]
        )

        """
    }

    private static func escaped(_ text: String) -> String {
        text.reduce(into: "") { result, character in
            if character == "\"" || character == "\\" { result.append("\\") }
            result.append(character)
        }
    }

    private static func entry(_ names: PluginTemplateNames) -> String {
        """
        import PluginAPI

        /// The C function by which the engine makes the plugin.
        @c(apus_plugin_entry)
        public func entry(_ identity: UnsafeRawPointer) -> UnsafeMutableRawPointer? {
            PluginFactory.entry(identity) { host in \(names.type)(host: host) }
        }

        """
    }

    private static func record(_ names: PluginTemplateNames) -> String {
        let characters = names.name.utf8.map { "0x" + String($0, radix: 16) }
        let bytes = characters + Array(repeating: "0", count: PluginRecordLayout.nameLimit - characters.count)
        let rows = stride(from: 0, to: bytes.count, by: 8).map { bytes[$0..<min($0 + 8, bytes.count)].joined(separator: ", ") + "," }
        return """
            import PluginAPI

            /// What the engine reads from the file before it loads it.
            @section("apus_plugin") @used
            let record: PluginRecord = (
                magic: 0x4e49_474c_5053_5041, size: 56,
                api: (major: \(APIVersion.major), minor: \(APIVersion.minor)),
                role: \(names.role.number),  // \(names.role.rawValue)
                version: (major: 0, minor: 1, patch: 0),
                // \(names.name)
                name: [
                    \(rows.joined(separator: "\n        "))
                ]
            )

            """
    }
}

/// How things are called in a new plugin's package.
struct PluginTemplateNames {
    let role: PluginRole
    let name: String

    /// `MyScheduler` of `my-scheduler`.
    private var camel: String {
        name.split(separator: "-").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
    }

    /// The part of a type's name that says what it is.
    private var noun: String {
        switch role {
        case .scheduler: "Scheduler"
        case .certificateAuthority: "Authority"
        case .network: "Network"
        case .balancer: "Balancer"
        case .runtime: "Runtime"
        @unknown default: "Plugin"
        }
    }

    /// The class that does the work: `RoundrobinScheduler`.
    var type: String { camel.hasSuffix(noun) && camel != noun ? camel : camel + noun }

    /// The Swift module, and the library's name: `SchedulerRoundrobin`.
    var module: String { noun + camel + (noun + camel == type ? "Plugin" : "") }
}
