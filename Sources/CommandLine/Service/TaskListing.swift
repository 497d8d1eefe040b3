import ArgumentParser
import Coding
import PluginAPI

/// Flags of the lists of tasks.
struct TaskListOptions: ParsableArguments {
    @OptionGroup var list: ListOptions
    @OptionGroup var freshness: FreshnessOptions
    @Flag(help: "Cut nothing short.") var noTrunc = false
    @Flag(help: "Show ids in place of names.") var noResolve = false
}

struct ServiceTasksCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ps", abstract: "List the tasks of services.")

    @OptionGroup var options: TaskListOptions
    @Argument(help: "Names or ids.") var services: [String]

    func run(with context: CommandContext) async throws {
        let context = context.reading(options.freshness)
        var filters = try Filters.parse(options.list.filter)
        var failures: [String] = []
        for name in services {
            do throws(ApusError) {
                filters["service", default: []].append(try await context.client.service(name).id.text)
            } catch {
                failures.append(error.message)
            }
        }
        if filters["service"] != nil {
            if let node = filters["node"] { filters["node"] = try await context.nodeIDs(node) }
            try await context.showTasks(filters: filters, options)
        }
        for failure in failures { context.console.errorLine("apus: \(failure)") }
        if !failures.isEmpty { throw ExitCode.failure }
    }
}

extension CommandContext {
    /// A table of tasks.
    func showTasks(filters: [String: [String]], _ options: TaskListOptions) async throws(ApusError) {
        let tasks = try await client.tasks(filters: filters)
        var services: [ID: String] = [:]
        var nodes: [ID: String] = [:]
        if !options.noResolve, !options.list.quiet {
            for service in try await client.get("/services").array ?? [] {
                services[ID(service["ID"]?.string ?? "")] = service["Spec"]?["Name"]?.string
            }
            for node in try await client.get("/nodes").array ?? [] {
                let name = node["Spec"]?["Name"]?.string ?? ""
                nodes[ID(node["ID"]?.string ?? "")] = name.isEmpty ? node["Description"]?["Hostname"]?.string : name
            }
        }
        let rows = TaskText.rows(
            tasks, services: services, nodes: nodes, now: now(), noTrunc: options.noTrunc || options.list.quiet, isTable: options.list.format == nil)
        try show(Listing(columns: TaskText.columns, rows: rows), format: options.list.format, quiet: options.list.quiet)
    }

    /// The ids of nodes; `self` is this one.
    func nodeIDs(_ names: [String]) async throws(ApusError) -> [String] {
        var ids: [String] = []
        for name in names { ids.append(try await nodeID(name)) }
        return ids
    }

    func nodeID(_ name: String) async throws(ApusError) -> String {
        if name == "self" {
            let id = try await client.get("/info")["Swarm"]?["NodeID"]?.string ?? ""
            guard !id.isEmpty else {
                throw ApusError(.unavailable, EngineFailure.hinted("This node is not part of a swarm"))
            }
            return id
        }
        return try await client.get("/nodes/\(name.pathComponent)")["ID"]?.string ?? name
    }
}

/// Tasks as rows.
enum TaskText {
    static let columns: [Listing.Column] = [
        .init("ID", "ID"), .init("Name", "NAME"), .init("Image", "IMAGE"), .init("Node", "NODE"), .init("DesiredState", "DESIRED STATE"),
        .init("CurrentState", "CURRENT STATE"), .init("Error", "ERROR"), .init("Ports", "PORTS"),
    ]

    /// By service and slot, the newest first; in a table the older ones of a slot are marked as such.
    static func rows(
        _ tasks: [Task], services: [ID: String], nodes: [ID: String], now: Timestamp, noTrunc: Bool, isTable: Bool
    ) -> [[String]] {
        func place(_ task: Task) -> String { task.slot > 0 ? String(task.slot) : task.nodeID.text }
        let sorted = tasks.sorted { left, right in
            let (leftName, rightName) = (services[left.serviceID] ?? left.serviceID.text, services[right.serviceID] ?? right.serviceID.text)
            if leftName != rightName { return leftName < rightName }
            if left.slot != right.slot { return left.slot < right.slot }
            if left.nodeID != right.nodeID, left.slot == 0 { return left.nodeID < right.nodeID }
            return left.createdAt != right.createdAt ? left.createdAt > right.createdAt : left.id < right.id
        }
        var previous = ""
        return sorted.map { task in
            let service = services[task.serviceID] ?? task.serviceID.text
            let name = "\(service).\(place(task))"
            let isOlder = name == previous
            previous = name
            var error = task.status.error.printable
            if !error.isEmpty {
                error = "\"\(noTrunc ? error : error.shortened(to: 30))\""
            }
            let image = task.spec.container?.image ?? ""
            return [
                noTrunc ? task.id.text : task.id.short, isOlder && isTable ? " \\_ \(name)" : name, noTrunc ? image : ServiceText.image(image),
                nodes[task.nodeID] ?? task.nodeID.text, HumanText.capitalized(task.desiredState.rawValue),
                "\(HumanText.capitalized(task.status.state.rawValue)) \(HumanText.ago(task.status.timestamp, now: now).lowercased())".trimmed, error,
                task.status.ports.ports.map { "*:\($0.publishedPort)->\($0.targetPort)/\($0.transport.rawValue)" }.joined(separator: ","),
            ]
        }
    }
}
