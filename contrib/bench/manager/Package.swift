// swift-tools-version: 6.2
import PackageDescription

// The manager without an engine around it, for measurements; the product does not depend on it.
// The modules are those of the root package, which offers none of them as a product.
let swiftSettings: [SwiftSetting] = [.enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("MemberImportVisibility")]
let pluginAPI: Target.Dependency = .product(name: "PluginAPI", package: "PluginAPI")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let grpc: Target.Dependency = .product(name: "GRPCCore", package: "grpc-swift-2")
let nio: [Target.Dependency] = [.product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio")]

func module(_ name: String, in folder: String, path: String? = nil, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies + [pluginAPI], path: "\(folder)/\(path ?? name)", swiftSettings: swiftSettings)
}

let package = Package(
    name: "manager-benchmark",
    dependencies: [
        .package(path: "Sources/PluginAPI"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.4.3"),
    ],
    targets: [
        .systemLibrary(name: "COpenSSL", path: "Sources/COpenSSL", pkgConfig: "openssl"),
        .systemLibrary(name: "CNGHTTP2", path: "Sources/CNGHTTP2", pkgConfig: "libnghttp2"),
        .target(name: "CLinux", path: "Sources/CLinux"),
        module("Coding", in: "Sources/Support"),
        module("Events", in: "Sources/Support"),
        module("Files", in: "Sources/Support", ["CLinux"]),
        module("OpenSSL", in: "Sources/Support", ["COpenSSL"]),
        module("Raft", in: "Sources/Core", ["Files", "OpenSSL", "CLinux", logging]),
        module(
            "Store", in: "Sources/Core", ["Raft", "Coding", "Events", "Files", .product(name: "HashTreeCollections", package: "swift-collections"), logging]),
        module("Wire", in: "Sources/Core", ["Coding", grpc]),
        module("Transport", in: "Sources/Core", ["Wire", "OpenSSL", "COpenSSL", "CNGHTTP2", "Coding", grpc, logging] + nio),
        module("Allocation", in: "Sources/Core", ["Store", logging]),
        module("Processes", in: "Sources/Support", ["CLinux"]),
        module("Orchestration", in: "Sources/Core", ["Store", "Allocation", "Coding", "Processes", logging]),
        module(
            "Dispatcher", in: "Sources/Core", path: "Dispatch",
            ["Store", "Orchestration", "Wire", "Coding", "Events", .product(name: "HashTreeCollections", package: "swift-collections"), grpc, logging]),
        .target(name: "SchedulerSpread", dependencies: [pluginAPI], path: "Plugins/SchedulerSpread/Sources", swiftSettings: swiftSettings),
        .executableTarget(
            name: "manager-benchmark",
            dependencies: [
                "Store", "Orchestration", "Dispatcher", "Wire", "Files", "OpenSSL", "Transport", "SchedulerSpread", grpc, logging, pluginAPI,
            ] + nio,
            path: "Benchmark", swiftSettings: swiftSettings),
    ],
    swiftLanguageModes: [.v6]
)
