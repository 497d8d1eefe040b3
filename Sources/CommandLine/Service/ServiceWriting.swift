import ArgumentParser
import Coding
import PluginAPI

/// How the commands that change a service wait.
struct ServiceWaitOptions: ParsableArguments {
    @Flag(name: [.customShort("d"), .long], help: "Return at once instead of waiting until the service is as asked.") var detach = false
    @Flag(name: [.customShort("q"), .long], help: "Show no progress.") var quiet = false
}

/// What a command sends along for registries.
struct ServiceImageOptions: ParsableArguments {
    @Flag(help: "Send the credentials of the registry to the nodes.") var withRegistryAuth = false
    @Flag(help: "Leave the image as it is written; each node then finds out by itself what its tag stands for.") var noResolveImage = false

    func headers(image: String, _ context: CommandContext) throws(ApusError) -> [String: String] {
        guard withRegistryAuth else { return [:] }
        return try RegistryCredentials.load(context.environment).headers(image: image)
    }
}

struct ServiceCreateCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Create a service, and wait until its tasks run.",
        usage: "apus service create [<options>] <image> [<command argument> ...]")

    @OptionGroup var options: ServiceCreateOptions
    @OptionGroup var images: ServiceImageOptions
    @OptionGroup var wait: ServiceWaitOptions
    @Argument(help: "Image to run, such as nginx:latest.") var image: String
    @Argument(parsing: .captureForPassthrough, help: "Arguments of the image's command.") var arguments: [String] = []

    func run(with context: CommandContext) async throws {
        var files: [String] = []
        for path in options.envFile { files.append(try LocalFile.text(path)) }
        var spec = try options.spec(image: image, arguments: arguments, environment: context.environment, files: files)
        let headers = try images.headers(image: image, context)
        if !images.noResolveImage, let warning = await context.resolveImage(of: &spec) { context.console.errorLine(warning) }
        let answer = try await context.client.post("/services/create", body: JSONFields.encode(spec), headers: headers)
        guard let id = answer["ID"]?.string else { throw ApusError(.corrupt, "the engine answered without the id of the service") }
        context.console.line(id)
        context.warn(answer)
        if wait.detach { return }
        try await ServiceFollower(context: context, service: id, baseline: .init(), isQuiet: wait.quiet).follow()
    }
}

struct ServiceUpdateCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "update", abstract: "Change a service, and wait until its tasks are replaced.")

    @OptionGroup var options: ServiceChangeOptions
    @OptionGroup var images: ServiceImageOptions
    @OptionGroup var wait: ServiceWaitOptions
    @Flag(help: "Go back to the spec before the last update.") var rollback = false
    @Argument(help: "Name or id.") var service: String

    func run(with context: CommandContext) async throws {
        if rollback {
            try await context.change(service, wait: wait, isRollback: true) { _ throws(ApusError) in }
            context.console.line(service)
            return
        }
        var networkIDs: [String: String] = [:]
        let added = try ServiceCreateOptions.each(options.networkAdd, "--network-add", NetworkFlag.parse)
        for name in options.networkRm + added.map(\.target) {
            networkIDs[name] = try? await context.client.get("/networks/\(name.pathComponent)")["Id"]?.string
        }
        let (options, ids, environment) = (options, networkIDs, context.environment)
        let headers = try images.headers(image: options.image ?? "", context)
        var resolved: ServiceSpec?
        var warning: String?
        if let image = options.image, !images.noResolveImage {
            var spec = ServiceSpec()
            spec.task.container = ContainerSpec()
            spec.task.container?.image = image
            spec.task.runtime = options.shared.runtime ?? ""
            warning = await context.resolveImage(of: &spec)
            resolved = spec
        }
        try await context.change(service, wait: wait, headers: headers) { [resolved, warning] spec throws(ApusError) in
            try options.apply(to: &spec, environment: environment, networkIDs: ids)
            guard let resolved, spec.task.hasUsualRuntime else { return }
            if let warning { context.console.errorLine(warning) }
            spec.task.container?.image = resolved.task.container?.image ?? ""
            // Those of the image before may be others.
            if let placement = resolved.task.placement {
                if spec.task.placement == nil { spec.task.placement = Placement() }
                spec.task.placement?.platforms = placement.platforms
            }
        }
    }
}

struct ServiceRollbackCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "rollback", abstract: "Go back to the spec before the last update.")

    @OptionGroup var wait: ServiceWaitOptions
    @Argument(help: "Name or id.") var service: String

    func run(with context: CommandContext) async throws {
        try await context.change(service, wait: wait, isRollback: true) { _ throws(ApusError) in }
    }
}

