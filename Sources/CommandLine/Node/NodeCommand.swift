import ArgumentParser
import Coding
import PluginAPI

struct NodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node", abstract: "Nodes of the swarm.",
        subcommands: [
            NodeListCommand.self, NodeInspectCommand.self, NodeTasksCommand.self, NodeUpdateCommand.self, NodePromoteCommand.self,
            NodeDemoteCommand.self,
            NodeRemoveCommand.self,
        ])
}

struct NodeListCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the nodes.", aliases: ["list"])

    static let columns: [Listing.Column] = [
        .init("ID", "ID"), .init("Hostname", "HOSTNAME"), .init("Status", "STATUS"), .init("Availability", "AVAILABILITY"),
        .init("ManagerStatus", "MANAGER STATUS"), .init("EngineVersion", "ENGINE VERSION"), .init("Self", "SELF", isShown: false),
        .init("Address", "ADDRESS", isShown: false), .init("Labels", "LABELS", isShown: false),
    ]

    @OptionGroup var list: ListOptions

    func run(with context: CommandContext) async throws {
        let nodes = try await context.client.get("/nodes", try list.query()).array ?? []
        let own = list.quiet ? nil : try await context.client.get("/info")["Swarm"]?["NodeID"]?.string
        var rows: [[String]] = []
        for json in nodes {
            rows.append(Self.row(try JSONFields.decode(Node.self, from: json, unknownFields: .ignore), own: own, isTable: list.format == nil))
        }
        try context.show(Listing(columns: Self.columns, rows: rows.sorted { $0[1] < $1[1] }), format: list.format, quiet: list.quiet)
    }

    static func row(_ node: Node, own: String?, isTable: Bool) -> [String] {
        let isOwn = node.id.text == own
        let manager = node.manager.map { $0.leader ? "Leader" : HumanText.capitalized($0.reachability.rawValue) } ?? ""
        return [
            node.id.text + (isOwn && isTable ? " *" : ""), node.description.hostname, HumanText.capitalized(node.status.state.rawValue),
            HumanText.capitalized(node.spec.availability.rawValue), manager, node.description.engine.engineVersion, "\(isOwn)", node.status.address,
            ServiceText.labels(node.spec.labels),
        ]
    }
}

struct NodeInspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about nodes.")

    @OptionGroup var inspect: InspectOptions
    @Flag(help: "Show it as text for people.") var pretty = false
    @Argument(help: "Names or ids; self is this one.") var nodes: [String]

    func run(with context: CommandContext) async throws {
        guard pretty else {
            try await context.inspect(nodes, format: inspect.format) { name throws(ApusError) in
                try await context.client.get("/nodes/\((name == "self" ? try await context.nodeID(name) : name).pathComponent)")
            }
            return
        }
        try await context.each(nodes) { name throws(ApusError) in
            let json = try await context.client.get("/nodes/\(try await context.nodeID(name).pathComponent)")
            for line in Self.lines(try JSONFields.decode(Node.self, from: json, unknownFields: .ignore)) { context.console.line(line) }
        }
    }

    static func lines(_ node: Node) -> [String] {
        let resources = node.description.resources
        let rows: [(String, String)] = [
            ("ID", node.id.text), ("Name", node.spec.name), ("Labels", ServiceText.labels(node.spec.labels)), ("Hostname", node.description.hostname),
            ("Joined at", node.createdAt.description), ("State", HumanText.capitalized(node.status.state.rawValue)), ("Message", node.status.message),
            ("Availability", HumanText.capitalized(node.spec.availability.rawValue)), ("Address", node.status.address),
            ("Role", HumanText.capitalized(node.spec.role.rawValue)),
            ("Leader", node.manager.map { $0.leader ? "Yes" : "No" } ?? ""), ("Manager address", node.manager?.address ?? ""),
            ("Platform", "\(node.description.platform.os)/\(node.description.platform.architecture)"),
            ("CPUs", ByteSize.cpuText(resources.nanoCPUs)), ("Memory", ByteSize.binaryText(resources.memoryBytes)),
            ("Engine version", node.description.engine.engineVersion),
            ("Plugins", node.description.engine.plugins.map { "\($0.type)/\($0.name)" }.joined(separator: ", ")),
        ]
        return rows.filter { !$0.1.isEmpty }.map { ($0.0 + ":").padded(to: 18) + $0.1.printable }
    }
}

