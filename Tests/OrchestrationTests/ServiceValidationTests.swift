import PluginAPI
import Testing

@testable import Orchestration

@Suite struct ServiceValidationTests {
    private var state: MemoryState {
        var state = MemoryState()
        var existing = ServiceDraft.create(
            makeSpec("existing") { $0.endpoint = makeEndpoint(makePort(80, 80), makePort(53, 53, .host, .udp)) }, id: "existing-id")
        existing.endpoint.ports = existing.spec.endpoint?.ports ?? []
        state.services[existing.id] = existing
        // One whose ports are not allocated yet.
        let fresh = ServiceDraft.create(makeSpec("fresh") { $0.endpoint = makeEndpoint(makePort(81, 81)) }, id: "fresh-id")
        state.services[fresh.id] = fresh
        var bridge = Network()
        bridge.id = "network-id"
        bridge.spec.name = "lan"
        bridge.driver.name = "bridge"
        var overlay = bridge
        overlay.id = "overlay-id"
        overlay.spec.name = "wide"
        overlay.driver.name = "overlay"
        var ingress = overlay
        ingress.id = "ingress-id"
        ingress.spec.name = "ingress"
        ingress.spec.ingress = true
        state.networks = [bridge.id: bridge, overlay.id: overlay, ingress.id: ingress]
        return state
    }

