import Orchestration
import PluginAPI

/// Fills in the placeholders of a service's template: `{{.Service.Name}}`, `{{.Node.Hostname}}`, `{{.Task.Slot}}` and so on, in environment,
/// host name and mounts.
struct TaskTemplate: Sendable {
    let task: Task
    let node: ID
    let hostname: String
    let platform: Platform

    /// The text with values; `invalidArgument` for a placeholder that does not exist.
    func expand(_ text: String) throws(ApusError) -> String {
        guard text.contains("{{") else { return text }
        return try PlaceholderText(text).parts.map { part in
            switch part {
            case .text(let text): text
            case .placeholder(let placeholder): value(placeholder)
            }
        }.joined()
    }

    private func value(_ placeholder: Placeholder) -> String {
        switch placeholder {
        case .serviceID: task.serviceID.text
        case .serviceName: task.serviceName
        case .serviceLabel(let key): task.labels[key] ?? ""
        case .nodeID: node.text
        case .nodeHostname: hostname
        case .nodeArchitecture: platform.architecture
        case .nodeOperatingSystem: platform.os
        case .taskID: task.id.text
        case .taskName: task.name
        case .taskSlot: task.slot == 0 ? node.text : String(task.slot)
        }
    }
}