struct NodeTasksCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ps", abstract: "List the tasks of nodes.")

    @OptionGroup var options: TaskListOptions
    @Argument(help: "Names or ids; without any, this node.") var nodes: [String] = []

    func run(with context: CommandContext) async throws {
        var filters = try Filters.parse(options.list.filter)
        filters["node"] = try await context.nodeIDs(nodes.isEmpty ? ["self"] : nodes)
        try await context.showTasks(filters: filters, options)
    }
}

struct NodeUpdateCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "update", abstract: "Change a node.")

    @Option(help: "Whether it takes tasks: active, pause (keeps its tasks) or drain (gives them away).", transform: WordFlag.parse)
    var availability: NodeAvailability?
    @Option(help: "worker or manager.", transform: WordFlag.parse) var role: NodeRole?
    @Option(help: ArgumentHelp("Label to set.", valueName: "key=value")) var labelAdd: [String] = []
    @Option(help: ArgumentHelp("Label to remove.", valueName: "key")) var labelRm: [String] = []
    @Argument(help: "Name or id; self is this one.") var node: String

    func run(with context: CommandContext) async throws {
        let added = try KeyValue.map(labelAdd, flag: "--label-add")
        guard availability != nil || role != nil || !added.isEmpty || !labelRm.isEmpty else {
            throw ApusError(.invalidArgument, "say what to change: --availability, --role, --label-add or --label-rm")
        }
        try await context.changeNode(node) { spec throws(ApusError) in
            if let availability { spec.availability = availability }
            if let role { spec.role = role }
            for key in labelRm where spec.labels.removeValue(forKey: key) == nil {
                throw ApusError(.notFound, "--label-rm \(key): the node has no such label")
            }
            spec.labels.merge(added) { _, new in new }
        }
        context.console.line(node)
    }
}

struct NodePromoteCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "promote", abstract: "Make nodes managers.")

    @Argument(help: "Names or ids.") var nodes: [String]

    func run(with context: CommandContext) async throws {
        try await context.each(nodes) { name throws(ApusError) in
            try await context.changeNode(name) { spec in spec.role = .manager }
            context.console.line("Node \(name) promoted to a manager in the swarm.")
        }
    }
}

struct NodeDemoteCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "demote", abstract: "Make managers workers.")

    @Argument(help: "Names or ids.") var nodes: [String]

    func run(with context: CommandContext) async throws {
        try await context.each(nodes) { name throws(ApusError) in
            try await context.changeNode(name) { spec in spec.role = .worker }
            context.console.line("Manager \(name) demoted in the swarm.")
        }
    }
}

struct NodeRemoveCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Take nodes off the list of the swarm.", aliases: ["remove"])

    @Flag(name: [.customShort("f"), .long], help: "Also a node that is not down.") var force = false
    @Argument(help: "Names or ids.") var nodes: [String]

    func run(with context: CommandContext) async throws {
        var query: Query = [:]
        query.add("force", force)
        try await context.each(nodes) { name throws(ApusError) in
            try await context.client.delete("/nodes/\(name.pathComponent)", query)
            context.console.line(name)
        }
    }
}

extension CommandContext {
    /// Sends the changed spec of a node.
    func changeNode(_ name: String, _ edit: (inout NodeSpec) throws(ApusError) -> Void) async throws(ApusError) {
        let id = try await nodeID(name)
        let json = try await client.get("/nodes/\(id.pathComponent)")
        var spec = try JSONFields.decode(NodeSpec.self, from: json["Spec"] ?? [:])
        try edit(&spec)
        try await client.post(
            "/nodes/\(id.pathComponent)/update", ["version": String(json["Version"]?["Index"]?.integer ?? 0)], body: JSONFields.encode(spec))
    }
}
