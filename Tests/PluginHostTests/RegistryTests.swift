import Files
import Glibc
import PluginAPI
import Synchronization
import Testing

@testable import PluginHost

/// Good plugins, and what becomes of them.
@Suite struct RegistryTests {
    private let bench: Bench

    init() throws { bench = try Bench() }

    private func isMapped(_ path: String) -> Bool { ((try? Files.readText("/proc/self/maps")) ?? "").contains(path) }

    private func ask(_ scheduler: any Scheduler) throws -> String? {
        var task = Task()
        task.id = "task"
        return try scheduler.schedule(ScheduleRequest(tasks: [task], now: .never)).reasons["task"]
    }

    @Test func loadedUsedDisabledAndEnabledAgain() async throws {
        let path = try bench.putGood("life")
        var info = try await bench.info("scheduler/life")
        #expect(info.state == .available && info.reason.isEmpty && !info.isLoaded && !info.isDefault)
        #expect(info.manifest?.version == "1.2.3" && info.sha256.count == 64)
        await bench.registry.start()
        // A drop-in is not loaded before it is enabled.
        #expect(!isMapped(path))
        #expect(throws: ApusError.self) { try bench.registry.scheduler() }

        try await bench.registry.enable("scheduler/life")
        #expect(isMapped(path))
        info = try await bench.info("life")
        #expect(info.state == .enabled && info.isLoaded && info.reason.isEmpty)
        let scheduler = try bench.registry.scheduler(named: "life")
        #expect(try ask(scheduler) == "placed by nobody, in \(bench.dataRoot)/plugins/scheduler/life")
        scheduler.apply([.nodeRemoved("a"), .nodeRemoved("b")])
        #expect(bench.registry.counters.values["apus_plugin_scheduler_life_changes"] == 2)
        for folder in ["\(bench.dataRoot)/plugins/scheduler/life", "\(bench.folder)/run/plugins/scheduler/life"] {
            var status = stat()
            #expect(stat(folder, &status) == 0 && status.st_mode & 0o7777 == 0o700, "\(folder)")
        }
        // Enabling what is enabled changes nothing.
        #expect(try await bench.registry.enable("scheduler/life") === scheduler)

        try await bench.registry.disable("scheduler/life")
        #expect(bench.registry.counters.values["apus_plugin_scheduler_life_ends"] == 1)
        #expect(throws: ApusError.self) { try bench.registry.scheduler(named: "life") }
        info = try await bench.info("scheduler/life")
        #expect(info.state == .disabled && info.isLoaded && info.reason.isEmpty)

        let again = try await bench.registry.enable("scheduler/life")
        #expect(again !== scheduler)
        #expect(try ask(try bench.registry.scheduler()) != nil)
        await bench.registry.stop()
        #expect(bench.registry.counters.values["apus_plugin_scheduler_life_ends"] == 2)
    }

    @Test func enabledOnesComeBackAfterARestart() async throws {
        let path = try bench.putGood("lasting")
        try await bench.registry.enable("scheduler/lasting")
        let second = bench.restarted()
        await second.start()
        #expect(second.enabled == [PluginIdentity(.scheduler, "lasting")])

        // Another content under the same name is code that nobody has agreed to.
        try bench.put(try Patch(Workshop.shelf().good).named("lasting").record(22, 9).bytes, "scheduler-lasting.so")
        let third = bench.restarted()
        await third.start()
        #expect(third.enabled.isEmpty)
        #expect(try await third.inspect("scheduler/lasting").state == .missing)
        #expect(try await third.inspect("scheduler/lasting").reason.contains("not the one that was enabled"))

        unlink(path)
        let fourth = bench.restarted()
        await fourth.start()
        let gone = try await fourth.inspect("scheduler/lasting")
        #expect(gone.state == .missing && gone.reason.contains("its file is gone"))
        let error = await #expect(throws: ApusError.self) { try await fourth.enable("scheduler/lasting") }
        #expect(error?.code == .notFound)
        // Disabling forgets it.
        try await fourth.disable("scheduler/lasting")
        #expect(await fourth.list().isEmpty)
        let fifth = bench.restarted()
        await fifth.start()
        #expect(await fifth.list().isEmpty)
    }

