import Files
import Glibc
import PluginAPI
import Processes

/// All containers of this node: makes, starts, stops and removes them.
///
/// Blocking steps run on `workers`, under the container's id as key, so that one container is worked on by one thread at a time.
final class Containers: Sendable {
    let layout: RuntimeLayout
    let tools: RuntimeTools
    let cgroups: Cgroups
    let cgroupParent: String
    let cgroupParents = CgroupParents()
    let conmon: Conmon
    let volumes: Volumes
    let table = ContainerTable()
    let events = RuntimeEvents()
    let workers: Workers
    let monitor: ContainerMonitor
    let log: @Sendable (LogLevel, String) -> Void
    private let images: any ImageProvider
    private let machine: Machine

    /// What does not change while the engine runs.
    struct Machine: Sendable {
        var capabilities = Capabilities.ofThisProcess()
        var kernel = KernelVersion.running
        var swapLimits: Bool
    }

    init(
        layout: RuntimeLayout, tools: RuntimeTools, cgroups: Cgroups, cgroupParent: String, images: any ImageProvider,
        log: @escaping @Sendable (LogLevel, String) -> Void
    ) throws(ApusError) {
        self.layout = layout
        self.tools = tools
        self.cgroups = cgroups
        self.cgroupParent = cgroupParent
        self.images = images
        self.log = log
        conmon = Conmon(tools: tools, layout: layout, cgroups: cgroups, cgroup: "\(cgroupParent)/conmon")
        volumes = Volumes(path: layout.volumes)
        workers = Workers(maximum: max(4, 2 * sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        machine = Machine(swapLimits: cgroups.limitsSwap)
        try Files.makeDirectory(layout.containers, permissions: 0o710)
        for folder in [layout.bundles, layout.runtimeRoot, layout.exits] { try Files.makeDirectory(folder, permissions: 0o700) }
        let back = WeakReference<Containers>()
        monitor = try ContainerMonitor(
            exits: layout.exits,
            handlers: .init(
                ended: { id in back.value?.noticeEnd(id) }, outOfMemory: { id in back.value?.noticeOutOfMemory(id) }, log: log))
        back.value = self
        recover()
    }

    /// Ends what runs here; containers go on.
    func shutDown() async {
        await monitor.stop()
        await workers.drain()
        table.close()
        events.finish()
    }

    func cgroup(_ configuration: ContainerConfiguration) -> String { "\(parentGroup(configuration))/\(configuration.id)" }

    /// The group that its own is in.
    private func parentGroup(_ configuration: ContainerConfiguration) -> String {
        let parent = configuration.cgroupParent.isEmpty ? cgroupParent : configuration.cgroupParent
        return CgroupParents.path(to: parent).last ?? ""
    }

    /// Notes what is made for a start in a group that the user names.
    func beginGroup(_ record: inout ContainerRecord) {
        guard !record.configuration.cgroupParent.isEmpty else { return }
        record.madeCgroup = cgroupParents.begin(
            record.id, below: parentGroup(record.configuration), made: table.all().map(\.madeCgroup), exists: cgroups.exists)
    }

    // MARK: - Create

    func create(_ wanted: ContainerConfiguration) async throws(ApusError) {
        var configuration = wanted
        try check(configuration)
        if configuration.createdAt.isNever { configuration.createdAt = .now() }
        // A volume without a name is this container's own.
        for index in configuration.mounts.indices where configuration.mounts[index].kind == .volume && configuration.mounts[index].source.isEmpty {
            configuration.mounts[index].source = ID.randomContainer().text
        }
        let complete = configuration
        try table.reserve(complete.id)
        do throws(ApusError) {
            try await images.acquire(image: complete.imageID, for: complete.id)
            do throws(ApusError) {
                let layers = try await images.rootLayers(of: complete.imageID)
                try await workers.run(key: complete.id.text) { () throws(ApusError) in
                    try self.prepare(complete, anonymous: Self.anonymousVolumes(wanted, complete), layers: layers)
                }
            } catch {
                await images.release(image: complete.imageID, for: complete.id)
                throw error
            }
        } catch {
            table.release(complete.id)
            throw error
        }
    }

    private static func anonymousVolumes(_ wanted: ContainerConfiguration, _ complete: ContainerConfiguration) -> Set<String> {
        var result: Set<String> = []
        for (before, after) in zip(wanted.mounts, complete.mounts) where before.source.isEmpty && after.kind == .volume {
            result.insert(after.source)
        }
        return result
    }

    /// Refuses what can never start.
    private func check(_ configuration: ContainerConfiguration) throws(ApusError) {
        let id = configuration.id.text
        guard id.utf8.count == 64, id.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }) else {
            throw ApusError(.invalidArgument, "a container's id has 64 hexadecimal digits, not \"\(id)\"")
        }
        guard !configuration.arguments.isEmpty else { throw ApusError(.invalidArgument, "no command specified") }
        let directory = configuration.workingDirectory
        guard directory.isEmpty || directory.hasPrefix("/") else {
            throw ApusError(.invalidArgument, "the working directory '\(directory)' is invalid, it needs to be an absolute path")
        }
        guard (-1000...1000).contains(configuration.oomScoreAdjustment) else {
            throw ApusError(.invalidArgument, "Invalid value \(configuration.oomScoreAdjustment), range for oom score adj is [-1000, 1000]")
        }
        guard configuration.resources.memoryBytes == 0 || configuration.resources.memoryBytes >= 6 << 20 else {
            throw ApusError(.invalidArgument, "Minimum memory limit allowed is 6MB")
        }
        for (name, mode, known) in [
            ("pid", configuration.pidMode, ["", "host"]), ("ipc", configuration.ipcMode, ["", "private", "shareable", "host"]),
        ]
        where !known.contains(mode) {
            throw ApusError(.unimplemented, "\(name) mode \"\(mode)\" is not supported yet")
        }
        guard !configuration.cgroupParent.utf8.contains(0), !configuration.cgroupParent.split(separator: "/").contains("..") else {
            throw ApusError(.invalidArgument, "the cgroup \"\(configuration.cgroupParent)\" leads out of the hierarchy")
        }
        try checkProcessors(configuration.resources.cpuset)
        if !configuration.stopSignal.isEmpty { _ = try SignalName.number(configuration.stopSignal) }
        _ = try LogOptions(configuration.log)
        try MountSources(volumes: volumes).check(configuration.mounts)
        _ = try Devices.find(for: configuration)
        if configuration.initProcess, RuntimeTools.initPath() == nil {
            throw ApusError(.invalidArgument, "no init program is installed: install the Debian package tini, or leave out --init")
        }
        // Everything that only the specification knows: capabilities, limits, the seccomp profile.
        _ = try specification(configuration, user: ProcessUser(), mounts: [], files: [:]).json()
    }

