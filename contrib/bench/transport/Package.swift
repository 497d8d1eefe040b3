// swift-tools-version: 6.2
import PackageDescription

// The transport between nodes beside grpc-swift-nio-transport, in one program. The product depends on none of this.
// The folders of the root package are taken by links (see Sources), since SwiftPM gives other packages only its products.
let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
let pluginAPI: Target.Dependency = .product(name: "PluginAPI", package: "PluginAPI")
let grpc: Target.Dependency = .product(name: "GRPCCore", package: "grpc-swift-2")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let nio: [Target.Dependency] = [.product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio")]

let package = Package(
    name: "transport-bench",
    dependencies: [
        .package(path: "../../../Sources/PluginAPI"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.4.3"),
        .package(url: "https://github.com/grpc/grpc-swift-nio-transport", from: "2.9.2"),
    ],
    targets: [
        .systemLibrary(name: "COpenSSL", path: "Sources/COpenSSL", pkgConfig: "openssl"),
        .systemLibrary(name: "CNGHTTP2", path: "Sources/CNGHTTP2", pkgConfig: "libnghttp2"),
        .target(name: "Coding", dependencies: [pluginAPI], path: "Sources/Coding", swiftSettings: settings),
        .target(name: "OpenSSL", dependencies: ["COpenSSL", pluginAPI], path: "Sources/OpenSSL", swiftSettings: settings),
        .target(name: "Wire", dependencies: ["Coding", grpc, pluginAPI], path: "Sources/Wire", exclude: [], swiftSettings: settings),
        .target(
            name: "Transport", dependencies: ["Wire", "OpenSSL", "COpenSSL", "CNGHTTP2", "Coding", grpc, logging, pluginAPI] + nio,
            path: "Sources/Transport", swiftSettings: settings),
        .executableTarget(
            name: "TransportBench",
            dependencies: [
                "Transport", "Wire", "OpenSSL", grpc, logging, pluginAPI,
                .product(name: "GRPCNIOTransportHTTP2", package: "grpc-swift-nio-transport"),
            ] + nio,
            path: "Sources/TransportBench", swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6]
)