    private func error(replacing: Service? = nil, name: String = "web", _ change: (inout ServiceSpec) -> Void) -> ApusError? {
        do throws(ApusError) {
            try ServiceValidation.check(makeSpec(name, image: "nginx:latest", change), inState: state, replacing: replacing)
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

    private func mount(_ change: (inout Mount) -> Void) -> ApusError? {
        container {
            var mount = Mount()
            mount.target = "/data"
            change(&mount)
            $0.mounts = [mount]
        }
    }

    @Test func acceptsWhatIsUsual() {
        #expect(error { _ in } == nil)
        #expect(
            error {
                $0.endpoint = makeEndpoint(makePort(80, 8080), makePort(80, 8080, .ingress, .udp), makePort(9000), makePort(9001))
                $0.task.placement = makePlacement("node.role==manager", "node.labels.a != b", preferences: ["node.labels.rack"], maximum: 2)
                $0.task.restartPolicy = makeRestart(.onFailure, delay: .zero, attempts: 3, window: .seconds(1))
                $0.update = makeUpdate { $0.maxFailureRatio = 1 }
                $0.networks = [NetworkAttachmentSpec()]
                $0.networks[0].target = "lan"
            } == nil)
        #expect(
            container {
                $0.environment = ["A=b", "EMPTY="]
                $0.hosts = ["10.0.0.1 one two"]
                $0.stopSignal = "SIGQUIT"
                $0.hostname = "{{.Node.Hostname}}-{{.Task.Slot}}"
                $0.healthcheck = Healthcheck()
                $0.privileges = Privileges()
            } == nil)
        #expect(mount { $0.source = "/srv" } == nil)
        #expect(
            mount {
                $0.kind = .volume; $0.source = "my-data"
            } == nil)
        #expect(mount { $0.kind = .volume } == nil)
        #expect(mount { $0.kind = .tmpfs } == nil)
    }

    @Test(arguments: ["", "a/b", "a b", "-a", "a-", "a\n", "ä", "a.b", "../x", String(repeating: "a", count: 64), "a\u{7}b"])
    func badNames(name: String) {
        #expect(error(name: name) { _ in }?.code == .invalidArgument)
    }

    @Test(arguments: ["a", "A9", "web-1", "web__2", String(repeating: "a", count: 63)])
    func goodNames(name: String) {
        #expect(error(name: name) { _ in } == nil)
    }

    @Test func identity() throws {
        #expect(error(name: "existing") { _ in }?.code == .conflict)
        let existing = try #require(state.services["existing-id"])
        #expect(error(replacing: existing, name: "existing") { $0.endpoint = existing.spec.endpoint } == nil)
        #expect(error(replacing: existing, name: "renamed") { _ in }?.message == "renaming services is not supported")
        #expect(
            error(replacing: existing, name: "existing") {
                $0.mode = ServiceMode()
                $0.mode.global = GlobalService()
            }?.message == "service mode change is not allowed")
    }

    @Test func modes() {
        #expect(error { $0.mode.global = GlobalService() }?.code == .invalidArgument)
        #expect(error { $0.mode.replicated?.replicas = .max }?.code == .invalidArgument)
        for mode in [0, 1] {
            let job = error {
                $0.mode = ServiceMode()
                if mode == 0 { $0.mode.replicatedJob = ReplicatedJob() } else { $0.mode.globalJob = GlobalJob() }
            }
            #expect(job?.code == .unimplemented)
            #expect(job?.message.contains("job") == true)
        }
    }

    @Test func ports() {
        #expect(error { $0.endpoint = makeEndpoint(makePort(80, 80)) }?.code == .conflict)
        #expect(
            error { $0.endpoint = makeEndpoint(makePort(80, 80)) }?.message
                == "port 80/tcp is already in use by service \"existing\" (existing-id) as an ingress port")
        #expect(error { $0.endpoint = makeEndpoint(makePort(80, 81)) }?.code == .conflict, "of a spec that is not allocated yet")
        #expect(error { $0.endpoint = makeEndpoint(makePort(80, 80, .ingress, .udp)) } == nil)
        #expect(error { $0.endpoint = makeEndpoint(makePort(80, 80, .host)) }?.code == .conflict)
        #expect(error { $0.endpoint = makeEndpoint(makePort(53, 53, .ingress, .udp)) }?.code == .conflict)
        #expect(error { $0.endpoint = makeEndpoint(makePort(53, 53, .host, .udp)) } == nil, "host ports may meet on different nodes")
        #expect(error { $0.endpoint = makeEndpoint(makePort(1, 8080), makePort(2, 8080)) }?.code == .invalidArgument)
        #expect(error { $0.endpoint = makeEndpoint(makePort(0, 8080)) }?.code == .invalidArgument)
        #expect(error { $0.endpoint = makeEndpoint(makePort(70000, 8080)) }?.code == .invalidArgument)
        #expect(error { $0.endpoint = makeEndpoint(makePort(80, 70000)) }?.code == .invalidArgument)
        #expect(error { $0.endpoint = makeEndpoint(makePort(80, 80, .ingress, .sctp)) } == nil, "SCTP's ports are others than TCP's")
        #expect(
            error {
                $0.endpoint = makeEndpoint(makePort(80, 8080))
                $0.endpoint?.mode = .dnsRoundRobin
            }?.code == .invalidArgument)
    }

    @Test func networks() {
        func attach(_ names: String...) -> ApusError? {
            error {
                $0.task.networks = names.map { name in
                    var attachment = NetworkAttachmentSpec()
                    attachment.target = name
                    return attachment
                }
            }
        }
        #expect(attach("lan") == nil)
        #expect(attach("network-id") == nil)
        #expect(attach("host") == nil)
        #expect(attach("nowhere")?.code == .notFound)
        #expect(attach("nowhere")?.message == "network nowhere not found")
        #expect(attach("wide", "none") == nil)
        #expect(attach("")?.code == .invalidArgument)
        #expect(attach("lan", "lan")?.code == .invalidArgument)
        #expect(attach("wide", "overlay-id")?.code == .invalidArgument)
        #expect(attach("ingress")?.message.contains("cannot be explicitly attached to the ingress network") == true)
        for (alias, isGood) in [("www", true), ("a.b-c", true), ("", false), ("a b", false), ("-a", false), ("a..b", false)] {
            #expect((error { $0.task.networks = [makeJoin("wide", aliases: [alias])] } == nil) == isGood, "\(alias)")
        }
        #expect(
            error {
                $0.task.networks = [makeJoin("wide")]
                $0.task.networks[0].driverOptions = ["a": "b"]
            }?.code == .unimplemented)
        var bare = state
        bare.networks["ingress-id"] = nil
        #expect(throws: ApusError.self) {
            try ServiceValidation.check(makeSpec("web") { $0.endpoint = makeEndpoint(makePort(80)) }, inState: bare, replacing: nil)
        }
    }

    @Test(
        arguments: [
            "nginx", "nginx:latest", "library/nginx", "localhost/nginx", "127.0.0.1:5000/a/b:1.0_x-y",
            "registry.example.com/team/app@sha256:"
                + String(repeating: "a", count: 64), "a__b/c.d-e", "Registry:80/x", "[::1]:5000/x",
        ])
    func goodImages(image: String) {
        #expect(container { $0.image = image } == nil)
    }

    @Test(
        arguments: [
            "", "Nginx", "nginx:", "nginx:a b", "a//b", "/a", "a/", "a@sha256:12", "a@md5:0", "a:-x", "a___b", "a..b", ".a", "http://x/y", "a\n",
            "host:99999/x",
        ])
    func badImages(image: String) {
        #expect(container { $0.image = image }?.code == .invalidArgument)
    }

    @Test func containers() {
        #expect(error { $0.task.container = nil }?.code == .invalidArgument)
        #expect(error { $0.task.runtime = "plugin" }?.code == .unimplemented)
        #expect(container { $0.environment = ["=x"] }?.code == .invalidArgument)
        #expect(container { $0.environment = ["A=\0"] }?.code == .invalidArgument)
        #expect(container { $0.workingDirectory = "relative" }?.code == .invalidArgument)
        #expect(container { $0.stopGracePeriod = .seconds(-1) }?.code == .invalidArgument)
        #expect(container { $0.stopSignal = "SIGNOTHING" }?.code == .invalidArgument)
        #expect(container { $0.stopSignal = "65" }?.code == .invalidArgument)
        #expect(container { $0.isolation = "hyperv" }?.code == .invalidArgument)
        #expect(container { $0.hostname = "a b" }?.code == .invalidArgument)
        #expect(container { $0.hosts = ["name 10.0.0.1"] }?.code == .invalidArgument)
        #expect(container { $0.oomScoreAdjustment = 2000 }?.code == .invalidArgument)
        #expect(container { $0.sysctls = ["net.ipv4/../x": "1"] }?.code == .invalidArgument)
        #expect(container { $0.labels = ["": "x"] }?.code == .invalidArgument)
        #expect(container { $0.capabilityAdd = ["NET ADMIN"] }?.code == .invalidArgument)
        #expect(
            container {
                $0.healthcheck = Healthcheck(); $0.healthcheck?.retries = -1
            }?.code == .invalidArgument)
        #expect(
            container {
                $0.healthcheck = Healthcheck(); $0.healthcheck?.interval = .nanoseconds(5)
            }?.code == .invalidArgument)
        #expect(
            container {
                $0.healthcheck = Healthcheck(); $0.healthcheck?.test = ["SHELL", "x"]
            }?.code == .invalidArgument)
        #expect(
            container {
                $0.dns = DNSConfiguration(); $0.dns?.nameservers = ["dns.example"]
            }?.code == .invalidArgument)
        #expect(
            container {
                $0.ulimits = [Ulimit()]; $0.ulimits[0].name = "nofiles"
            }?.code == .invalidArgument)
        #expect(
            container {
                $0.ulimits = [Ulimit()]
                $0.ulimits[0].name = "nofile"
                $0.ulimits[0].soft = 9
                $0.ulimits[0].hard = 8
            }?.code == .invalidArgument)
        #expect(container { $0.secrets = [SecretReference()] }?.code == .invalidArgument)
        #expect(container { $0.configs = [ConfigReference()] }?.code == .invalidArgument)
        #expect(
            container {
                $0.privileges = Privileges()
                $0.privileges?.credentialSpec = CredentialSpec()
                $0.privileges?.credentialSpec?.file = "x"
            }?.code == .unimplemented)
        #expect(
            container {
                $0.privileges = Privileges()
                $0.privileges?.seccomp = SeccompOptions()
                $0.privileges?.seccomp?.mode = "custom"
            }?.code == .invalidArgument)
    }

    @Test func mounts() {
        #expect(
            mount {
                $0.source = "/srv"; $0.target = ""
            }?.code == .invalidArgument)
        #expect(
            mount {
                $0.source = "/srv"; $0.target = "data"
            }?.code == .invalidArgument)
        #expect(
            mount {
                $0.source = "/srv"; $0.target = "/x/.."
            }?.code == .invalidArgument)
        #expect(mount { _ in }?.code == .invalidArgument)
        #expect(mount { $0.source = "srv" }?.code == .invalidArgument)
        #expect(
            mount {
                $0.kind = .volume; $0.source = "../etc"
            }?.code == .invalidArgument)
        #expect(
            mount {
                $0.kind = .volume; $0.source = "a/b"
            }?.code == .invalidArgument)
        #expect(
            mount {
                $0.kind = .tmpfs; $0.source = "x"
            }?.code == .invalidArgument)
        #expect(
            mount {
                $0.source = "/srv"; $0.tmpfsOptions = TmpfsOptions()
            }?.code == .invalidArgument)
        #expect(
            mount {
                $0.source = "/srv"; $0.bindOptions = BindOptions(); $0.bindOptions?.propagation = "all"
            }?.code == .invalidArgument)
        #expect(
            mount {
                $0.kind = .volume; $0.volumeOptions = VolumeOptions(); $0.volumeOptions?.subpath = "../x"
            }?.code == .invalidArgument)
        let twice = container {
            var first = Mount()
            first.kind = .tmpfs
            first.target = "/data"
            var second = first
            second.target = "/data//./"
            $0.mounts = [first, second]
        }
        #expect(twice?.message == "ContainerSpec: duplicate mount point: /data//./")
    }

    @Test func templates() {
        func resources(_ change: (inout ResourceRequirements) -> Void) -> ApusError? {
            error {
                var resources = ResourceRequirements()
                resources.limits = Resources()
                resources.reservations = Resources()
                change(&resources)
                $0.task.resources = resources
            }
        }
        #expect(resources { _ in } == nil)
        #expect(resources { $0.limits?.memoryBytes = 1000 }?.message == "invalid memory value 1000: Must be at least 6MiB")
        #expect(resources { $0.limits?.nanoCPUs = 100 }?.code == .invalidArgument)
        #expect(resources { $0.reservations?.nanoCPUs = -5 }?.code == .invalidArgument)
        #expect(resources { $0.limits?.pids = -1 }?.code == .invalidArgument)
        #expect(resources { $0.reservations?.genericResources = [GenericResource()] }?.code == .unimplemented)
        #expect(
            resources {
                $0.limits?.memoryBytes = 8 << 20; $0.reservations?.memoryBytes = 9 << 20
            }?.code == .invalidArgument)
        #expect(error { $0.task.restartPolicy = makeRestart(delay: .seconds(-1)) }?.code == .invalidArgument)
        #expect(error { $0.task.restartPolicy = makeRestart(window: .seconds(-1)) }?.code == .invalidArgument)
        #expect(error { $0.task.placement = makePlacement("nonsense") }?.code == .invalidArgument)
        #expect(error { $0.task.placement = makePlacement(preferences: ["rack"]) }?.code == .invalidArgument)
        #expect(error { $0.update = makeUpdate { $0.delay = .seconds(-1) } }?.code == .invalidArgument)
        #expect(error { $0.update = makeUpdate { $0.maxFailureRatio = 1.1 } }?.code == .invalidArgument)
        #expect(error { $0.update = makeUpdate { $0.maxFailureRatio = .nan } }?.code == .invalidArgument)
        #expect(error { $0.rollback = makeUpdate { $0.failureAction = .rollback } }?.code == .invalidArgument)
        #expect(
            error {
                $0.task.logDriver = LogDriver(); $0.task.logDriver?.name = "splunk"
            }?.code == .unimplemented)
        #expect(error { $0.labels = ["a\u{1}": ""] }?.code == .invalidArgument)
    }
}