    @Test func aFileThatVanishesOrChangesInUse() async throws {
        let path = try bench.putGood("fleeting")
        try await bench.registry.enable("scheduler/fleeting")
        let scheduler = try bench.registry.scheduler()
        unlink(path)
        var info = try await bench.info("scheduler/fleeting")
        #expect(info.state == .enabled && info.reason.contains("its file is gone"))
        #expect(try ask(scheduler) != nil)
        try bench.put(try Patch(Workshop.shelf().good).named("fleeting").record(22, 8).bytes, "scheduler-fleeting.so")
        info = try await bench.info("scheduler/fleeting")
        #expect(info.state == .enabled && info.reason.contains("changed since it was loaded"))
        #expect(try ask(scheduler) != nil)
        // Once disabled, the new file needs a restart: two images with the same types would be a trap.
        try await bench.registry.disable("scheduler/fleeting")
        info = try await bench.info("scheduler/fleeting")
        #expect(info.state == .disabled && info.reason.contains("restart the engine"))
        let error = await #expect(throws: ApusError.self) { try await bench.registry.enable("scheduler/fleeting") }
        #expect(error?.code == .conflict && error?.message.contains("restart the engine") == true)
        try bench.put(Array("rubbish".utf8), "scheduler-fleeting.so")
        #expect(try await bench.info("scheduler/fleeting").state == .refused)
    }

    @Test func oneSchedulerTakesThePlaceOfTheOther() async throws {
        try bench.putGood("spread", in: bench.defaults)
        try bench.putGood("binpack", in: bench.defaults)
        try bench.putGood("own")
        await bench.registry.start()
        #expect(bench.registry.enabled == [PluginIdentity(.scheduler, "spread")])

        let seen = Mutex<[String]>([])
        let registry = bench.registry
        registry.setHooks(
            PluginRegistryHooks(changed: { role in
                // The one that was replaced has not been shut down yet.
                let ends = registry.counters.values["apus_plugin_scheduler_spread_ends"] ?? 0
                seen.withLock { $0.append("\(role.rawValue): \(registry.enabled.map(\.name)), \(ends) ended") }
            }))
        try await registry.enable("scheduler/binpack")
        #expect(registry.enabled == [PluginIdentity(.scheduler, "binpack")])
        #expect(seen.withLock { $0 } == ["scheduler: [\"binpack\"], 0 ended"])
        #expect(registry.counters.values["apus_plugin_scheduler_spread_ends"] == 1)
        #expect(try await bench.info("scheduler/spread").state == .disabled)
        let second = bench.restarted()
        await second.start()
        #expect(second.enabled == [PluginIdentity(.scheduler, "binpack")])

        // Without the chosen one, the default takes its place.
        try await registry.enable("scheduler/own")
        try await registry.disable("scheduler/own")
        #expect(registry.enabled == [PluginIdentity(.scheduler, "spread")])
        let error = await #expect(throws: ApusError.self) { try await registry.disable("scheduler/spread") }
        #expect(error?.code == .conflict)
        #expect(registry.enabled == [PluginIdentity(.scheduler, "spread")])
    }

    @Test func whatIsInUseIsNotDisabled() async throws {
        try bench.putGood("needed")
        try await bench.registry.enable("scheduler/needed")
        bench.registry.setHooks(PluginRegistryHooks(inUse: { _ in "three networks" }))
        let error = await #expect(throws: ApusError.self) { try await bench.registry.disable("scheduler/needed") }
        #expect(error?.code == .conflict && error?.message.contains("three networks") == true)
        try await bench.registry.disable("scheduler/needed", force: true)
        #expect(bench.registry.enabled.isEmpty)
    }

