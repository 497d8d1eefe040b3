// swift-tools-version: 6.2
import PackageDescription

// The package of the plugin interface, of the version of your engine: a release's sources, or a checkout of Apus.
let pluginAPI = Context.environment["APUS_PLUGIN_API"] ?? "../../../Sources/PluginAPI"

let package = Package(
    name: "runtime-process",
    products: [.library(name: "RuntimeProcess", type: .dynamic, targets: ["RuntimeProcess"])],
    dependencies: [.package(path: pluginAPI)],
    targets: [
        .target(
            name: "RuntimeProcess",
            dependencies: [.product(name: "PluginAPI", package: "PluginAPI")],
            // A missing C function must fail when the plugin is loaded, not when it is first called; the engine insists.
            linkerSettings: [.unsafeFlags(["-Xlinker", "-z", "-Xlinker", "now"])]),
        .testTarget(
            name: "RuntimeProcessTests",
            dependencies: ["RuntimeProcess", .product(name: "PluginAPI", package: "PluginAPI")]),
    ],
    swiftLanguageModes: [.v6]
)
