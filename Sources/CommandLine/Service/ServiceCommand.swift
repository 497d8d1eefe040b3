import ArgumentParser
import Coding
import PluginAPI

struct ServiceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "service", abstract: "Services of the swarm.",
        subcommands: [
            ServiceCreateCommand.self, ServiceListCommand.self, ServiceTasksCommand.self, ServiceInspectCommand.self, ServiceUpdateCommand.self,
            ServiceScaleCommand.self, ServiceRollbackCommand.self, ServiceLogsCommand.self, ServiceRemoveCommand.self,
        ])
}

struct ServiceListCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the services.", aliases: ["list"])

    @OptionGroup var list: ListOptions
    @OptionGroup var freshness: FreshnessOptions

    func run(with context: CommandContext) async throws {
        var query = try list.query()
        query.add("status", true)
        let services = try await context.reading(freshness).client.get("/services", query).array ?? []
        var rows: [[String]] = []
        for json in services.sorted(by: { ($0["Spec"]?["Name"]?.string ?? "") < ($1["Spec"]?["Name"]?.string ?? "") }) {
            let service = try JSONFields.decode(Service.self, from: json, unknownFields: .ignore)
            rows.append(ServiceText.row(service, status: json["ServiceStatus"], isQuiet: list.quiet))
        }
        try context.show(Listing(columns: ServiceText.columns, rows: rows), format: list.format, quiet: list.quiet)
    }
}

struct ServiceInspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about services.")

    @OptionGroup var inspect: InspectOptions
    @OptionGroup var freshness: FreshnessOptions
    @Flag(help: "Show it as text for people.") var pretty = false
    @Argument(help: "Names or ids.") var services: [String]

    func run(with context: CommandContext) async throws {
        let context = context.reading(freshness)
        guard pretty else {
            try await context.inspect(services, format: inspect.format) { name throws(ApusError) in
                try await context.client.get("/services/\(name.pathComponent)")
            }
            return
        }
        try await context.each(services) { name throws(ApusError) in
            let service = try await context.client.service(name)
            var networks: [String: String] = [:]
            for target in service.spec.networkTargets {
                networks[target] = try? await context.client.get("/networks/\(target.pathComponent)")["Name"]?.string
            }
            for line in ServiceText.pretty(service, networks: networks) { context.console.line(line) }
        }
    }
}

struct ServiceRemoveCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove services with all their tasks.", aliases: ["remove"])

    @Argument(help: "Names or ids.") var services: [String]

    func run(with context: CommandContext) async throws {
        try await context.each(services) { name throws(ApusError) in
            try await context.client.delete("/services/\(name.pathComponent)")
            context.console.line(name)
        }
    }
}

/// A service as text.
enum ServiceText {
    static let columns: [Listing.Column] = [
        .init("ID", "ID"), .init("Name", "NAME"), .init("Mode", "MODE"), .init("Replicas", "REPLICAS"), .init("Image", "IMAGE"),
        .init("Ports", "PORTS"),
        .init("UpdateStatus", "UPDATE STATUS", isShown: false), .init("Labels", "LABELS", isShown: false),
    ]

    static func row(_ service: Service, status: JSONValue?, isQuiet: Bool = false) -> [String] {
        [
            isQuiet ? service.id.text : service.id.short, service.spec.name, mode(service.spec.mode), replicas(service, status),
            image(service.spec.task.container?.image ?? ""),
            ports(service.endpoint.ports.isEmpty ? service.spec.endpoint?.ports ?? [] : service.endpoint.ports),
            service.updateStatus?.state.rawValue ?? "", labels(service.spec.labels),
        ]
    }

    static func mode(_ mode: ServiceMode) -> String {
        if mode.global != nil { return "global" }
        if mode.replicatedJob != nil { return "replicated job" }
        return mode.globalJob != nil ? "global job" : "replicated"
    }

    private static func replicas(_ service: Service, _ status: JSONValue?) -> String {
        let running = status?["RunningTasks"]?.integer.map { String($0) } ?? "?"
        let desired = status?["DesiredTasks"]?.integer.map { String($0) } ?? service.spec.mode.replicated?.replicas.map { String($0) } ?? "?"
        var text = "\(running)/\(desired)"
        if let job = service.spec.mode.replicatedJob {
            text += " (\(status?["CompletedTasks"]?.integer ?? 0)/\(job.totalCompletions ?? 1) completed)"
        }
        if let limit = service.spec.task.placement?.maxReplicas, limit > 0 { text += " (max \(limit) per node)" }
        return text
    }

