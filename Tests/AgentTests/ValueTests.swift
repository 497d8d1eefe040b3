import PluginAPI
import Testing

@testable import Agent

@Suite struct ImageMergeTests {
    struct Case: Sendable {
        var entrypoint: [String]?
        var command: [String]?
        var imageEntrypoint: [String] = ["/entry"]
        var imageCommand: [String] = ["default"]
        var expected: [String]
    }

    @Test(arguments: [
        Case(expected: ["/entry", "default"]),
        Case(command: ["own"], expected: ["/entry", "own"]),
        Case(entrypoint: ["/mine"], expected: ["/mine"]),
        Case(entrypoint: ["/mine"], command: ["own"], expected: ["/mine", "own"]),
        Case(entrypoint: [""], command: ["own"], expected: ["own"]),
        Case(entrypoint: [], command: ["own"], expected: ["own"]),
        Case(command: [], expected: ["/entry"]),
        Case(command: ["own"], imageEntrypoint: [], expected: ["own"]),
    ])
    func entrypointAndCommand(_ test: Case) throws {
        var request = ContainerRequest(image: "x")
        request.entrypoint = test.entrypoint
        request.command = test.command
        var image = Image()
        image.configuration.entrypoint = test.imageEntrypoint
        image.configuration.command = test.imageCommand
        #expect(try ImageMerge.merge(request, with: image).configuration.arguments == test.expected)
    }

    @Test func noCommandIsRefused() {
        let error = #expect(throws: ApusError.self) { try ImageMerge.merge(ContainerRequest(image: "x"), with: Image()) }
        #expect(error?.code == .invalidArgument)
    }

    @Test func environment() {
        #expect(ImageMerge.environment(["A=1", "B=2"], ["B=3", "C=4"]) == ["A=1", "B=3", "C=4"])
        #expect(ImageMerge.environment(["A=1", "B=2"], ["A"]) == ["B=2"])
        #expect(ImageMerge.environment(["A=1=2"], ["A="]) == ["A="])
    }

    @Test func theRestComesFromTheImageWhereNothingIsSaid() throws {
        var image = Image()
        image.configuration.command = ["run"]
        image.configuration.user = "web"
        image.configuration.workingDirectory = "/srv"
        image.configuration.stopSignal = "SIGQUIT"
        image.configuration.labels = ["a": "image", "b": "image"]
        image.configuration.volumes = ["/data": "", "/cache/": ""]
        image.configuration.exposedPorts = ["443/tcp": "", "80/tcp": ""]
        var check = Healthcheck()
        check.test = ["CMD", "true"]
        check.retries = 7
        image.configuration.healthcheck = check
        var request = ContainerRequest(image: "x")
        request.configuration.user = "root"
        request.configuration.labels = ["b": "own"]
        var mount = Mount()
        mount.target = "/cache"
        request.configuration.mounts = [mount]
        var own = Healthcheck()
        own.interval = .seconds(2)
        request.configuration.healthcheck = own
        let merged = try ImageMerge.merge(request, with: image)
        #expect(merged.configuration.user == "root")
        #expect(merged.configuration.workingDirectory == "/srv")
        #expect(merged.configuration.stopSignal == "SIGQUIT")
        #expect(merged.configuration.labels == ["a": "image", "b": "own"])
        #expect(merged.volumes == ["/data"])
        #expect(merged.exposedPorts == ["80/tcp", "443/tcp"])
        #expect(merged.configuration.healthcheck?.test == ["CMD", "true"])
        #expect(merged.configuration.healthcheck?.interval == .seconds(2))
        #expect(merged.configuration.healthcheck?.retries == 7)
    }
}

@Suite struct ContainerNameTests {
    @Test(arguments: ["web", "a1", "Web.1-x_y"]) func good(_ name: String) throws { try ContainerName.check(name) }

    @Test(arguments: ["", "a", "-a", "_a", ".a", "a/b", "a b", "a\u{1}", "é1", "a\n"]) func bad(_ name: String) {
        let error = #expect(throws: ApusError.self) { try ContainerName.check(name) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("\n") == false)
    }

    @Test func generatedNamesAreValidAndFree() throws {
        var generator = SystemRandomNumberGenerator()
        var taken: Set<String> = []
        for _ in 0..<3000 {
            let name = ContainerName.generate(using: &generator) { taken.contains($0) }
            try ContainerName.check(name)
            #expect(taken.insert(name).inserted)
            #expect(name.contains("_"))
        }
    }

    @Test func wordsAreUnique() {
        #expect(Set(ContainerName.birds).count == ContainerName.birds.count)
        #expect(Set(ContainerName.qualities).count == ContainerName.qualities.count)
    }
}

