import PluginAPI
import Testing

@testable import Orchestration

/// Values of containers that used to be found wrong only when the task was to start.
@Suite struct ContainerValueTests {
    private func error(_ change: (inout ServiceSpec) -> Void) -> ApusError? {
        do throws(ApusError) {
            try ServiceValidation.check(makeSpec("web", image: "nginx:latest", change), inState: MemoryState(), replacing: nil)
            return nil
        } catch {
            return error
        }
    }

    private func container(_ change: (inout ContainerSpec) -> Void) -> ApusError? {
        error {
            var spec = $0.task.container ?? ContainerSpec()
            change(&spec)
            $0.task.container = spec
        }
    }

    private func log(_ name: String, _ options: [String: String]) -> ApusError? {
        error {
            var driver = LogDriver()
            driver.name = name
            driver.options = options
            $0.task.logDriver = driver
        }
    }

    @Test func logOptions() {
        #expect(log("json-file", ["max-size": "10m", "max-file": "3", "labels": "a,b", "env": "C", "compress": "false", "mode": "blocking"]) == nil)
        #expect(log("local", ["max-size": "-1"]) == nil)
        #expect(log("none", ["max-size": "nonsense"]) == nil, "there is no log that it could be of")
        for options in [
            ["max-size": "abc"], ["max-size": "0"], ["max-size": "10x"], ["max-size": "-5m"], ["max-size": "99999999999999999999"], ["max-file": "0"],
            ["max-file": "2"], ["max-file": "many", "max-size": "1m"], ["colour": "red"], ["compress": "perhaps"], ["mode": "sometimes"],
        ] {
            #expect(log("json-file", options)?.code == .invalidArgument, "\(options)")
        }
        for options in [["tag": "x"], ["mode": "non-blocking"], ["compress": "true"], ["labels-regex": "."], ["env-regex": "."], ["max-buffer-size": "1m"]] {
            let error = log("", options)
            #expect(error?.code == .unimplemented, "\(options)")
            #expect(error?.message.contains(options.keys.first ?? "?") == true)
        }
    }

    @Test func capabilities() {
        #expect(
            container {
                $0.capabilityAdd = ["NET_ADMIN", "cap_sys_ptrace", "ALL"]
                $0.capabilityDrop = ["all"]
            } == nil)
        for name in ["", "NET ADMIN", "NOSUCH", "CAP_", "CAP_ALL"] {
            #expect(container { $0.capabilityAdd = [name] }?.code == .invalidArgument, "\(name)")
            #expect(container { $0.capabilityDrop = [name] }?.code == .invalidArgument, "\(name)")
        }
    }

    @Test func kernelParameters() {
        #expect(
            container {
                $0.sysctls = [
                    "net.ipv4.ip_forward": "1", "net/core/somaxconn": "1024", "fs.mqueue.msg_max": "20", "kernel.shmmax": "65536", "kernel.sem": "1\t2\t3\t4",
                    "kernel.domainname": "example.org",
                ]
            } == nil)
        for (key, value) in [
            ("kernel.panic", "1"), ("vm.swappiness", "1"), ("kernel.hostname", "x"), ("", "1"), ("net..x", "1"), ("net.a", "1\n2"), ("net.b", ""),
        ] {
            #expect(container { $0.sysctls = [key: value] }?.code == .invalidArgument, "\(key)")
        }
        let onHost = error {
            $0.task.networks = [makeJoin("host")]
            $0.task.container?.sysctls = ["net.ipv4.ip_forward": "1"]
        }
        #expect(onHost?.message.contains("host's network namespace") == true)
    }

    @Test(arguments: [
        "{}", "", "[]", "{", #"{"defaultAction":"ALLOW"}"#, #"{"defaultAction":7}"#, #"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":{}}"#,
        #"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"]}]}"#,
    ])
    func badSeccompProfiles(text: String) {
        #expect(throws: ApusError.self) { try SeccompProfileSyntax.check(text) }
        #expect(
            container {
                $0.privileges = Privileges()
                $0.privileges?.seccomp = SeccompOptions()
                $0.privileges?.seccomp?.mode = "custom"
                $0.privileges?.seccomp?.profile = Array(text.utf8)
            }?.code == .invalidArgument)
    }

    @Test func goodSeccompProfiles() throws {
        try SeccompProfileSyntax.check(#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}"#)
        try SeccompProfileSyntax.check(#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":null}"#)
    }

    @Test func placeholders() throws {
        #expect(
            try PlaceholderText(#"a{{.Task.Slot}}-{{ .Node.Hostname }}{{index .Service.Labels "tier"}}"#).parts == [
                .text("a"), .placeholder(.taskSlot), .text("-"), .placeholder(.nodeHostname), .placeholder(.serviceLabel("tier")),
            ])
        #expect(try PlaceholderText("no }} placeholder").parts == [.text("no }} placeholder")])
        #expect(try PlaceholderText("").parts.isEmpty)
        for text in ["{{.Bad", "{{.Bad}}", "{{}}", "{{index .Service.Labels}}", "x{{.Task.ID}}{{", "{{{{.Task.ID}}}}"] {
            #expect(throws: ApusError.self, "\(text)") { try PlaceholderText(text) }
            #expect(container { $0.environment = ["A=\(text)"] }?.code == .invalidArgument, "\(text)")
            #expect(container { $0.hostname = text }?.code == .invalidArgument, "\(text)")
            #expect(
                container {
                    $0.mounts = [Mount()]
                    $0.mounts[0].source = "/srv/\(text)"
                    $0.mounts[0].target = "/data"
                }?.code == .invalidArgument, "\(text)")
        }
    }

    /// Whatever a user writes, it is read or refused.
    @Test func placeholdersSurviveGarbage() {
        var generator = SystemRandomNumberGenerator()
        let pieces = ["{{", "}}", "{", "}", " ", ".Task.ID", ".Service", "index", "\"", "`", "é", "\0", "x"]
        for _ in 0..<5000 {
            let text = (0..<Int.random(in: 0...12, using: &generator)).map { _ in pieces.randomElement(using: &generator) ?? "" }.joined()
            let read = try? PlaceholderText(text)
            if !text.contains("{{") { #expect(read?.parts == (text.isEmpty ? [] : [.text(text)])) }
        }
    }

    @Test func volumesOfServices() {
        func volume(_ change: (inout VolumeOptions) -> Void) -> ApusError? {
            container {
                var mount = Mount()
                mount.kind = .volume
                mount.source = "data"
                mount.target = "/data"
                var options = VolumeOptions()
                change(&options)
                mount.volumeOptions = options
                $0.mounts = [mount]
            }
        }
        #expect(volume { _ in } == nil)
        #expect(
            volume {
                $0.driver = VolumeDriver()
                $0.driver?.options = ["type": "nfs"]
            }?.code == .unimplemented)
        #expect(volume { $0.labels = ["": "x"] }?.code == .invalidArgument)
    }

    @Test func memoryThatNoContainerStartsWith() {
        #expect(
            error {
                var resources = ResourceRequirements()
                resources.limits = Resources()
                resources.limits?.memoryBytes = 5 << 20
                $0.task.resources = resources
            }?.message == "invalid memory value 5242880: Must be at least 6MiB")
    }
}