    /// Without the digest behind a tag.
    static func image(_ reference: String) -> String {
        let (name, digest) = reference.cut(at: "@")
        return digest == nil || !(name.split(separator: "/").last ?? "").contains(":") ? reference : name
    }

    static func ports(_ ports: [PortConfig]) -> String {
        ports.map { port in
            port.publishMode == .host
                ? "\(port.publishedPort)->\(port.targetPort)/\(port.transport.rawValue) (host)"
                : "*:\(port.publishedPort)->\(port.targetPort)/\(port.transport.rawValue)"
        }.joined(separator: ", ")
    }

    static func labels(_ labels: [String: String]) -> String { labels.keys.sorted().map { "\($0)=\(labels[$0] ?? "")" }.joined(separator: ",") }

    /// For `inspect --pretty`.
    /// - Parameter networks: the names of networks, by what the spec calls them.
    static func pretty(_ service: Service, networks: [String: String] = [:]) -> [String] {
        var lines: [String] = []
        func line(_ name: String, _ value: String, level: Int = 0) {
            if !value.isEmpty { lines.append(String(repeating: " ", count: level) + (name + ":").padded(to: 20 - level) + value.printable) }
        }
        let spec = service.spec
        let container = spec.task.container ?? ContainerSpec()
        line("ID", service.id.text)
        line("Name", spec.name)
        line("Labels", labels(spec.labels))
        line("Mode", mode(spec.mode))
        if let replicas = spec.mode.replicated?.replicas { line("Replicas", "\(replicas)", level: 1) }
        if let status = service.updateStatus, status.state != .unset {
            lines.append("UpdateStatus:")
            line("State", status.state.rawValue, level: 1)
            line("Started", status.startedAt.isNever ? "" : status.startedAt.description, level: 1)
            line("Completed", status.completedAt.isNever ? "" : status.completedAt.description, level: 1)
            line("Message", status.message, level: 1)
        }
        line("Constraints", (spec.task.placement?.constraints ?? []).joined(separator: ", "))
        for (name, config) in [("UpdateConfig", spec.update), ("RollbackConfig", spec.rollback)] {
            guard let config else { continue }
            lines.append(name + ":")
            line("Parallelism", config.parallelism == 0 ? "all" : "\(config.parallelism)", level: 1)
            line("Delay", config.delay == .zero ? "" : DurationText.text(config.delay), level: 1)
            line("On failure", config.failureAction.rawValue, level: 1)
            line("Monitor", config.monitor.map { DurationText.text($0) } ?? "", level: 1)
            line("Max failure ratio", "\(config.maxFailureRatio)", level: 1)
            line("Order", config.order.rawValue, level: 1)
        }
        lines.append("ContainerSpec:")
        line("Image", container.image, level: 1)
        line("Entrypoint", container.command.joined(separator: " "), level: 1)
        line("Args", container.arguments.joined(separator: " "), level: 1)
        line("Env", container.environment.joined(separator: " "), level: 1)
        line("Dir", container.workingDirectory, level: 1)
        line("User", container.user, level: 1)
        line("Init", container.initProcess.map { "\($0)" } ?? "", level: 1)
        for mount in container.mounts {
            line("Mount", "\(mount.target) = \(mount.source) (\(mount.kind.rawValue)\(mount.readOnly ? ", read-only" : ""))", level: 1)
        }
        for (name, resources) in [("Reservations", spec.task.resources?.reservations), ("Limits", spec.task.resources?.limits)] {
            guard let resources else { continue }
            lines.append("\(name):")
            if resources.nanoCPUs > 0 { line("CPU", ByteSize.cpuText(resources.nanoCPUs), level: 1) }
            if resources.memoryBytes > 0 { line("Memory", ByteSize.binaryText(resources.memoryBytes), level: 1) }
            if resources.pids > 0 { line("Processes", "\(resources.pids)", level: 1) }
        }
        line("Networks", spec.networkTargets.map { networks[$0] ?? $0 }.joined(separator: ", "))
        line("Endpoint mode", service.endpoint.spec.mode.rawValue)
        line("Ports", ports(service.endpoint.ports))
        return lines
    }
}

extension ServiceSpec {
    /// The networks of its tasks, by id or name.
    var networkTargets: [String] { (task.networks.isEmpty ? networks : task.networks).map(\.target) }
}
