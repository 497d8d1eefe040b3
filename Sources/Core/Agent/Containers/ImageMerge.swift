import PluginAPI
import Processes

/// Joins what the caller set with what the image says, as Docker does.
enum ImageMerge {
    struct Answer: Sendable, Hashable {
        var configuration: ContainerConfiguration
        var entrypoint: [String]
        var command: [String]
        var exposedPorts: [String]
        /// Paths of the image's volumes on which the caller mounts nothing.
        var volumes: [String]
    }

    static func merge(_ request: ContainerRequest, with image: Image) throws(ApusError) -> Answer {
        let defaults = image.configuration
        var configuration = request.configuration
        configuration.imageID = image.id

        let entrypoint: [String]
        let command: [String]
        if let wanted = request.entrypoint {
            entrypoint = wanted == [""] ? [] : wanted
            command = request.command ?? []
        } else {
            entrypoint = defaults.entrypoint
            command = request.command ?? defaults.command
        }
        configuration.arguments = entrypoint + command
        guard !configuration.arguments.isEmpty else {
            throw ApusError(.invalidArgument, "no command specified: neither the request nor the image \(configuration.imageReference) has one")
        }

        configuration.environment = environment(defaults.environment, request.configuration.environment)
        configuration.labels = defaults.labels.merging(request.configuration.labels) { _, own in own }
        if configuration.workingDirectory.isEmpty { configuration.workingDirectory = defaults.workingDirectory }
        if configuration.user.isEmpty { configuration.user = defaults.user }
        if configuration.stopSignal.isEmpty { configuration.stopSignal = defaults.stopSignal }
        if !configuration.stopSignal.isEmpty { _ = try SignalName.number(configuration.stopSignal) }
        configuration.healthcheck = healthcheck(defaults.healthcheck, request.configuration.healthcheck)

        let ports = Set(defaults.exposedPorts.keys).union(request.exposedPorts).union(
            request.publishedPorts.map { "\($0.containerPort)/\($0.transport.rawValue)" })
        let mounted = Set(configuration.mounts.map { path($0.target) })
        return Answer(
            configuration: configuration, entrypoint: entrypoint, command: command, exposedPorts: ports.sorted(by: portOrder),
            volumes: defaults.volumes.keys.map(path).filter { !mounted.contains($0) }.sorted())
    }

    /// The image's variables, then the caller's, each name once; a caller's word without `=` takes the image's variable away.
    static func environment(_ image: [String], _ own: [String]) -> [String] {
        func name(_ entry: String) -> Substring { entry.prefix { $0 != "=" } }
        var order: [Substring] = []
        var values: [Substring: String] = [:]
        for entry in image + own {
            let key = name(entry)
            if key.utf8.count == entry.utf8.count {
                values[key] = nil
                order.removeAll { $0 == key }
                continue
            }
            if values[key] == nil { order.append(key) }
            values[key] = entry
        }
        return order.compactMap { values[$0] }
    }

    /// The caller's, with the image's where it says nothing.
    static func healthcheck(_ image: Healthcheck?, _ own: Healthcheck?) -> Healthcheck? {
        guard var check = own else { return image }
        if check.test.isEmpty, let image { check.test = image.test }
        if let image {
            if check.interval == .zero { check.interval = image.interval }
            if check.timeout == .zero { check.timeout = image.timeout }
            if check.startPeriod == .zero { check.startPeriod = image.startPeriod }
            if check.startInterval == .zero { check.startInterval = image.startInterval }
            if check.retries == 0 { check.retries = image.retries }
        }
        return check
    }

    private static func path(_ text: String) -> String {
        var text = text
        while text.count > 1, text.hasSuffix("/") { text.removeLast() }
        return text
    }

    private static func portOrder(_ left: String, _ right: String) -> Bool {
        let numbers = [left, right].map { Int($0.prefix { $0 != "/" }) ?? 0 }
        return numbers[0] != numbers[1] ? numbers[0] < numbers[1] : left < right
    }
}
