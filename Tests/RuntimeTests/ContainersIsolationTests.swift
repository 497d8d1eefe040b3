import Files
import Glibc
import PluginAPI
import Testing

@testable import RuntimeOCI

/// What a container may not do.
@Suite struct ContainersIsolationTests {
    @Test func capabilitiesAreDockersDefaultsPlusAndMinus() async throws {
        let test = try TestRuntime()
        func bounding(_ change: (inout ContainerConfiguration) -> Void) async throws -> UInt64 {
            let output = try await test.run("grep CapBnd /proc/self/status", change).output
            return UInt64(output.split(whereSeparator: \.isWhitespace).last ?? "", radix: 16) ?? 0
        }
        #expect(try await bounding { _ in } == 0xa804_25fb)
        #expect(try await bounding { $0.capabilityDrop = ["ALL"] } == 0)
        #expect(
            try await bounding {
                $0.capabilityDrop = ["all"]; $0.capabilityAdd = ["CAP_CHOWN", "kill"]
            } == 0x21)
        #expect(try await bounding { $0.capabilityAdd = ["SYS_ADMIN"] } == 0xa824_25fb)
        let everything = Capabilities.ofThisProcess()
        #expect(
            try await bounding {
                $0.capabilityAdd = ["ALL"]; $0.capabilityDrop = ["MKNOD"]
            } == everything & ~(1 << 27))
        #expect(try await bounding { $0.privileged = true } == everything)
        let effective = try await test.run("grep CapEff /proc/self/status") { $0.user = "someone" }.output
        #expect(effective.hasSuffix("0000000000000000\n"))
        try await test.finish()
    }

    @Test(.enabled(if: SeccompPlatform.isSupported)) func seccompRefusesNamespacesAndMounts() async throws {
        let test = try TestRuntime()
        let status = try await test.run("grep Seccomp: /proc/self/status; unshare -m true && echo unshared; unshare -U true && echo user; true")
        #expect(status.output.contains("Seccomp:\t2"))
        #expect(!status.output.contains("unshared") && !status.output.contains("user"), "\(status.output)")
        // With the capability the call is allowed again; without a profile too, but then the capability is missing.
        #expect(try await test.run("unshare -m true && echo unshared") { $0.capabilityAdd = ["SYS_ADMIN"] }.output == "unshared\n")
        let unconfined = try await test.run("grep Seccomp: /proc/self/status; unshare -U true && echo user") { $0.seccompProfile = "unconfined" }
        #expect(unconfined.output.contains("Seccomp:\t0"))
        #expect(unconfined.output.contains("user"), "\(unconfined.errors)")
        try await test.finish()
    }

    @Test(.enabled(if: SeccompPlatform.isSupported)) func aCustomProfileIsApplied() async throws {
        let test = try TestRuntime()
        let profile = """
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}
            """
        let result = try await test.run("mkdir /x; touch /y && echo touched") { $0.seccompProfile = profile }
        #expect(result.errors.contains("not supported"), "\(result.errors)")
        #expect(result.output == "touched\n")
        await #expect { try await test.create(["/bin/true"]) { $0.seccompProfile = "{" } } throws: { error in
            (error as? ApusError)?.message.contains("decoding seccomp profile failed") ?? false
        }
        try await test.finish()
    }

    @Test func pathsAreMaskedAndReadOnly() async throws {
        let test = try TestRuntime()
        let result = try await test.run(
            "wc -c </proc/keys; ls /sys/firmware | wc -l; echo 1 >/proc/sys/kernel/panic || echo refused; touch /proc/sysrq-trigger && echo b >/proc/sysrq-trigger || echo refused"
        )
        #expect(result.output == "0\n0\nrefused\nrefused\n", "\(result.output) \(result.errors)")
        #expect(try await test.run("touch /sys/x || echo refused").output == "refused\n")
        let other = try await test.run("cat /data/file; wc -c </proc/keys") { $0.maskedPaths = ["/data/file"] }
        #expect(other.output.hasPrefix("0") || other.output.split(separator: "\n").count >= 1)
        #expect(!other.output.contains("from the image"))
        try await test.finish()
    }

    @Test func devicesAreTheHarmlessOnes() async throws {
        let test = try TestRuntime()
        let result = try await test.run(
            "head -c 3 /dev/zero | wc -c; echo x >/dev/null && echo null; mknod /tmp/kmsg c 1 11 && (cat /tmp/kmsg >/dev/null || echo refused); ls /dev"
        )
        #expect(result.output.hasPrefix("3\nnull\nrefused\n"), "\(result.output) \(result.errors)")
        for name in ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm"] { #expect(result.output.contains("\(name)\n")) }
        #expect(!result.output.contains("kmsg\n"))
        let mapped = try await test.run("head -c 1 /dev/mine | wc -c; stat -c %t:%T /dev/mine") {
            var device = DeviceMapping()
            device.hostPath = "/dev/zero"
            device.containerPath = "/dev/mine"
            device.permissions = "r"
            $0.devices = [device]
        }
        #expect(mapped.output == "1\n1:5\n", "\(mapped.errors)")
        await #expect { try await test.create(["/bin/true"]) { $0.devices = [DeviceMapping()] } } throws: {
            ($0 as? ApusError)?.code == .invalidArgument
        }
        try await test.finish()
    }

    @Test func noNewPrivilegesAndReadOnlyRoot() async throws {
        let test = try TestRuntime()
        let result = try await test.run("grep NoNewPrivs /proc/self/status; touch /file || echo refused; touch /dev/shm/x && echo shm") {
            $0.noNewPrivileges = true
            $0.readOnlyRoot = true
        }
        #expect(result.output == "NoNewPrivs:\t1\nrefused\nshm\n", "\(result.output)")
        try await test.finish()
    }

    @Test func tooMuchMemoryEndsIt() async throws {
        let test = try TestRuntime()
        let stream = test.runtime.events()
        let id = try await test.start(["/bin/sh", "-c", "tail /dev/zero"]) {
            $0.resources.memoryBytes = 16 << 20
            $0.resources.memorySwapBytes = 16 << 20
        }
        let state = try await test.runtime.wait(id)
        #expect(state.outOfMemory)
        #expect(state.exitCode == 137)
        var kinds: [RuntimeEvent.Kind] = []
        for await event in stream where event.containerID == id {
            kinds.append(event.kind)
            if event.kind == .ended { break }
        }
        #expect(kinds == [.started, .outOfMemory, .ended])
        let quiet = try await test.run("true") { $0.resources.memoryBytes = 64 << 20 }
        #expect(!quiet.state.outOfMemory)
        try await test.finish()
    }

    @Test func limitsOfProcessesProcessorsAndMemoryAreSet() async throws {
        let test = try TestRuntime()
        let forks = try await test.run("for i in 1 2 3 4 5 6 7 8; do sleep 0.5 & done; wait; echo all") { $0.resources.processes = 4 }
        #expect(forks.errors.contains("fork"), "\(forks.errors)")
        let isUnified = Cgroups().version == 2
        // Not every kernel has it.
        let hasProcessorSets = try !isUnified || Files.readText("/sys/fs/cgroup/cgroup.controllers").contains("cpuset")
        let id = try await test.start(["/bin/sleep", "1000"]) {
            $0.resources.nanoCPUs = 500_000_000
            $0.resources.cpuShares = 512
            $0.resources.memoryBytes = 32 << 20
            $0.resources.memoryReservationBytes = 16 << 20
            if hasProcessorSets { $0.resources.cpuset = "0" }
        }
        func value(_ controller: String, _ one: String, _ two: String) -> String {
            let path =
                Cgroups().version == 2
                ? "/sys/fs/cgroup\(test.cgroupParent)/\(id)/\(two)" : "/sys/fs/cgroup/\(controller)\(test.cgroupParent)/\(id)/\(one)"
            return ((try? Files.readText(path)) ?? "missing \(path)").split(separator: "\n").first.map(String.init) ?? ""
        }
        #expect(value("cpu", "cpu.cfs_quota_us", "cpu.max") == (isUnified ? "50000 100000" : "50000"))
        #expect(value("memory", "memory.limit_in_bytes", "memory.max") == "33554432")
        #expect(value("memory", "memory.soft_limit_in_bytes", "memory.low") == "16777216")
        if hasProcessorSets { #expect(value("cpuset", "cpuset.cpus", "cpuset.cpus") == "0") }
        if !isUnified { #expect(value("cpu", "cpu.shares", "") == "512") }
        await #expect { try await test.create(["/bin/true"]) { $0.resources.memoryBytes = 1 << 20 } } throws: {
            ($0 as? ApusError)?.code == .invalidArgument
        }
        try await test.finish()
    }

    @Test func processorsThatTheMachineLacks() async throws {
        #expect(Cgroups.numbers("0-2,5") == [0, 1, 2, 5])
        for bad in ["", "x", "1-", "2-1", "0,,1", "99999"] { #expect(Cgroups.numbers(bad) == nil, "\(bad)") }
        let test = try TestRuntime()
        await #expect { try await test.create(["/bin/true"]) { $0.resources.cpuset = "0,4000" } } throws: { error in
            (error as? ApusError)?.message.hasPrefix("Requested CPUs are not available - requested 0,4000, available: 0") ?? false
        }
        try await test.finish()
    }

    @Test func namespacesAreItsOwnUnlessTheHostsAreAskedFor() async throws {
        let test = try TestRuntime()
        #expect(try await test.run("echo $$").output == "1\n")
        let host = try await test.run("stat -L -c %i /proc/self/ns/pid /proc/self/ns/ipc") {
            $0.pidMode = "host"
            $0.ipcMode = "host"
        }
        var status = stat()
        #expect(stat("/proc/self/ns/pid", &status) == 0)
        #expect(host.output.contains("\(status.st_ino)"), "\(host.output) \(host.errors)")
        let id = try await test.start(["/bin/sleep", "1000"]) { $0.sysctls = ["kernel.shm_rmid_forced": "1"] }
        let answer = try await test.runtime.execute(
            ExecuteRequest(id: id, arguments: ["cat", "/proc/sys/kernel/shm_rmid_forced"], timeout: .seconds(20)))
        #expect(answer.output == Array("1\n".utf8))
        try await test.finish()
    }
}
