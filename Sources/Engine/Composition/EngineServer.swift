import Agent
import Coding
import Events
import Files
import Glibc
public import Logging
import Names
import NIOCore
import NIOPosix
import Orchestration
public import PluginAPI
import PluginHost
import Swarm
import Synchronization

/// One engine: everything is put together here, and nowhere else.
public struct EngineServer: Sendable {
    private let configuration: EngineConfiguration
    private let logger: Logger

    public init(configuration: EngineConfiguration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
    }

    /// Runs until the task is cancelled; then the API ends, the store is closed, and containers go on.
    /// - Throws: what kept it from starting (`conflict` when another engine has the data root), or what made it stop (a disk that fails).
    public func run() async throws(ApusError) {
        let started = ContinuousClock.now
        let data = try DataRoot.open(configuration.dataRoot)
        defer { data.close() }
        let execution = try ExecRoot.lock(configuration.execRoot)
        defer { withExtendedLifetime(execution) {} }
        try writePidFile()
        defer { if !configuration.pidFile.isEmpty { unlink(configuration.pidFile) } }

        let events = EventHub()
        let parts = try await assemble(events: events)
        let (failures, failing) = AsyncStream.makeStream(of: ApusError.self)
        let configuration = configuration
        let registry = parts.registry
        let routes = Latch<Router>()
        let forwarded = ForwardedCalls(routes)
        let taskLogs = TaskLogs(containers: parts.containers, runtime: parts.runtime)
        let agreed = SwarmPlugins(registry: registry, events: events, logger: logger)
        let swarm = SwarmNode(
            SwarmEnvironment(
                directory: "\(configuration.dataRoot)/swarm", containers: parts.containers, events: events,
                describe: { configuration.describeNode(plugins: registry) }, scheduler: { (try? registry.scheduler()) ?? NoScheduler() },
                authority: { name throws(ApusError) in try await agreed.authority(name) }, activePlugins: { agreed.active },
                reportPlugin: { await agreed.report($0) }, answer: { await forwarded.answer($0) },
                follow: { store in
                    await withTaskGroup(of: Void.self) { group in
                        group.addTask { await StoreEvents.publish(from: store, to: events) }
                        group.addTask { await agreed.follow(store) }
                    }
                }, taskLogs: { try await taskLogs.copy($0, $1) }, onFailure: { failing.yield($0) }, logger: logger))
        agreed.onScheduler { [weak swarm] in swarm?.managerPart?.orchestration.schedulerChanged() }
        parts.containers.setAttachmentProvider(swarm)
        let plugins = PluginController(registry: registry, swarm: swarm, agreed: agreed, events: events)
        let router = EngineServer.router(
            configuration: configuration, engineID: data.engineID, swarm: swarm, plugins: plugins, parts: parts, events: events)
        routes.set(router)
        let server = HTTPServer(
            router: router, logger: logger,
            commonHeaders: [
                ("Api-Version", EngineAPIVersion.newest.description), ("Docker-Experimental", "false"), ("Ostype", "linux"),
                ("Server", "Apus/\(EngineConfiguration.version) (linux)"),
            ])
        // The API is a small part of the work on a node; one thread serves it.
        let loops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let result = await serve(server, parts: parts, swarm: swarm, failures: failures, loops: loops, started: started)
        await swarm.shutDown()
        await registry.stop()
        try? await loops.shutdownGracefully()
        try result.get()
    }

    private func serve(
        _ server: HTTPServer, parts: Parts, swarm: SwarmNode, failures: AsyncStream<ApusError>, loops: MultiThreadedEventLoopGroup,
        started: ContinuousClock.Instant
    ) async -> Result<Void, ApusError> {
        do throws(ApusError) {
            var listeners: [NIOAsyncChannel<HTTPServer.Channel, Never>] = []
            let group = try socketGroup()
            for host in configuration.hosts {
                let path = try Self.socketPath(host)
                listeners.append(try await HTTPServer.bind(unixSocket: path, group: group, on: loops))
                logger.info("listening on \(host)")
            }
            try await parts.containers.start()
            try await swarm.resume()
            StartUpMemory.release()
            logger.info("Apus \(EngineConfiguration.version) is ready after \(ContinuousClock.now - started)")
            let failure: ApusError? = await withTaskGroup(of: ApusError?.self) { group in
                for listener in listeners {
                    group.addTask {
                        await server.run(listener)
                        return nil
                    }
                }
                group.addTask {
                    await parts.containers.run()
                    return nil
                }
                group.addTask {
                    await parts.runtime.run()
                    return nil
                }
                group.addTask {
                    do throws(ApusError) {
                        try await parts.names.run()
                        return nil
                    } catch {
                        return error.during("the name server")
                    }
                }
                group.addTask {
                    for await failure in failures { return failure }
                    return nil
                }
                group.addTask {
                    await StartUpMemory.releaseWhenIdle()
                    return nil
                }
                // The first that ends, ends all: it has failed, or everything was cancelled.
                let first = await group.next() ?? nil
                group.cancelAll()
                return first
            }
            for host in configuration.hosts { if let path = try? Self.socketPath(host) { unlink(path) } }
            if let failure { return .failure(failure) }
            return .success(())
        } catch {
            return .failure(error)
        }
    }

