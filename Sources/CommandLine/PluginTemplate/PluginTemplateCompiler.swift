/// The file by which a plugin says which compiler made it; the same in every plugin and in the engine.
enum PluginTemplateCompiler {
    private static let versions: [(major: Int, minor: Int)] = [(7, 0), (6, 5), (6, 4), (6, 3)]
    private static let patches = 0...5

    static var text: String {
        var lines = [
            "import PluginAPI", "",
            "// The Swift compiler that compiles this file, in a section that the engine reads. Every plugin has the same file.",
            "",
            "#if compiler(>=7.1)", "    #error(\"this Swift compiler is newer than this list of compilers: add a line for it\")",
        ]
        for version in versions {
            for patch in patches.reversed() {
                lines.append("#elseif compiler(>=\(version.major).\(version.minor)\(patch == 0 ? "" : ".\(patch)"))")
                let value = "(major: \(version.major), minor: \(version.minor), patch: \(patch))"
                lines.append("    @section(\"apus_compiler\") @used let compiler: PluginCompiler = \(value)")
            }
        }
        return (lines + ["#else", "    #error(\"a plugin needs Swift 6.3 or newer\")", "#endif", ""]).joined(separator: "\n")
    }
}
