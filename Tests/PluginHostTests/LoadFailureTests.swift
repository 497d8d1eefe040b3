import Files
import Glibc
import PluginAPI
import Testing

@testable import PluginHost

/// Plugins that look right and cannot be loaded or made.
@Suite struct LoadFailureTests {
    private let bench: Bench

    init() throws { bench = try Bench() }

    private static let entry = "void *apus_plugin_entry(const void *identity) { return 0; }"

    /// Enabling fails with the reason, and the list shows it afterwards.
    private func expectFailure(_ name: String, _ reason: String) async throws {
        #expect(try await bench.info(name).state == .available)
        let error = await #expect(throws: ApusError.self) { try await bench.registry.enable(name) }
        #expect(error?.code == .failed)
        #expect(error?.message.contains(reason) == true, "\(error?.message ?? "")")
        let info = try await bench.info(name)
        #expect(info.state == .failed)
        #expect(info.reason.contains(reason), "\(info.reason)")
        #expect(bench.registry.enabled.isEmpty)
        // It is not tried again at the next start.
        #expect(!Files.exists("\(bench.dataRoot)/plugins/enabled.json"))
    }

    @Test func aMissingFunctionIsNamed() async throws {
        let body = "extern int apus_test_nobody_has_this(void); int use(void) { return apus_test_nobody_has_this(); }\n\(Self.entry)"
        try bench.put(try Workshop.c("lacking", body: body, in: bench.folder), "scheduler-lacking.so")
        try await expectFailure("scheduler/lacking", "apus_test_nobody_has_this")
        #expect(!Workshop.hasRun("lacking"))
    }

    @Test func aMissingVersionIsNamed() async throws {
        // A library that had the function in version TWO when the plugin was linked, and has it in version ONE when it is loaded.
        let library = "\(bench.folder)/libapustestversion.so"
        for version in ["ONE", "TWO"] {
            try Files.writeAtomically(Array("int apus_test_versioned(void) { return 1; }".utf8), to: "\(bench.folder)/v.c")
            try Files.writeAtomically(Array("\(version) { global: apus_test_versioned; local: *; };".utf8), to: "\(bench.folder)/v.map")
            try Workshop.run(["clang", "-shared", "-fPIC", "-o", library, "\(bench.folder)/v.c", "-Wl,--version-script=\(bench.folder)/v.map"])
            if version == "TWO" { break }
            try Files.writeAtomically(try Files.read(library), to: "\(library).one", permissions: 0o755)
        }
        let body = "extern int apus_test_versioned(void); int use(void) { return apus_test_versioned(); }\n\(Self.entry)"
        let flags = ["-Wl,-z,now", "-L\(bench.folder)", "-lapustestversion", "-Wl,-rpath,\(bench.folder)"]
        try bench.put(try Workshop.c("dated", body: body, flags: flags, in: bench.folder), "scheduler-dated.so")
        #expect(rename("\(library).one", library) == 0)
        try await expectFailure("scheduler/dated", "apus_test_versioned (version TWO)")
        #expect(!Workshop.hasRun("dated"))
    }

    @Test func aMissingSwiftSymbolIsReadable() async throws {
        // As a plugin would that calls what a later PluginAPI has.
        let body = "extern int later(void) __asm__(\"$s9PluginAPI9TimestampV5laterACyF\"); int use(void) { return later(); }\n\(Self.entry)"
        try bench.put(try Workshop.c("eager", body: body, in: bench.folder), "scheduler-eager.so")
        try await expectFailure("scheduler/eager", "PluginAPI.Timestamp.later")
    }