@Suite struct ContainerFilesTests {
    @Test func resolverDropsWhatAContainerCannotReach() {
        let host =
            "# comment\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver ::1\nnameserver fe80::1%eth0\n"
            + "search a.example b.example\noptions ndots:1\n"
        #expect(ContainerFiles.resolver(host: host, dns: nil) == "nameserver 192.0.2.1\nsearch a.example b.example\noptions ndots:1\n")
        var dns = DNSConfiguration()
        dns.nameservers = ["192.0.2.9"]
        dns.search = ["."]
        dns.options = ["timeout:1"]
        #expect(ContainerFiles.resolver(host: host, dns: dns) == "nameserver 192.0.2.9\noptions timeout:1\n")
        #expect(ContainerFiles.resolver(host: "nameserver 127.0.0.1\n", dns: nil).hasPrefix("#"))
        #expect(ContainerFiles.resolver(host: "nameserver 127.0.0.1\n", dns: nil, keepsLoopback: true) == "nameserver 127.0.0.1\n")
    }

    @Test func hostsHaveTheOwnAddressAndTheExtraOnes() throws {
        let text = try ContainerFiles.hosts(
            addresses: [IPAddress(v4: 172, 30, 0, 2)], hostname: "web", domainname: "example", id: "0123456789abcdef", aliases: ["alias"],
            extraHosts: ["db:192.0.2.3", "192.0.2.4 other more", "gw:host-gateway"], gateway: IPAddress(v4: 172, 30, 0, 1))
        #expect(text.hasPrefix("127.0.0.1\tlocalhost\n::1\tlocalhost"))
        #expect(text.hasSuffix("192.0.2.3\tdb\n192.0.2.4\tother more\n172.30.0.1\tgw\n172.30.0.2\tweb.example web 0123456789ab alias\n"))
    }

    @Test(arguments: ["nocolon", "name:notanaddress", "x y", ":192.0.2.1", "gw:host-gateway"]) func badExtraHosts(_ line: String) {
        #expect(throws: ApusError.self) { try ContainerFiles.extraHost(line, gateway: nil) }
    }
}

@Suite struct RestartTests {
    @Test func backoffDoublesToAMinuteAndStartsAgainAfterAGoodRun() {
        var backoff = RestartBackoff()
        let delays = (0..<12).map { _ in backoff.next(afterRunOf: .zero) }
        #expect(delays.prefix(4) == [.milliseconds(100), .milliseconds(200), .milliseconds(400), .milliseconds(800)])
        #expect(delays.last == .seconds(60))
        #expect(backoff.next(afterRunOf: .seconds(9)) == .seconds(60))
        #expect(backoff.next(afterRunOf: .seconds(10)) == .milliseconds(100))
    }

    @Test func policies() {
        func restarts(_ name: ContainerRestartPolicy.Name, _ code: Int64, count: Int = 0, maximum: Int = 0, stopped: Bool = false) -> Bool {
            ContainerRestartPolicy(name: name, maximumRetryCount: maximum).restarts(exitCode: code, restartCount: count, isStoppedByUser: stopped)
        }
        #expect(!restarts(.no, 1))
        #expect(restarts(.always, 0))
        #expect(!restarts(.always, 0, stopped: true))
        #expect(restarts(.unlessStopped, 0))
        #expect(!restarts(.onFailure, 0))
        #expect(restarts(.onFailure, 1, count: 2, maximum: 3))
        #expect(!restarts(.onFailure, 1, count: 3, maximum: 3))
    }

    @Test func policiesThatMakeNoSense() {
        #expect(throws: ApusError.self) { try ContainerRestartPolicy(name: .always).check(removesWhenEnded: true) }
        #expect(throws: ApusError.self) { try ContainerRestartPolicy(name: .always, maximumRetryCount: 2).check(removesWhenEnded: false) }
        #expect(throws: ApusError.self) { try ContainerRestartPolicy(name: .onFailure, maximumRetryCount: -1).check(removesWhenEnded: false) }
    }
}

@Suite struct HealthMonitorTests {
    private func monitor(retries: Int64 = 0, startPeriod: Duration = .zero) throws -> HealthMonitor {
        var check = Healthcheck()
        check.test = ["CMD-SHELL", "curl -f localhost"]
        check.retries = retries
        check.startPeriod = startPeriod
        return try #require(HealthMonitor(check, startedAt: Timestamp(nanoseconds: 1_000_000_000)))
    }

    private func result(_ code: Int32, at second: Int64 = 100) -> HealthResult {
        let time = Timestamp(nanoseconds: second * 1_000_000_000)
        return HealthResult(startedAt: time, finishedAt: time, exitCode: code, output: "")
    }

    @Test func defaults() throws {
        let monitor = try monitor()
        #expect(monitor.interval == .seconds(30))
        #expect(monitor.timeout == .seconds(30))
        #expect(monitor.retries == 3)
        #expect(monitor.arguments == ["/bin/sh", "-c", "curl -f localhost"])
        #expect(monitor.delay(at: Timestamp(nanoseconds: 1)) == .seconds(30))
    }

