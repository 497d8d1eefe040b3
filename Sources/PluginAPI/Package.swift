// swift-tools-version: 6.2
import PackageDescription

// A package of its own so that SwiftPM links it once, dynamically, into the host and into every plugin:
// a target dependency inside one package is linked statically into each product, and a type that exists twice cannot be cast.
// Library evolution lets a plugin built against an older minor version run on a newer host.
let package = Package(
    name: "PluginAPI",
    products: [.library(name: "PluginAPI", type: .dynamic, targets: ["PluginAPI"])],
    targets: [
        .target(
            name: "PluginAPI",
            swiftSettings: [
                .unsafeFlags(["-enable-library-evolution"]),
                .enableUpcomingFeature("ExistentialAny"),
                .enableUpcomingFeature("InternalImportsByDefault"),
                .enableUpcomingFeature("MemberImportVisibility"),
            ])
    ]
)
