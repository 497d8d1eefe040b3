import Agent
import Events
import Files
import Glibc
public import Logging
public import PluginAPI
import PluginHost
import Raft

/// Removes everything that an engine left behind.
public struct EngineCleaner: Sendable {
    private let configuration: EngineConfiguration
    private let logger: Logger

    public init(configuration: EngineConfiguration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
    }

    /// - Throws: `conflict` while an engine runs; what could not be removed otherwise.
    public func run() async throws(ApusError) {
        guard Files.exists(configuration.dataRoot) else { return }
        let data = try DataRoot.open(configuration.dataRoot)
        let execution = try ExecRoot.lock(configuration.execRoot)
        defer { withExtendedLifetime(execution) {} }
        let parts = try await EngineServer(configuration: configuration, logger: logger).assemble(events: EventHub())
        try await parts.containers.start()
        for container in parts.containers.list() { try await parts.containers.remove(container.id.text, force: true, volumes: true) }
        try await parts.containers.removeNetworksAndPorts()
        try await parts.containers.removeAllFiles()
        await parts.registry.stop()
        try Files.removeTree(configuration.execRoot)
        data.close()
        try Files.removeTree(configuration.dataRoot)
    }
}

/// Gives up the damaged end of a log.
public enum EngineRecovery {
    /// Keeps the entries up to `index`, and puts what was damaged aside.
    /// - Returns: what was done, for people.
    /// - Throws: `conflict` while an engine runs, `notFound` without a log.
    public static func discard(after index: UInt64, configuration: EngineConfiguration) throws(ApusError) -> String {
        let directory = "\(configuration.dataRoot)/swarm/raft"
        guard Files.exists(directory) else { throw ApusError(.notFound, "\(configuration.dataRoot) has no swarm; there is nothing to recover") }
        let data = try DataRoot.open(configuration.dataRoot)
        defer { data.close() }
        let last = try RaftRecovery.discard(after: index, directory: directory, name: "\(Timestamp.now.nanoseconds / 1_000_000_000)")
        return "entries up to \(last) are kept; the log as it was is in \(directory)/damaged-…. Start the engine."
    }
}
