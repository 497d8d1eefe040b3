import Coding
import Files
import Glibc
import HTTPClient
import PluginAPI
import Processes
import Synchronization
import Testing

/// Engines in network namespaces of their own, each on a cable to one switch, where a registry is too.
final class ClusterHarness: Sendable {
    static let registryAddress = "10.98.0.254:5000"
    static let registryURL = "http://\(registryAddress)"

    let root: String
    let prefix: String
    let nodes: [ClusterNode]
    let ledger = Ledger()
    private let stage: String
    private let guardian: ClusterGuardian
    private let client = HTTPClient(maximumTransfers: 64)

    /// The default set.
    var pluginFolder: String { stage + "/lib/apus/plugins" }

    /// The engine with this number, from 1.
    subscript(index: Int) -> ClusterNode { nodes[index - 1] }

    private var hub: String { "\(prefix)-hub" }

    // MARK: Beginning and end

    /// Makes engines, runs the body, removes everything. With `APUS_CLUSTER_BALANCER` that balancer is enabled on all of them.
    /// - Parameters:
    ///   - managers: Joined as managers of one swarm, number 1 first. None: no swarm is made.
    ///   - workers: Joined as workers; their numbers follow.
    ///   - extra: Engines that are in no swarm; their numbers come last.
    ///   - heartbeat: In seconds; nil for the engine's default.
    static func with(
        managers: Int = 0, workers: Int = 0, extra: Int = 0, heartbeat: Int64? = 1, body: (ClusterHarness) async throws -> Void
    ) async throws {
        let cluster = try await ClusterHarness(count: managers + workers + extra)
        do {
            try await cluster.prepare(managers: managers, workers: workers, heartbeat: heartbeat)
            try await body(cluster)
        } catch {
            cluster.keepLogs()
            await cluster.end()
            throw error
        }
        await cluster.end()
    }

    private init(count: Int) async throws {
        let name = String(UInt64.random(in: .min ... .max), radix: 36)
        let (root, prefix) = ("/run/apus-test-\(name)", "cl-\(name)")
        let (stage, client) = (try Self.findStage(), client)
        self.root = root
        self.prefix = prefix
        self.stage = stage
        nodes = (1...count).map {
            ClusterNode(index: $0, root: "\(root)/node-\($0)", namespace: "\(prefix)-\($0)", stage: stage, client: client)
        }
        try Files.makeDirectory(root)
        guardian = try ClusterGuardian(root: root, prefix: prefix, stage: stage, registryScript: Self.repository + "/contrib/images/registry.sh")
    }

    private func prepare(managers: Int, workers: Int, heartbeat: Int64?) async throws {
        try await Self.check("\(Self.repository)/contrib/images/build-images.sh", timeout: .seconds(300))
        try await Self.check("ip", "netns", "add", hub)
        // Cables that are in the second switch see nothing of the first.
        try await inHub(
            "sh", "-ec",
            """
            ip link set lo up
            for switch in switch1 switch2; do ip link add $switch type bridge; ip link set $switch up; done
            ip addr add 10.98.0.254/24 dev switch1
            """)
        for node in nodes {
            try Files.makeDirectory(node.root)
            try await Self.check("ip", "netns", "add", node.namespace)
            try await Self.check(
                "sh", "-ec",
                """
                ip link add cable\(node.index) netns \(hub) type veth peer name eth0 netns \(node.namespace)
                ip -n \(hub) link set cable\(node.index) master switch1 up
                ip -n \(node.namespace) link set lo up
                ip -n \(node.namespace) addr add \(node.address)/24 dev eth0
                ip -n \(node.namespace) link set eth0 up
                ip -n \(node.namespace) route add default via 10.98.0.254
                """)
        }
        try await Self.check(
            "nsenter", "--net=/run/netns/\(hub)", "env", "APUS_REGISTRY_HOST=10.98.0.254", "\(Self.repository)/contrib/images/registry.sh", "start", "5000",
            "\(root)/registry")
        for image in ["nginx", "busybox", "redis", "mywebapp"] {
            try await inHub(
                "python3", "\(Self.repository)/contrib/images/push.py", "/var/cache/apus-images/\(image).tar", Self.registryURL, "library/\(image):latest")
        }
        for node in nodes { try await node.start() }
        if let balancer = getenv("APUS_CLUSTER_BALANCER").map({ String(cString: $0) }) {
            for node in nodes {
                try await node.json("POST", "/plugins/balancer/\(balancer)/enable")
                let inForce = try await node.get("/info")["Balancer"]?["Name"]?.string
                #expect(inForce == balancer, "engine \(node.index): what balances is \(inForce ?? "")")
            }
        }
        guard managers > 0 else { return }
        try await initialize(self[1])
        if let heartbeat { try await updateSwarm { $0["Dispatcher"] = ["HeartbeatPeriod": .integer(heartbeat * 1_000_000_000)] } }
        for index in 1..<max(managers + workers, 1) { try await join(nodes[index], as: index < managers ? .manager : .worker) }
    }

