import ArgumentParser
import Coding
import PluginAPI

/// Follows a service until it is what was asked, and shows the way.
struct ServiceFollower: Sendable {
    let context: CommandContext
    /// Name or id.
    let service: String
    let baseline: ServiceProgress.Baseline
    var isQuiet = false

    private static let interval = Duration.milliseconds(100)
    /// How long a place may stay without a task after the last one failed, on top of the restart delay.
    private static let patience = Duration.seconds(15)

    /// - Throws: an `ApusError` with the tasks' errors when it failed; an exit code after Ctrl-C.
    func follow() async throws {
        try await context.watching("This goes on in the background. See how far it is with `apus service ps \(service)`.") { try await loop() }
    }

    private func loop() async throws {
        var shown: ServiceProgress?
        var live = LiveLines()
        var convergedAt: Timestamp?
        var stuckSince: Timestamp?
        while true {
            let (service, tasks) = try await state()
            let progress = ServiceProgress(service: service, tasks: tasks, baseline: baseline)
            let now = context.now()
            let monitor = service.spec.update?.monitor ?? .seconds(5)
            convergedAt = progress.isConverged ? convergedAt ?? now : nil
            let isStable = progress.outcome == .completed || convergedAt.map { now - $0 >= monitor } ?? false
            let verdict: String
            if let convergedAt, !isStable {
                let rest = monitor - (now - convergedAt)
                verdict = "verify: waiting \(rest.components.seconds + 1) seconds to see whether the tasks stay up"
            } else {
                let isWatched = progress.isUpdating && progress.done == progress.total
                verdict =
                    progress.isConverged
                    ? "verify: Service \(service.spec.name) converged" : isWatched ? "verify: the engine watches whether the tasks stay up" : ""
            }
            show(progress, verdict, &shown, &live)
            if case .failed(let message) = progress.outcome { throw ApusError(.failed, "service \(service.spec.name): \(message)") }
            if isStable {
                if !context.console.isTerminal, !isQuiet { context.console.line(verdict) }
                return
            }
            stuckSince = isStuck(progress, service) ? stuckSince ?? now : nil
            if let stuckSince, now - stuckSince > Self.patience + (service.spec.task.restartPolicy?.delay ?? .seconds(5)) {
                let errors = Set(progress.slots.map(\.error).filter { !$0.isEmpty }).sorted().prefix(3).joined(separator: "; ")
                throw ApusError(.failed, "service \(service.spec.name): its tasks ended and are not replaced: \(errors)")
            }
            try await context.sleep(Self.interval)
        }
    }

    private func show(_ progress: ServiceProgress, _ verdict: String, _ shown: inout ServiceProgress?, _ live: inout LiveLines) {
        guard !isQuiet else { return }
        if context.console.isTerminal {
            let columns = context.console.columns
            context.console.text(live.replacing(with: ServiceProgressText.lines(progress, columns: columns) + (verdict.isEmpty ? [] : [verdict])))
        } else if progress != shown {
            for line in ServiceProgressText.changes(from: shown, to: progress) { context.console.line(line) }
        }
        shown = progress
    }

    /// Whether something that failed has nothing in its place.
    private func isStuck(_ progress: ServiceProgress, _ service: Service) -> Bool {
        !progress.isConverged && progress.slots.contains { $0.state == nil && !$0.error.isEmpty }
    }

    private func state() async throws(ApusError) -> (Service, [Task]) {
        let json = try await context.client.get("/services/\(service.pathComponent)")
        let found = try JSONFields.decode(Service.self, from: json, unknownFields: .ignore)
        return (found, try await context.client.tasks(ofService: found.id))
    }
}

extension EngineClient {
    /// All tasks of a service, also those that ended.
    func tasks(ofService id: ID) async throws(ApusError) -> [Task] {
        try await tasks(filters: ["service": [id.text]])
    }

    func tasks(filters: [String: [String]]) async throws(ApusError) -> [Task] {
        var query: Query = [:]
        query.add(filters: filters)
        var tasks: [Task] = []
        for item in try await get("/tasks", query).array ?? [] { tasks.append(try JSONFields.decode(Task.self, from: item, unknownFields: .ignore)) }
        return tasks
    }

    func service(_ name: String) async throws(ApusError) -> Service {
        try JSONFields.decode(Service.self, from: try await get("/services/\(name.pathComponent)"), unknownFields: .ignore)
    }
}
