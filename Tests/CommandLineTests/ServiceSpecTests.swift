import Coding
import PluginAPI
import Testing

@testable import CommandLine

@Suite struct ServiceSpecTests {
    /// What `service create` sends for flags; an error when it refuses them.
    private func spec(_ arguments: String..., image: String = "nginx", command: [String] = []) async throws -> ServiceSpec {
        var run = FakeRun()
        run.environment["HOME"] = "/root"
        run.engine.answer("POST /services/create", ["ID": "s1"], status: 201)
        guard await run(["service", "create", "-d"] + arguments + [image] + command) == 0 else {
            throw ApusError(.invalidArgument, run.console.errors)
        }
        return try JSONFields.decode(ServiceSpec.self, from: run.engine.body(of: "POST /services/create"))
    }

    /// What `service update` sends for flags.
    private func updated(_ spec: ServiceSpec, _ arguments: String...) async throws -> ServiceSpec {
        let run = FakeRun()
        run.engine.answer("GET /services/web", ["ID": "s1", "Version": ["Index": 1], "Spec": JSONFields.encode(spec)])
        run.engine.answer("GET /tasks", [])
        run.engine.answer("POST /services/s1/update", [:])
        guard await run(["service", "update", "-d"] + arguments + ["web"]) == 0 else { throw ApusError(.invalidArgument, run.console.errors) }
        return try JSONFields.decode(ServiceSpec.self, from: run.engine.body(of: "POST /services/s1/update"))
    }

    /// What `run -d` sends for flags.
    private func container(_ arguments: [String], command: [String] = []) async throws -> JSONValue {
        let run = FakeRun()
        run.engine.answer("POST /containers/create", ["Id": "c1"], status: 201)
        run.engine.answer("POST /containers/c1/start", bytes: [], status: 204)
        guard await run(["run", "-d"] + arguments + ["nginx"] + command) == 0 else { throw ApusError(.invalidArgument, run.console.errors) }
        return try run.engine.body(of: "POST /containers/create")
    }

    @Test func theReadmesCommand() async throws {
        let json = JSONFields.encode(try await spec("--name", "frontend", "--replicas", "5", "-p", "80:80/tcp", image: "nginx:latest"))
        #expect(json["Name"] == "frontend")
        #expect(json["Mode"] == ["Replicated": ["Replicas": 5]])
        #expect(json["TaskTemplate"]?["ContainerSpec"]?["Image"] == "nginx:latest")
        #expect(json["EndpointSpec"]?["Ports"]?[0]?["PublishedPort"] == 80)
        #expect(json["UpdateConfig"] == nil)
    }

