import ArgumentParser
import Coding
import PluginAPI

struct NodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node", abstract: "Nodes of the swarm.",
        subcommands: [
            NodeListCommand.self, NodeInspectCommand.self, NodeTasksCommand.self, NodeUpdateCommand.self, NodePromoteCommand.self,
            NodeDemoteCommand.self, NodeAcceptCommand.self, NodeRemoveCommand.self,
        ])
}

struct NodeListCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the nodes.", aliases: ["list"])

    static let columns: [Listing.Column] = [
        .init("ID", "ID"), .init("Hostname", "HOSTNAME"), .init("Status", "STATUS"), .init("Availability", "AVAILABILITY"),
        .init("ManagerStatus", "MANAGER STATUS"), .init("EngineVersion", "ENGINE VERSION"), .init("Self", "SELF", isShown: false),
        .init("Address", "ADDRESS", isShown: false), .init("Labels", "LABELS", isShown: false), .init("Role", "ROLE", isShown: false),
    ]

    @OptionGroup var list: ListOptions
    @OptionGroup var freshness: FreshnessOptions

    func run(with context: CommandContext) async throws {
        let context = context.reading(freshness)
        let nodes = try await context.nodes(try list.query()).sorted { ($0.description.hostname, $0.id) < ($1.description.hostname, $1.id) }
        let own = list.quiet ? nil : try await context.client.get("/info")["Swarm"]?["NodeID"]?.string
        let rows = nodes.map { Self.row($0, own: own, isTable: list.format == nil) }
        try context.show(Listing(columns: Self.columns, rows: rows), format: list.format, quiet: list.quiet)
        let pending = nodes.filter { $0.certificate.membership == .pending }
        if !pending.isEmpty, !list.quiet, list.format == nil {
            context.console.errorLine(
                "Pending nodes wait to be let in: `apus node accept ID` does so, `apus node rm --force ID` does away with them. They asked from "
                    + pending.prefix(5).map { "\(Self.address($0.certificate.requestedBy)) (\($0.id.short))" }.joined(separator: ", ").printable
                    + (pending.count > 5 ? " and \(pending.count - 5) more" : "") + ".")
        }
    }

    /// `ipv4:10.0.0.1:40000`, as gRPC names peers, without its kind.
    static func address(_ peer: String) -> String { ["ipv4:", "ipv6:"].contains { peer.hasPrefix($0) } ? String(peer.dropFirst(5)) : peer }

    static func row(_ node: Node, own: String?, isTable: Bool) -> [String] {
        let isOwn = node.id.text == own
        let isPending = node.certificate.membership == .pending
        let manager = node.manager.map { $0.leader ? "Leader" : HumanText.capitalized($0.reachability.rawValue) } ?? ""
        return [
            node.id.text + (isOwn && isTable ? " *" : ""), node.description.hostname,
            isPending ? "Pending" : HumanText.capitalized(node.status.state.rawValue), HumanText.capitalized(node.spec.availability.rawValue),
            manager, node.description.engine.engineVersion, "\(isOwn)",
            isPending ? address(node.certificate.requestedBy) : node.status.address, ServiceText.labels(node.spec.labels), node.spec.role.rawValue,
        ]
    }
}