    // MARK: Parts

    /// What the plugins are and what is built on them.
    struct Parts: Sendable {
        var registry: PluginRegistry
        var runtime: RuntimeRouter
        var containers: ContainerEngine
        var names: NameServer
    }

    func assemble(events: EventHub) async throws(ApusError) -> Parts {
        let registry = PluginRegistry(configuration.registry(logger: logger))
        await registry.start()
        let runtime = RuntimeRouter(usual: try registry.runtime(named: configuration.runtime), usualName: configuration.runtime) { registry.runtimes }
        let balancer = ActiveBalancer(registry: registry, logger: logger)
        if let substitution = registry.substitution(for: .balancer) { logger.warning("\(substitution.warning)") }
        let names = try NameServer(logger: logger)
        var containerConfiguration = ContainerEngineConfiguration(
            stateDirectory: "\(configuration.dataRoot)/containers", executionRoot: configuration.execRoot)
        containerConfiguration.bridgeSubnet = configuration.bridgeSubnet
        let containers = ContainerEngine(
            configuration: containerConfiguration, runtime: runtime, networks: { registry.networks }, balancer: balancer, names: names, events: events,
            logger: logger)
        registry.setHooks(hooks(containers, balancer))
        return Parts(registry: registry, runtime: runtime, containers: containers, names: names)
    }

    /// What is in use on this node stays until the engine starts again; scheduler, CA and balancer can be switched at any time.
    private func hooks(_ containers: ContainerEngine, _ balancer: ActiveBalancer) -> PluginRegistryHooks {
        let usual = configuration.runtime
        var hooks = PluginRegistryHooks(inUse: { identity in
            switch identity.role {
            case .runtime:
                identity.name == usual || containers.list().contains { $0.configuration.runtimeName == identity.name }
                    ? "containers of this node run on it" : nil
            case .network: containers.usesDriver(identity.name) ? "networks of this node are made with it" : nil
            case .balancer: "it balances the ports of this node; enabling another balancer takes its place"
            default: nil
            }
        })
        hooks.changed = { role in
            switch role {
            case .balancer:
                await balancer.changed()
                containers.rebalance()
            case .network: await containers.networkDriversChanged()
            default: break
            }
        }
        return hooks
    }

    private static func router(
        configuration: EngineConfiguration, engineID: String, swarm: SwarmNode, plugins: PluginController, parts: Parts, events: EventHub
    ) -> Router {
        var router = Router()
        let (containers, runtime) = (parts.containers, parts.runtime)
        SystemRoutes(
            configuration: configuration, engineID: engineID, swarm: swarm, plugins: plugins, containers: containers, runtime: runtime
        ).add(to: &router)
        ContainerRoutes(containers: containers, runtime: runtime).add(to: &router)
        ImageRoutes(
            runtime: runtime, containers: { id in containers.list().count { $0.configuration.imageID == id } }, events: events
        ).add(to: &router)
        SwarmRoutes(swarm: swarm, plugins: plugins).add(to: &router)
        ServiceRoutes(swarm: swarm, containers: containers).add(to: &router)
        ServiceLogRoutes(swarm: swarm, containers: containers, runtime: runtime).add(to: &router)
        SwarmFileRoutes<Secret>(swarm: swarm).add(to: &router)
        SwarmFileRoutes<Config>(swarm: swarm).add(to: &router)
        TaskRoutes(swarm: swarm).add(to: &router)
        NodeRoutes(swarm: swarm).add(to: &router)
        PluginRoutes(plugins: plugins).add(to: &router)
        VolumeRoutes(runtime: runtime, events: events).add(to: &router)
        NetworkRoutes(
            containers: containers, swarm: swarm, driver: { name throws(ApusError) in try parts.registry.network(named: name) }
        ).add(to: &router)
        EventRoutes(events: events).add(to: &router)
        return router
    }

