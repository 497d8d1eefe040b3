import Coding
import Files
import PluginAPI
import Processes
import Testing

/// Debian's docker CLI (20.10, API 1.41) against a swarm of one.
@Suite(.serialized, .sharedEngine)
struct DockerSwarmTests {
    @Test func versionAndInformation() async throws {
        let engine = try EngineHarness.shared
        #expect(
            try await engine.docker("version", "--format", "{{.Server.Platform.Name}} {{.Client.APIVersion}} {{.Server.MinAPIVersion}}") == "Apus 1.41 1.24")
        let information = try await engine.docker("info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Driver}} {{.OSType}}")
        #expect(information == "active true overlay2 linux")
        #expect(try await engine.docker("info").contains("Registry Mirrors:\n  \(engine.registryURL)"))
    }

    @Test func swarmIsLeftAndMadeAgain() async throws {
        let engine = try EngineHarness.shared
        try await engine.docker("service", "create", "--detach", "--name", "leaving", "--replicas", "2", "nginx:latest")
        try await engine.waitForTasks(of: "leaving", count: 2)
        #expect(try await engine.dockerRefusal("swarm", "init").contains("already part of a swarm"))
        #expect(try await engine.dockerRefusal("swarm", "leave").contains("--force"))
        #expect(try await engine.docker("swarm", "leave", "--force") == "Node left the swarm.")
        #expect(try await engine.docker("ps", "--all", "--quiet").isEmpty, "the containers of tasks are gone with the swarm")
        #expect(try await engine.dockerRefusal("service", "ls").contains("swarm init"))
        #expect(try await engine.docker("info", "--format", "{{.Swarm.LocalNodeState}}") == "inactive")
        let answer = try await engine.docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--task-history-limit", "2")
        #expect(answer.contains("is now a manager") && answer.contains("SWMTKN-1-"))
        #expect(try await engine.docker("service", "ls", "--quiet").isEmpty)
    }

    @Test func swarmSettings() async throws {
        let engine = try EngineHarness.shared
        #expect(try await engine.docker("swarm", "update", "--task-history-limit", "3") == "Swarm updated.")
        #expect(try await engine.docker("info", "--format", "{{.Swarm.Cluster.Spec.Orchestration.TaskHistoryRetentionLimit}}") == "3")
        let token = try await engine.docker("swarm", "join-token", "--quiet", "worker")
        #expect(token.hasPrefix("SWMTKN-1-"))
        #expect(try await engine.docker("swarm", "join-token", "--rotate", "--quiet", "worker") != token)
        #expect(try await engine.docker("swarm", "ca").hasPrefix("-----BEGIN CERTIFICATE-----"))
        #expect(try await engine.docker("swarm", "update", "--autolock").contains("SWMKEY-1-"))
        #expect(try await engine.docker("swarm", "unlock-key", "--quiet").hasPrefix("SWMKEY-1-"))
        #expect(try await engine.docker("swarm", "update", "--autolock=false") == "Swarm updated.")
    }

    @Test func serviceFromCreateToRemove() async throws {
        let engine = try EngineHarness.shared
        // Not detached: the CLI itself follows the progress until it has converged.
        let created = try await engine.docker(
            "service", "create", "--name", "frontend", "--replicas", "2", "--publish", "8081:80", "--update-monitor", "100ms", "--env", "A=1",
            "--label", "tier=web", "nginx:latest")
        #expect(created.lines.last?.contains("converged") == true)
        let answers = try await Set(engine.ask(port: 8081).lines + engine.ask(port: 8081).lines)
        #expect(answers.count == 2, "two requests in turn are answered by two tasks")
        #expect(
            try await engine.docker(
                "service", "ls", "--filter", "name=frontend", "--format", "{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}} {{.Ports}}")
                == "frontend replicated 2/2 nginx:latest *:8081->80/tcp")
        #expect(try await engine.docker("service", "ls", "--quiet", "--filter", "label=tier=db").isEmpty)

        let pretty = try await engine.docker("service", "inspect", "--pretty", "frontend")
        #expect(pretty.contains("Replicas:\t2") && pretty.contains("PublishedPort = 8081") && pretty.contains("Env:\t\tA=1"))
        #expect(try await engine.docker("service", "inspect", "--format", "{{.Spec.Labels.tier}}", "frontend") == "web")

        try await engine.docker("service", "scale", "--detach", "frontend=3")
        try await engine.waitForTasks(of: "frontend", count: 3)
        let tasks = try await engine.docker("service", "ps", "--format", "{{.Name}} {{.DesiredState}} {{.Image}}", "frontend").lines.sorted()
        #expect(tasks == (1...3).map { "frontend.\($0) Running nginx:latest" })

        let before = try await engine.waitForTasks(of: "frontend", count: 3)
        try await engine.docker("service", "update", "--detach", "--env-add", "B=2", "--label-add", "more=yes", "frontend")
        try await engine.waitForUpdate(of: "frontend", "completed")
        let after = try await engine.waitForTasks(of: "frontend", count: 3)
        #expect(Set(before.map(\.id)).isDisjoint(with: after.map(\.id)), "a changed environment replaces every task")
        #expect(try await engine.docker("inspect", "--format", "{{.Config.Env}}", after[0].container).contains("B=2"))

        try await engine.docker("service", "rollback", "--detach", "frontend")
        try await engine.waitForUpdate(of: "frontend", "rollback_completed")
        let back = try await engine.waitForTasks(of: "frontend", count: 3)
        #expect(try await engine.docker("inspect", "--format", "{{.Config.Env}}", back[0].container).contains("B=2") == false)
        #expect(try await engine.docker("service", "inspect", "--format", "{{.Spec.Labels}}", "frontend") == "map[tier:web]")

        #expect(try await engine.docker("service", "rm", "frontend") == "frontend")
        #expect(try await engine.dockerRefusal("service", "inspect", "frontend").contains("no such service"))
        try await eventually("no container is left") { try await engine.docker("ps", "--all", "--quiet").isEmpty }
    }

    @Test func serviceLogs() async throws {
        let engine = try EngineHarness.shared
        try await engine.docker(
            "service", "create", "--detach", "--name", "talker", "--replicas", "2", "--stop-grace-period", "1s", "busybox:latest", "sh", "-c",
            "echo from $HOSTNAME; echo worse >&2; sleep 600"
        )
        let tasks = try await engine.waitForTasks(of: "talker", count: 2)
        try await eventually("both have written") { try await engine.docker("service", "logs", "talker").lines.count == 2 }
        let lines = try await engine.docker("service", "logs", "talker").lines.sorted()
        for (line, task) in zip(lines, tasks) {
            #expect(line.hasPrefix("talker.\(task.slot).\(task.id.prefix(12))@") && line.hasSuffix("from \(task.container.prefix(12))"))
        }
        let one = try await engine.docker("service", "logs", "--raw", tasks[0].id)
        #expect(one == "from \(tasks[0].container.prefix(12))")
        try await engine.removeService("talker")
    }

    @Test func serviceOfAPrivateRegistry() async throws {
        let engine = try EngineHarness.shared
        let script = EngineHarness.repository + "/contrib/images/registry.sh"
        let (folder, passwords, reference) = ("\(engine.root)/registry/private", "\(engine.root)/htpasswd", "127.0.0.1:5001/team/web:1")
        try await engine.inNamespace(script, "start", "5001", folder)
        try await engine.inNamespace(
            "python3", "\(EngineHarness.repository)/contrib/images/push.py", "/var/cache/apus-images/nginx.tar", "http://127.0.0.1:5001", "team/web:1")
        try await engine.inNamespace(script, "stop", folder)
        // user, secret
        try Files.writeAtomically(Array("user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n".utf8), to: passwords)
        try await engine.inNamespace("env", "APUS_REGISTRY_HTPASSWD=\(passwords)", script, "start", "5001", folder)
        let configuration: JSONValue = ["auths": ["127.0.0.1:5001": ["auth": .string(Base64.encode(Array("user:secret".utf8)))]]]
        try Files.makeDirectory("\(engine.root)/.docker")
        try Files.writeAtomically(configuration.bytes(), to: "\(engine.root)/.docker/config.json")

        // The CLI asks for the digest with its own credentials; the node has none.
        let refused = try await engine.runDocker(["service", "create", "--detach", "--name", "private", reference])
        #expect(refused.exitCode == 0)
        try await eventually("the task says why it cannot run") {
            try await engine.docker("service", "ps", "--no-trunc", "--format", "{{.Error}}", "private").contains("127.0.0.1:5001")
        }
        try await engine.removeService("private")

        let created = try await engine.runDocker(["service", "create", "--detach", "--name", "private", "--with-registry-auth", reference])
        #expect(created.exitCode == 0 && created.errorText.isEmpty, "the digest is found: \(created.errorText)")
        let before = try await engine.waitForTasks(of: "private", count: 1)
        let image = try await engine.docker("service", "inspect", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Image}}", "private")
        #expect(image.hasPrefix("\(reference)@sha256:"))
        #expect(try await engine.get("/services/private").text().contains("secret") == false)
        // New credentials replace nothing, and an update without any keeps those that are there.
        try await engine.docker("service", "scale", "--detach", "private=2")
        let after = try await engine.waitForTasks(of: "private", count: 2)
        #expect(after.contains { $0.id == before[0].id })
        try await engine.removeService("private")
        try Files.removeTree("\(engine.root)/.docker")
        try await engine.inNamespace(script, "stop", folder)
    }

    @Test func globalService() async throws {
        let engine = try EngineHarness.shared
        try await engine.docker("service", "create", "--detach", "--name", "everywhere", "--mode", "global", "nginx:latest")
        try await engine.waitForTasks(of: "everywhere", count: 1)
        #expect(try await engine.docker("service", "ls", "--format", "{{.Mode}} {{.Replicas}}", "--filter", "name=everywhere") == "global 1/1")
        #expect(try await engine.dockerRefusal("service", "scale", "--detach", "everywhere=2").contains("replicated"))
        try await engine.removeService("everywhere")
    }

    @Test func nodeIsDrainedAndActive() async throws {
        let engine = try EngineHarness.shared
        #expect(try await engine.docker("node", "ls", "--format", "{{.Self}} {{.Status}} {{.Availability}} {{.ManagerStatus}}") == "true Ready Active Leader")
        let pretty = try await engine.docker("node", "inspect", "--pretty", "self")
        #expect(pretty.contains("Raft Status:\t\tReachable"))
        let node = try await engine.docker("node", "inspect", "--format", "{{.ID}}", "self")
        try await engine.docker("service", "create", "--detach", "--name", "moving", "--replicas", "2", "nginx:latest")
        try await engine.waitForTasks(of: "moving", count: 2)

        try await engine.docker("node", "update", "--availability", "drain", "--label-add", "disk=fast", node)
        #expect(try await engine.docker("node", "inspect", "--format", "{{.Spec.Availability}} {{.Spec.Labels.disk}}", node) == "drain fast")
        try await eventually("nothing runs on a drained node") { try await engine.docker("ps", "--quiet").isEmpty }
        #expect(try await engine.docker("node", "ps", "--filter", "desired-state=running", "--quiet", node).isEmpty)
        let waiting = try await engine.docker("service", "ps", "--no-trunc", "--format", "{{.Error}}", "moving")
        #expect(waiting.contains("no suitable node"), "the reason is told: \(waiting)")

        try await engine.docker("node", "update", "--availability", "active", node)
        try await engine.waitForTasks(of: "moving", count: 2)
        #expect(try await engine.dockerRefusal("node", "demote", node).contains("last manager"))
        #expect(try await engine.dockerRefusal("node", "rm", "--force", node).contains("manager"))
        try await engine.removeService("moving")
    }

    @Test func plugins() async throws {
        let engine = try EngineHarness.shared
        let defaults = [
            "balancer/ipvs", "balancer/nftables", "ca/external", "ca/internal", "network/bridge", "network/overlay", "runtime/oci", "scheduler/binpack",
            "scheduler/spread",
        ]
        #expect(try await engine.docker("plugin", "ls", "--format", "{{.Name}}").lines.sorted() == defaults.map { "\($0):latest" })
        #expect(
            try await engine.docker("plugin", "inspect", "--format", "{{.Name}} {{.Enabled}} {{.Config.Interface.Types}}", "scheduler/spread")
                == "scheduler/spread:latest true [apus.scheduler/0.1]")
        #expect(try await engine.docker("plugin", "enable", "scheduler/binpack") == "scheduler/binpack")
        #expect(
            try await engine.docker("plugin", "ls", "--filter", "capability=scheduler", "--format", "{{.Name}} {{.Enabled}}").lines.sorted()
                == ["scheduler/binpack:latest true", "scheduler/spread:latest false"])
        // One of a role that needs one takes the place of the other.
        #expect(try await engine.docker("plugin", "disable", "scheduler/binpack") == "scheduler/binpack")
        #expect(
            try await engine.docker("plugin", "ls", "--filter", "enabled=true", "--format", "{{.Name}}").lines.contains("scheduler/spread:latest"))
        #expect(try await engine.dockerRefusal("plugin", "inspect", "scheduler/nope").contains("No such plugin"))
        #expect(try await engine.dockerRefusal("plugin", "enable", "scheduler/nope").contains("scheduler/nope"))
        #expect(try await engine.dockerRefusal("plugin", "disable", "runtime/oci").contains("containers of this node run on it"))
        #expect(try await engine.dockerRefusal("plugin", "install", "--grant-all-permissions", "some/plugin").contains("apus plugin install"))
    }
}

extension EngineHarness {
    func waitForUpdate(of service: String, _ state: String) async throws {
        try await eventually("the update of \(service) is \(state)", { (try? await self.get("/services/\(service)")["UpdateStatus"]?.text()) ?? "none" }) {
            try await get("/services/\(service)")["UpdateStatus"]?["State"]?.string == state
        }
    }
}