    @Test func offWhenThereIsNothingToCheck() {
        for test in [[], ["NONE"], ["CMD"], ["nonsense", "x"]] as [[String]] {
            var check = Healthcheck()
            check.test = test
            #expect(HealthMonitor(check, startedAt: .never) == nil)
        }
        #expect(HealthMonitor(nil, startedAt: .never) == nil)
    }

    @Test func unhealthyAfterTheRetriesAndHealthyAfterOneSuccess() throws {
        var monitor = try monitor()
        #expect(monitor.take(result(1)) == nil)
        #expect(monitor.take(result(1)) == nil)
        #expect(monitor.status == .starting)
        #expect(monitor.take(result(1)) == .unhealthy)
        #expect(monitor.take(result(1)) == nil)
        #expect(monitor.failingStreak == 4)
        #expect(monitor.take(result(0)) == .healthy)
        #expect(monitor.failingStreak == 0)
        for _ in 0..<10 { _ = monitor.take(result(0)) }
        #expect(monitor.log.count == 5)
    }

    @Test func failuresInTheStartPeriodDoNotCount() throws {
        var monitor = try monitor(retries: 1, startPeriod: .seconds(20))
        #expect(monitor.delay(at: Timestamp(nanoseconds: 2_000_000_000)) == .seconds(5))
        #expect(monitor.take(result(1, at: 10)) == nil)
        #expect(monitor.failingStreak == 0)
        #expect(monitor.take(result(1, at: 22)) == .unhealthy)
        var second = try self.monitor(retries: 1, startPeriod: .seconds(20))
        #expect(second.take(result(0, at: 3)) == .healthy)
        #expect(second.delay(at: Timestamp(nanoseconds: 4_000_000_000)) == .seconds(30))
        #expect(second.take(result(1, at: 5)) == .unhealthy)
    }
}

@Suite struct AddressChoiceTests {
    @Test func subnetAvoidsRoutesOfTheHost() throws {
        let table =
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
            + "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\nx\t00001EAC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
        let routes = AddressChoice.routes(table)
        #expect(routes.map(\.description) == ["172.30.0.0/16"])
        #expect(try AddressChoice.subnet(avoiding: []).description == "172.30.0.0/16")
        #expect(try AddressChoice.subnet(avoiding: routes).description == "172.29.0.0/16")
        let everything = try #require(IPPrefix("0.0.0.0/1"))
        let rest = try #require(IPPrefix("128.0.0.0/1"))
        #expect(throws: ApusError.self) { try AddressChoice.subnet(avoiding: [everything, rest]) }
    }

    @Test func gateway() throws {
        let subnet = try #require(IPPrefix("10.1.0.0/24"))
        #expect(try AddressChoice.gateway(of: subnet, named: nil).description == "10.1.0.1/24")
        #expect(throws: ApusError.self) { try AddressChoice.gateway(of: subnet, named: IPAddress("10.2.0.1")) }
    }
}

@Suite struct TaskTemplateTests {
    private func expand(_ text: String) throws -> String {
        var task = House.task("task", slot: 3)
        task.labels = ["a.b": "c"]
        var platform = Platform()
        platform.architecture = "x86_64"
        return try TaskTemplate(task: task, node: "node", hostname: "host", platform: platform).expand(text)
    }

    @Test func values() throws {
        #expect(try expand("plain") == "plain")
        #expect(try expand("{{.Service.Name}}-{{.Task.Slot}}") == "web-3")
        #expect(try expand("N={{ .Node.Hostname }} {{.Node.ID}}") == "N=host node")
        #expect(try expand("{{.Task.Name}}") == "web.3.task")
        #expect(try expand("{{index .Service.Labels \"a.b\"}}") == "c")
    }

    @Test(arguments: ["{{.Service.Nope}}", "{{.Task.Slot", "{{}}", "{{index .Service.Labels}}"]) func mistakes(_ text: String) {
        #expect(throws: ApusError.self) { try expand(text) }
    }
}

@Suite struct NodeDescriptionTests {
    @Test func thisMachine() {
        let description = NodeDescriptionGatherer.gather(engineVersion: "1.2.3", plugins: [])
        #expect(!description.hostname.isEmpty)
        #expect(["x86_64", "aarch64"].contains(description.platform.architecture))
        #expect(description.platform.os == "linux")
        #expect(description.resources.nanoCPUs >= 1_000_000_000)
        #expect(description.resources.memoryBytes > 64 << 20)
        #expect(description.engine.engineVersion == "1.2.3")
        #expect(NodeDescriptionGatherer.memoryBytes("MemFree: 3 kB\nMemTotal:      2048 kB\n") == 2_097_152)
    }
}