    // MARK: Start

    private func writePidFile() throws(ApusError) {
        guard !configuration.pidFile.isEmpty else { return }
        try Files.writeAtomically(Array("\(getpid())\n".utf8), to: configuration.pidFile, permissions: 0o644, sync: false)
    }

    /// - Throws: `unimplemented` for TCP, which needs mutual TLS.
    static func socketPath(_ host: String) throws(ApusError) -> String {
        if host.hasPrefix("unix://"), host.count > 7 { return String(host.dropFirst(7)) }
        if host.hasPrefix("tcp://") {
            throw ApusError(.unimplemented, "--host \(host): TCP needs mutual TLS, which is not in this version of Apus; use unix:///run/apus.sock")
        }
        throw ApusError(.invalidArgument, "--host \(host) is not a socket such as unix:///run/apus.sock")
    }

    private func socketGroup() throws(ApusError) -> gid_t? {
        if let entry = getgrnam(configuration.group) { return entry.pointee.gr_gid }
        guard configuration.group == EngineConfiguration().group else {
            throw ApusError(.notFound, "--group \(configuration.group): there is no such group")
        }
        return nil
    }
}

/// An exec root that this engine alone uses.
enum ExecRoot {
    /// What an engine finds in its exec root and does not know, it takes for its own of another time, and ends: two engines must not share one.
    /// - Throws: `conflict` when another engine has it.
    static func lock(_ path: String) throws(ApusError) -> FileLock {
        try Files.makeDirectory(path, permissions: 0o711)
        do throws(ApusError) {
            return try FileLock(path: "\(path)/lock")
        } catch {
            guard error.code == .conflict else { throw error }
            throw ApusError(.conflict, "the exec root \(path) is in use: \(error.message). Stop that engine, or give this one another --exec-root")
        }
    }
}

/// A data root that this engine alone uses.
struct DataRoot: Sendable {
    /// The layout of the data root; another one is refused.
    static let layout = "apus data 1"

    let engineID: String
    private let lock: FileLock

    /// - Throws: `conflict` when another engine has it, `corrupt` when another version of Apus wrote it.
    static func open(_ path: String) throws(ApusError) -> DataRoot {
        try Files.makeDirectory(path, permissions: 0o711)
        let lock: FileLock
        do throws(ApusError) {
            lock = try FileLock(path: "\(path)/lock")
        } catch {
            guard error.code == .conflict else { throw error }
            throw ApusError(.conflict, "the data root \(path) is in use: \(error.message). Stop that engine, or give this one another --data-root")
        }
        let versionPath = "\(path)/version"
        if Files.exists(versionPath) {
            let lines = try Files.readText(versionPath).split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
            guard lines.first == layout, lines.count >= 2, !lines[1].isEmpty else {
                throw ApusError(
                    .corrupt,
                    "the data root \(path) was written by another version of Apus (\"\(lines.first ?? "")\", this one reads \"\(layout)\"). Nothing was changed. Use that version, or give this engine another --data-root"
                )
            }
            return DataRoot(engineID: lines[1], lock: lock)
        }
        let others = try Files.list(path).filter { $0 != "lock" && $0 != "lost+found" }
        guard others.isEmpty else {
            throw ApusError(.conflict, "\(path) is not empty and not a data root of Apus (it has \(others[0])). Nothing was changed; give another --data-root")
        }
        let engineID = ID.random().text
        try Files.writeAtomically(Array("\(layout)\n\(engineID)\n".utf8), to: versionPath, permissions: 0o644)
        return DataRoot(engineID: engineID, lock: lock)
    }

    /// Gives it up; another engine may take it.
    func close() { withExtendedLifetime(lock) {} }
}

/// Stands in when no scheduler can be loaded, not even the default one: tasks wait, and say why.
private final class NoScheduler: Scheduler {
    func apply(_ changes: [SchedulingChange]) {}

    func schedule(_ request: ScheduleRequest) -> ScheduleAnswer {
        var answer = ScheduleAnswer()
        for task in request.tasks { answer.reasons[task.id] = "no scheduler plugin could be loaded; see apus plugin ls" }
        return answer
    }
}