    @Test func aMissingLibraryIsNamed() async throws {
        let library = "\(bench.folder)/libapustestgone.so"
        try Files.writeAtomically(Array("int apus_test_gone(void) { return 1; }".utf8), to: "\(bench.folder)/gone.c")
        try Workshop.run(["clang", "-shared", "-fPIC", "-o", library, "\(bench.folder)/gone.c", "-Wl,-soname,libapustestgone.so.7"])
        let body = "extern int apus_test_gone(void); int use(void) { return apus_test_gone(); }\n\(Self.entry)"
        let flags = ["-Wl,-z,now", "-L\(bench.folder)", "-lapustestgone"]
        try bench.put(try Workshop.c("lonely", body: body, flags: flags, in: bench.folder), "scheduler-lonely.so")
        try await expectFailure("scheduler/lonely", "libapustestgone.so.7")
        #expect(!Workshop.hasRun("lonely"))
    }

    @Test func aLibraryThatALibraryNeedsIsNamed() async throws {
        for (name, needs) in [("deep", []), ("shallow", ["-L\(bench.folder)", "-lapustestdeep"])] as [(String, [String])] {
            try Files.writeAtomically(Array("int apus_test_\(name)(void) { return 1; }".utf8), to: "\(bench.folder)/\(name).c")
            try Workshop.run(
                ["clang", "-shared", "-fPIC", "-Wl,--no-as-needed", "-o", "\(bench.folder)/libapustest\(name).so", "\(bench.folder)/\(name).c"]
                    + needs)
        }
        let body = "extern int apus_test_shallow(void); int use(void) { return apus_test_shallow(); }\n\(Self.entry)"
        let flags = ["-Wl,-z,now", "-L\(bench.folder)", "-lapustestshallow", "-Wl,-rpath,\(bench.folder)", "-Wl,-rpath-link,\(bench.folder)"]
        try bench.put(try Workshop.c("chained", body: body, flags: flags, in: bench.folder), "scheduler-chained.so")
        unlink("\(bench.folder)/libapustestdeep.so")
        try await expectFailure("scheduler/chained", "libapustestdeep.so")
    }

    @Test func anotherCopyOfTheInterface() async throws {
        try bench.put(try Patch(Workshop.shelf().doubled).named("doubled").bytes, "scheduler-doubled.so")
        try await expectFailure("scheduler/doubled", "PluginAPI of its own")
    }

    @Test func anEntryThatReturnsSomethingElse() async throws {
        let body = "static void *thing[4]; void *apus_plugin_entry(const void *identity) { return thing; }"
        try bench.put(try Workshop.c("odd", body: body, in: bench.folder), "scheduler-odd.so")
        try await expectFailure("scheduler/odd", "something else than a PluginFactory")
    }

    @Test func aPluginOfAnotherRoleThanItSays() async throws {
        try bench.put(try Patch(Workshop.shelf().good).named("masked").record(16, PluginRole.network.number).bytes, "x.so")
        try await expectFailure("network/masked", "not a NetworkDriver")
    }

    @Test func aFactoryThatThrowsCanBeTriedAgain() async throws {
        let bench = try Bench(options: ["scheduler/moody": ["fail": "the moon is not full"]])
        try bench.putGood("moody")
        let error = await #expect(throws: ApusError.self) { try await bench.registry.enable("scheduler/moody") }
        #expect(error?.message.contains("the moon is not full") == true)
        let info = try await bench.info("scheduler/moody")
        #expect(info.state == .failed && info.reason.contains("the moon is not full"))
        #expect(throws: ApusError.self) { try bench.registry.scheduler(named: "moody") }
        // With what it wants it works, on the image that is in memory already.
        let second = bench.restarted()
        try await second.enable("scheduler/moody")
        #expect(try await second.inspect("scheduler/moody").state == .enabled)
        // And a start with what it does not want leaves the others alone.
        let third = bench.restarted(options: ["scheduler/moody": ["fail": "clouds"]])
        try bench.putGood("calm", in: bench.defaults)
        await third.start()
        #expect(third.enabled == [PluginIdentity(.scheduler, "calm")])
        #expect(try await third.inspect("scheduler/moody").reason.contains("clouds"))
    }
}
