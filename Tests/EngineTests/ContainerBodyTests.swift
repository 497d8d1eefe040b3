import Agent
import Coding
import PluginAPI
import Testing

@testable import Engine

/// The body of `POST /containers/create` as clients write it; no engine is started.
@Suite struct ContainerBodyTests {
    private func read(_ text: String) throws -> ContainerRequest {
        let request = try ContainerCreateBody.request(from: JSONValue.parse(text), name: nil)
        try request.check()
        return request
    }

    private func host(_ text: String) throws -> ContainerRequest { try read(#"{"Image":"a","HostConfig":{\#(text)}}"#) }

    private func refuses(_ code: ApusError.Code, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> ContainerRequest) {
        do {
            _ = try body()
            Issue.record("it is accepted", sourceLocation: sourceLocation)
        } catch {
            let error = ApusError(error)
            #expect(error.code == code, "\(error.message)", sourceLocation: sourceLocation)
            for word in words { #expect(error.message.contains(word), "\(error.message)", sourceLocation: sourceLocation) }
        }
    }

    /// What docker 28 writes for `docker create busybox`, field for field.
    @Test func whatDockerAlwaysSends() throws {
        let request = try read(
            #"""
            {"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,"AttachStderr":true,"Tty":false,"OpenStdin":false,
            "StdinOnce":false,"Env":null,"Cmd":null,"Image":"busybox","Volumes":{},"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{},
            "HostConfig":{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},"NetworkMode":"default","PortBindings":{},
            "RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[0,0],"CapAdd":null,
            "CapDrop":null,"CgroupnsMode":"","Dns":[],"DnsOptions":[],"DnsSearch":[],"ExtraHosts":null,"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,
            "OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"","UsernsMode":"",
            "ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],
            "BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,
            "CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,
            "MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":-1,"OomKillDisable":false,"PidsLimit":0,"Ulimits":[],"CpuCount":0,"CpuPercent":0,
            "IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,"ReadonlyPaths":null},
            "NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,"Aliases":null,"MacAddress":"","DriverOpts":null,"GwPriority":0,
            "NetworkID":"","EndpointID":"","Gateway":"","IPAddress":"","IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,
            "DNSNames":null}}}}
            """#)
        #expect(request.configuration.imageReference == "busybox" && request.networks.map(\.target) == ["default"])
    }

    @Test func clientsOwnFieldsAreIgnored() throws {
        _ = try host(#""ContainerIDFile":"/tmp/cid""#)
        let request = try read(#"{"Image":"a","StopTimeout":-5,"NetworkDisabled":true,"HostConfig":{"PidsLimit":-1,"NetworkMode":"lan"}}"#)
        #expect(request.configuration.stopGracePeriod == .seconds(-5) && request.configuration.resources.processes == 0)
        #expect(request.networks.map(\.target) == ["none"], "without a network is the network none")
    }

    @Test func values() {
        refuses(.invalidArgument, "StopTimeout") { try read(#"{"Image":"a","StopTimeout":9223372036854775807}"#) }
        refuses(.unimplemented, "Shell") { try read(#"{"Image":"a","Shell":["/bin/bash","-c"]}"#) }
        refuses(.invalidArgument, "ExposedPorts", "\"x\"") { try read(#"{"Image":"a","ExposedPorts":{"x":{}}}"#) }
        refuses(.invalidArgument, "ExposedPorts.80/tcp") { try read(#"{"Image":"a","ExposedPorts":{"80/tcp":5}}"#) }
        refuses(.invalidArgument, "Volumes./data") { try read(#"{"Image":"a","Volumes":{"/data":{"a":1}}}"#) }
        refuses(.invalidArgument, "absolute") { try read(#"{"Image":"a","Volumes":{"data":{}}}"#) }
        refuses(.invalidArgument, "FOO") { try read(#"{"Image":"a","Healthcheck":{"Test":["FOO"]}}"#) }
        refuses(.invalidArgument, "Retries") { try read(#"{"Image":"a","Healthcheck":{"Test":["NONE"],"Retries":-1}}"#) }
        refuses(.invalidArgument, "hostname") { try read(#"{"Image":"a","Hostname":"a\nb"}"#) }
        refuses(.invalidArgument, "label") { try read(#"{"Image":"a","Labels":{"":"x"}}"#) }
        refuses(.invalidArgument, "NUL") { try read(#"{"Image":"a","Cmd":["a\u0000"]}"#) }
        refuses(.invalidArgument, "\"x\"") { try host(#""Dns":["x"]"#) }
        refuses(.invalidArgument, "ShmSize") { try host(#""ShmSize":-1"#) }
        refuses(.invalidArgument, "published twice") { try host(#""PortBindings":{"80/tcp":[{"HostPort":"80"}],"81/tcp":[{"HostPort":"80"}]}"#) }
        refuses(.unimplemented, "8000-8010") { try host(#""PortBindings":{"80/tcp":[{"HostPort":"8000-8010"}]}"#) }
        refuses(.invalidArgument, "8000-") { try host(#""PortBindings":{"80/tcp":[{"HostPort":"8000-"}]}"#) }
        refuses(.invalidArgument, "+80") { try host(#""PortBindings":{"+80/tcp":[]}"#) }
        refuses(.invalidArgument, "+80") { try host(#""PortBindings":{"80/tcp":[{"HostPort":"+80"}]}"#) }
        refuses(.invalidArgument, "CgroupParent") { try host(#""CgroupParent":"../../x""#) }
    }

    @Test func networks() {
        func networks(_ text: String) throws -> ContainerRequest { try read(#"{"Image":"a","NetworkingConfig":\#(text)}"#) }
        refuses(.invalidArgument, "EndpointsConfig", "an array") { try networks(#"{"EndpointsConfig":[1]}"#) }
        refuses(.invalidArgument, "EndpointsConfig.lan") { try networks(#"{"EndpointsConfig":{"lan":1}}"#) }
        refuses(.invalidArgument, "IPAMConfig.Foo") { try networks(#"{"EndpointsConfig":{"lan":{"IPAMConfig":{"Foo":"x"}}}}"#) }
        refuses(.invalidArgument, "IPAMConfig.IPv4Address") { try networks(#"{"EndpointsConfig":{"lan":{"IPAMConfig":{"IPv4Address":7}}}}"#) }
        refuses(.invalidArgument, "10.0.0") { try networks(#"{"EndpointsConfig":{"lan":{"IPAMConfig":{"IPv4Address":"10.0.0"}}}}"#) }
        refuses(.unimplemented, "IPv6Address") { try networks(#"{"EndpointsConfig":{"lan":{"IPAMConfig":{"IPv6Address":"fd00::9"}}}}"#) }
        refuses(.unimplemented, "LinkLocalIPs") { try networks(#"{"EndpointsConfig":{"lan":{"IPAMConfig":{"LinkLocalIPs":["169.254.1.1"]}}}}"#) }
        refuses(.unimplemented, "GwPriority") { try networks(#"{"EndpointsConfig":{"lan":{"GwPriority":7}}}"#) }
        refuses(.invalidArgument, "alias") { try networks(#"{"EndpointsConfig":{"lan":{"Aliases":["a\nb"]}}}"#) }
        #expect(throws: Never.self) { try networks(#"{"EndpointsConfig":{"lan":{"IPAMConfig":{}}}}"#) }
        #expect(throws: Never.self) { try networks(#"{"EndpointsConfig":null}"#) }
    }

    @Test func whatIsMissingIsSaid() {
        refuses(.unimplemented, "systempaths") { try host(#""MaskedPaths":[],"ReadonlyPaths":[]"#) }
        refuses(.unimplemented, "ReadonlyPaths") { try host(#""ReadonlyPaths":["/proc/bus"]"#) }
        #expect(throws: Never.self) { try host(#""MaskedPaths":[],"ReadonlyPaths":[],"Privileged":true"#) }
        #expect(throws: Never.self) { try host(#""MaskedPaths":["/proc/kcore"],"ReadonlyPaths":[]"#) }
        refuses(.unimplemented, "exec") { try host(#""Tmpfs":{"/t":"exec"}"#) }
        refuses(.unimplemented, "size=50%") { try host(#""Tmpfs":{"/t":"size=50%"}"#) }
        for option in ["uid=5", "gid=5", "nr_inodes=10"] { refuses(.unimplemented, option) { try host(#""Tmpfs":{"/t":"\#(option)"}"#) } }
        refuses(.invalidArgument, "colour") { try host(#""Tmpfs":{"/t":"colour=red"}"#) }
        refuses(.unimplemented, "max-buffer-size") { try host(#""LogConfig":{"Type":"json-file","Config":{"max-buffer-size":"1m"}}"#) }
        refuses(.unimplemented, "apparmor=mine") { try host(#""SecurityOpt":["apparmor=mine"]"#) }
        refuses(.invalidArgument, "nonsense") { try host(#""SecurityOpt":["nonsense"]"#) }
        for type in ["image", "cluster", "npipe"] {
            refuses(.unimplemented, "HostConfig.Mounts[0].Type", type) { try host(#""Mounts":[{"Type":"\#(type)","Target":"/x"}]"#) }
        }
        refuses(.invalidArgument, "fifo") { try host(#""Mounts":[{"Type":"fifo","Target":"/x"}]"#) }
        refuses(.unimplemented, "TmpfsOptions.Options") { try host(#""Mounts":[{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"Options":[["exec"]]}}]"#) }
        refuses(.unimplemented, "ImageOptions") { try host(#""Mounts":[{"Type":"bind","Source":"/a","Target":"/x","ImageOptions":{}}]"#) }
    }

    @Test func servicesSayWhatIsMissingToo() throws {
        func service(_ text: String) -> ApusError? {
            var request = try? APIRequest.parse(method: "POST", target: "/services/create", headers: [:])
            request?.body = Array(text.utf8)
            do { _ = try request?.serviceSpec() } catch { return ApusError(error) }
            return nil
        }
        let mount = #"{"TaskTemplate":{"ContainerSpec":{"Image":"a","Mounts":[{"Type":"cluster","Target":"/x"}]}}}"#
        #expect(service(mount)?.code == .unimplemented && service(mount)?.message.contains("Mounts[0].Type") == true)
        #expect(service(#"{"TaskTemplate":{"PluginSpec":{"Name":"x"}}}"#)?.code == .unimplemented)
        #expect(service(#"{"TaskTemplate":{"Colour":"red"}}"#)?.code == .invalidArgument)
        #expect(service(#"{"TaskTemplate":7}"#)?.code == .invalidArgument)
        #expect(service(#"{"TaskTemplate":{"ContainerSpec":{"Image":"a","Mounts":[{"Type":"bind","Source":"/a","Target":"/x"}]}}}"#) == nil)
    }

    @Test func cgroupNamespaces() {
        #expect(throws: Never.self) {
            for (privileged, version) in [(false, 1), (true, 1), (false, 2), (true, 2)] {
                try CgroupNamespace.check("", isPrivileged: privileged, cgroupVersion: version)
            }
            try CgroupNamespace.check("private", isPrivileged: false, cgroupVersion: 2)
            try CgroupNamespace.check("host", isPrivileged: true, cgroupVersion: 2)
            try CgroupNamespace.check("host", isPrivileged: false, cgroupVersion: 1)
        }
        for (wanted, privileged, version) in [("host", false, 2), ("private", true, 2), ("private", false, 1)] {
            #expect { try CgroupNamespace.check(wanted, isPrivileged: privileged, cgroupVersion: version) } throws: {
                ($0 as? ApusError)?.code == .unimplemented
            }
        }
    }

    @Test func detailsOfLogs() {
        var configuration = ContainerConfiguration()
        #expect(LogDetails.prefix(configuration) == " ")
        configuration.labels = ["tier": "front end", "other": "x"]
        configuration.environment = ["COLOUR=a=b", "SECRET=x", "BARE"]
        configuration.log.options = ["labels": "tier,missing", "env": "COLOUR,BARE"]
        #expect(LogDetails.prefix(configuration) == "COLOUR=a%3Db,tier=front+end ")
        #expect(LogDetails.prefix(configuration, more: "m=1") == "COLOUR=a%3Db,m=1,tier=front+end ")
    }

    @Test func heartbeatsAreBounded() throws {
        var spec = ClusterSpec()
        for good in [Duration.zero, .milliseconds(100), .seconds(5), .seconds(3600)] {
            spec.dispatcher.heartbeatPeriod = good
            try spec.check()
        }
        for bad in [Duration.seconds(-1), .nanoseconds(1), .seconds(3601), .seconds(2_562_047 * 3600)] {
            spec.dispatcher.heartbeatPeriod = bad
            #expect(throws: ApusError.self, "\(bad)") { try spec.check() }
        }
    }
}
