import Files
import Glibc
import PluginAPI
import Testing

@testable import RuntimeOCI

/// What a container's process sees of its configuration.
@Suite struct ContainersProcessTests {
    @Test func environmentUserDirectoryAndHostname() async throws {
        let test = try TestRuntime()
        let result = try await test.run("env; pwd; id; hostname; cat /etc/hostname") {
            $0.environment = ["A=1", "EMPTY=", "PATH=/bin"]
            $0.workingDirectory = "/data/deep"
            $0.user = "someone"
            $0.hostname = "web-1"
        }
        let lines = Set(result.output.split(separator: "\n").map(String.init))
        for line in ["A=1", "EMPTY=", "PATH=/bin", "HOSTNAME=web-1", "HOME=/home/someone", "/data/deep", "web-1"] {
            #expect(lines.contains(line), "\(line)")
        }
        #expect(result.output.contains("uid=1000(someone) gid=1001(someone) groups=10(wheel),1001(someone)"), "\(result.output)")
        #expect(result.output.hasSuffix("web-1\nweb-1\n"))
        try await test.finish()
    }

    @Test func userByNumberAndGroupsByName() async throws {
        let test = try TestRuntime()
        let result = try await test.run("id -u; id -g; id -G") {
            $0.user = "4000:29"
            $0.groups = ["wheel", "77"]
        }
        #expect(
            result.output == "4000\n29\n29 10 77\n" || result.output == "4000\n29\n10 77 29\n" || result.output == "4000\n29\n29 77 10\n",
            "\(result.output)")
        await #expect { try await test.start(["/bin/true"]) { $0.user = "nobody-here" } } throws: { error in
            (error as? ApusError)?.message.contains("unable to find user nobody-here: no matching entries in passwd file") ?? false
        }
        try await test.finish()
    }

    @Test func aMissingProgramIs127AndOneThatMayNotRunIs126() async throws {
        let test = try TestRuntime()
        for (program, code, text) in [
            ("/bin/missing", 127 as Int64, "no such file or directory"), ("missing", 127, "exec: \"missing\": executable file not found in $PATH"),
            ("/bin/plain", 126, "permission denied"),
        ] {
            let id = try await test.create([program])
            await #expect { try await test.runtime.start(id) } throws: { error in
                (error as? ApusError)?.message.lowercased().contains(text.lowercased()) ?? false
            }
            let state = try await test.runtime.container(id).state
            #expect(state.exitCode == code, "\(program): \(state.error)")
            #expect(state.phase == .created)
            #expect(!state.error.isEmpty)
        }
        try await test.finish()
    }

    @Test func limitsOfProcessesAndFiles() async throws {
        let test = try TestRuntime()
        let result = try await test.run("ulimit -n; cat /proc/self/oom_score_adj; ulimit -Hn") {
            var limit = Ulimit()
            limit.name = "nofile"
            limit.soft = 77
            limit.hard = 99
            $0.ulimits = [limit]
            $0.oomScoreAdjustment = 123
        }
        #expect(result.output == "77\n123\n99\n")
        try await test.finish()
    }

    @Test func aTerminalMergesStreamsAndHasATerminal() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sh", "-c", "test -t 0 && test -t 1 && echo terminal; echo err >&2; echo $TERM"]) { $0.terminal = true }
        #expect(try await test.runtime.wait(id).exitCode == 0)
        #expect(try await test.log(id) { $0.alwaysFramed = true }.output == "terminal\r\nerr\r\nxterm\r\n")
        let pipe = try TestPipe()
        try await test.runtime.logs(LogRequest(id: id, descriptor: pipe.writer))
        pipe.closeWriter()
        #expect(String(decoding: await pipe.collect(), as: UTF8.self) == "terminal\r\nerr\r\nxterm\r\n", "raw, without frames")
        try await test.finish()
    }

    @Test func hostsAndResolverFilesAndDomain() async throws {
        let test = try TestRuntime()
        let result = try await test.run("cat /etc/hosts /etc/resolv.conf /etc/layer; cat /proc/sys/kernel/domainname") {
            $0.hostsFile = "10.0.0.9 here\n"
            $0.resolverFile = "nameserver 10.0.0.53\n"
            $0.domainname = "example.test"
        }
        #expect(result.output == "10.0.0.9 here\nnameserver 10.0.0.53\nupper layer\nexample.test\n")
        try await test.finish()
    }

    @Test func initReapsAndForwards() async throws {
        let test = try TestRuntime()
        if RuntimeTools.initPath() == nil {
            await #expect { try await test.create(["/bin/true"]) { $0.initProcess = true } } throws: { error in
                (error as? ApusError)?.message.contains("tini") ?? false
            }
        } else {
            let result = try await test.run("cat /proc/1/cmdline | tr '\\0' ' '") { $0.initProcess = true }
            #expect(result.output.hasPrefix("/sbin/docker-init --"))
        }
        try await test.finish()
    }

    @Test func executeRunsInside() async throws {
        let test = try TestRuntime()
        let id = try await test.start(["/bin/sleep", "1000"]) {
            $0.environment = ["FROM=container"]
            $0.workingDirectory = "/data"
        }
        var request = ExecuteRequest(
            id: id, arguments: ["/bin/sh", "-c", "echo $FROM $ADDED; pwd; id -u; sleep 0.2; echo err >&2; exit 5"], timeout: .seconds(20))
        request.environment = ["ADDED=here"]
        request.user = "someone"
        let answer = try await test.runtime.execute(request)
        #expect(answer.exitCode == 5)
        #expect(String(decoding: answer.output, as: UTF8.self) == "container here\n/data\n1000\nerr\n")

        let missing = try await test.runtime.execute(ExecuteRequest(id: id, arguments: ["nothing"], timeout: .seconds(20)))
        #expect(missing.exitCode == 127)
        #expect(String(decoding: missing.output, as: UTF8.self).contains("executable file not found in $PATH"))

        var long = ExecuteRequest(id: id, arguments: ["/bin/sh", "-c", "echo begin; sleep 1234"], timeout: .milliseconds(700))
        long.outputLimit = 3
        await #expect { try await test.runtime.execute(long) } throws: { ($0 as? ApusError)?.code == .timedOut }
        try await eventually("nothing of it is left inside") {
            let listed = try await test.runtime.execute(ExecuteRequest(id: id, arguments: ["ps"], timeout: .seconds(20)))
            return !String(decoding: listed.output, as: UTF8.self).contains("1234")
        }
        var chatty = ExecuteRequest(id: id, arguments: ["/bin/sh", "-c", "seq 1 100000"], timeout: .seconds(20))
        chatty.outputLimit = 10
        let capped = try await test.runtime.execute(chatty)
        #expect(capped.output == Array("1\n2\n3\n4\n5\n".utf8))
        #expect(capped.exitCode == 0)
        try await test.runtime.signal(id, SIGKILL)
        _ = try await test.runtime.wait(id)
        await #expect { try await test.runtime.execute(chatty) } throws: { ($0 as? ApusError)?.code == .conflict }
        try await test.finish()
    }
}