    private func checkProcessors(_ wanted: String) throws(ApusError) {
        guard !wanted.isEmpty, let there = cgroups.processors() else { return }
        guard let numbers = Cgroups.numbers(wanted) else { throw ApusError(.invalidArgument, "Invalid value \(wanted) for cpuset cpus") }
        guard numbers.isSubset(of: there) else {
            let available = there.sorted().map(String.init).joined(separator: ",")
            throw ApusError(.invalidArgument, "Requested CPUs are not available - requested \(wanted), available: \(available)")
        }
    }

    private func prepare(_ configuration: ContainerConfiguration, anonymous: Set<String>, layers: [String]) throws(ApusError) {
        let home = layout.home(configuration.id.text)
        guard !Files.exists(home.path) else { throw ApusError(.conflict, "\(home.path) is there already") }
        var madeVolumes: [String] = []
        do throws(ApusError) {
            try Files.makeDirectory(home.path, permissions: 0o710)
            try Files.makeDirectory(home.upper, permissions: 0o755)
            try Files.makeDirectory(home.work, permissions: 0o700)
            try Files.makeDirectory(home.logs, permissions: 0o700)
            for (path, text) in [(home.hosts, configuration.hostsFile), (home.resolver, configuration.resolverFile)] where !text.isEmpty {
                try Files.writeAtomically(Array(text.utf8), to: path, permissions: 0o644, sync: false)
            }
            let hostname = configuration.hostname.isEmpty ? configuration.id.short : configuration.hostname
            try Files.writeAtomically(Array("\(hostname)\n".utf8), to: home.hostname, permissions: 0o644, sync: false)
            for mount in configuration.mounts where mount.kind == .volume && !volumes.exists(mount.source) {
                var volume = Volume()
                volume.name = mount.source
                volume.labels = mount.volumeOptions?.labels ?? [:]
                volume.isAnonymous = anonymous.contains(mount.source)
                _ = try volumes.create(volume, now: .now())
                madeVolumes.append(mount.source)
            }
            try fillVolumes(configuration, home: home, layers: layers)
            let record = ContainerRecord(configuration)
            try record.write(home.record)
            table.insert(record)
        } catch {
            for name in madeVolumes { try? volumes.remove(name) }
            try? Files.removeTree(home.path)
            throw error
        }
    }

