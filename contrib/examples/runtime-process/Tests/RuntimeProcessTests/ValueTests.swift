import Glibc
import PluginAPI
import Testing

@testable import RuntimeProcess

@Suite struct ValueTests {
    private func configuration(_ change: (inout ContainerConfiguration) -> Void = { _ in }) -> ContainerConfiguration {
        var configuration = ContainerConfiguration()
        configuration.id = .randomContainer()
        configuration.name = "box"
        configuration.arguments = ["sleep", "1"]
        configuration.environment = ["A=1"]
        change(&configuration)
        return configuration
    }

    @Test func whatAProcessCannotHaveIsRefusedByName() {
        let changes: [(String, (inout ContainerConfiguration) -> Void)] = [
            ("mounts", { $0.mounts = [Mount()] }), ("terminal", { $0.terminal = true }), ("standard input", { $0.openStandardInput = true }),
            ("read-only", { $0.readOnlyRoot = true }), ("memory", { $0.resources.memoryBytes = 1 << 20 }), ("CPUs", { $0.resources.nanoCPUs = 1 }),
            ("processes", { $0.resources.processes = 5 }), ("capabilities", { $0.capabilityDrop = ["ALL"] }), ("seccomp", { $0.seccompProfile = "{}" }),
            ("devices", { $0.devices = [DeviceMapping()] }), ("kernel parameters", { $0.sysctls = ["a": "b"] }), ("ulimits", { $0.ulimits = [Ulimit()] }),
            ("OOM", { $0.oomScoreAdjustment = 1 }), ("groups", { $0.groups = ["adm"] }), ("init", { $0.initProcess = true }),
            ("cgroups", { $0.cgroupParent = "/x" }), ("/dev/shm", { $0.shmSize = 1 }), ("log", { $0.log.options = ["max-size": "1m"] }),
            ("cannot run", { $0.arguments = [] }), ("cannot run", { $0.arguments = ["A=1"] }),
        ]
        for (word, change) in changes {
            do throws(ApusError) {
                _ = try ProcessPlan(configuration(change))
                Issue.record("\(word) was accepted")
            } catch {
                #expect(error.code == .invalidArgument && error.message.contains(word), "\(error.message)")
            }
        }
        #expect(throws: Never.self) { try ProcessPlan(configuration()) }
        // It is the scheduler that keeps room.
        #expect(throws: Never.self) { try ProcessPlan(configuration { $0.resources.memoryReservationBytes = 1 << 20 }) }
    }