    private func end() async {
        do {
            let result = try await guardian.finish()
            #expect(result.exitCode == 0, "something was left behind: \(result.text)")
        } catch {
            Issue.record(error)
        }
    }

    /// With `APUS_CLUSTER_LOGS` the logs of what failed are kept in that folder.
    func keepLogs() {
        guard let folder = getenv("APUS_CLUSTER_LOGS") else { return }
        for node in nodes {
            try? Files.writeAtomically(Array(node.log.utf8), to: "\(String(cString: folder))/\(prefix)-\(node.index).log")
        }
    }

    /// Starts an engine again whose data is to be on a filesystem of its own of so many MiB.
    func placeOnSmallDisk(_ node: ClusterNode, mebibytes: Int) async throws {
        let disk = "\(root)/small-\(node.index)"
        if node.isRunning { try await node.stop(SIGTERM) }
        try await Self.check(
            "sh", "-ec",
            """
            truncate -s \(mebibytes)M \(disk).image
            mkfs.ext4 -q -m 0 \(disk).image
            mkdir -p \(disk) \(node.dataRoot)
            mount -o loop \(disk).image \(disk)
            rm -rf \(node.dataRoot)
            mkdir \(disk)/data
            ln -s \(disk)/data \(node.dataRoot)
            """)
        try await node.start()
    }

    // MARK: Cables and switches

    /// Pulls a node's cable.
    func unplug(_ node: ClusterNode) async throws { try await inHub("ip", "link", "set", "cable\(node.index)", "down") }

    func plug(_ node: ClusterNode) async throws { try await inHub("ip", "link", "set", "cable\(node.index)", "up") }

    /// Puts these nodes' cables into another switch, which none of the others is in, nor the registry.
    func separate(_ apart: [ClusterNode]) async throws {
        for node in apart { try await inHub("ip", "link", "set", "cable\(node.index)", "master", "switch2") }
    }

    /// Puts all cables into the first switch.
    func heal() async throws {
        for node in nodes { try await inHub("ip", "link", "set", "cable\(node.index)", "master", "switch1", "up") }
    }

    // MARK: Programs

    /// Runs the attacks of `Attackers/attack.py` from the switch, with Debian's Python, whose grpcio is a package.
    func attack(_ node: ClusterNode, folder: String, token: String) async throws -> ProcessResult {
        try await Processes.run(
            ProcessRequest(
                "nsenter",
                [
                    "--net=/run/netns/\(hub)", "/usr/bin/python3", "\(Self.repository)/Tests/ClusterTests/Attackers/attack.py", "\(node.address):2377", folder,
                    token,
                ]), timeout: .seconds(400))
    }

    /// Runs a program where the registry is.
    @discardableResult
    func inHub(_ program: String, _ arguments: String...) async throws -> String {
        try await Self.check("nsenter", arguments: ["--net=/run/netns/\(hub)", program] + arguments, timeout: .seconds(120))
    }

    @discardableResult
    static func check(_ program: String, _ arguments: String..., timeout: Duration = .seconds(120)) async throws -> String {
        try await check(program, arguments: arguments, timeout: timeout)
    }

    @discardableResult
    private static func check(_ program: String, arguments: [String], timeout: Duration) async throws -> String {
        let result = try await Processes.run(ProcessRequest(program, arguments), timeout: timeout)
        guard result.exitCode == 0 else {
            throw EngineFailure("\(program) \(arguments.joined(separator: " ")) ended with \(result.exitCode): \(result.errorText)\(result.text)")
        }
        return result.text.trimmed
    }

    // MARK: Places

    /// The repository's folder, through whatever links the sources were compiled.
    static let repository: String = {
        guard let path = realpath(#filePath, nil) else { return "." }
        defer { free(path) }
        return (0..<4).reduce(String(cString: path)) { path, _ in Files.parent(path) }
    }()

    /// `APUS_STAGE`, or the folder `stage` of the build folder that this program is in, or the repository's.
    private static func findStage() throws -> String {
        var candidates: [String] = []
        if let stage = getenv("APUS_STAGE") { candidates.append(String(cString: stage)) }
        if let path = realpath("/proc/self/exe", nil) {
            var folder = String(cString: path)
            free(path)
            while folder.count > 1 {
                folder = Files.parent(folder)
                candidates.append("\(folder)/stage")
            }
        }
        candidates.append("\(repository)/.build/stage")
        guard let stage = candidates.first(where: { Files.exists("\($0)/bin/apusd") }) else {
            throw EngineFailure("there is no staged engine; run make stage, or set APUS_STAGE")
        }
        return stage
    }
}
