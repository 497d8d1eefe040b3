import ArgumentParser
import Coding
import PluginAPI

struct NodeUpdateCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "update", abstract: "Change a node.")

    @Option(help: "Whether it takes tasks: active, pause (keeps its tasks) or drain (gives them away).", transform: WordFlag.parse)
    var availability: NodeAvailability?
    @Option(help: "worker or manager.", transform: WordFlag.parse) var role: NodeRole?
    @Option(help: ArgumentHelp("Label to set.", valueName: "key=value")) var labelAdd: [String] = []
    @Option(help: ArgumentHelp("Label to remove.", valueName: "key")) var labelRm: [String] = []
    @Flag(help: "With --availability drain: wait until no task runs on the node any more.") var wait = false
    @Argument(help: "Name or id; self is this one.") var node: String

    func run(with context: CommandContext) async throws {
        let added = try KeyValue.map(labelAdd, flag: "--label-add")
        guard availability != nil || role != nil || !added.isEmpty || !labelRm.isEmpty else {
            throw ApusError(.invalidArgument, "say what to change: --availability, --role, --label-add or --label-rm")
        }
        guard !wait || availability == .drain else { throw ApusError(.invalidArgument, "--wait goes with --availability drain") }
        let id = try await context.changeNode(node) { spec throws(ApusError) in
            if let availability { spec.availability = availability }
            if let role { spec.role = role }
            for key in labelRm where spec.labels.removeValue(forKey: key) == nil {
                throw ApusError(.notFound, "--label-rm \(key): the node has no such label")
            }
            spec.labels.merge(added) { _, new in new }
        }.id
        context.console.line(node)
        if wait { try await DrainFollower(context: context, id: id, name: node).follow() }
    }
}

struct NodePromoteCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "promote", abstract: "Make nodes managers.")

    @Argument(help: "Names or ids.") var nodes: [String]

    func run(with context: CommandContext) async throws {
        try await context.each(nodes) { name throws(ApusError) in
            let isChanged = try await context.changeNode(name) { spec in spec.role = .manager }.isChanged
            context.console.line(isChanged ? "Node \(name) promoted to a manager in the swarm." : "Node \(name) is already a manager.")
        }
    }
}

struct NodeDemoteCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "demote", abstract: "Make managers workers.")

    @Argument(help: "Names or ids.") var nodes: [String]

    func run(with context: CommandContext) async throws {
        try await context.each(nodes) { name throws(ApusError) in
            let isChanged = try await context.changeNode(name) { spec in spec.role = .worker }.isChanged
            context.console.line(isChanged ? "Manager \(name) demoted in the swarm." : "Node \(name) is already a worker.")
        }
    }
}

struct NodeAcceptCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "accept", abstract: "Let nodes in that wait to join.",
        discussion: "Nodes wait when the swarm says so (`apus swarm update --accept-nodes`); `apus node ls` shows them as Pending.")

    @Argument(help: "Names or ids.") var nodes: [String]

    func run(with context: CommandContext) async throws {
        try await context.each(nodes) { name throws(ApusError) in
            try await context.client.post("/nodes/\(name.pathComponent)/accept")
            context.console.line("Node \(name) accepted in the swarm.")
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
    /// Sends the changed spec of a node, if it is another one.
    @discardableResult
    func changeNode(
        _ name: String, _ edit: (inout NodeSpec) throws(ApusError) -> Void
    ) async throws(ApusError) -> (id: String, isChanged: Bool) {
        let found = try await nodeID(name)
        let json = try await client.get("/nodes/\(found.pathComponent)")
        let before = try JSONFields.decode(NodeSpec.self, from: json["Spec"] ?? [:])
        var spec = before
        try edit(&spec)
        let id = json["ID"]?.string ?? found
        if spec != before {
            try await client.post(
                "/nodes/\(id.pathComponent)/update", ["version": String(json["Version"]?["Index"]?.integer ?? 0)], body: JSONFields.encode(spec))
        }
        return (id, spec != before)
    }
}
