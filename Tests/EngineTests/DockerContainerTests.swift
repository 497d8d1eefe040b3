import Coding
import Files
import HTTPClient
import PluginAPI
import Processes
import Testing

/// Debian's docker CLI (20.10, API 1.41) with containers, images, volumes and networks of one node.
@Suite(.serialized, SharedEngine(swarm: false))
struct DockerContainerTests {
    // MARK: Containers

    @Test func containerFromRunToRemove() async throws {
        let engine = try EngineHarness.shared
        let id = try await engine.docker(
            "run", "--detach", "--name", "web-one", "--publish", "9001:80", "--volume", "one-data:/data", "--env", "COLOR=green", "--memory", "64m", "--label",
            "kind=test", "--health-cmd", "test -f /etc/passwd", "--health-interval", "100ms", "--hostname", "green", "nginx")
        #expect(id.count == 64)
        #expect(try await engine.ask(port: 9001) == "green")
        try await eventually("it is healthy") { try await engine.docker("inspect", "--format", "{{.State.Health.Status}}", "web-one") == "healthy" }
        let inspected = try await engine.docker(
            "inspect", "--format",
            "{{.Id}} {{.State.Status}} {{.HostConfig.Memory}} {{.Config.Hostname}} {{(index .Mounts 0).Name}} {{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}",
            "web-one")
        #expect(inspected == "\(id) running 67108864 green one-data 9001")
        #expect(try await engine.docker("inspect", "--format", "{{.Config.Env}}", "web-one").contains("COLOR=green"))
        #expect(try await engine.docker("port", "web-one") == "80/tcp -> 0.0.0.0:9001")
        #expect(try await engine.runDocker(["logs", "web-one"]).errorText.contains("nginx/"))
        let row = try await engine.docker("ps", "--format", "{{.Names}} {{.Image}} {{.Ports}} {{.Status}}", "--filter", "label=kind=test")
        #expect(row.hasPrefix("web-one nginx 0.0.0.0:9001->80/tcp Up ") && row.hasSuffix("(healthy)"))
        let usage = try await engine.get("/system/df")
        let counted = usage["Containers"]?.array?.first { $0["Id"]?.string == id }
        let place = try await engine.docker("volume", "inspect", "--format", "{{.Mountpoint}}", "one-data")
        #expect(counted?["Mounts"]?.array?.first?["Source"]?.string == place && place.hasPrefix("/"))

        let process = try await engine.docker("inspect", "--format", "{{.State.Pid}}", "web-one")
        try await engine.docker("restart", "--time", "1", "web-one")
        #expect(try await engine.docker("inspect", "--format", "{{.State.Pid}}", "web-one") != process)
        #expect(try await engine.ask(port: 9001) == "green")
        try await engine.docker("rename", "web-one", "web-two")
        #expect(try await engine.dockerRefusal("inspect", "web-one").contains("No such object"))
        try await engine.docker("stop", "--time", "2", "web-two")
        #expect(try await engine.docker("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "web-two") == "exited 0")
        try await engine.docker("start", "web-two")
        #expect(try await engine.dockerRefusal("rm", "web-two").contains("running"))
        try await engine.docker("kill", "web-two")
        #expect(try await engine.docker("wait", "web-two") == "137")
        #expect(try await engine.docker("rm", "web-two") == "web-two")
        #expect(try await engine.dockerRefusal("rm", "web-two").contains("No such container"))
        #expect(try await engine.docker("volume", "ls", "--quiet") == "one-data", "a named volume stays")
        try await engine.docker("volume", "rm", "one-data")
    }