    @Test func commands() throws {
        let plain = try ProcessPlan(configuration()).command(as: nil, folder: "/f")
        #expect(
            plain == [
                "/usr/bin/env", "--ignore-environment", "--default-signal=INT,QUIT", "--chdir=/", "A=1", "PATH=\(ProcessPlan.defaultPath)", "HOME=/root",
                "sleep", "1",
            ])
        let user = ProcessUser(user: 7, group: 8, home: "/h", isKnown: false)
        let whole = try ProcessPlan(
            configuration {
                $0.networkNamespacePath = "/n"
                $0.workingDirectory = "/w"
                $0.environment = ["PATH=/p", "wrong"]
                $0.noNewPrivileges = true
            }
        ).command(as: user, folder: "/f")
        #expect(whole.starts(with: ["/usr/bin/nsenter", "--net=/n", "--", "/usr/bin/unshare"]))
        let ending = [
            "/usr/bin/setpriv", "--no-new-privs", "--reuid=7", "--regid=8", "--clear-groups", "--", "/usr/bin/env", "--ignore-environment",
            "--default-signal=INT,QUIT", "--chdir=/w", "PATH=/p", "HOME=/h", "sleep", "1",
        ]
        #expect(Array(whole.suffix(ending.count)) == ending)
    }

    @Test func programsStandForImages() {
        #expect(ProcessPlan.image("python3")?.configuration.entrypoint == ["python3"] && ProcessPlan.image("host")?.configuration.entrypoint == [])
        for wrong in ["", "nginx:latest", "a@sha256:b"] { #expect(ProcessPlan.image(wrong) == nil) }
    }

    @Test func signals() throws {
        #expect(try Signals.number("") == SIGTERM && Signals.number("SIGQUIT") == SIGQUIT && Signals.number("usr1") == SIGUSR1 && Signals.number("9") == 9)
        for wrong in ["SIGNONE", "0", "65", "-1"] { #expect(throws: ApusError.self) { try Signals.number(wrong) } }
    }

    @Test func objectsComeBackAsTheyWere() throws {
        let whole = configuration {
            $0.createdAt = Timestamp(nanoseconds: 1_700_000_000_123_456_789)
            $0.labels = ["a": "b", "": "é"]
            $0.annotations = ["apus.runtime": "process"]
            $0.stopGracePeriod = .milliseconds(1500)
            $0.healthcheck = Healthcheck()
            $0.healthcheck?.test = ["CMD", "true"]
            $0.healthcheck?.retries = -3
            $0.resources.memorySwapBytes = -1
            var endpoint = ContainerEndpoint()
            endpoint.address = "10.0.0.2/24"
            endpoint.ports = [ContainerPort(), ContainerPort()]
            endpoint.ports[1].transport = .udp
            $0.endpoints = [endpoint, ContainerEndpoint()]
            $0.hostConfiguration = "{}"
        }
        #expect(try FieldArchive.value(ContainerConfiguration.self, FieldArchive.bytes(whole)) == whole)
        var state = ContainerState()
        state.phase = .exited
        state.exitCode = -1
        #expect(try FieldArchive.value(ContainerState.self, FieldArchive.bytes(state)) == state)
        #expect(try FieldArchive.bytes(ContainerConfiguration()) == FieldArchive.bytes(FieldArchive.value(ContainerConfiguration.self, [])))
    }

    /// Damaged bytes are read as something, or refused; nothing worse.
    @Test func damagedBytesAreRefusedOrRead() throws {
        var generator = SystemRandomNumberGenerator()
        let good = try FieldArchive.bytes(configuration { $0.labels = ["a": "b"] })
        var refusals = 0
        for _ in 0..<2000 {
            var bytes = good
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bytes[Int.random(in: bytes.indices, using: &generator)] = .random(in: .min ... .max, using: &generator)
            }
            if Bool.random(using: &generator) { bytes.removeLast(Int.random(in: 0...bytes.count, using: &generator)) }
            do throws(ApusError) { _ = try FieldArchive.value(ContainerConfiguration.self, bytes) } catch { refusals += 1 }
        }
        #expect(refusals > 0)
    }

    @Test func linesOfTheLogAndOfProc() throws {
        let record = try #require(LogRecord(Array("2026-01-31T12:00:00.5+00:00 stderr P a  b ".utf8)))
        #expect(record.stream == 2 && !record.isWhole && record.text == Array("a  b ".utf8) && record.time == Timestamp("2026-01-31T12:00:00.5Z"))
        #expect(LogRecord(Array("2026-01-31T12:00:00.5+00:00 stdout F ".utf8))?.text == [])
        let stat = "12 (a) b (c) S 1 12 11 0 -1 4194560 1 2 3 4 50 7 0 0 20 0 1 0 987 10 33 0\n"
        let parsed = try #require(ProcessStat(stat))
        #expect(parsed.parent == 1 && parsed.session == 11 && parsed.ticks == 57 && parsed.startedAt == 987 && parsed.pages == 33 && !parsed.hasEnded)
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<3000 {
            var bytes = Array((Bool.random() ? stat : "2026-01-31T12:00:00.5+00:00 stdout F text").utf8)
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                bytes[Int.random(in: bytes.indices, using: &generator)] = .random(in: .min ... .max, using: &generator)
            }
            bytes.removeLast(Int.random(in: 0...bytes.count, using: &generator))
            _ = (LogRecord(bytes), ProcessStat(String(decoding: bytes, as: UTF8.self)), ProcessIdentity(String(decoding: bytes, as: UTF8.self)))
        }
    }

    @Test func theLastLines() throws {
        func record(_ text: String, _ tag: String = "F") throws -> LogRecord {
            try #require(LogRecord(Array("2026-01-31T12:00:00Z stdout \(tag) \(text)".utf8)))
        }
        func last(_ records: [LogRecord], _ lines: Int) -> [String] {
            var kept: [LogRecord] = []
            for record in records {
                kept.append(record)
                LogReader.shorten(&kept, to: lines)
            }
            return kept.map { String(decoding: $0.text, as: UTF8.self) }
        }
        let records = [try record("1"), try record("2"), try record("3", "P"), try record("3"), try record("4", "P")]
        #expect(last(records, 2) == ["3", "3", "4"] && last(records, 1) == ["4"] && last(records, 9) == ["1", "2", "3", "3", "4"])
        #expect(last(Array(records.prefix(2)), 0) == [])
    }
}
