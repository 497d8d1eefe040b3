import Files
import Glibc
import PluginAPI
import Processes
import Testing

@testable import RuntimeOCI

@Suite struct ContainersLogTests {
    @Test func tailSinceUntilTimestampsAndStreams() async throws {
        let test = try TestRuntime()
        let id = try await test.start([
            "/bin/sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; echo wrong >&2; sleep 0.3; echo -n late; echo -n r; exit 0",
        ])
        _ = try await test.runtime.wait(id)
        #expect(try await test.log(id).output == "line 1\nline 2\nline 3\nline 4\nline 5\nlater")
        #expect(try await test.log(id) { $0.tail = 3 } == ("line 5\nlater", "wrong\n"))
        #expect(try await test.log(id) { $0.tail = 1 } == ("later", ""))
        #expect(try await test.log(id) { $0.tail = 0 } == ("", ""))
        #expect(try await test.log(id) { $0.tail = 100 } == ("line 1\nline 2\nline 3\nline 4\nline 5\nlater", "wrong\n"))
        #expect(try await test.log(id) { $0.standardOutput = false } == ("", "wrong\n"))
        let stamped = try await test.log(id) {
            $0.timestamps = true
            $0.linePrefix = "web.1 | "
        }
        let times = stamped.output.split(separator: "\n").map { String($0.prefix { $0 != " " }) }
        #expect(times.allSatisfy { $0.utf8.count == 30 && $0.hasSuffix("Z") && Timestamp($0) != nil }, "\(times)")
        #expect(stamped.output.hasPrefix("\(times[0]) web.1 | line 1\n"))
        #expect(stamped.output.hasSuffix(" web.1 | later"))
        let last = try #require(times.last.flatMap { Timestamp($0) })
        #expect(try await test.log(id) { $0.since = last }.output.hasSuffix("later"))
        #expect(try await test.log(id) { $0.since = last }.output.utf8.count <= 5)
        #expect(
            try await test.log(id) { $0.until = Timestamp(nanoseconds: last.nanoseconds - 100_000_000) } == (
                "line 1\nline 2\nline 3\nline 4\nline 5\n", "wrong\n"
            ))
        try await test.finish()
    }

    @Test func followEndsWithTheContainer() async throws {
        let test = try TestRuntime()
        let id = try await test.create(["/bin/sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done; echo end"])
        // Before it is started: the log is waited for.
        async let followed = test.log(id) { $0.follow = true }
        _ = try await test.runtime.start(id)
        #expect(try await followed.output == "1\n2\n3\nend\n")
        #expect(try await test.log(id) { $0.follow = true }.output == "1\n2\n3\nend\n", "an ended one's log is not waited for")
        try await test.finish()
    }

    @Test func followShowsALineWhenItIsWritten() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sh", "-c", "echo one; while [ ! -e /go ]; do sleep 0.02; done; echo two; sleep 1000"])
        let pipe = try TestPipe()
        var request = LogRequest(id: id, descriptor: pipe.writer)
        request.follow = true
        request.alwaysFramed = true
        let wanted = request
        let following = ConcurrentTask { try await test.runtime.logs(wanted) }
        #expect(await readFrame(pipe.reader) == "one\n")
        _ = try await test.runtime.execute(ExecuteRequest(id: id, arguments: ["touch", "/go"], timeout: .seconds(20)))
        #expect(await readFrame(pipe.reader) == "two\n")
        following.cancel()
        try await following.value
        pipe.closeWriter()
        #expect(await pipe.collect().isEmpty)
        try await test.finish()
    }

    private func readFrame(_ descriptor: Int32) async -> String {
        await onThread {
            var header = [UInt8](repeating: 0, count: 8)
            guard read(descriptor, &header, 8) == 8 else { return "no frame" }
            let length = header[4...].reduce(0) { $0 << 8 | Int($1) }
            var payload = [UInt8](repeating: 0, count: length)
            var have = 0
            while have < length {
                let count = payload.withUnsafeMutableBytes { read(descriptor, $0.baseAddress.map { $0 + have }, length - have) }
                guard count > 0 else { return "torn frame" }
                have += count
            }
            return String(decoding: payload, as: UTF8.self)
        }
    }

    @Test func followEndsWhenTheReaderGoes() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sh", "-c", "echo one; sleep 1000"])
        let pipe = try TestPipe()
        var request = LogRequest(id: id, descriptor: pipe.writer)
        request.follow = true
        let wanted = request
        let following = ConcurrentTask { try await test.runtime.logs(wanted) }
        #expect(await readFrame(pipe.reader) == "one\n")
        close(pipe.reader)
        try await following.value
        try await test.finish()
    }

    @Test func aFullPipeDoesNotHoldACancelledReader() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sh", "-c", "seq 1 50000"])
        _ = try await test.runtime.wait(id)
        let pipe = try TestPipe()
        let request = LogRequest(id: id, descriptor: pipe.writer)
        let reading = ConcurrentTask { try await test.runtime.logs(request) }
        try await eventually("the pipe is full") {
            var writable = pollfd(fd: pipe.writer, events: Int16(POLLOUT), revents: 0)
            return poll(&writable, 1, 0) == 0
        }
        reading.cancel()
        try await reading.value
        close(pipe.reader)
        try await test.finish()
    }

    @Test func longLinesComeBackWhole() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo short"])
        _ = try await test.runtime.wait(id)
        let whole = try await test.log(id) { $0.linePrefix = "> " }.output
        #expect(whole == "> \(String(repeating: "x", count: 100_000))\n> short\n")
        #expect(try await test.log(id) { $0.tail = 1 }.output == "short\n")
        #expect(try await test.log(id) { $0.tail = 2 }.output == "\(String(repeating: "x", count: 100_000))\nshort\n")
        try await test.finish()
    }

    @Test func rotationLosesNothing() async throws {
        let test = try TestRuntime()
        let count = 60_000
        let id = try await test.start([
            "/bin/sh", "-c", "i=0; while [ $i -lt \(count / 1000) ]; do seq $((i*1000+1)) $((i*1000+1000)); sleep 0.03; i=$((i+1)); done",
        ]) {
            $0.log.options = ["max-size": "300k", "max-file": "50"]
        }
        async let followed = test.log(id) { $0.follow = true }
        _ = try await test.runtime.wait(id)
        let expected = (1...count).map { "\($0)\n" }.joined()
        let files = try Files.list("\(test.folder)/state/containers/\(id)/log")
        #expect(files.count > 3, "it was rotated: \(files)")
        // Compared apart from the expectation, which would print a megabyte.
        let whole = try await test.log(id).output
        let isWhole = whole == expected
        #expect(isWhole, "\(whole.utf8.count) bytes of \(expected.utf8.count) in \(files)")
        let seen = try await followed.output
        let isSeen = seen == expected
        #expect(isSeen, "\(seen.utf8.count) bytes of \(expected.utf8.count)")
        let isTail = try await test.log(id) { $0.tail = 20_000 }.output == (40_001...count).map { "\($0)\n" }.joined()
        #expect(isTail)
        try await test.finish()
    }

    @Test func oldFilesGoAway() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sh", "-c", "i=0; while [ $i -lt 30 ]; do seq 1 1000; sleep 0.1; i=$((i+1)); done; echo end"]) {
            $0.log.options = ["max-size": "100k", "max-file": "2"]
        }
        _ = try await test.runtime.wait(id)
        let files = try Files.list("\(test.folder)/state/containers/\(id)/log")
        #expect(files.count <= 2 && !files.isEmpty, "\(files)")
        #expect(try await test.log(id) { $0.tail = 1 }.output == "end\n")
        try await test.finish()
    }

    @Test func noLogIsKeptWithDriverNone() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/echo", "nothing"]) { $0.log.name = "none" }
        _ = try await test.runtime.wait(id)
        await #expect { try await test.log(id) } throws: { ($0 as? ApusError)?.message == "configured logging driver does not support reading" }
        await #expect { try await test.create(["/bin/true"]) { $0.log.name = "syslog" } } throws: { ($0 as? ApusError)?.code == .unimplemented }
        try await test.finish()
    }
}
