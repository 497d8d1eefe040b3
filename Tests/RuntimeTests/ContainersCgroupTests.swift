import Files
import Glibc
import PluginAPI
import Testing

@testable import RuntimeOCI

/// Groups that users name.
@Suite struct ContainersCgroupTests {
    @Test func whatIsMadeForAStart() {
        let parents = CgroupParents()
        #expect(CgroupParents.path(to: "a//b/") == ["/a", "/a/b"] && CgroupParents.path(to: "/").isEmpty)
        var there: Set = ["/a"]
        func begin(_ id: ID, _ parent: String, made: [String] = []) -> String { parents.begin(id, below: parent, made: made) { there.contains($0) } }
        func removed(_ id: ID, _ parent: String, _ highest: String) -> [String] {
            var removed: [String] = []
            parents.remove(parent, upTo: highest, of: id) { removed.append($0) }
            return removed
        }
        #expect(begin("1", "/a") == "", "it was there, and stays")
        #expect(begin("2", "/a/b/c") == "/a/b")
        there.formUnion(["/a/b", "/a/b/c"])
        #expect(begin("3", "/a/b/d") == "/a/b", "made by a start that is under way")
        #expect(removed("2", "/a/b/c", "/a/b") == [], "the third is about to start there")
        parents.end("2")
        parents.end("3")
        #expect(begin("4", "/a/b/c", made: ["/a/b"]) == "/a/b", "made for one that runs")
        parents.end("4")
        #expect(begin("5", "/a/b/c") == "", "made by nobody who is left")
        parents.end("5")
        #expect(removed("2", "/a/b/c", "/a/b") == ["/a/b/c", "/a/b"])
        #expect(removed("1", "/a", "") == [])
    }

    @Test func aGroupThatWasMadeGoesWithItsLastContainer() async throws {
        let test = try TestRuntime()
        let cgroups = Cgroups()
        let made = test.cgroupParent + "-made"
        func start() async throws -> ID { try await test.start(["/bin/sleep", "1000"]) { $0.cgroupParent = "\(made)/deep" } }
        let (first, second) = (try await start(), try await start())
        #expect(cgroups.processes("\(made)/deep/\(first)").count == 1)
        try await test.kill(first)
        #expect(cgroups.exists("\(made)/deep"), "the second runs in it")
        // The next engine knows of it too.
        try await test.restart()
        try await test.kill(second)
        #expect(!cgroups.exists(made))
        // Stopped and started again, it is there again.
        _ = try await test.runtime.start(second)
        #expect(cgroups.exists("\(made)/deep"))
        try await test.kill(second)
        #expect(!cgroups.exists(made))
        try await test.finish()
    }

    @Test func aGroupThatWasThereStays() async throws {
        let test = try TestRuntime()
        let cgroups = Cgroups()
        let own = test.cgroupParent + "-own"
        let folders = (cgroups.version == 2 ? ["/sys/fs/cgroup"] : try Files.list("/sys/fs/cgroup").map { "/sys/fs/cgroup/\($0)" })
            .filter { Files.exists("\($0)/cgroup.procs") }
        // A new one there has no processors until it is told.
        for folder in folders where !folder.hasPrefix("/sys/fs/cgroup/cpuset") { try Files.makeDirectory(folder + own, permissions: 0o755) }
        let id = try await test.start(["/bin/sleep", "1000"]) { $0.cgroupParent = own }
        try await test.kill(id)
        #expect(cgroups.exists(own))
        try await test.finish()
        for folder in folders { rmdir(folder + own) }
        #expect(!cgroups.exists(own))
    }

    @Test func aGroupOutsideOfTheHierarchyIsRefused() async throws {
        let test = try TestRuntime()
        for bad in ["../../x", "/a/../../x", "a\0b"] {
            await #expect(throws: ApusError.self, "\(bad)") { try await test.create(["/bin/true"]) { $0.cgroupParent = bad } }
        }
        try await test.finish()
    }
}

extension TestRuntime {
    fileprivate func kill(_ id: ID) async throws {
        try await runtime.signal(id, SIGKILL)
        _ = try await runtime.wait(id)
    }
}
