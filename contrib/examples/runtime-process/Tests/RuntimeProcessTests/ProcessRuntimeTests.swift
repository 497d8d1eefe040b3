import Glibc
import PluginAPI
import Testing

@testable import RuntimeProcess

/// What the engine hands to a plugin, for tests.
private struct TestHost: HostServices {
    var configuration: [String: String] = [:]
    var stateDirectory: String
    var runDirectory: String { stateDirectory }
    var engineVersion: String { "test" }
    func log(_ level: LogLevel, _ message: String) {}
    func count(_ counter: String, by amount: Int) {}
}

/// A runtime with a folder of its own, for one test; everything in it is ended with it.
private func withRuntime(_ body: (ProcessRuntime, TestHost) async throws -> Void) async throws {
    var template = Array("/tmp/runtime-process-XXXXXX".utf8CString)
    mkdtemp(&template)
    let folder = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let host = TestHost(stateDirectory: folder)
    do {
        try await body(try ProcessRuntime(host: host), host)
    } catch {
        Issue.record(error)
    }
    let last = try ProcessRuntime(host: host)
    for container in try await last.containers() {
        _ = try await last.stop(StopRequest(id: container.configuration.id, signal: SIGKILL, gracePeriod: .zero))
        try await last.remove(container.configuration.id)
    }
    await last.shutDown()
    #expect(File.names(in: last.layout.containers).isEmpty)
    File.removeFolder(last.layout.containers)
    File.removeFolder(last.layout.exits)
    File.removeFolder(folder)
}

private func configuration(_ script: String, _ change: (inout ContainerConfiguration) -> Void = { _ in }) -> ContainerConfiguration {
    var configuration = ContainerConfiguration()
    configuration.id = .randomContainer()
    configuration.name = "box"
    configuration.hostname = "box"
    configuration.arguments = ["/bin/sh", "-c", script]
    change(&configuration)
    return configuration
}

extension ProcessRuntime {
    fileprivate func begin(_ configuration: ContainerConfiguration) async throws -> ContainerState {
        try await create(configuration)
        return try await start(configuration.id)
    }

    /// What it has written, a frame each: the stream's number and the text.
    fileprivate func lines(_ id: ID, _ change: (inout LogRequest) -> Void = { _ in }) async throws -> [String] {
        let path = "\(layout.root)/output-\(id.short)"
        let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        defer {
            close(descriptor)
            unlink(path)
        }
        var request = LogRequest(id: id, descriptor: descriptor)
        change(&request)
        try await logs(request)
        var bytes = (File.bytes(path) ?? [])[...]
        var lines: [String] = []
        while bytes.count >= 8 {
            let head = Array(bytes.prefix(8))
            let length = head[4...].reduce(0) { $0 << 8 | Int($1) }
            let text = String(decoding: bytes.dropFirst(8).prefix(length), as: UTF8.self)
            lines.append("\(head[0])" + (text.hasSuffix("\n") ? String(text.dropLast()) : text))
            bytes = bytes.dropFirst(8 + length)
        }
        return lines
    }

    /// Waits until it has written the line.
    fileprivate func awaitLine(_ id: ID, _ line: String) async throws {
        while try await !lines(id).contains(line) { try await _Concurrency.Task.sleep(for: .milliseconds(5)) }
    }
}

