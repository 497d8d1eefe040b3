// swift-tools-version: 6.2
import PackageDescription

// The package of the plugin interface, of the version of your engine: a release's sources, or a checkout of Apus.
let pluginAPI = Context.environment["APUS_PLUGIN_API"] ?? "../../../Sources/PluginAPI"

let package = Package(
    name: "ca-openssl",
    products: [.library(name: "AuthorityOpenssl", type: .dynamic, targets: ["AuthorityOpenssl"])],
    dependencies: [.package(path: pluginAPI)],
    targets: [
        .target(
            name: "AuthorityOpenssl",
            dependencies: [.product(name: "PluginAPI", package: "PluginAPI")],
            // A missing C function must fail when the plugin is loaded, not when it is first called; the engine insists.
            linkerSettings: [.unsafeFlags(["-Xlinker", "-z", "-Xlinker", "now"])]),
        .testTarget(
            name: "AuthorityOpensslTests",
            dependencies: ["AuthorityOpenssl", .product(name: "PluginAPI", package: "PluginAPI")]),
    ],
    swiftLanguageModes: [.v6]
)
