import Files
import Glibc
import PluginAPI
import Testing

@testable import PluginHost

/// One small plugin for each way in which a plugin can be wrong: it is listed with the reason, cannot be enabled, and the engine goes on.
@Suite struct RefusalTests {
    private let bench: Bench

    init() throws { bench = try Bench() }

    /// What the list says of the only plugin of that name; enabling it must fail for the same reason.
    private func expect(_ name: String, _ state: PluginState, _ reason: String, code: ApusError.Code = .conflict) async throws {
        let info = try await bench.info(name)
        #expect(info.state == state)
        #expect(info.reason.contains(reason), "\(info.reason)")
        #expect(!info.isLoaded)
        let error = await #expect(throws: ApusError.self) { try await bench.registry.enable(name) }
        #expect(error?.code == code)
        #expect(error?.message.contains(reason) == true, "\(error?.message ?? "")")
        #expect(bench.registry.enabled.isEmpty)
        #expect(!isMapped(bench.folder))
    }

    private func isMapped(_ text: String) -> Bool { ((try? Files.readText("/proc/self/maps")) ?? "").contains(text) }

    // MARK: The file's bytes

    @Test func notAnELFFile() async throws {
        try bench.put(Array("#!/bin/sh\nexit 1\n".utf8), "scheduler-text.so")
        try await expect("scheduler/text", .refused, "not an ELF file")
        try bench.put([], "scheduler-empty.so")
        try await expect("scheduler/empty", .refused, "not an ELF file")
    }

    @Test func truncated() async throws {
        let good = try Workshop.shelf().good
        for length in [64, 200, 4096, good.count / 2, good.count - 1] { try bench.put(Array(good[..<length]), "scheduler-cut\(length).so") }
        for info in await bench.registry.list() {
            #expect(info.state == .refused && info.reason.contains("truncated"), "\(info.name): \(info.reason)")
        }
    }

    @Test func noRecord() async throws {
        try bench.put(try Patch(Workshop.shelf().good).renaming("apus_plugin").bytes, "scheduler-mute.so")
        try await expect("scheduler/mute", .refused, "no record")
    }

    @Test func otherMajor() async throws {
        try bench.put(try Patch(Workshop.shelf().good).named("major").record(12, APIVersion.major + 1).bytes, "scheduler-major.so")
        try await expect("scheduler/major", .incompatible, "made for PluginAPI \(APIVersion.major + 1).\(APIVersion.minor)")
    }

    @Test func newerMinor() async throws {
        try bench.put(try Patch(Workshop.shelf().good).named("minor").record(14, APIVersion.minor + 1).bytes, "scheduler-minor.so")
        try await expect("scheduler/minor", .incompatible, "newer than this engine's \(APIVersion.major).\(APIVersion.minor)")
    }

    @Test func otherCompiler() async throws {
        try bench.put(try Patch(Workshop.shelf().good).named("compiler").compiler(99).bytes, "scheduler-compiler.so")
        try await expect("scheduler/compiler", .incompatible, "made with Swift 6.99")
    }

    @Test func lazyBinding() async throws {
        try bench.put(try Patch(Workshop.shelf().good).named("lazy").lazy().bytes, "scheduler-lazy.so")
        try await expect("scheduler/lazy", .refused, "-z now")
    }

    @Test func lazyBindingAsTheLinkerLeavesIt() async throws {
        let bytes = try Workshop.c("idle", body: "void *apus_plugin_entry(const void *i) { return 0; }", flags: ["-Wl,-z,lazy"], in: bench.folder)
        try bench.put(bytes, "scheduler-idle.so")
        try await expect("scheduler/idle", .refused, "-z now")
        #expect(!Workshop.hasRun("idle"))
    }

    @Test func missingEntry() async throws {
        try bench.put(try Workshop.c("closed", body: "", in: bench.folder), "scheduler-closed.so")
        try await expect("scheduler/closed", .refused, "no entry point")
        #expect(!Workshop.hasRun("closed"))
    }

    // MARK: Who may write it

    @Test func writableByOthers() async throws {
        let path = try bench.putGood("open")
        for mode: UInt32 in [0o757, 0o775] {
            chmod(path, mode)
            try await expect("scheduler/open", .refused, "others may write the file", code: .conflict)
        }
        chmod(path, 0o755)
        #expect(try await bench.info("scheduler/open").state == .available)
    }

    @Test func folderWritableByOthers() async throws {
        try bench.putGood("porch")
        chmod(bench.dropIns, 0o777)
        try await expect("scheduler/porch", .refused, "others may write the folder")
        // Sticky helps a folder further up, and not the one that the file is in.
        chmod(bench.dropIns, 0o1777)
        try await expect("scheduler/porch", .refused, "others may write the folder")
        chmod(bench.dropIns, 0o755)
        chmod(bench.folder, 0o777)
        try await expect("scheduler/porch", .refused, "others may write the folder \(bench.folder)")
        chmod(bench.folder, 0o755)
        #expect(try await bench.info("scheduler/porch").state == .available)
    }

    @Test func ownedByAnotherUser() async throws {
        let path = try bench.putGood("lent")
        chown(path, 65534, 0)
        try await expect("scheduler/lent", .refused, "belongs to user 65534")
        chown(path, 0, 0)
        chown(bench.dropIns, 65534, 0)
        try await expect("scheduler/lent", .refused, "belongs to user 65534")
        chown(bench.dropIns, 0, 0)
    }

    @Test func symbolicLink() async throws {
        let path = try bench.putGood("aim", in: bench.folder)
        #expect(symlink(path, "\(bench.dropIns)/scheduler-link.so") == 0)
        try await expect("scheduler/link", .refused, "symbolic link")
    }

    @Test func notAFile() async throws {
        #expect(mkfifo("\(bench.dropIns)/scheduler-pipe.so", 0o755) == 0)
        try await expect("scheduler/pipe", .refused, "not a plain file")
    }

    // MARK: Two of a kind

    @Test func secondOfTheSameName() async throws {
        let first = try bench.putGood("twin", file: "a.so")
        let second = try bench.putGood("twin", file: "b.so")
        let third = try bench.putGood("twin", in: bench.more, file: "0.so")
        func states() async -> [String: PluginState] {
            Dictionary(uniqueKeysWithValues: await bench.registry.list().map { ($0.path, $0.state) })
        }
        #expect(await states() == [first: .available, second: .refused, third: .refused])
        #expect(await bench.registry.list().first { $0.path == third }?.reason.contains(first) == true)
        // The default set comes before all others, wherever the file sorts.
        let own = try bench.putGood("twin", in: bench.defaults, file: "z.so")
        #expect(await states() == [own: .available, first: .refused, second: .refused, third: .refused])
        // A file that cannot be used is in nobody's way.
        chmod(own, 0o777)
        #expect(await states() == [own: .refused, first: .available, second: .refused, third: .refused])
        try await bench.registry.enable("scheduler/twin")
        // One that is in use keeps its name.
        chmod(own, 0o755)
        #expect(await states() == [own: .refused, first: .enabled, second: .refused, third: .refused])
    }
}