@Suite(.enabled(if: getuid() == 0)) struct ProcessRuntimeTests {
    @Test func fromCreateToRemove() async throws {
        try await withRuntime { runtime, _ in
            let box = configuration("echo out $A; echo err >&2; printf end; exit 3") { $0.environment = ["A=1"] }
            try await runtime.create(box)
            await #expect(throws: ApusError.self) { try await runtime.create(box) }
            #expect(try await runtime.container(box.id).state.phase == .created)
            await #expect(throws: ApusError.self) { try await runtime.signal(box.id, SIGTERM) }
            let events = runtime.events()
            let started = try await runtime.start(box.id)
            #expect(started.phase == .running && started.processID > 0 && !started.startedAt.isNever)
            let ended = try await runtime.wait(box.id)
            #expect(ended.phase == .exited && ended.exitCode == 3 && ended.finishedAt >= ended.startedAt)
            var kinds: [RuntimeEvent.Kind] = []
            for await event in events {
                #expect(event.containerID == box.id)
                kinds.append(event.kind)
                if event.kind == .ended { break }
            }
            #expect(kinds == [.started, .ended])
            #expect(try await runtime.lines(box.id).sorted() == ["1end", "1out 1", "2err"])
            #expect(try await runtime.lines(box.id) { $0.standardOutput = false } == ["2err"])
            #expect(try await runtime.lines(box.id) { $0.since = Timestamp(nanoseconds: .max) }.isEmpty)
            let stamped = try await runtime.lines(box.id) { $0.timestamps = true }
            #expect(stamped.allSatisfy { Timestamp(String($0.dropFirst().prefix { $0 != " " })) != nil })
            let counting = configuration("for i in 1 2 3 4; do echo $i; done")
            _ = try await runtime.begin(counting)
            _ = try await runtime.wait(counting.id)
            #expect(try await runtime.lines(counting.id) { $0.tail = 2 } == ["13", "14"])
            #expect(try await runtime.lines(counting.id) { $0.tail = 0 }.isEmpty)
            // Followed, it ends with the process.
            #expect(try await runtime.lines(counting.id) { $0.follow = true } == ["11", "12", "13", "14"])
            // Once more: the log goes on.
            _ = try await runtime.start(box.id)
            #expect(try await runtime.wait(box.id).exitCode == 3)
            #expect(try await runtime.lines(box.id).filter { $0 == "2err" }.count == 2)
            try await runtime.remove(box.id)
            await #expect(throws: ApusError.self) { try await runtime.container(box.id) }
        }
    }

    @Test func signalsGraceAndWhatIsLeftBehind() async throws {
        try await withRuntime { runtime, _ in
            let polite = configuration("trap 'echo bye; exit 5' QUIT; echo ready; while :; do sleep 0.01; done") { $0.stopSignal = "SIGQUIT" }
            _ = try await runtime.begin(polite)
            try await runtime.awaitLine(polite.id, "1ready")
            await #expect(throws: ApusError.self) { try await runtime.start(polite.id) }
            await #expect(throws: ApusError.self) { try await runtime.remove(polite.id) }
            #expect(try await runtime.stop(StopRequest(id: polite.id)).exitCode == 5)
            #expect(try await runtime.lines(polite.id) == ["1ready", "1bye"])
            #expect(try await runtime.stop(StopRequest(id: polite.id)).exitCode == 5)

            let deaf = configuration("trap '' TERM; sleep 1000 & echo $!; wait")
            _ = try await runtime.begin(deaf)
            while try await runtime.lines(deaf.id).isEmpty { try await _Concurrency.Task.sleep(for: .milliseconds(5)) }
            let child = try #require(Int32(try await runtime.lines(deaf.id).first?.dropFirst() ?? ""))
            #expect(try await runtime.statistics(deaf.id).processes >= 2)
            #expect(ProcessIdentity(running: child) != nil)
            #expect(try await runtime.stop(StopRequest(id: deaf.id, gracePeriod: .milliseconds(50))).exitCode == 137)
            while ProcessIdentity(running: child) != nil { try await _Concurrency.Task.sleep(for: .milliseconds(5)) }

            // It has ended before anybody could look, and left something.
            let short = configuration("sleep 1000 & echo $!")
            _ = try await runtime.begin(short)
            #expect(try await runtime.wait(short.id).exitCode == 0)
            let orphan = try #require(Int32(try await runtime.lines(short.id).first?.dropFirst() ?? ""))
            while ProcessIdentity(running: orphan) != nil { try await _Concurrency.Task.sleep(for: .milliseconds(5)) }
        }
    }

    /// An engine comes and goes; processes do neither.
    @Test func anotherEngineFindsEverything() async throws {
        try await withRuntime { first, host in
            let waiting = configuration("echo 1")
            let lasting = configuration("while [ ! -e \"$0\" ]; do sleep 0.01; done; exit 4") {
                $0.arguments.append(host.stateDirectory + "/lasting")
                $0.annotations = ["note": "of the engine"]
            }
            let ending = configuration("while [ ! -e \"$0\" ]; do sleep 0.01; done; exit 6") { $0.arguments.append(host.stateDirectory + "/ending") }
            try await first.create(waiting)
            let before = try await first.begin(lasting)
            let other = try await first.begin(ending)
            await first.shutDown()
            try File.write("", to: host.stateDirectory + "/ending")
            while ProcessIdentity(running: Int32(other.processID)) != nil { try await _Concurrency.Task.sleep(for: .milliseconds(5)) }

            let second = try ProcessRuntime(host: host)
            #expect(try await second.containers().count == 3)
            #expect(try await second.container(waiting.id).state == ContainerState())
            let found = try await second.container(lasting.id)
            #expect(found.configuration == lasting && found.state.processID == before.processID && found.state.phase == .running)
            #expect(try await second.wait(ending.id).exitCode == 6)
            try File.write("", to: host.stateDirectory + "/lasting")
            #expect(try await second.wait(lasting.id).exitCode == 4)
            await second.shutDown()

            let third = try ProcessRuntime(host: host)
            #expect(try await third.container(lasting.id).state.exitCode == 4)
            await third.shutDown()
        }
    }

    /// The process has ended, and its conmon had no time yet to say how; it says so to the next engine.
    @Test func anEndThatIsNotWrittenYetIsWaitedFor() async throws {
        try await withRuntime { first, host in
            let box = configuration("while [ ! -e \"$0\" ]; do sleep 0.01; done; exit 6") { $0.arguments.append(host.stateDirectory + "/end") }
            let state = try await first.begin(box)
            let monitor = try #require(Int32(File.text("\(first.layout.folder(box.id))/monitor") ?? ""))
            await first.shutDown()
            kill(monitor, SIGSTOP)
            defer { kill(monitor, SIGCONT) }
            try File.write("", to: host.stateDirectory + "/end")
            while ProcessIdentity(running: Int32(state.processID)) != nil { try await _Concurrency.Task.sleep(for: .milliseconds(5)) }

            let second = try ProcessRuntime(host: host)
            #expect(try await second.container(box.id).state.phase == .running)
            kill(monitor, SIGCONT)
            #expect(try await second.wait(box.id).exitCode == 6)
            await second.shutDown()
        }
    }

    /// conmon is gone with its process: nobody knows how it ended, but that it has.
    @Test func aLostEndIsAnEnd() async throws {
        try await withRuntime { runtime, _ in
            let box = configuration("sleep 1000")
            let state = try await runtime.begin(box)
            let monitor = try #require(Int32(File.text("\(runtime.layout.folder(box.id))/monitor") ?? ""))
            kill(monitor, SIGKILL)
            kill(Int32(state.processID), SIGKILL)
            #expect(try await runtime.wait(box.id).exitCode == 255)
        }
    }

    @Test func aNetworkNamesAndAUserOfItsOwn() async throws {
        let name = "rp-\(String(UInt32.random(in: 0 ... .max), radix: 36))"
        func ip(_ arguments: String...) throws {
            let child = try Spawn.start(["/usr/sbin/ip"] + arguments, environment: [], files: [:])
            try #require(Spawn.wait(child) == 0)
        }
        try ip("netns", "add", name)
        try await withRuntime { runtime, _ in
            let box = configuration("id -u; pwd; hostname; cat /etc/hosts /etc/resolv.conf; ls /sys/class/net; echo ready; sleep 1000") {
                $0.networkNamespacePath = "/run/netns/\(name)"
                $0.hostsFile = "10.0.0.1 somebody\n"
                $0.resolverFile = "nameserver 127.0.0.11\n"
                $0.user = "65534:65534"
                $0.workingDirectory = "/tmp"
            }
            _ = try await runtime.begin(box)
            try await runtime.awaitLine(box.id, "1ready")
            let lines = try await runtime.lines(box.id).map { $0.dropFirst() }
            #expect(lines.starts(with: ["65534", "/tmp", "box", "10.0.0.1 somebody", "nameserver 127.0.0.11"]))
            #expect(File.text("/etc/hosts")?.contains("somebody") == false)

            // A health check sees what the process sees.
            let look = ["/bin/sh", "-c", "cat /etc/hosts; hostname; id -u; echo $B; exit 2"]
            var request = ExecuteRequest(id: box.id, arguments: look, timeout: .seconds(20))
            request.environment = ["B=2"]
            let answer = try await runtime.execute(request)
            #expect(answer.exitCode == 2 && String(decoding: answer.output, as: UTF8.self) == "10.0.0.1 somebody\nbox\n65534\n2\n")
            request.arguments = ["sleep", "1000"]
            request.timeout = .milliseconds(50)
            do throws(ApusError) {
                _ = try await runtime.execute(request)
                Issue.record("it did not end")
            } catch {
                #expect(error.code == .timedOut)
            }
        }
        try ip("netns", "delete", name)
    }

    /// Whoever held the engine's socket would keep the next engine from starting.
    @Test func nothingThatIsOpenIsHandedOn() async throws {
        try await withRuntime { runtime, host in
            let held = open("\(host.stateDirectory)/held", O_RDWR | O_CREAT, 0o600)
            defer { close(held) }
            let box = configuration("sleep 1000")
            let state = try await runtime.begin(box)
            let monitor = try #require(Int64(File.text("\(runtime.layout.folder(box.id))/monitor") ?? ""))
            for process in [state.processID, monitor] {
                let folder = "/proc/\(process)/fd"
                for name in File.names(in: folder) {
                    var target = [CChar](repeating: 0, count: 4096)
                    let count = readlink("\(folder)/\(name)", &target, target.count)
                    let path = String(decoding: target.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
                    #expect(!path.hasSuffix("/held"))
                }
            }
        }
    }

    @Test func whatCannotBeStartedIsSaid() async throws {
        try await withRuntime { runtime, host in
            for (change, word) in [
                ({ $0.arguments = ["no-such-program"] }, "executable file not found"), ({ $0.arguments = ["/nonexistent"] }, "no such file"),
                ({ $0.workingDirectory = "/nonexistent" }, "chdir"), ({ $0.user = "nobody-has-this-name" }, "unable to find user"),
            ] as [((inout ContainerConfiguration) -> Void, String)] {
                let box = configuration("true", change)
                try await runtime.create(box)
                do throws(ApusError) {
                    _ = try await runtime.start(box.id)
                    Issue.record("\(word): it was started")
                } catch {
                    #expect(error.message.contains(word), "\(error.message)")
                }
                #expect(try await runtime.container(box.id).state.phase == .created)
            }
            await #expect(throws: ApusError.self) { try await runtime.image("nginx:1.25") }
            await #expect(throws: ApusError.self) { try await runtime.pull(PullRequest(reference: "no-such-program")) { _ in } }
            #expect(try await runtime.image("sleep:latest").configuration.entrypoint == ["sleep"])
            #expect(throws: ApusError.self) {
                try ProcessRuntime(host: TestHost(configuration: ["conmon": "/nonexistent"], stateDirectory: host.stateDirectory))
            }
        }
    }
}