struct ServiceScaleCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "scale", abstract: "Set the number of tasks of services.")

    @OptionGroup var wait: ServiceWaitOptions
    @Argument(help: ArgumentHelp("Service and number of tasks.", valueName: "service=replicas")) var scales: [String]

    func run(with context: CommandContext) async throws {
        let wanted = try Self.parse(scales)
        var started: [(name: String, baseline: ServiceProgress.Baseline)] = []
        var hasFailed = false
        for (name, replicas) in wanted {
            do throws(ApusError) {
                let baseline = try await context.send(name, headers: [:], isRollback: false) { spec throws(ApusError) in
                    guard spec.mode.replicated != nil || spec.mode.replicatedJob != nil || spec.mode == ServiceMode() else {
                        throw ApusError(.invalidArgument, "\(name) is a global service, with one task on every node: it cannot be scaled")
                    }
                    if var job = spec.mode.replicatedJob {
                        job.totalCompletions = replicas
                        spec.mode.replicatedJob = job
                    } else {
                        var replicated = ReplicatedService()
                        replicated.replicas = replicas
                        spec.mode.replicated = replicated
                    }
                }
                context.console.line("\(name) scaled to \(replicas)")
                started.append((name, baseline))
            } catch {
                hasFailed = true
                context.console.errorLine("apus: \(error.message)")
            }
        }
        if !wait.detach {
            for (name, baseline) in started {
                try await ServiceFollower(context: context, service: name, baseline: baseline, isQuiet: wait.quiet).follow()
            }
        }
        if hasFailed { throw ExitCode.failure }
    }

    /// `web=3` and the like, each service once.
    static func parse(_ texts: [String]) throws(ApusError) -> [(name: String, replicas: UInt64)] {
        var result: [(name: String, replicas: UInt64)] = []
        for text in texts {
            let (name, number) = text.cut(at: "=")
            guard !name.isEmpty, let number, let replicas = UInt64(number), replicas <= 1 << 32 else {
                throw ApusError(.invalidArgument, "\"\(text)\" is not service=replicas, such as frontend=5")
            }
            guard !result.contains(where: { $0.name == name }) else { throw ApusError(.invalidArgument, "\(name) is named twice") }
            result.append((name, replicas))
        }
        return result
    }
}

extension CommandContext {
    /// Changes the spec of a service and waits.
    func change(
        _ name: String, wait: ServiceWaitOptions, headers: [String: String] = [:], isRollback: Bool = false,
        _ edit: (inout ServiceSpec) throws(ApusError) -> Void
    ) async throws {
        let baseline = try await send(name, headers: headers, isRollback: isRollback, edit)
        console.line(name)
        if wait.detach { return }
        try await ServiceFollower(context: self, service: name, baseline: baseline, isQuiet: wait.quiet).follow()
    }

    /// Sends the changed spec of a service; returns what there was before.
    func send(
        _ name: String, headers: [String: String], isRollback: Bool, _ edit: (inout ServiceSpec) throws(ApusError) -> Void
    ) async throws(ApusError) -> ServiceProgress.Baseline {
        let json = try await client.get("/services/\(name.pathComponent)")
        let service = try JSONFields.decode(Service.self, from: json, unknownFields: .ignore)
        // A field that this program does not know would be lost by sending the spec back.
        var spec: ServiceSpec
        do throws(ApusError) {
            spec = try JSONFields.decode(ServiceSpec.self, from: json["Spec"] ?? [:])
        } catch {
            throw ApusError(
                .failed, "the service has something that this apus does not know (\(error.message)); use the apus of the engine's version")
        }
        let template = spec.task
        try edit(&spec)
        var query: Query = ["version": String(service.version.index)]
        query.add("rollback", isRollback ? "previous" : nil)
        let tasks = try await client.tasks(ofService: service.id)
        warn(try await client.post("/services/\(service.id.text)/update", query, body: JSONFields.encode(spec), headers: headers))
        let isReplacing = isRollback ? service.previousSpec.map { $0.task != template } ?? true : spec.task != template
        return ServiceProgress.Baseline(
            replacedTasks: isReplacing ? Set(tasks.map(\.id)) : [], updateStatus: service.updateStatus, isRollback: isRollback)
    }

    /// Shows the warnings of an answer.
    func warn(_ answer: JSONValue) {
        for warning in answer["Warnings"]?.array ?? [] {
            if let text = warning.string, !text.isEmpty { console.errorLine("apus: warning: \(text.printable)") }
        }
    }
}
