import Coding
import PluginAPI

/// The swarm in `apus info`.
enum SwarmInformation {
    /// - Parameter swarm: `Swarm` of the engine's answer.
    static func lines(_ swarm: JSONValue) -> [String] {
        guard let state = swarm["LocalNodeState"]?.string else { return [] }
        var lines: [String] = []
        func line(_ name: String, _ value: JSONValue?, level: Int = 1) {
            guard let value, !value.isNull, value != .string("") else { return }
            lines.append(String(repeating: " ", count: level) + "\(name): \(Template.text(of: value).printable)")
        }
        line("Swarm", .string(state), level: 0)
        if state == "locked" { line("Next", "unlock this manager with `apus swarm unlock`") }
        guard state != "inactive" else {
            line("Error", swarm["Error"])
            return lines
        }
        line("Node id", swarm["NodeID"])
        line("Error", swarm["Error"])
        line("Is manager", swarm["ControlAvailable"])
        let cluster = swarm["Cluster"].flatMap { try? JSONFields.decode(Cluster.self, from: $0, unknownFields: .ignore) }
        if let cluster, !cluster.id.text.isEmpty {
            line("Cluster id", .string(cluster.id.text))
            line("Managers", swarm["Managers"])
            line("Nodes", swarm["Nodes"])
            line("Default address pool", .string(cluster.defaultAddressPool.joined(separator: ", ")))
            if cluster.subnetSize > 0 { line("Subnet size", .string("\(cluster.subnetSize)")) }
            if cluster.dataPathPort > 0 { line("Data path port", .string("\(cluster.dataPathPort)")) }
            for (name, value) in settings(cluster) { line(name, .string(value)) }
        }
        line("Node address", swarm["NodeAddr"])
        let managers = (swarm["RemoteManagers"]?.array ?? []).compactMap { $0["Addr"]?.string }.sorted()
        if !managers.isEmpty { lines.append(" Manager addresses:") }
        for manager in managers { lines.append("  \(manager.printable)") }
        return lines
    }

    private static func settings(_ cluster: Cluster) -> [(String, String)] {
        let spec = cluster.spec
        let externals = spec.ca.externalCAs.map { "\($0.kind) \($0.url)" }.joined(separator: ", ")
        return [
            ("Task history limit", spec.orchestration.taskHistoryLimit.map { "\($0)" } ?? ""),
            ("Heartbeat period", spec.dispatcher.heartbeatPeriod == .zero ? "" : days(spec.dispatcher.heartbeatPeriod)),
            ("Certificate expiry", spec.ca.nodeCertificateExpiry == .zero ? "" : days(spec.ca.nodeCertificateExpiry)),
            ("Expired renewal grace", spec.ca.expiredRenewalGrace.map { $0 == .zero ? "never" : days($0) } ?? ""),
            ("External authorities", externals), ("Joining nodes wait", spec.ca.joiningWaits == true ? "true" : ""),
            ("Autolock", "\(spec.encryption.autoLockManagers)"), ("Root rotation in progress", "\(cluster.rootRotationInProgress)"),
        ]
    }

    /// Whole days as such.
    private static func days(_ duration: Duration) -> String {
        let seconds = duration.components.seconds
        guard seconds >= 86400, seconds % 86400 == 0 else { return DurationText.text(duration) }
        return seconds == 86400 ? "1 day" : "\(seconds / 86400) days"
    }
}