struct NodeInspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about nodes.")

    @OptionGroup var inspect: InspectOptions
    @OptionGroup var freshness: FreshnessOptions
    @Flag(help: "Show it as text for people.") var pretty = false
    @Argument(help: "Names or ids; self is this one.") var nodes: [String]

    func run(with context: CommandContext) async throws {
        let context = context.reading(freshness)
        guard pretty else {
            try await context.inspect(nodes, format: inspect.format) { name throws(ApusError) in
                try await context.client.get("/nodes/\((name == "self" ? try await context.nodeID(name) : name).pathComponent)")
            }
            return
        }
        try await context.each(nodes) { name throws(ApusError) in
            let json = try await context.client.get("/nodes/\(try await context.nodeID(name).pathComponent)")
            let node = try JSONFields.decode(Node.self, from: json, unknownFields: .ignore)
            for line in Self.lines(node, now: context.now()) { context.console.line(line) }
        }
    }

    static func lines(_ node: Node, now: Timestamp) -> [String] {
        let resources = node.description.resources
        let rows: [(String, String)] = [
            ("ID", node.id.text), ("Name", node.spec.name), ("Labels", ServiceText.labels(node.spec.labels)), ("Hostname", node.description.hostname),
            ("Joined at", node.createdAt.description), ("State", HumanText.capitalized(node.status.state.rawValue)), ("Message", node.status.message),
            ("Availability", HumanText.capitalized(node.spec.availability.rawValue)), ("Address", node.status.address),
            ("Role", HumanText.capitalized(node.spec.role.rawValue)),
            ("Leader", node.manager.map { $0.leader ? "Yes" : "No" } ?? ""),
            ("Reachability", node.manager.map { HumanText.capitalized($0.reachability.rawValue) } ?? ""),
            ("Manager address", node.manager?.address ?? ""),
            ("Platform", "\(node.description.platform.os)/\(node.description.platform.architecture)"),
            ("CPUs", ByteSize.cpuText(resources.nanoCPUs)), ("Memory", ByteSize.binaryText(resources.memoryBytes)),
            ("Engine version", node.description.engine.engineVersion),
            ("Plugins", node.description.engine.plugins.map { "\($0.type)/\($0.name)" }.joined(separator: ", ")),
        ]
        return rows.filter { !$0.1.isEmpty }.map { ($0.0 + ":").padded(to: 18) + $0.1.printable } + certificateLines(node, now: now)
    }

    private static func text(_ refusal: CertificateRefusal) -> String {
        let asker = refusal.requestedBy.isEmpty ? "" : " (asked from \(NodeListCommand.address(refusal.requestedBy)))"
        return "\(refusal.time): \(refusal.reason)\(asker)"
    }

    /// What the managers know of the node's certificate.
    private static func certificateLines(_ node: Node, now: Timestamp) -> [String] {
        let record = node.certificate
        let refusal = record.lastRefusal
        func time(_ time: Timestamp, _ relation: String) -> String { time.isNever ? "" : "\(time) (\(relation))" }
        let left = record.expiresAt - now
        let rows: [(String, String)] = [
            ("Membership", record.membership == .pending ? "Pending: `apus node accept \(node.id.text)` lets it in" : ""),
            ("State", HumanText.capitalized(record.state.rawValue)), ("Failure", record.failure), ("Serial", record.serial),
            ("Role", record.serial.isEmpty ? "" : HumanText.capitalized(record.role.rawValue)),
            ("Issued", time(record.issuedAt, HumanText.ago(record.issuedAt, now: now).lowercased())),
            ("Expires", time(record.expiresAt, left > .zero ? "in \(HumanText.duration(left).lowercased())" : "it is expired")),
            ("Occasion", record.occasion), ("Requested by", NodeListCommand.address(record.requestedBy)), ("Issuer key", record.issuerKeyDigest),
            ("Last refusal", refusal.map(Self.text) ?? ""),
        ]
        let lines = rows.filter { !$0.1.isEmpty }.map { " " + ($0.0 + ":").padded(to: 17) + $0.1.printable }
        return lines.isEmpty ? [] : ["Certificate:"] + lines
    }
}

struct NodeTasksCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ps", abstract: "List the tasks of nodes.")

    @OptionGroup var options: TaskListOptions
    @Argument(help: "Names or ids; without any, this node.") var nodes: [String] = []

    func run(with context: CommandContext) async throws {
        let context = context.reading(options.freshness)
        var filters = try Filters.parse(options.list.filter)
        filters["node"] = try await context.nodeIDs(nodes.isEmpty ? ["self"] : nodes)
        try await context.showTasks(filters: filters, options)
    }
}