    private func fillVolumes(_ configuration: ContainerConfiguration, home: ContainerHome, layers: [String]) throws(ApusError) {
        let empty = configuration.mounts.filter { mount in
            mount.kind == .volume && mount.volumeOptions?.noCopy != true && mount.volumeOptions?.subpath.isEmpty != false
                && ((try? Files.list(volumes.data(mount.source)))?.isEmpty ?? false)
        }
        guard !empty.isEmpty else { return }
        let bundle = layout.bundle(configuration.id.text)
        try Files.makeDirectory(bundle.root)
        defer { try? Files.removeTree(bundle.path) }
        try Overlay.mount(layers: layers, home: home, at: bundle.root)
        defer { try? Overlay.unmount(bundle.root) }
        for mount in empty { try VolumeFill.fill(volumes.data(mount.source), from: mount.target, in: bundle.root) }
    }

    func specification(
        _ configuration: ContainerConfiguration, user: ProcessUser, mounts: [ResolvedMount], files: [String: String]
    ) throws(ApusError) -> Specification {
        try Specification(
            configuration: configuration,
            context: SpecificationContext(
                cgroupVersion: cgroups.version, cgroupPath: cgroup(configuration), capabilities: machine.capabilities, kernel: machine.kernel,
                seccompSupported: SeccompPlatform.isSupported, swapLimits: machine.swapLimits, initPath: RuntimeTools.initPath(),
                rootPath: layout.bundle(configuration.id.text).root, user: user, files: files, mounts: mounts,
                devices: try Devices.find(for: configuration)))
    }

    // MARK: - Remove

    func remove(_ id: ID) async throws(ApusError) {
        let image = try table.record(id).configuration.imageID
        try await workers.run(key: id.text) { () throws(ApusError) in
            let record = try self.table.record(id)
            guard record.container.state.phase != .running else {
                throw ApusError(
                    .conflict,
                    "cannot remove container \"\(record.configuration.name)\": container is running: stop the container before removing or force remove"
                )
            }
            let home = self.layout.home(id.text)
            // First what makes it a container: if the rest fails, the next start of the engine cleans it up.
            try Files.removeTree(home.record)
            try self.clean(record)
            try Files.removeTree(home.path)
            self.table.remove(id)
            if record.configuration.removeWhenEnded { self.removeAnonymousVolumes(of: record) }
            if self.table.isEmpty {
                self.cgroups.removeIfEmpty("\(self.cgroupParent)/conmon")
                self.cgroups.removeIfEmpty(self.cgroupParent)
            }
        }
        await images.release(image: image, for: id)
    }

    private func removeAnonymousVolumes(of record: ContainerRecord) {
        for mount in record.configuration.mounts where mount.kind == .volume {
            guard let volume = try? volumes.volume(mount.source), volume.isAnonymous, users(ofVolume: mount.source).isEmpty else { continue }
            try? volumes.remove(mount.source)
        }
    }

    func users(ofVolume name: String) -> [ID] {
        table.all().filter { $0.configuration.mounts.contains { $0.kind == .volume && $0.source == name } }.map(\.id)
    }

    func removeVolume(_ name: String) throws(ApusError) {
        let users = users(ofVolume: name)
        guard users.isEmpty else {
            throw ApusError(.conflict, "remove \(name): volume is in use - [\(users.map(\.text).joined(separator: ", "))]")
        }
        try volumes.remove(name)
    }

    /// Takes away what a container has while it runs. Nothing to take away is fine.
    func clean(_ record: ContainerRecord) throws(ApusError) {
        let id = record.id.text
        let bundle = layout.bundle(id)
        monitor.unwatch(id)
        let group = cgroup(record.configuration)
        cgroups.killAll(group)
        try cgroups.remove(group)
        cgroupParents.remove(parentGroup(record.configuration), upTo: record.madeCgroup, of: record.id, removeIfEmpty: cgroups.removeIfEmpty)
        try Overlay.unmount(bundle.root)
        try Files.removeTree(bundle.runtimeState)
        try Files.removeTree(bundle.path)
        unlink(bundle.exitFile)
    }

    func rootLayers(_ record: ContainerRecord) async throws(ApusError) -> [String] {
        try await images.rootLayers(of: record.configuration.imageID)
    }
}

/// Breaks the circle between a container list and what calls it back.
final class WeakReference<Value: AnyObject & Sendable>: @unchecked Sendable {
    // Written once, before the first call back.
    weak var value: Value?
}

extension Timestamp {
    static func now() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }
}