    /// Options that clients use and that were once refused, or accepted and forgotten.
    @Test func optionsOfCreate() async throws {
        let engine = try EngineHarness.shared
        let file = "\(engine.root)/cid"
        let id = try await engine.docker(
            "run", "--detach", "--name", "patient", "--cidfile", file, "--stop-timeout", "-1", "--label", "tier=front", "--log-opt", "labels=tier",
            "--volume", "patient-data:/data", "--cgroup-parent", "/\(engine.namespace)-parent", "busybox", "sh", "-c",
            "trap 'sleep 1; exit 7' TERM; echo ready; while :; do sleep 0.1; done")
        #expect(try Files.readText(file) == id)
        try await eventually("it is ready") { try await engine.docker("logs", "patient") == "ready" }
        #expect(try await engine.docker("logs", "--details", "patient") == "tier=front ready")
        let source = try await engine.docker("inspect", "--format", "{{(index .Mounts 0).Source}} {{.Config.StopTimeout}}", "patient")
        #expect(source == (try await engine.docker("volume", "inspect", "--format", "{{.Mountpoint}} -1", "patient-data")))
        #expect(Cgroup.exists("\(engine.namespace)-parent"))
        // Its own grace period is without end, so it is not killed.
        try await engine.docker("stop", "patient")
        #expect(try await engine.docker("inspect", "--format", "{{.State.ExitCode}}", "patient") == "7")
        #expect(!Cgroup.exists("\(engine.namespace)-parent"))
        try await engine.docker("rm", "patient")
        try await engine.docker("volume", "rm", "patient-data")

        let other = try await engine.send("POST", "/containers/create?platform=linux/s390x", ["Image": "busybox"])
        #expect(other.status == 404 && other.text.contains("does not match the specified platform: wanted linux/s390x"))
        #expect(try await engine.dockerRefusal("run", "--publish", "192.0.2.99:9002:80", "--name", "nowhere", "--detach", "busybox").contains("192.0.2.99"))
        try await engine.docker("rm", "nowhere")
        #expect(try await engine.send("GET", "/containers/any/checkpoints").status == 501)
        #expect(try await engine.send("POST", "/build/cancel").status == 501)
    }

    @Test func volumeKeepsWhatIsWritten() async throws {
        let engine = try EngineHarness.shared
        for (command, name) in [("echo kept > /data/file", "writer"), ("cat /data/file", "reader")] {
            try await engine.docker("run", "--detach", "--name", name, "--volume", "kept:/data", "busybox", "sh", "-c", command)
            #expect(try await engine.docker("wait", name) == "0")
        }
        #expect(try await engine.docker("logs", "reader") == "kept")
        #expect(try await engine.dockerRefusal("volume", "rm", "kept").contains("in use"))
        try await engine.docker("rm", "writer", "reader")
        try await engine.docker("volume", "rm", "kept")
    }

