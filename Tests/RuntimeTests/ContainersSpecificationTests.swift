import Coding
import PluginAPI
import Testing

@testable import RuntimeOCI

@Suite struct ContainersSpecificationTests {
    private func specification(
        version: Int = 1, user: ProcessUser = ProcessUser(), mounts: [ResolvedMount] = [], _ change: (inout ContainerConfiguration) -> Void = { _ in }
    ) throws -> JSONValue {
        var configuration = ContainerConfiguration()
        configuration.id = ID(String(repeating: "a", count: 64))
        configuration.arguments = ["/bin/true"]
        change(&configuration)
        return try Specification(
            configuration: configuration,
            context: .init(
                cgroupVersion: version, cgroupPath: "/apus/x", capabilities: .max, kernel: KernelVersion(major: 6, minor: 1), seccompSupported: true,
                swapLimits: true, initPath: "/usr/bin/tini-static", rootPath: "/root", user: user, files: ["/etc/hosts": "/h"], mounts: mounts,
                devices: [])
        ).json()
    }

    private func strings(_ value: JSONValue?) -> [String] { (value?.array ?? []).compactMap(\.string) }

    private func has(_ value: JSONValue?, _ text: String) -> Bool { strings(value).contains(text) }

    @Test func defaultsAreDockers() throws {
        let json = try specification()
        #expect(json["hostname"]?.string == "aaaaaaaaaaaa")
        #expect(
            strings(json["process"]?["env"]) == [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=aaaaaaaaaaaa", "HOME=/",
            ])
        #expect(strings(json["process"]?["capabilities"]?["bounding"]).count == 14)
        #expect(json["process"]?["cwd"]?.string == "/")
        let namespaces = (json["linux"]?["namespaces"]?.array ?? []).compactMap { $0["type"]?.string }
        #expect(namespaces.sorted() == ["ipc", "mount", "pid", "uts"], "the host's network without a path")
        let targets = (json["mounts"]?.array ?? []).compactMap { $0["destination"]?.string }
        #expect(targets == ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm", "/etc/hosts"])
        #expect(has(json["linux"]?["maskedPaths"], "/proc/kcore"))
        #expect(has(json["linux"]?["readonlyPaths"], "/proc/sys"))
        #expect(json["linux"]?["seccomp"]?["defaultAction"]?.string == "SCMP_ACT_ERRNO")
        #expect(json["linux"]?["resources"]?["devices"]?[0]?["allow"]?.bool == false)
    }

    @Test func anotherUserHasCapabilitiesOnlyInTheBoundingSet() throws {
        let json = try specification(user: ProcessUser(user: 5, group: 6, additionalGroups: [6, 7], home: "/h"))
        #expect(json["process"]?["capabilities"]?["effective"] == nil)
        #expect(json["process"]?["user"]?["uid"]?.integer == 5)
        let environment = strings(json["process"]?["env"])
        #expect(environment.last == "HOME=/h")
    }

    @Test func resourcesAreTranslated() throws {
        let json = try specification {
            $0.resources.nanoCPUs = 1_500_000_000
            $0.resources.memoryBytes = 100 << 20
            $0.resources.processes = 50
            $0.resources.cpuset = "0-1"
        }
        let resources = json["linux"]?["resources"]
        #expect(resources?["cpu"]?["quota"]?.integer == 150_000)
        #expect(resources?["cpu"]?["period"]?.integer == 100_000)
        #expect(resources?["cpu"]?["cpus"]?.string == "0-1")
        #expect(resources?["memory"]?["limit"]?.integer == 100 << 20)
        #expect(resources?["memory"]?["swap"]?.integer == 200 << 20)
        #expect(resources?["pids"]?["limit"]?.integer == 50)
    }

    @Test func privilegedTakesTheGuardsAway() throws {
        let json = try specification(version: 2) { $0.privileged = true }
        #expect(json["linux"]?["seccomp"] == nil)
        #expect(json["linux"]?["maskedPaths"] == nil)
        #expect(strings(json["process"]?["capabilities"]?["effective"]).count == Capabilities.names.count)
        let cgroup = json["mounts"]?.array?.first { $0["destination"]?.string == "/sys/fs/cgroup" }
        #expect(has(cgroup?["options"], "rw"))
    }

    @Test func theNetworkIsJoinedByPath() throws {
        let json = try specification(version: 2) { $0.networkNamespacePath = "/run/netns/x" }
        let network = json["linux"]?["namespaces"]?.array?.first { $0["type"]?.string == "network" }
        #expect(network?["path"]?.string == "/run/netns/x")
        #expect(json["linux"]?["namespaces"]?.array?.contains { $0["type"]?.string == "cgroup" } == true)
        #expect(json["linux"]?["sysctl"]?["net.ipv4.ip_unprivileged_port_start"]?.string == "0")
    }

    @Test func mountsComeInOrderAndReplaceTheStandardOnes() throws {
        func resolved(_ target: String, _ propagation: String = "") -> ResolvedMount {
            var mount = Mount()
            mount.source = "/source"
            mount.target = target
            mount.readOnly = true
            mount.bindOptions = BindOptions()
            mount.bindOptions?.propagation = propagation
            return ResolvedMount(mount: mount, source: "/source")
        }
        let json = try specification(mounts: [resolved("/a/b/c"), resolved("/a"), resolved("/dev/shm", "rshared")])
        let mounts = json["mounts"]?.array ?? []
        let targets = mounts.compactMap { $0["destination"]?.string }
        #expect(targets.suffix(3) == ["/a", "/dev/shm", "/a/b/c"])
        #expect(targets.filter { $0 == "/dev/shm" }.count == 1)
        #expect(strings(mounts.last?["options"]) == ["rbind", "rprivate", "ro", "rro"])
        #expect(json["linux"]?["rootfsPropagation"]?.string == "shared")
        #expect(throws: ApusError.self) { try specification(mounts: [resolved("/a", "sideways")]) }
    }

    @Test func environmentIsMerged() {
        let merged = Specification.environment(["PATH=/x", "A=1", "A=2", "HOSTNAME", "=odd"], hostname: "h", terminal: true, home: "/root")
        #expect(merged == ["PATH=/x", "TERM=xterm", "A=2", "=odd", "HOME=/root"])
    }

    @Test func wrongLimitsAndCapabilitiesAreRefused() throws {
        #expect(throws: ApusError.self) { try specification { $0.capabilityAdd = ["FLY"] } }
        func limit(_ name: String, _ soft: Int64, _ hard: Int64) -> Ulimit {
            var limit = Ulimit()
            limit.name = name
            limit.soft = soft
            limit.hard = hard
            return limit
        }
        #expect(throws: ApusError.self) { try specification { $0.ulimits = [limit("wings", 1, 1)] } }
        #expect(throws: ApusError.self) { try specification { $0.ulimits = [limit("nofile", 2, 1)] } }
        let json = try specification { $0.ulimits = [limit("core", -1, -1)] }
        #expect(json["process"]?["rlimits"]?[0]?["type"]?.string == "RLIMIT_CORE")
    }

    @Test func usersAreResolved() throws {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\n77:x:5:5::/n:/bin/sh\nbroken\n"
        let group = "root:x:0:\nstaff:x:50:web,other\nnumbers:x:77:\n"
        func resolve(_ text: String, _ groups: [String] = []) throws -> ProcessUser {
            try ProcessUser.resolve(text, groups: groups, passwd: passwd, group: group)
        }
        #expect(try resolve("") == ProcessUser(user: 0, group: 0, additionalGroups: [0], home: "/root"))
        #expect(try resolve("web") == ProcessUser(user: 33, group: 34, additionalGroups: [34, 50], home: "/var/www"))
        #expect(try resolve("33") == ProcessUser(user: 33, group: 34, additionalGroups: [34, 50], home: "/var/www"))
        #expect(try resolve("web:numbers") == ProcessUser(user: 33, group: 77, additionalGroups: [77], home: "/var/www"))
        #expect(try resolve("1234", ["staff"]) == ProcessUser(user: 1234, group: 0, additionalGroups: [0, 50], home: "/"))
        #expect(try resolve("77").user == 5, "a name of digits is a name first")
        #expect(throws: ApusError.self) { try resolve("nobody") }
        #expect(throws: ApusError.self) { try resolve("web:nobody") }
        #expect(throws: ApusError.self) { try resolve("4294967295") }
    }

    @Test func failuresOfTheRuntimesAreTranslated() {
        let runc = RuntimeFailure(
            output:
                #"{"level":"error","msg":"runc create failed: unable to start container process: exec: \"x\": executable file not found in $PATH","time":"t"}"#
        )
        #expect(runc.exitCode == 127)
        #expect(runc.message == "unable to start container process: exec: \"x\": executable file not found in $PATH")
        let crun = RuntimeFailure(output: #"{"msg":"executable file `x` not found in $PATH: No such file or directory","level":"error","time":"t"}"#)
        #expect(crun == runc)
        #expect(RuntimeFailure(output: "exec: \"/bin\": permission denied\n").exitCode == 126)
        #expect(RuntimeFailure(output: "something else").exitCode == 128)
        #expect(RuntimeFailure(output: "").message.contains("without saying why"))
    }
}
