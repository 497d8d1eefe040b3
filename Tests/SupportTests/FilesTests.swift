import Events
import Files
import Glibc
import PluginAPI
import Processes
import Testing

@Suite struct FilesTests {
    private func inFolder(_ body: (String) throws -> Void) throws {
        let folder = try Files.makeTemporaryDirectory()
        defer { try? Files.removeTree(folder) }
        try body(folder)
    }

    @Test func replacesInOneStep() throws {
        try inFolder { folder in
            try Files.writeAtomically([1, 2], to: "\(folder)/a", permissions: 0o640)
            try Files.writeAtomically([3], to: "\(folder)/a", permissions: 0o640)
            #expect(try Files.read("\(folder)/a") == [3])
            #expect(try Files.list(folder) == ["a"])
            var status = stat()
            #expect(stat("\(folder)/a", &status) == 0 && status.st_mode & 0o777 == 0o640)
        }
    }

    @Test func saysWhatIsMissing() throws {
        try inFolder { folder in
            let error = #expect(throws: ApusError.self) { try Files.read("\(folder)/none") }
            #expect(error?.code == .notFound)
            #expect(throws: ApusError(.tooLarge, "\(folder)/big is larger than 3 bytes")) {
                try Files.writeAtomically([1, 2, 3, 4], to: "\(folder)/big")
                _ = try Files.read("\(folder)/big", limit: 3)
            }
        }
    }

    @Test func removesTreesWithoutFollowingLinks() throws {
        try inFolder { folder in
            try Files.makeDirectory("\(folder)/tree/a/b/c")
            try Files.makeDirectory("\(folder)/outside")
            try Files.writeAtomically([1], to: "\(folder)/outside/kept")
            #expect(symlink("\(folder)/outside", "\(folder)/tree/a/link") == 0)
            try Files.removeTree("\(folder)/tree")
            #expect(!Files.exists("\(folder)/tree"))
            #expect(Files.exists("\(folder)/outside/kept"))
            try Files.removeTree("\(folder)/tree")
        }
    }

    @Test func locksOnce() throws {
        try inFolder { folder in
            let first = try FileLock(path: "\(folder)/lock")
            let error = #expect(throws: ApusError.self) { try FileLock(path: "\(folder)/lock") }
            #expect(error?.code == .conflict)
            #expect(error?.message.contains("process \(getpid())") == true)
            withExtendedLifetime(first) {}
        }
    }
}

@Suite struct ProcessTests {
    @Test func collectsBothStreamsAndTheExitCode() async throws {
        let result = try await Processes.run(ProcessRequest("sh", ["-c", "cat; echo err >&2; exit 3"]), input: Array("in".utf8))
        #expect(result.exitCode == 3)
        #expect(result.text == "in")
        #expect(result.errorText == "err\n")
    }

    @Test func moreThanAPipeHoldsGoesThrough() async throws {
        let input = [UInt8](repeating: 7, count: 3 << 20)
        let result = try await Processes.run(ProcessRequest("cat"), input: input, outputLimit: 4 << 20)
        #expect(result.output == input)
    }

    @Test func outputPastTheLimitIsDropped() async throws {
        let result = try await Processes.run(ProcessRequest("sh", ["-c", "head -c 100000 /dev/zero"]), outputLimit: 10)
        #expect(result.output.count == 10 && result.exitCode == 0)
    }

    @Test func signalsAreCounted() async throws {
        #expect(try await Processes.run(ProcessRequest("sh", ["-c", "kill -TERM $$"])).exitCode == 128 + SIGTERM)
    }

    @Test func endsAtTheTimeLimit() async {
        await #expect(throws: ApusError.self) { try await Processes.run(ProcessRequest("sleep", ["1000"]), timeout: .milliseconds(50)) }
    }

    @Test func endsWhenCancelled() async {
        let task = ConcurrentTask { try await Processes.run(ProcessRequest("sleep", ["1000"])) }
        task.cancel()
        let error = await #expect(throws: ApusError.self) { try await task.value }
        #expect(error?.code == .cancelled)
    }

    @Test func aMissingProgramIsNotFound() async {
        let error = await #expect(throws: ApusError.self) { try await Processes.run(ProcessRequest("/no/such/program")) }
        #expect(error?.code == .notFound)
    }

    @Test func inheritsNothingButWhatIsGiven() async throws {
        let pipe = try Pipe()
        _ = fcntl(pipe.reader.number, F_SETFD, 0)
        let result = try await Processes.run(ProcessRequest("sh", ["-c", "ls /proc/self/fd | wc -l"]))
        // 0, 1, 2 and the folder that ls reads.
        #expect(result.text.filter(\.isNumber) == "4")
        withExtendedLifetime(pipe) {}
    }

    @Test func manyAtOnce() async throws {
        try await withThrowingTaskGroup(of: Int32.self) { group in
            for number in Int32(0)..<100 { group.addTask { try await Processes.run(ProcessRequest("sh", ["-c", "exit \(number)"])).exitCode } }
            var sum: Int32 = 0
            for try await code in group { sum += code }
            #expect(sum == 4950)
        }
    }
}

@Suite struct EventHubTests {
    private func event(_ number: Int) -> EngineEvent {
        EngineEvent(type: "container", action: "\(number)", actorID: "", time: Timestamp(nanoseconds: Int64(number)))
    }

    @Test func remembersTheLastAndTellsTheRest() async {
        let hub = EventHub()
        for number in 0..<300 { hub.publish(event(number)) }
        let (recent, following) = hub.subscribe()
        #expect(recent.count == EventHub.remembered && recent.first?.action == "44" && recent.last?.action == "299")
        hub.publish(event(300))
        var iterator = following.makeAsyncIterator()
        #expect(await iterator.next()?.action == "300")
    }
}