    @Test func removedWhenItEnds() async throws {
        let engine = try EngineHarness.shared
        try await engine.docker(
            "run", "--detach", "--rm", "--name", "short", "busybox", "sh", "-c", "trap 'echo end; exit 3' TERM; echo out; while :; do sleep 0.1; done")
        let log = try RawConnection(engine.socket)
        defer { log.close() }
        await log.write("GET /v1.41/containers/short/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        _ = try await log.read(until: "out\n")
        try await engine.docker("stop", "--time", "30", "short")
        #expect(try await log.read().contains("end\n"), "the log is read to its end though the container is removed")
        try await eventually("it is gone") { try await engine.docker("ps", "--all", "--quiet", "--filter", "name=^short$").isEmpty }
    }

    @Test func logsKeepStreamsApart() async throws {
        let engine = try EngineHarness.shared
        try await engine.docker("run", "--detach", "--name", "both", "busybox", "sh", "-c", "echo one; echo two; echo bad >&2")
        #expect(try await engine.docker("wait", "both") == "0")
        let all = try await engine.runDocker(["logs", "both"])
        #expect(all.text == "one\ntwo\n" && all.errorText == "bad\n")
        #expect(try await engine.docker("logs", "--tail", "1", "both").lines.count <= 1)
        let stamped = try await engine.docker("logs", "--timestamps", "both").lines
        #expect(stamped.allSatisfy { $0.hasPrefix("20") && $0.contains("Z ") })
        try await engine.docker("rm", "both")
    }

    @Test func lists() async throws {
        let engine = try EngineHarness.shared
        try await engine.docker("run", "--detach", "--name", "list-up", "--label", "group=lists", "busybox", "sleep", "600")
        try await engine.docker("run", "--detach", "--name", "list-down", "--label", "group=lists", "busybox", "sh", "-c", "exit 7")
        #expect(try await engine.docker("wait", "list-down") == "7")
        func names(_ filters: String...) async throws -> [String] {
            let arguments = ["ps", "--all", "--format", "{{.Names}}"] + (["label=group=lists"] + filters).flatMap { ["--filter", $0] }
            return try await engine.runDocker(arguments).text.lines.sorted()
        }
        #expect(try await names() == ["list-down", "list-up"])
        #expect(try await names("status=running") == ["list-up"])
        #expect(try await names("exited=7") == ["list-down"])
        #expect(try await names("name=up") == ["list-up"])
        #expect(try await names("ancestor=busybox", "status=exited") == ["list-down"])
        #expect(try await names("ancestor=nginx").isEmpty)
        #expect(try await engine.docker("ps", "--quiet", "--no-trunc", "--filter", "name=list-up").count == 64)
        #expect(try await engine.docker("ps", "--all", "--last", "1", "--format", "{{.Names}}") == "list-down")
        #expect(try await engine.dockerRefusal("ps", "--filter", "colour=red").contains("colour"))
        try await engine.docker("rm", "--force", "list-up", "list-down")
    }

    @Test func refusals() async throws {
        let engine = try EngineHarness.shared
        #expect(try await engine.dockerRefusal("run", "--detach", "--name", "a/b", "busybox").contains("Invalid container name"))
        #expect(try await engine.dockerRefusal("run", "--detach", "no-such-image:latest").contains("no-such-image"))
        #expect(try await engine.dockerRefusal("create", "--network", "container:other", "busybox").contains("not in this version of Apus"))
        try await engine.docker("run", "--detach", "--name", "taken", "--publish", "9002:80", "nginx")
        #expect(try await engine.dockerRefusal("run", "--detach", "--name", "taken", "busybox").contains("already in use"))
        #expect(try await engine.dockerRefusal("run", "--detach", "--name", "second", "--publish", "9002:80", "nginx").contains("9002"))
        try await engine.docker("rm", "--force", "second", "taken")
        #expect(try await engine.docker("ps", "--all", "--quiet").isEmpty)
    }

    // MARK: Images

    @Test func images() async throws {
        let engine = try EngineHarness.shared
        let pulled = try await engine.docker("pull", "busybox")
        #expect(pulled.lines.last == "docker.io/library/busybox:latest" && pulled.contains("Digest: sha256:"))
        #expect(pulled.lines.count { $0.hasPrefix("Status: ") } == 1)
        #expect(try await engine.docker("pull", "busybox").contains("Status: Image is up to date for busybox:latest"))
        let id = try await engine.docker("image", "inspect", "--format", "{{.Id}}", "busybox")
        #expect(id.hasPrefix("sha256:"))
        #expect(try await engine.docker("image", "inspect", "--format", "{{.Os}} {{len .RootFS.Layers}}", id) == "linux 1")
        try await engine.docker("tag", "busybox", "my.example/tools/box:1")
        #expect(try await engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}", "my.example/tools/box") == "my.example/tools/box:1")
        #expect(try await engine.docker("images", "--no-trunc", "--quiet", "my.example/tools/box:1") == id)
        #expect(try await engine.docker("rmi", "my.example/tools/box:1") == "Untagged: my.example/tools/box:1")
        #expect(try await engine.dockerRefusal("rmi", "my.example/tools/box:1").contains("No such image"))
        #expect(try await engine.dockerRefusal("tag", "busybox", "Upper:1").isEmpty == false)
        #expect(try await engine.docker("history", "--quiet", "busybox").lines.first == String(id.dropFirst(7).prefix(12)))
    }

    @Test func loadAndRemove() async throws {
        let engine = try EngineHarness.shared
        let archive = try Files.read("/var/cache/apus-images/nginx.tar")
        #expect(try await engine.docker("load", input: archive) == "Loaded image: nginx:latest")
        try await engine.docker("tag", "nginx", "nginx:other")
        #expect(try await engine.docker("rmi", "nginx:other") == "Untagged: nginx:other")
        let removed = try await engine.docker("rmi", "nginx:latest")
        #expect(removed.contains("Untagged: nginx:latest") && removed.contains("Deleted: sha256:"))
        #expect(try await engine.docker("images", "--quiet", "nginx").isEmpty)
        #expect(try await engine.docker("load", "--input", "/var/cache/apus-images/nginx.tar") == "Loaded image: nginx:latest")
    }

    @Test func importedRootFileSystem() async throws {
        let engine = try EngineHarness.shared
        try await engine.docker("pull", "busybox")
        let folder = "\(engine.root)/rootfs"
        try Files.makeDirectory(folder + "/bin", permissions: 0o755)
        try await engine.inNamespace("cp", "/bin/busybox", "\(folder)/bin/busybox")
        try await engine.inNamespace("tar", "-C", folder, "-cf", "\(engine.root)/rootfs.tar", ".")
        let id = try await engine.docker("import", "--change", "CMD [\"/bin/busybox\",\"echo\",\"imported\"]", "\(engine.root)/rootfs.tar", "mine:1")
        #expect(id.hasPrefix("sha256:"))
        try await engine.docker("run", "--detach", "--name", "from-import", "mine:1")
        #expect(try await engine.docker("wait", "from-import") == "0")
        #expect(try await engine.docker("logs", "from-import") == "imported")
        #expect(try await engine.dockerRefusal("rmi", "mine:1").contains("container"))
        try await engine.docker("rm", "from-import")
        try await engine.docker("rmi", "mine:1")
    }

    // MARK: Volumes, networks, the rest

    @Test func volumes() async throws {
        let engine = try EngineHarness.shared
        #expect(try await engine.docker("volume", "create", "--label", "use=test", "vol-a") == "vol-a")
        #expect(try await engine.docker("volume", "create", "vol-a") == "vol-a", "making it again changes nothing")
        #expect(try await engine.docker("volume", "ls", "--quiet", "--filter", "label=use=test") == "vol-a")
        #expect(try await engine.docker("volume", "inspect", "--format", "{{.Driver}} {{.Labels.use}}", "vol-a") == "local test")
        #expect(try await engine.dockerRefusal("volume", "create", "--driver", "nfs", "vol-b").contains("nfs"))
        #expect(try await engine.docker("volume", "rm", "vol-a") == "vol-a")
        #expect(try await engine.dockerRefusal("volume", "inspect", "vol-a").lowercased().contains("no such volume"))
        #expect(try await engine.docker("volume", "rm", "--force", "vol-a") == "vol-a")
    }

    @Test func networks() async throws {
        let engine = try EngineHarness.shared
        #expect(try await engine.docker("network", "ls", "--filter", "scope=local", "--format", "{{.Name}}").lines.sorted() == ["bridge", "host", "none"])
        try await engine.docker("network", "create", "--subnet", "10.77.0.0/24", "--label", "use=test", "net-a")
        #expect(
            try await engine.docker("network", "inspect", "--format", "{{.Driver}} {{(index .IPAM.Config 0).Subnet}} {{.Labels.use}}", "net-a")
                == "bridge 10.77.0.0/24 test")
        #expect(try await engine.dockerRefusal("network", "create", "net-a").contains("already exists"))
        try await engine.docker("run", "--detach", "--name", "member", "--network", "net-a", "--ip", "10.77.0.9", "nginx")
        #expect(
            try await engine.docker("inspect", "--format", "{{(index .NetworkSettings.Networks \"net-a\").IPAddress}}", "member") == "10.77.0.9")
        #expect(try await engine.ask(address: "10.77.0.9", port: 80).count == 12)
        #expect(try await engine.docker("network", "inspect", "--format", "{{range .Containers}}{{.Name}}{{end}}", "net-a") == "member")
        #expect(try await engine.dockerRefusal("network", "rm", "net-a").contains("active endpoints"))
        try await engine.docker("rm", "--force", "member")
        #expect(try await engine.docker("network", "rm", "net-a") == "net-a")
        #expect(try await engine.dockerRefusal("network", "rm", "bridge").contains("bridge"))
    }

    @Test func events() async throws {
        let engine = try EngineHarness.shared
        let begin = try await engine.inNamespace("date", "+%s.%N")
        try await engine.docker("volume", "create", "told")
        try await engine.docker("run", "--detach", "--name", "told", "busybox", "true")
        try await engine.docker("wait", "told")
        try await engine.docker("rm", "told")
        try await engine.docker("volume", "rm", "told")
        let end = try await engine.inNamespace("date", "+%s.%N")
        let told = try await engine.docker("events", "--since", begin, "--until", end, "--format", "{{.Type}} {{.Action}}").lines
        for expected in ["volume create", "container create", "container start", "container die", "container destroy", "volume destroy"] {
            #expect(told.contains(expected), "\(expected) is missing among \(told)")
        }
        let one = try await engine.docker(
            "events", "--since", begin, "--until", end, "--filter", "container=told", "--filter", "event=die", "--format",
            "{{.Action}} {{.Actor.Attributes.exitCode}}")
        #expect(one == "die 0")
        #expect(try await engine.docker("events", "--since", begin, "--until", begin).isEmpty)
    }

    @Test func diskUsage() async throws {
        let engine = try EngineHarness.shared
        try await engine.docker("pull", "busybox")
        try await engine.docker(
            "run", "--detach", "--name", "fat", "--volume", "fat:/data", "busybox", "dd", "if=/dev/zero", "of=/data/zeros", "bs=1M", "count=3")
        #expect(try await engine.docker("wait", "fat") == "0")
        let rows = try await engine.docker("system", "df", "--format", "{{.Type}}|{{.TotalCount}}|{{.Size}}").lines
        #expect(rows.contains("Containers|1|0B") || rows.contains { $0.hasPrefix("Containers|1|") })
        #expect(rows.contains { $0.hasPrefix("Local Volumes|1|3.1") }, "3 MiB are 3.146 MB: \(rows)")
        #expect(try await engine.docker("system", "df", "--verbose").contains("fat"))
        try await engine.docker("rm", "--force", "--volumes", "fat")
        try await engine.docker("volume", "rm", "fat")
    }

    /// What Apus does not have is said in words.
    @Test(arguments: [
        ["exec", "any", "true"], ["cp", "any:/etc", "/tmp"], ["commit", "any"], ["save", "busybox"], ["push", "busybox"], ["search", "busybox"],
        ["container", "prune", "--force"], ["top", "any"], ["pause", "any"], ["export", "any"], ["diff", "any"],
        ["update", "--memory", "32m", "any"],
    ])
    func missing(arguments: [String]) async throws {
        let engine = try EngineHarness.shared
        if try await engine.runDocker(["inspect", "any"]).exitCode != 0 { try await engine.docker("create", "--name", "any", "busybox") }
        let result = try await engine.runDocker(arguments)
        #expect(result.exitCode != 0 && result.errorText.contains("is not in this version of Apus"), "\(result.errorText)")
        if arguments.first == "swarm" { try await engine.docker("rm", "any") }
    }
}

/// Control groups, in whichever hierarchies there are.
private enum Cgroup {
    static func exists(_ name: String) -> Bool {
        let root = "/sys/fs/cgroup"
        return ([root] + ((try? Files.list(root)) ?? []).map { "\(root)/\($0)" }).contains { Files.exists("\($0)/\(name)") }
    }
}
