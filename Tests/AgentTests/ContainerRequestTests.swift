import PluginAPI
import Synchronization
import Testing

@testable import Agent

/// What is refused before anything of a container is made.
@Suite struct ContainerRequestTests {
    private func error(_ change: (inout ContainerRequest) -> Void) -> ApusError? {
        var request = ContainerRequest(image: "nginx:latest")
        change(&request)
        do throws(ApusError) {
            try request.check()
            return nil
        } catch {
            return error
        }
    }

    private func resources(_ change: (inout ContainerResources) -> Void) -> ApusError? { error { change(&$0.configuration.resources) } }

    private func port(_ host: UInt64, _ container: UInt64, _ address: String = "", _ transport: TransportProtocol = .tcp) -> ContainerPort {
        var port = House.port(host, container)
        port.hostAddress = address
        port.transport = transport
        return port
    }

    @Test func whatIsUsualPasses() {
        #expect(error { _ in } == nil)
        #expect(
            error {
                $0.configuration.imageReference = "sha256:0123abcd"
                $0.configuration.environment = ["A=b\nc", "TAKEN_AWAY", "EMPTY="]
                $0.configuration.hostname = "web-1.example.org"
                $0.configuration.domainname = "example.org"
                $0.configuration.labels = ["a": "line\nfeed"]
                $0.extraHosts = ["db:10.0.0.1", "six:[::1]", "gate:host-gateway", "10.0.0.1 one two"]
                $0.dns = DNSConfiguration()
                $0.dns?.nameservers = ["1.1.1.1", "::1"]
                $0.dns?.search = ["."]
                $0.dns?.options = ["ndots:2"]
                $0.configuration.cgroupParent = "/batch/nightly"
                $0.exposedPorts = ["80/tcp", "53/udp", "9/sctp", "8080"]
                $0.publishedPorts = [port(80, 80), port(80, 80, "", .udp), port(0, 81), port(0, 81), port(81, 1, "127.0.0.1"), port(81, 1, "127.0.0.2")]
                $0.networks = [ContainerNetwork(target: "lan", aliases: ["www", "a_b.c"], address: "10.0.0.9")]
            } == nil)
        #expect(
            resources {
                $0.memoryBytes = 64 << 20
                $0.memoryReservationBytes = 32 << 20
                $0.memorySwapBytes = 128 << 20
                $0.cpuShares = 512
                $0.cpuPeriod = 100_000
                $0.cpuQuota = -1
                $0.cpuset = "0-1,3"
                $0.blockWeight = 10
            } == nil)
        #expect(resources { $0.memorySwapBytes = -1 } == nil)
    }

    @Test func texts() {
        #expect(error { $0.configuration.imageReference = "" }?.code == .invalidArgument)
        #expect(error { $0.configuration.imageReference = "a\nb" }?.code == .invalidArgument)
        for bad in ["a\nb", "a b", "-a", "a\0", String(repeating: "a", count: 64), "{{.Task.Slot}}"] {
            #expect(error { $0.configuration.hostname = bad }?.code == .invalidArgument, "\(bad)")
            #expect(error { $0.networks = [ContainerNetwork(target: "lan", aliases: [bad])] }?.code == .invalidArgument, "\(bad)")
            #expect(error { $0.configuration.domainname = bad }?.code == .invalidArgument, "\(bad)")
        }
        for bad in ["", "=b", "A=\0"] { #expect(error { $0.configuration.environment = [bad] }?.code == .invalidArgument) }
        #expect(error { $0.command = ["a\0"] }?.code == .invalidArgument)
        #expect(error { $0.entrypoint = ["a\0"] }?.code == .invalidArgument)
        #expect(error { $0.configuration.user = "a\0" }?.code == .invalidArgument)
        for bad in ["relative", "/a\0"] { #expect(error { $0.configuration.workingDirectory = bad }?.code == .invalidArgument) }
        for bad in ["", "a\0", "a\n"] { #expect(error { $0.configuration.labels = [bad: ""] }?.code == .invalidArgument) }
        for bad in ["x", "1.1.1.1\nnameserver 6.6.6.6", ""] {
            #expect(
                error {
                    $0.dns = DNSConfiguration()
                    $0.dns?.nameservers = [bad]
                }?.code == .invalidArgument)
        }
        for bad in ["a b", "a\nb", ""] {
            #expect(
                error {
                    $0.dns = DNSConfiguration()
                    $0.dns?.search = [bad]
                }?.code == .invalidArgument)
            #expect(
                error {
                    $0.dns = DNSConfiguration()
                    $0.dns?.options = [bad]
                }?.code == .invalidArgument)
        }
        for bad in ["db", "db:nowhere", ":1.1.1.1", "db:1.1.1.1\n6.6.6.6 bank", "1.1.1.1 a\n6.6.6.6 bank"] {
            #expect(error { $0.extraHosts = [bad] }?.code == .invalidArgument, "\(bad)")
        }
        for bad in ["../../x", "/a/../../x", "/", "a/.", "a\0b", "a\nb", String(repeating: "a", count: 256)] {
            #expect(error { $0.configuration.cgroupParent = bad }?.code == .invalidArgument, "\(bad)")
        }
    }

    @Test func healthchecks() {
        func health(_ change: (inout Healthcheck) -> Void) -> ApusError? {
            error {
                var check = Healthcheck()
                change(&check)
                $0.configuration.healthcheck = check
            }
        }
        #expect(health { $0.test = ["NONE"] } == nil)
        #expect(health { $0.test = ["CMD", "true"] } == nil)
        for test in [["FOO"], ["CMD"], ["CMD-SHELL"], ["CMD", "a\0"]] { #expect(health { $0.test = test }?.code == .invalidArgument, "\(test)") }
        #expect(health { $0.interval = .seconds(-1) }?.code == .invalidArgument)
        #expect(health { $0.timeout = .nanoseconds(1) }?.code == .invalidArgument)
        #expect(health { $0.startPeriod = .seconds(-1) }?.code == .invalidArgument)
        #expect(health { $0.retries = -1 }?.code == .invalidArgument)
    }

    @Test func limits() {
        #expect(error { $0.configuration.shmSize = -1 }?.code == .invalidArgument)
        for bad in [-1, 5, 9, 1001] { #expect(resources { $0.blockWeight = Int64(bad) }?.code == .invalidArgument) }
        for bad in [-1, 1, 262_145] { #expect(resources { $0.cpuShares = Int64(bad) }?.code == .invalidArgument) }
        for bad in [-1, 999, 1_000_001] { #expect(resources { $0.cpuPeriod = Int64(bad) }?.code == .invalidArgument) }
        for bad in [-2, 999] { #expect(resources { $0.cpuQuota = Int64(bad) }?.code == .invalidArgument) }
        for bad in [-1, 1, 6 << 20 - 1] {
            #expect(resources { $0.memoryBytes = Int64(bad) }?.code == .invalidArgument)
            #expect(resources { $0.memoryReservationBytes = Int64(bad) }?.code == .invalidArgument)
        }
        #expect(
            resources {
                $0.memoryBytes = 8 << 20
                $0.memoryReservationBytes = 9 << 20
            }?.code == .invalidArgument)
        #expect(
            resources {
                $0.memoryBytes = 64 << 20
                $0.memorySwapBytes = 32 << 20
            }?.code == .invalidArgument)
        #expect(resources { $0.memorySwapBytes = 32 << 20 }?.code == .invalidArgument)
        #expect(resources { $0.memorySwapBytes = -2 }?.code == .invalidArgument)
        #expect(resources { $0.nanoCPUs = -1 }?.code == .invalidArgument)
        #expect(
            resources {
                $0.nanoCPUs = 1
                $0.cpuQuota = 1000
            }?.code == .invalidArgument)
        for bad in ["x", "1-", "3-1", "-1", ",", "1,,2", "99999999", "+1"] { #expect(resources { $0.cpuset = bad }?.code == .invalidArgument, "\(bad)") }
        for (device, code) in [
            (("/dev/null", "", "x"), ApusError.Code.invalidArgument), (("dev/null", "", ""), .invalidArgument), (("", "/dev/x", ""), .invalidArgument),
        ] {
            #expect(
                error {
                    var mapping = DeviceMapping()
                    (mapping.hostPath, mapping.containerPath, mapping.permissions) = device
                    $0.configuration.devices = [mapping]
                }?.code == code)
        }
        #expect(
            error {
                $0.configuration.ipcMode = "host"
                $0.configuration.sysctls = ["kernel.shmmax": "1"]
            }?.code == .invalidArgument)
        #expect(error { $0.configuration.sysctls = ["kernel.panic": "1"] }?.code == .invalidArgument)
        #expect(error { $0.configuration.log.options = ["max-size": "abc"] }?.code == .invalidArgument)
        #expect(error { $0.configuration.seccompProfile = "{}" }?.code == .invalidArgument)
        #expect(error { $0.configuration.seccompProfile = "unconfined" } == nil)
        #expect(error { $0.configuration.capabilityAdd = ["NOSUCH"] }?.code == .invalidArgument)
    }

    @Test func mounts() {
        func mount(_ kind: MountKind, _ source: String, _ target: String, _ change: (inout Mount) -> Void = { _ in }) -> ApusError? {
            error {
                var mount = Mount()
                (mount.kind, mount.source, mount.target) = (kind, source, target)
                change(&mount)
                $0.configuration.mounts = [mount]
            }
        }
        #expect(mount(.bind, "/srv", "/data") == nil && mount(.volume, "", "/data") == nil && mount(.tmpfs, "", "/data") == nil)
        #expect(mount(.bind, "/srv\0", "/data")?.code == .invalidArgument)
        #expect(mount(.volume, "{{.Task.Slot}}", "/data")?.code == .invalidArgument)
        #expect(
            mount(.tmpfs, "", "/data") {
                $0.tmpfsOptions = TmpfsOptions()
                $0.tmpfsOptions?.sizeBytes = -1
            }?.code == .invalidArgument)
    }

    @Test func ports() {
        for bad in ["x", "0/tcp", "80/icmp", "80/tcp/udp", "", "70000", "+80", "1-x"] {
            #expect(error { $0.exposedPorts = [bad] }?.code == .invalidArgument, "\(bad)")
        }
        #expect(error { $0.exposedPorts = ["80-90/tcp"] }?.code == .unimplemented)
        for pair in [
            [port(80, 1), port(80, 2)], [port(80, 1), port(80, 1)], [port(80, 1), port(80, 2, "127.0.0.1")],
            [port(80, 1, "0.0.0.0"), port(80, 2, "127.0.0.1")],
            [port(80, 1, "127.0.0.1"), port(80, 2, "127.0.0.1")], [port(80, 1, "::"), port(80, 2, "::1")],
        ] {
            let error = error { $0.publishedPorts = pair }
            #expect(error?.code == .invalidArgument && error?.message.contains(":80/tcp is published twice") == true, "\(pair.map(\.hostAddress))")
        }
        let both = [port(80, 1, "0.0.0.0"), port(80, 1, "::")]
        #expect(error { $0.publishedPorts = both } == nil, "docker writes them beside each other")
        #expect(PublishedPorts.withoutRepetitions(both).count == 1 && PublishedPorts.withoutRepetitions([port(0, 1), port(0, 1)]).count == 2)
        #expect(error { $0.publishedPorts = [port(80, 80), port(80, 80, "", .sctp)] } == nil)
        #expect(error { $0.networks = [ContainerNetwork(target: "lan", address: "10.0.0")] }?.code == .invalidArgument)
    }

    // MARK: Platforms

    @Test func platformsAreRead() throws {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"), ("linux/arm64/v8", "linux/arm64"), ("arm64", "linux/arm64"), ("linux", "linux"), ("Linux/x86_64", "linux/amd64"),
            ("aarch64", "linux/arm64"),
        ] {
            #expect(try RequestedPlatform(text).description == shown)
        }
        for text in ["", "/", "linux/", "windows/amd64", "windows", "linux/a/b/c", "linux/am d64", "linux/\0"] {
            #expect(throws: ApusError.self, "\(text)") { try RequestedPlatform(text) }
        }
    }

    @Test func anImageOfAnotherPlatformIsNotUsed() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            house.runtime.state.withLock {
                $0.images["nginx:latest"]?.os = "linux"
                $0.images["nginx:latest"]?.architecture = "amd64"
            }
            let engine = try house.engine
            var request = ContainerRequest(image: "nginx:latest")
            request.platform = try RequestedPlatform("linux/arm64")
            let refusal = request
            let error = await #expect(throws: ApusError.self) { try await engine.create(refusal) }
            #expect(
                error
                    == ApusError(
                        .notFound,
                        "image with reference nginx:latest was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64"))
            #expect(engine.list().isEmpty)
            request.platform = try RequestedPlatform("amd64")
            let id = try await engine.create(request)
            #expect(try engine.inspect(id.text).configuration.imageReference == "nginx:latest")
        }
    }

    // MARK: Grace periods and addresses

    @Test func negativeGracePeriodsAreWithoutEnd() {
        #expect(ContainerEngine.bounded(.seconds(-5)) == .seconds(86400 * 365))
        #expect(ContainerEngine.bounded(.seconds(Int64.max)) == .seconds(86400 * 365))
        #expect(ContainerEngine.bounded(.zero) == .zero && ContainerEngine.bounded(.seconds(10)) == .seconds(10))
    }

    @Test func anAddressThatTheMachineLacks() async throws {
        #expect(HostPorts.hasAddress(IPAddress(v4: 127, 0, 0, 1)) && HostPorts.hasAddress(IPAddress(v4: 0, 0, 0, 0)))
        // Of the range for documentation (RFC 5737).
        #expect(!HostPorts.hasAddress(IPAddress(v4: 192, 0, 2, 99)))
        try await House.with { house in
            let error = await #expect(throws: ApusError.self) {
                try await house.run("web") { $0.publishedPorts = [port(8080, 80, "192.0.2.99")] }
            }
            #expect(error?.code == .invalidArgument && error?.message.contains("does not have the address 192.0.2.99") == true)
            let engine = try house.engine
            #expect(try engine.inspect("web").state.phase == .created)
        }
    }
}
