// swift-tools-version: 6.2
import PackageDescription

let swiftSettings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let pluginAPI: Target.Dependency = .product(name: "PluginAPI", package: "PluginAPI")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let grpc: Target.Dependency = .product(name: "GRPCCore", package: "grpc-swift-2")
let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

/// A C library of the system, found by pkg-config, from the Debian package that is named.
func system(_ name: String, pkgConfig: String, apt: String) -> Target {
    .systemLibrary(name: name, path: "Sources/\(name)", pkgConfig: pkgConfig, providers: [.apt([apt])])
}

func module(_ name: String, in folder: String, path: String? = nil, _ dependencies: [Target.Dependency] = [], exclude: [String] = []) -> Target {
    .target(name: name, dependencies: dependencies + [pluginAPI], path: "\(folder)/\(path ?? name)", exclude: exclude, swiftSettings: swiftSettings)
}

/// A default plugin is two targets: what it does, which tests import, and its entry point, a C symbol that every plugin has
/// and that can therefore stand only once in a test program.
func plugin(_ name: String, _ dependencies: [Target.Dependency] = []) -> [Target] {
    [
        .target(name: name, dependencies: dependencies + [pluginAPI], path: "Plugins/\(name)/Sources", swiftSettings: swiftSettings),
        .target(
            name: "\(name)Entry", dependencies: [.target(name: name), pluginAPI], path: "Plugins/\(name)/Entry", swiftSettings: swiftSettings,
            // A missing C function must fail when the plugin is loaded, not when it is first called.
            linkerSettings: [.unsafeFlags(["-Xlinker", "-z", "-Xlinker", "now", "-Xlinker", "-rpath=$ORIGIN/.."])]),
    ]
}

func executable(_ name: String, path: String? = nil, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: name, dependencies: dependencies + [pluginAPI], path: path ?? "Sources/\(name)", swiftSettings: swiftSettings,
        linkerSettings: [.unsafeFlags(["-Xlinker", "-rpath=$ORIGIN/../lib/apus", "-Xlinker", "-rpath=$ORIGIN/../../lib/apus"])])
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = [], resources: [Resource] = []) -> Target {
    .testTarget(
        name: name, dependencies: dependencies + [pluginAPI], path: "Tests/\(name)", exclude: exclude,
        resources: resources, swiftSettings: swiftSettings)
}

let defaultPlugins = [
    "SchedulerSpread", "SchedulerBinpack", "CAInternal", "CAExternal", "NetworkBridge", "NetworkOverlay", "BalancerNFTables", "BalancerIPVS",
    "RuntimeOCI",
]

