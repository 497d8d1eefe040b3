import ArgumentParser
import Coding
import PluginAPI

/// What still runs on a node that gives its tasks away.
struct DrainProgress: Sendable, Hashable {
    /// Tasks that have not ended, by name and state.
    private(set) var rest: [String]
    /// Of those, how many are told to end.
    private(set) var ending: Int

    init(tasks: [Task], services: [ID: String]) {
        let present = tasks.filter { !$0.status.state.isTerminal }
        rest = present.map { task in
            let name = "\(services[task.serviceID] ?? task.serviceID.short).\(task.slot > 0 ? "\(task.slot)" : task.nodeID.short)"
            return task.desiredState > .running ? "\(name) (stopping)" : "\(name) (\(task.status.state.rawValue))"
        }.sorted()
        ending = present.count { $0.desiredState > .running }
    }

    var isOver: Bool { rest.isEmpty }

    var text: String {
        let waiting = rest.count - ending
        let what = "\(rest.count) \(rest.count == 1 ? "task" : "tasks") left on the node"
        let why = waiting == 0 ? "" : ", \(waiting) of them until a replacement runs elsewhere"
        return (what + why + ": " + rest.prefix(5).joined(separator: ", ") + (rest.count > 5 ? " and \(rest.count - 5) more" : "")).printable
    }
}

/// Follows a drained node until it is empty.
struct DrainFollower: Sendable {
    let context: CommandContext
    /// Id and the name that the user gave.
    let id: String
    let name: String

    private static let interval = Duration.milliseconds(250)

    func follow() async throws {
        try await context.watching("The node goes on giving its tasks away. See how far it is with `apus node ps \(name)`.") { try await loop() }
    }

    private func loop() async throws {
        var shown: String?
        var live = LiveLines()
        var patience = Patience()
        var services: [ID: String]?
        while true {
            do throws(ApusError) {
                let names: [ID: String]
                if let services { names = services } else { names = try await serviceNames() }
                services = names
                let progress = try await progress(names)
                patience.end()
                let text = progress.isOver ? "No task runs on node \(name) any more." : progress.text
                if text != shown {
                    if context.console.isTerminal {
                        context.console.text(live.replacing(with: [text.shortened(to: context.console.columns)]))
                    } else {
                        context.console.line(text)
                    }
                    shown = text
                }
                if progress.isOver { return }
            } catch {
                try patience.bear(error, now: context.now())
            }
            try await context.sleep(Self.interval)
        }
    }

    private func progress(_ services: [ID: String]) async throws(ApusError) -> DrainProgress {
        let node = try JSONFields.decode(Node.self, from: try await context.client.get("/nodes/\(id.pathComponent)"), unknownFields: .ignore)
        guard node.spec.availability == .drain else {
            throw ApusError(.conflict, "node \(name) was made \(node.spec.availability.rawValue) by somebody else: it is not drained any more")
        }
        guard node.status.state != .down else {
            throw ApusError(
                .failed, "node \(name) is down: what still runs there is not known. Its tasks are replaced elsewhere; see `apus node ps \(name)`")
        }
        return DrainProgress(tasks: try await context.client.tasks(filters: ["node": [id]]), services: services)
    }

    private func serviceNames() async throws(ApusError) -> [ID: String] {
        var names: [ID: String] = [:]
        for service in try await context.client.get("/services").array ?? [] {
            names[ID(service["ID"]?.string ?? "")] = service["Spec"]?["Name"]?.string
        }
        return names
    }
}