    @Test func installedAndRemoved() async throws {
        let source = try bench.put(try Patch(Workshop.shelf().good).named("parcel").bytes, "libParcel.so", in: bench.folder)
        chmod(source, 0o664)
        let info = try await bench.registry.install(from: source)
        #expect(info.path == "\(bench.more)/scheduler-parcel.so" && info.state == .available)
        var status = stat()
        #expect(stat(info.path, &status) == 0 && status.st_mode & 0o7777 == 0o755 && status.st_uid == 0)
        #expect(!isMapped(info.path))
        #expect(try Files.list(bench.more) == ["scheduler-parcel.so"])
        // Again, with a newer one.
        try bench.put(try Patch(Workshop.shelf().good).named("parcel").record(22, 4).bytes, "libParcel.so", in: bench.folder)
        #expect(try await bench.registry.install(from: source).manifest?.version == "1.2.4")

        try await bench.registry.enable("scheduler/parcel")
        for attempt in 0..<2 {
            let error = await #expect(throws: ApusError.self) {
                if attempt == 0 { try await bench.registry.remove("scheduler/parcel") } else { try await bench.registry.install(from: source) }
            }
            #expect(error?.code == .conflict && error?.message.contains("disable it first") == true)
        }
        try await bench.registry.disable("scheduler/parcel")
        try await bench.registry.remove("scheduler/parcel")
        #expect(!Files.exists(info.path))
        #expect(await bench.registry.list().isEmpty)
        let error = await #expect(throws: ApusError.self) { try await bench.registry.remove("scheduler/parcel") }
        #expect(error?.code == .notFound)
    }

    @Test func badFilesAreNotInstalled() async throws {
        let good = try Workshop.shelf().good
        try bench.putGood("house", in: bench.defaults)
        for (bytes, reason) in [
            (Array("text".utf8), "not an ELF file"), (Array(good.dropLast(1000)), "truncated"), (try Patch(good).lazy().bytes, "-z now"),
            (try Patch(good).record(14, 99).bytes, "newer"), (try Patch(good).named("house").bytes, "default set"),
        ] {
            let path = try bench.put(bytes, "bad.so", in: bench.folder)
            let error = await #expect(throws: ApusError.self) { try await bench.registry.install(from: path) }
            #expect(error?.message.contains(reason) == true, "\(error?.message ?? "")")
        }
        let error = await #expect(throws: ApusError.self) { try await bench.registry.install(from: "\(bench.folder)/none.so") }
        #expect(error?.code == .notFound)
        #expect(try Files.list(bench.more).isEmpty)
        let kept = await #expect(throws: ApusError.self) { try await bench.registry.remove("scheduler/house") }
        #expect(kept?.code == .conflict)
        // What never was a plugin can be removed by its file's name.
        try bench.put(Array("text".utf8), "odd.so")
        try await bench.registry.remove("odd.so")
        #expect(try Files.list(bench.dropIns).isEmpty)
    }

    @Test func aDamagedMemoryOfChoicesLeavesTheDefaultSet() async throws {
        try bench.putGood("spread", in: bench.defaults)
        try Files.makeDirectory("\(bench.dataRoot)/plugins")
        try Files.writeAtomically(Array("{\"enabled\": [".utf8), to: "\(bench.dataRoot)/plugins/enabled.json")
        await bench.registry.start()
        #expect(bench.registry.enabled == [PluginIdentity(.scheduler, "spread")])
    }

    /// The files as the build of the whole package leaves them.
    @Test(.enabled(if: Files.exists("\(Workshop.products)/libSchedulerSpread.so"), "the plugins are not built")) func theDefaultSetIsGood()
        async throws
    {
        let files = [
            "SchedulerSpread": "scheduler/spread", "SchedulerBinpack": "scheduler/binpack", "CAInternal": "ca/internal",
            "CAExternal": "ca/external", "NetworkBridge": "network/bridge", "NetworkOverlay": "network/overlay", "BalancerNFTables": "balancer/nftables",
            "BalancerIPVS": "balancer/ipvs", "RuntimeOCI": "runtime/oci",
        ]
        for (product, name) in files {
            let content = PluginContent(try Files.read("\(Workshop.products)/lib\(product).so"))
            #expect(content.problem == nil, "\(name): \(content.problem?.reason ?? "")")
            #expect(content.manifest.map { PluginIdentity($0.role, $0.name).description } == name)
            try bench.put(try Files.read("\(Workshop.products)/lib\(product).so"), "\(product).so", in: bench.defaults)
        }
        for name in ["scheduler/spread", "scheduler/binpack"] {
            try await bench.registry.enable(name)
            #expect(try ask(try bench.registry.scheduler())?.isEmpty == false)
        }
    }

    /// Every plugin carries the engine's own list of compilers; an older one would take a new compiler for an old one.
    @Test func everyPluginHasTheSameListOfCompilers() throws {
        let root = Files.parent(Files.parent(Files.parent(#filePath)))
        let own = try Files.read("\(root)/Sources/Core/PluginHost/Compiler.swift")
        let entries = try Files.list("\(root)/Plugins").map { "\(root)/Plugins/\($0)/Entry/Compiler.swift" }
        #expect(entries.count >= 6)
        for path in entries + ["\(root)/contrib/examples/scheduler-roundrobin/Sources/SchedulerRoundrobin/Compiler.swift"] {
            #expect(try Files.read(path) == own, "\(path)")
        }
    }

    @Test func namesThatMeanNothingOrTooMuch() async throws {
        try bench.putGood("same")
        try bench.put(try Patch(Workshop.shelf().good).named("same").record(16, PluginRole.network.number).bytes, "network-same.so")
        let none = await #expect(throws: ApusError.self) { try await bench.registry.inspect("scheduler/none") }
        #expect(none?.code == .notFound)
        let both = await #expect(throws: ApusError.self) { try await bench.registry.inspect("same") }
        #expect(both?.code == .invalidArgument)
        #expect(try await bench.info("network/same:latest").path.hasSuffix("network-same.so"))
    }
}