let package = Package(
    name: "apus",
    products: [
        .executable(name: "apusd", targets: ["apusd"]),
        .executable(name: "apus", targets: ["apus"]),
        .executable(name: "apus-unpack", targets: ["apus-unpack"]),
    ] + defaultPlugins.map { .library(name: $0, type: .dynamic, targets: ["\($0)Entry"]) },
    dependencies: [
        .package(path: "Sources/PluginAPI"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.4.3"),
    ],
    targets: [
        system("COpenSSL", pkgConfig: "openssl", apt: "libssl-dev"),
        system("CNGHTTP2", pkgConfig: "libnghttp2", apt: "libnghttp2-dev"),
        .systemLibrary(name: "CLTDL", path: "Sources/CLTDL", providers: [.apt(["libltdl-dev"])]),
        system("CNetlink", pkgConfig: "libnl-route-3.0", apt: "libnl-route-3-dev"),
        system("CNetlinkGeneric", pkgConfig: "libnl-genl-3.0", apt: "libnl-genl-3-dev"),
        system("CSeccomp", pkgConfig: "libseccomp", apt: "libseccomp-dev"),
        system("CNFTables", pkgConfig: "libnftables", apt: "libnftables-dev"),
        system("CCurl", pkgConfig: "libcurl", apt: "libcurl4-openssl-dev"),
        system("CArchive", pkgConfig: "libarchive", apt: "libarchive-dev"),
        .target(name: "CLinux", path: "Sources/CLinux"),

        module("Coding", in: "Sources/Support"),
        module("Concurrency", in: "Sources/Support"),
        module("Events", in: "Sources/Support"),
        module("Files", in: "Sources/Support", ["CLinux"]),
        module("Processes", in: "Sources/Support", ["CLinux"]),
        module("Namespaces", in: "Sources/Support", ["CLinux"]),
        module("OpenSSL", in: "Sources/Support", ["COpenSSL"]),
        module("HTTPClient", in: "Sources/Support", ["CCurl"]),
        module("Netlink", in: "Sources/Support", ["CNetlink", "Namespaces"]),
        module("NFTables", in: "Sources/Support", ["CLinux", "CNFTables", "Namespaces"]),
        module("IPVS", in: "Sources/Support", ["CNetlinkGeneric"]),
        module("Mesh", in: "Sources/Support", ["NFTables", "Netlink"]),
        module("PortProxy", in: "Sources/Support", ["CLinux", "Mesh", "Namespaces", "Netlink", "NFTables"]),

        module("Raft", in: "Sources/Core", ["Files", "OpenSSL", "CLinux", logging]),
        module(
            "Store", in: "Sources/Core",
            ["Raft", "Coding", "Events", "Files", .product(name: "HashTreeCollections", package: "swift-collections"), logging]),
        module(
            "Wire", in: "Sources/Core", ["Coding", grpc],
            exclude: ["CertificateAuthority.proto", "Identity.proto", "Dispatch.proto", "Raft.proto", "Managers.proto"]),
        module(
            "Transport", in: "Sources/Core",
            [
                "Wire", "OpenSSL", "COpenSSL", "CNGHTTP2", "Coding", grpc, logging,
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
            ]),
        module("Peers", in: "Sources/Core", ["Raft", "Wire", "Coding", grpc, logging]),
        module("Security", in: "Sources/Core", ["Store", "Raft", "Wire", "OpenSSL", "Files", "Coding", grpc, logging]),
        module("PluginHost", in: "Sources/Core", ["CLTDL", "CLinux", "OpenSSL", "Files", "Coding", "Concurrency", logging]),
        module("Allocation", in: "Sources/Core", ["Store", logging]),
        module("Orchestration", in: "Sources/Core", ["Store", "Allocation", "Coding", "Processes", logging]),
        // The system has a module called Dispatch already.
        module(
            "Dispatcher", in: "Sources/Core", path: "Dispatch",
            [
                "Store", "Orchestration", "Wire", "Coding", "Events", .product(name: "HashTreeCollections", package: "swift-collections"), grpc, logging,
            ]),
        module("Names", in: "Sources/Core", ["Concurrency", "Namespaces", "NFTables", "Netlink", "CLinux", logging]),
        module(
            "Agent", in: "Sources/Core",
            ["Events", "Coding", "Files", "Processes", "Namespaces", "Orchestration", "Dispatcher", "Wire", "Names", "Allocation", logging]),
        module(
            "Swarm", in: "Sources/Core",
            [
                "Raft", "Store", "Wire", "Transport", "Peers", "Security", "Orchestration", "Dispatcher", "Agent", "Events", "Coding", "Files", grpc, logging,
            ]),
        module(
            "Engine", in: "Sources",
            [
                "Swarm", "Wire", "Names",
                "Raft", "Store", "Security", "PluginHost", "Allocation", "Orchestration", "Dispatcher", "Agent", "Events", "Coding", "Concurrency", "Files",
                "Processes", "CLinux", logging,
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ]),
        executable("apusd", ["Engine", "Processes", "CLinux", argumentParser, logging]),
        module("CommandLine", in: "Sources", ["HTTPClient", "Coding", argumentParser]),
        executable("apus", ["CommandLine"]),
        executable("apus-unpack", path: "Plugins/RuntimeOCI/Unpack", ["CArchive", "CSeccomp", "CLinux", "OpenSSL"]),
    ]
        + plugin("SchedulerSpread") + plugin("SchedulerBinpack")
        + plugin("CAInternal", ["OpenSSL"])
        + plugin("CAExternal", ["OpenSSL", "HTTPClient", "Coding"])
        + plugin("NetworkBridge", ["Netlink", "NFTables", "Namespaces"])
        + plugin("NetworkOverlay", ["Netlink", "NFTables", "Namespaces", "Files", "OpenSSL"])
        + plugin("BalancerNFTables", ["NFTables", "Netlink", "Namespaces", "Mesh", "PortProxy"])
        + plugin("BalancerIPVS", ["IPVS", "Mesh", "NFTables", "Netlink", "Namespaces", "PortProxy"])
        + plugin("RuntimeOCI", ["OpenSSL", "HTTPClient", "Coding", "Files", "Processes", "Namespaces", "CSeccomp", "CLinux"])
        + [
            // What tests of parsers share.
            .target(name: "Fuzzing", dependencies: ["Coding"], path: "Tests/Fuzzing", swiftSettings: swiftSettings),
            tests("SupportTests", ["Coding", "Concurrency", "Events", "Files", "Processes", "Namespaces", "OpenSSL", "HTTPClient", "Fuzzing"]),
            tests("RaftTests", ["Raft", "Files"]),
            .testTarget(name: "SimulationTests", dependencies: ["Raft", pluginAPI], path: "Tests/Simulation", swiftSettings: swiftSettings),
            tests(
                "PeersTests",
                ["Peers", "Raft", "Wire", "Coding", "Files", grpc, logging, .product(name: "GRPCInProcessTransport", package: "grpc-swift-2")]),
            tests(
                "SecurityTests",
                [
                    "Security", "CAInternal", "CAExternal", "OpenSSL", "Files", "Wire", "Store", "Raft", "Coding", "HTTPClient", "Fuzzing", grpc, logging,
                    .product(name: "GRPCInProcessTransport", package: "grpc-swift-2"),
                ]),
            tests(
                "TransportTests",
                [
                    "Transport", "CNGHTTP2", "Wire", "OpenSSL", "Fuzzing", grpc, logging,
                    .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
                ], exclude: ["Peers", "Corpus"]),
            tests("StoreTests", ["Store", "Raft", "Coding"]),
            tests("PluginHostTests", ["PluginHost", "Files", "Coding", "Fuzzing"]),
            tests(
                "OrchestrationTests",
                ["Orchestration", "Allocation", "Dispatcher", "Store", "SchedulerSpread", "SchedulerBinpack", "RuntimeOCI", "Fuzzing"]),
            tests(
                "DispatcherTests",
                [
                    "Dispatcher", "Orchestration", "Wire", "Coding", "SchedulerSpread", "Fuzzing", grpc, logging,
                    .product(name: "GRPCInProcessTransport", package: "grpc-swift-2"),
                ]),
            tests("AgentTests", ["Agent", "Dispatcher", "Wire", "Names", "Events", "Files", "Fuzzing"]),
            tests(
                "NetworkTests",
                [
                    "NetworkBridge", "NetworkOverlay", "BalancerNFTables", "Netlink", "CNetlink", "NFTables", "Namespaces", "Mesh", "BalancerIPVS", "IPVS",
                    "PortProxy", "Fuzzing",
                ]),
            tests("NamesTests", ["Names", "Namespaces", "NFTables", "Processes", "Files", logging], exclude: ["Corpus", "Programs"]),
            tests("RuntimeTests", ["RuntimeOCI", "Processes", "Files", "Coding", "Fuzzing"]),
            tests("EngineTests", ["Engine", "Swarm", "HTTPClient", "Coding", "Processes", "Files", "CAInternal", "Security", "Fuzzing"]),
            tests("ClusterTests", ["HTTPClient", "Coding", "Processes", "Files"], exclude: ["Attackers", "Programs"]),
            tests("CommandLineTests", ["CommandLine", "Coding", "Fuzzing"]),
        ],
    swiftLanguageModes: [.v6]
)