    @Test func everythingOfTheProcess() async throws {
        let container = try #require(
            try await spec(
                "-e", "A=1", "-e", "HOME", "--container-label", "c=d", "-l", "a=b", "-u", "www:www", "-w", "/srv", "--hostname", "h", "-t", "--init",
                "--read-only",
                "--stop-signal", "SIGQUIT", "--stop-grace-period", "30s", "--cap-add", "net_admin", "--cap-drop", "ALL", "--sysctl", "a.b=1",
                "--ulimit", "nofile=10:20", "--dns", "1.1.1.1", "--host", "db:10.0.0.1", "--group", "99", "--mount", "type=tmpfs,target=/tmp",
                "--health-cmd", "curl -f localhost", "--health-retries", "2", "--entrypoint", "sh -c", "--oom-score-adj", "-5",
                command: ["true", "--x"]
            ).task.container)
        #expect(container.environment == ["A=1", "HOME=/root"] && container.labels == ["c": "d"])
        #expect(container.user == "www:www" && container.workingDirectory == "/srv" && container.hostname == "h" && container.terminal)
        #expect(container.initProcess == true && container.readOnly && container.stopSignal == "SIGQUIT" && container.stopGracePeriod == .seconds(30))
        #expect(container.capabilityAdd == ["CAP_NET_ADMIN"] && container.capabilityDrop == ["ALL"] && container.sysctls == ["a.b": "1"])
        #expect(container.ulimits.first?.hard == 20 && container.dns?.nameservers == ["1.1.1.1"] && container.hosts == ["10.0.0.1 db"])
        #expect(
            container.groups == ["99"] && container.mounts.first?.kind == .tmpfs && container.healthcheck?.test == ["CMD-SHELL", "curl -f localhost"])
        #expect(container.healthcheck?.retries == 2 && container.command == ["sh", "-c"] && container.arguments == ["true", "--x"])
        #expect(container.oomScoreAdjustment == -5)
    }

    @Test func secretsAndConfigs() async throws {
        let made = try await spec("--secret", "key", "--secret", "source=other,target=o,mode=0400", "--config", "source=site,target=/etc/site")
        let container = try #require(made.task.container)
        #expect(container.secrets.map(\.secretName) == ["key", "other"] && container.secrets.map { $0.file?.name } == ["key", "o"])
        #expect(container.configs.first?.configName == "site" && container.configs.first?.file?.name == "/etc/site")
        let changed = try await updated(made, "--secret-rm", "key", "--secret-add", "source=other,target=p", "--config-rm", "site", "--config-add", "new")
        #expect(changed.task.container?.secrets.map { $0.file?.name } == ["p"] && changed.task.container?.configs.map(\.configName) == ["new"])
        await #expect(throws: ApusError.self) { try await spec("--secret", "target=a") }
    }

    @Test func resourcesRestartsAndUpdates() async throws {
        let made = try await spec(
            "--limit-cpu", "0.5", "--limit-memory", "64m", "--limit-pids", "10", "--reserve-memory", "32m", "--restart-condition", "on-failure",
            "--restart-delay", "1s", "--restart-max-attempts", "3", "--update-order", "start-first", "--rollback-parallelism", "0",
            "--replicas-max-per-node", "2",
            "--constraint", "node.role==manager", "--placement-pref", "spread=node.labels.rack", "--log-driver", "none", "--log-opt", "a=b",
            "--endpoint-mode", "dnsrr")
        #expect(made.task.resources?.limits?.nanoCPUs == 500_000_000 && made.task.resources?.limits?.memoryBytes == 64 << 20)
        #expect(made.task.resources?.limits?.pids == 10 && made.task.resources?.reservations?.memoryBytes == 32 << 20)
        #expect(made.task.restartPolicy?.condition == .onFailure && made.task.restartPolicy?.maxAttempts == 3)
        // What is not given has the default: a parallelism of zero would mean all at once.
        #expect(made.update?.order == .startFirst && made.update?.parallelism == 1 && made.update?.monitor == .seconds(5))
        #expect(made.rollback?.parallelism == 0 && made.task.placement?.maxReplicas == 2)
        #expect(
            made.task.placement?.constraints == ["node.role==manager"]
                && made.task.placement?.preferences.first?.spread?.descriptor == "node.labels.rack")
        #expect(made.task.logDriver?.name == "none" && made.endpoint?.mode == .dnsRoundRobin)
    }

    /// Of another runtime no registry is asked what the image is.
    @Test func runtimes() async throws {
        let digest: JSONValue = ["Descriptor": ["digest": "sha256:ab"]]
        func image(_ arguments: String...) async throws -> (String?, String) {
            let run = FakeRun()
            run.engine.answer("GET /distribution/sleep/json", digest)
            run.engine.answer("POST /services/create", ["ID": "s1"], status: 201)
            #expect(await run(["service", "create", "-d"] + arguments + ["sleep", "60"]) == 0)
            let spec = try JSONFields.decode(ServiceSpec.self, from: run.engine.body(of: "POST /services/create"))
            return (spec.task.container?.image, spec.task.runtime)
        }
        #expect(try await image() == ("sleep:latest@sha256:ab", ""))
        #expect(try await image("--runtime", "container") == ("sleep:latest@sha256:ab", "container"))
        #expect(try await image("--runtime", "process") == ("sleep", "process"))
        await #expect(throws: ApusError.self) { try await spec("--runtime", "") }

        let made = try await spec("--runtime", "process", image: "sleep")
        #expect(try await updated(made, "--image", "true").task.runtime == "process")
        #expect(try await updated(made, "--image", "true").task.container?.image == "true")
        #expect(try await updated(made, "--runtime", "container").task.runtime == "container")
        #expect(try await container(["--runtime", "process"])["HostConfig"]?["Runtime"] == "process")
        #expect(try await container([])["HostConfig"]?["Runtime"] == nil)
        await #expect(throws: ApusError.self) { try await container(["--runtime", "process", "--pull", "always"]) }
    }

    @Test func modes() async throws {
        #expect(try await spec("--mode", "global").mode.global != nil)
        #expect(try await spec("--mode", "replicated-job", "--replicas", "4", "--max-concurrent", "2").mode.replicatedJob?.maxConcurrent == 2)
        await #expect(throws: ApusError.self) { try await spec("--mode", "global", "--replicas", "2") }
        await #expect(throws: ApusError.self) { try await spec("--mode", "other") }
        await #expect(throws: ApusError.self) { try await spec("--max-concurrent", "2") }
        await #expect(throws: ApusError.self) { try await spec("--no-healthcheck", "--health-cmd", "x") }
        await #expect(throws: ApusError.self) { try await spec(image: "--bogus") }
    }

    @Test func anUpdateTouchesOnlyWhatIsNamed() async throws {
        var changed = try await spec(
            "--name", "web", "-e", "A=1", "-e", "B=2", "-p", "80:80", "-l", "k=v", "--mount", "type=volume,source=a,target=/a", "--network", "front",
            "--host", "db:10.0.0.1", "--cap-add", "NET_ADMIN")
        let before = changed
        #expect(try await updated(changed) == before)
        changed = try await updated(
            changed,
            "--image", "nginx:2", "--args", "a 'b c'", "--force", "--env-add", "A=9", "--env-rm", "B", "--publish-add", "81:81", "--publish-rm", "80",
            "--label-rm", "k",
            "--label-add", "x=y", "--mount-add", "type=volume,source=b,target=/a", "--network-rm", "front", "--network-add", "back", "--host-rm",
            "db",
            "--cap-drop", "net_admin", "--replicas", "7", "--limit-memory", "1g", "--no-read-only")
        let container = try #require(changed.task.container)
        #expect(container.image == "nginx:2" && container.arguments == ["a", "b c"] && changed.task.forceUpdate == 1)
        #expect(container.environment == ["A=9"] && changed.endpoint?.ports.map(\.targetPort) == [81] && changed.labels == ["x": "y"])
        #expect(container.mounts.map(\.source) == ["b"] && changed.task.networks.map(\.target) == ["back"] && container.hosts.isEmpty)
        #expect(container.capabilityAdd.isEmpty && container.capabilityDrop == ["CAP_NET_ADMIN"] && changed.mode.replicated?.replicas == 7)
        #expect(changed.task.resources?.limits?.memoryBytes == 1 << 30)
        let last = changed
        await #expect(throws: ApusError.self) { try await updated(last, "--publish-rm", "99") }
        await #expect(throws: ApusError.self) { try await updated(last, "--network-rm", "front") }
    }

    @Test func containers() async throws {
        let body = try await container(
            [
                "-p", "127.0.0.1:8080:80", "-p", "53:53/udp", "-v", "/srv:/srv:ro", "-v", "/data", "--restart", "on-failure:3", "-m", "64m", "--cpus",
                "0.5", "-h", "box",
                "--network", "front", "--network-alias", "web", "--tmpfs", "/run:size=1m", "--device", "/dev/fuse:r", "--rm",
            ], command: ["-g", "x"])
        let host = try #require(body["HostConfig"])
        #expect(host["PortBindings"]?["80/tcp"] == [["HostIp": "127.0.0.1", "HostPort": "8080"]] && body["ExposedPorts"]?["53/udp"] == [:])
        #expect(host["Binds"] == ["/srv:/srv:ro"] && body["Volumes"]?["/data"] == [:] && host["AutoRemove"] == true)
        #expect(host["RestartPolicy"] == ["Name": "on-failure", "MaximumRetryCount": 3] && host["Memory"] == .integer(64 << 20))
        #expect(host["NanoCpus"] == 500_000_000 && body["Hostname"] == "box" && body["Cmd"] == ["-g", "x"])
        #expect(body["NetworkingConfig"]?["EndpointsConfig"]?["front"]?["Aliases"] == ["web"] && host["Tmpfs"]?["/run"] == "size=1m")
        #expect(host["Devices"]?[0]?["CgroupPermissions"] == "r")
        for bad in [["-v", "rel:data"], ["--restart", "always:3"], ["-p", "x"], ["--device", "fuse"], ["--tmpfs", "run"]] {
            await #expect(throws: ApusError.self, "\(bad)") { try await container(bad) }
        }
    }
}
