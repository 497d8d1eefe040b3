import Coding
import Files
import Glibc
import HTTPClient
import PluginAPI
import Testing

/// Bad input gets a clear error and changes nothing.
@Suite(.serialized, .sharedEngine)
struct BadInputTests {
    /// Runs what is bad, and looks whether the engine answers and everything is as it was.
    private func changingNothing(_ body: (EngineHarness) async throws -> Void) async throws {
        let engine = try EngineHarness.shared
        let process = try engine.process
        // Here, so that what is wrong with a container is not hidden by an image that is missing.
        try await engine.docker("pull", "busybox")
        let before = try await engine.inventory()
        try await body(engine)
        #expect(await engine.isAnswering)
        #expect(try engine.process == process)
        let after = try await engine.inventory()
        for (kind, objects) in after { #expect(objects == before[kind], "\(kind) changed") }
    }

    /// Sends a body that must be refused with this status and with these words in its message.
    private func refuse(
        _ engine: EngineHarness, _ path: String, _ body: String, status: Int = 400, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        var request = HTTPRequest("POST", "http://apus\(path)", body: .bytes(Array(body.utf8)), unixSocket: engine.socket)
        request.headers["Content-Type"] = "application/json"
        request.timeout = .seconds(180)
        let answer = try await HTTPClient().send(request)
        let message = (try? JSONValue.parse(answer.body))?["message"]?.string ?? ""
        #expect(answer.status == status, "\(body.prefix(200)): \(answer.status) \(message)", sourceLocation: sourceLocation)
        for word in words { #expect(message.contains(word), "\(message)", sourceLocation: sourceLocation) }
    }

    // MARK: Bodies

    @Test func unknownFieldsAndWrongTypes() async throws {
        try await changingNothing { engine in
            let path = "/services/create"
            try await refuse(engine, path, #"{"Name":"a","Colour":"red","TaskTemplate":{"ContainerSpec":{"Image":"nginx"}}}"#, "Colour")
            try await refuse(engine, path, #"{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"nginx","Imagge":"x"}}}"#, "Imagge")
            try await refuse(engine, path, #"{"Name":7,"TaskTemplate":{"ContainerSpec":{"Image":"nginx"}}}"#, "Name")
            try await refuse(engine, path, #"{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":["nginx"]}}}"#, "Image")
            try await refuse(
                engine, path, #"{"Name":"a","Mode":{"Replicated":{"Replicas":"3"}},"TaskTemplate":{"ContainerSpec":{"Image":"nginx"}}}"#, "Replicas")
            try await refuse(
                engine, path, #"{"Name":"a","Mode":{"Replicated":{"Replicas":1.5}},"TaskTemplate":{"ContainerSpec":{"Image":"nginx"}}}"#, "Replicas")
            try await refuse(engine, path, #"[]"#)
            try await refuse(engine, path, #""service""#)
            try await refuse(engine, path, #"null"#)
            try await refuse(engine, path, #"{"Name":"a","Name":"b","TaskTemplate":{"ContainerSpec":{"Image":"nginx"}}}"#, "Name")
            try await refuse(engine, "/containers/create?name=aa", #"{"Image":"busybox","Colour":"red"}"#, "Colour")
            try await refuse(engine, "/containers/create?name=aa", #"{"Image":"busybox","HostConfig":{"Colour":"red"}}"#, "Colour")
            try await refuse(engine, "/containers/create?name=aa", #"{"Image":"busybox","Env":"A=1"}"#, "Env")
            try await refuse(engine, "/containers/create?name=aa", #"{"Image":"busybox","HostConfig":{"Memory":"64m"}}"#, "Memory")
            try await refuse(
                engine, "/containers/create?name=aa", #"{"Image":"busybox","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"http"}]}}}"#, "http")
            try await refuse(engine, "/containers/create?name=aa", #"{"Image":"busybox","HostConfig":{"PortBindings":{"80/tcp":{"HostPort":"80"}}}}"#, "80/tcp")
            try await refuse(engine, "/containers/create?name=aa", #"{"Image":"busybox","NetworkingConfig":{"Colour":{}}}"#, "Colour")
            try await refuse(engine, "/volumes/create", #"{"Name":"vol","Colour":"red"}"#, "Colour")
            try await refuse(engine, "/volumes/create", #"{"Name":"vol","Labels":["a"]}"#, "Labels")
            try await refuse(engine, "/networks/create", #"{"Name":"net","Colour":"red"}"#, "Colour")
            try await refuse(engine, "/networks/create", #"{"Name":"net","IPAM":{"Config":[{"Subnet":"10.0.0.0/99"}]}}"#, "10.0.0.0/99")
            let version = try #require(try await engine.get("/swarm")["Version"]?["Index"]?.integer)
            try await refuse(engine, "/swarm/update?version=\(version)", #"{"Name":"default","Colour":"red"}"#, "Colour")
            try await refuse(engine, "/apus/plugins/install", #"{"Path":"relative.so"}"#, "absolute")
        }
    }

    @Test func malformedJSON() async throws {
        try await changingNothing { engine in
            for body in ["{", "{]", #"{"Name":}"#, #"{"Name":"a"} {}"#, "nonsense", "{\"Name\":\"\u{1}\"}", "\u{FEFF}{}", #"{"a":01}"#, #"{"a":"\ud800"}"#] {
                try await refuse(engine, "/services/create", body)
            }
            try await refuse(engine, "/services/create", "", "no body")
            let connection = try RawConnection(engine.socket)
            defer { connection.close() }
            await connection.write("POST /services/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 12\r\n\r\n")
            await connection.write(Array("{\"Name\":\"".utf8) + [0x80, UInt8(ascii: "\"")] + Array("}".utf8))
            #expect(try await connection.read().hasPrefix("HTTP/1.1 400 "))
            let text = try await engine.send("POST", "/services/create", nil, headers: ["Content-Type": "text/plain", "Content-Length": "0"])
            #expect(text.status == 400)
        }
    }

    @Test func deepNesting() async throws {
        try await changingNothing { engine in
            for (open, close) in [("[", "]"), (#"{"a":"#, "}")] {
                let deep = String(repeating: open, count: 1_000_000)
                try await refuse(engine, "/services/create", deep, "128 levels")
                try await refuse(engine, "/services/create", deep + "1" + String(repeating: close, count: 1_000_000), "128 levels")
            }
            let filters = String(repeating: "[", count: 10_000)
            #expect(try await engine.send("GET", "/services?filters=\(percentEncoded(filters))").status == 400)
        }
    }

    @Test func bodyCutShort() async throws {
        try await changingNothing { engine in
            let body = #"{"Name":"cut","TaskTemplate":{"ContainerSpec":{"Image":"nginx"}}}"#
            for path in ["/services/create", "/volumes/create", "/containers/create?name=cut"] {
                let connection = try RawConnection(engine.socket)
                await connection.write(
                    "POST \(path) HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count + 1)\r\n\r\n\(body)")
                connection.close()
            }
            // In chunks, without the last one.
            let connection = try RawConnection(engine.socket)
            let length = String(body.utf8.count, radix: 16)
            await connection.write("POST /services/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\(length)\r\n\(body)\r\n")
            connection.close()
            try await engine.noRequestIsAnswered()
        }
    }

    @Test func imageCutShort() async throws {
        try await changingNothing { engine in
            // Cut where a tar archive could end, so that only the length of the body tells.
            try await engine.inNamespace("tar", "-C", "/etc", "-cf", "\(engine.root)/cut.tar", "--record-size=512", "passwd")
            let archive = try Files.read("\(engine.root)/cut.tar")
            for whole in [512 + 512 * ((archive.count - 512 - 1024) / 512), archive.count] {
                for path in ["/images/create?fromSrc=-&repo=cut&tag=1", "/images/load"] {
                    let connection = try RawConnection(engine.socket)
                    await connection.write("POST \(path) HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: \(whole + 1)\r\n\r\n")
                    await connection.write(Array(archive[..<whole]))
                    connection.close()
                }
            }
            try await engine.noRequestIsAnswered()
        }
    }

    @Test func hugeBodies() async throws {
        let engine = try EngineHarness.shared
        try await changingNothing { engine in try await refuse(engine, "/services/create", "{", "line 1") }
        let before = try engine.residentMemory()
        try await changingNothing { engine in
            let huge = [UInt8](repeating: UInt8(ascii: " "), count: 100 << 20)
            for path in ["/services/create", "/containers/create", "/volumes/create", "/swarm/init"] {
                var request = HTTPRequest("POST", "http://apus\(path)", body: .bytes(huge), unixSocket: engine.socket)
                request.headers["Content-Type"] = "application/json"
                request.timeout = .seconds(180)
                let answer = try await HTTPClient().send(request)
                #expect(answer.status == 413 && answer.text.contains("larger than"), "\(path) \(answer.status) \(answer.text)")
            }
            // Without a length, so that only counting helps.
            let connection = try RawConnection(engine.socket)
            defer { connection.close() }
            await connection.write("POST /services/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            let chunk = Array("100000\r\n".utf8) + [UInt8](repeating: UInt8(ascii: " "), count: 1 << 20) + Array("\r\n".utf8)
            for _ in 0..<100 where await connection.write(chunk) {}
            #expect(try await connection.read().hasPrefix("HTTP/1.1 413 "))
        }
        let growth = try engine.residentMemory() - before
        #expect(growth < 8 << 20, "the engine grew by \(growth >> 20) MB")
    }

    @Test func chunkedAndPipelinedRequestsWork() async throws {
        let engine = try EngineHarness.shared
        let body = #"{"Name":"chunked-volume"}"#
        let chunks = body.map { "1\r\n\($0)\r\n" }.joined() + "0\r\n\r\n"
        let answer = try await engine.raw(
            "POST /volumes/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n", chunks)
        #expect(answer.hasPrefix("HTTP/1.1 201 "))
        let pipelined =
            String(repeating: "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n", count: 20)
            + "DELETE /volumes/chunked-volume HTTP/1.1\r\nHost: x\r\n\r\n" + "GET /volumes/chunked-volume HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        let statuses = try await engine.raw(pipelined).lines.filter { $0.hasPrefix("HTTP/1.1 ") || $0.hasPrefix("OKHTTP/1.1 ") }
        #expect(statuses.count == 22)
        #expect(statuses[20].contains(" 204 ") && statuses[21].contains(" 404 "), "in order: \(statuses)")
    }

    @Test func badChunksAndRequests() async throws {
        try await changingNothing { engine in
            let head = "POST /services/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            for chunks in ["zz\r\n{}\r\n", "-1\r\n{}\r\n", "fffffffffffffffff\r\n{}\r\n", "2\r\n{}garbage"] {
                #expect(try await engine.raw(head + chunks).hasPrefix("HTTP/1.1 400 "), "\(chunks)")
            }
            for request in [
                "GET\r\n\r\n", "\0\0\0\0\r\n\r\n", "GET /info HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\0",
                "POST /services/create HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
                "POST /services/create HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
                "POST /services/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}",
                "POST /services/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            ] {
                let answer = try await engine.raw(request)
                #expect(answer.isEmpty || answer.hasPrefix("HTTP/1.1 400 "), "\(request.debugDescription): \(answer.prefix(60))")
            }
        }
    }

    @Test func headerFlood() async throws {
        try await changingNothing { engine in
            let floods = [
                "GET /_ping HTTP/1.1\r\nHost: x\r\nX-Big: " + String(repeating: "a", count: 1 << 20) + "\r\n\r\n",
                "GET /_ping HTTP/1.1\r\nHost: x\r\n" + String(repeating: "X-Many: yes\r\n", count: 100_000) + "\r\n",
                "GET /_ping?" + String(repeating: "a", count: 1 << 20) + " HTTP/1.1\r\nHost: x\r\n\r\n",
            ]
            for flood in floods {
                let answer = try await engine.raw(flood)
                #expect(answer.isEmpty || answer.hasPrefix("HTTP/1.1 4"), "\(answer.prefix(100))")
            }
        }
    }

    // MARK: Values

    @Test func names() async throws {
        try await changingNothing { engine in
            for name in ["a/b", "../up", "with space", "tab\\tin", "nul\\u0000", "line\\nend", "-begin", String(repeating: "n", count: 64), "ümlaut"] {
                try await refuse(engine, "/services/create", #"{"Name":"\#(name)","TaskTemplate":{"ContainerSpec":{"Image":"nginx"}}}"#, "name")
            }
            for name in ["a/b", "../up", "with space", "a\u{1}", "-begin", "a\0b", "ümlaut"] {
                let quoted = JSONValue.string(name).text()
                try await refuse(engine, "/containers/create?name=\(percentEncoded(name))", #"{"Image":"busybox"}"#)
                try await refuse(engine, "/volumes/create", #"{"Name":\#(quoted)}"#)
                try await refuse(engine, "/networks/create", #"{"Name":\#(quoted)}"#)
                for kind in ["volumes", "services", "networks", "containers", "images", "plugins"] {
                    let status = try await engine.send("DELETE", "/\(kind)/\(percentEncoded(name))").status
                    #expect([400, 404].contains(status), "DELETE /\(kind)/\(name.debugDescription): \(status)")
                }
            }
            for reference in ["UPPER", "a//b", "a:b:c", "", "a@sha256:12", ":tag", "a b", String(repeating: "a", count: 300)] {
                let status = try await engine.send("POST", "/images/create?fromImage=\(percentEncoded(reference))").status
                #expect(status == 400, "\(reference): \(status)")
                try await refuse(engine, "/services/create", #"{"Name":"image","TaskTemplate":{"ContainerSpec":{"Image":"\#(reference)"}}}"#)
            }
        }
    }

    @Test func numbersAndPorts() async throws {
        _ = try await EngineHarness.shared.createService(EngineHarness.spec("holds", image: "busybox", replicas: 0, port: 8443))
        try await eventually("the port is given out") { try await EngineHarness.shared.get("/services/holds")["Endpoint"]?["Ports"] != nil }
        try await changingNothing { engine in
            func spec(_ more: String) -> String { #"{"Name":"bad","TaskTemplate":{"ContainerSpec":{"Image":"nginx"}},\#(more)}"# }
            let path = "/services/create"
            try await refuse(engine, path, spec(#""Mode":{"Replicated":{"Replicas":-1}}"#), "eplicas")
            try await refuse(engine, path, spec(#""Mode":{"Replicated":{"Replicas":99999999999999999999}}"#), "eplicas")
            try await refuse(engine, path, spec(#""Mode":{"Replicated":{"Replicas":1},"Global":{}}"#), "Mode")
            let port = #"{"TargetPort":80,"PublishedPort":8080,"Protocol":"tcp"}"#
            try await refuse(engine, path, spec(#""EndpointSpec":{"Ports":[\#(port),\#(port)]}"#), "8080")
            try await refuse(engine, path, spec(#""EndpointSpec":{"Ports":[{"TargetPort":80,"PublishedPort":8443}]}"#), status: 409, "8443", "holds")
            try await refuse(engine, path, spec(#""EndpointSpec":{"Ports":[{"TargetPort":70000,"PublishedPort":80}]}"#), "70000")
            try await refuse(engine, path, spec(#""EndpointSpec":{"Ports":[{"TargetPort":80,"PublishedPort":-5}]}"#))
            try await refuse(engine, path, spec(#""EndpointSpec":{"Ports":[{"TargetPort":80,"Protocol":"icmp"}]}"#), "icmp")
            try await refuse(engine, path, #"{"Name":"holds","TaskTemplate":{"ContainerSpec":{"Image":"nginx"}}}"#, status: 409, "holds")
            for (field, word) in [
                (#""Sysctls":{"kernel.panic":"1"}"#, "kernel.panic"), (#""CapabilityAdd":["NOSUCH"]"#, "NOSUCH"), (#""Env":["A={{.Bad"]"#, "{{.Bad"),
                (#""Privileges":{"Seccomp":{"Mode":"custom","Profile":"e30="}}"#, "defaultAction"),
            ] {
                try await refuse(engine, path, #"{"Name":"bad","TaskTemplate":{"ContainerSpec":{"Image":"nginx",\#(field)}}}"#, word)
            }
            let log = #""LogDriver":{"Name":"json-file","Options":{"max-size":"abc"}}"#
            try await refuse(engine, path, #"{"Name":"bad","TaskTemplate":{"ContainerSpec":{"Image":"nginx"},\#(log)}}"#, "max-size")
            let version = try #require(try await engine.get("/swarm")["Version"]?["Index"]?.integer)
            try await refuse(
                engine, "/swarm/update?version=\(version)", #"{"Name":"default","Dispatcher":{"HeartbeatPeriod":9223369200000000000}}"#, "heartbeat")
            let container = "/containers/create?name=bad"
            try await refuse(engine, container, #"{"Image":"busybox","HostConfig":{"Memory":1024}}"#, "6MB")
            try await refuse(engine, container, #"{"Image":"busybox","HostConfig":{"NanoCpus":-1}}"#, "NanoCpus")
            try await refuse(engine, container, #"{"Image":"busybox","HostConfig":{"PortBindings":{"99999/tcp":[]}}}"#, "99999")
            try await refuse(engine, container, #"{"Image":"busybox","HostConfig":{"Binds":["relative/path:/x:zz"]}}"#, "zz")
            try await refuse(engine, container, #"{"Image":"busybox","HostConfig":{"Binds":["a:relative"]}}"#, "absolute")
            try await refuse(engine, container, #"{"Image":"busybox","StopSignal":"SIGNOPE"}"#, "SIGNOPE")
            for (body, word) in [
                (#""ShmSize":-1"#, "ShmSize"), (#""Dns":["x"]"#, "x"), (#""CgroupParent":"../../x""#, "CgroupParent"),
                (#""CpusetCpus":"4000""#, "not available"),
                (#""PortBindings":{"80/tcp":[{"HostPort":"8081"}],"81/tcp":[{"HostPort":"8081"}]}"#, "8081"),
                (#""Sysctls":{"kernel.panic":"1"}"#, "kernel.panic"),
            ] {
                try await refuse(engine, container, #"{"Image":"busybox","HostConfig":{\#(body)}}"#, word)
            }
            try await refuse(engine, container, #"{"Image":"no-such-image"}"#, status: 404, "no-such-image")
            try await refuse(engine, "/swarm/init", #"{"AdvertiseAddr":"127.0.0.1"}"#, status: 503, "already part of a swarm")
        }
        try await EngineHarness.shared.removeService("holds")
    }

    @Test func filters() async throws {
        try await changingNothing { engine in
            for kind in ["services", "tasks", "nodes", "networks", "volumes", "images/json", "containers/json", "plugins", "events"] {
                for filters in ["{", "[]", "7", #"{"colour":["red"]}"#, #"{"label":7}"#, #"{"label":[7]}"#, #"{"label":"#] {
                    let answer = try await engine.send("GET", "/\(kind)?filters=\(percentEncoded(filters))")
                    #expect(answer.status == 400, "/\(kind)?filters=\(filters): \(answer.status) \(answer.text)")
                }
            }
            #expect(try await engine.send("GET", "/tasks?filters=\(percentEncoded(#"{"desired-state":["dreaming"]}"#))").status == 400)
            #expect(try await engine.send("GET", "/containers/json?limit=many").status == 400)
            #expect(try await engine.send("GET", "/events?since=yesterday").status == 400)
            for target in ["/services?filters=%zz", "/%ff", "/services/%00", "/containers/a%0ab/json"] {
                #expect(try await engine.raw("GET \(target) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").hasPrefix("HTTP/1.1 400 "), "\(target)")
            }
        }
    }

    @Test func unknownPlugin() async throws {
        try await changingNothing { engine in
            for path in ["scheduler/nope/enable", "scheduler/nope/disable", "nope/enable", "../../etc/passwd/enable"] {
                #expect(try await engine.send("POST", "/plugins/\(path)").status == 404, "\(path)")
            }
            #expect(try await engine.send("GET", "/plugins/scheduler/nope/json").status == 404)
            #expect(try await engine.send("DELETE", "/plugins/scheduler/nope").status == 404)
            try await refuse(engine, "/apus/plugins/install", #"{"Path":"/nowhere/plugin.so"}"#, status: 404, "/nowhere/plugin.so")
        }
    }

    @Test func imageThatDoesNotExist() async throws {
        let engine = try EngineHarness.shared
        _ = try await engine.createService(EngineHarness.spec("imageless", image: "no-such-image:latest"))
        try await eventually("a task tells the reason") {
            let tasks = try await engine.get("/tasks", filters: ["service": ["imageless"]]).array ?? []
            return tasks.contains { task in
                task["Status"]?["State"] == "rejected" && task["Status"]?["Err"]?.string?.contains("no-such-image") == true
            }
        }
        #expect(try await engine.docker("service", "ps", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}", "imageless").contains("no-such-image"))
        try await engine.removeService("imageless")
    }
}

extension EngineHarness {
    /// Waits until whatever was sent before on other connections has been dealt with: the engine answers requests one after another on its loop,
    /// and a thing that is made late would still be seen.
    func noRequestIsAnswered() async throws {
        try await eventually("connections are over") { try openConnections() <= 1 }
        for _ in 0..<20 { #expect(await isAnswering) }
    }

    /// How many clients are connected to the engine's socket.
    private func openConnections() throws -> Int {
        try Files.readText("/proc/\(process)/net/unix").split(separator: "\n").count { line in
            let fields = line.split(separator: " ")
            return fields.last.map(String.init) == socket && fields.count > 5 && fields[5] == "03"
        }
    }

    /// What the engine's process holds in memory, in bytes.
    func residentMemory() throws -> Int {
        for line in try Files.readText("/proc/\(process)/status").split(separator: "\n") where line.hasPrefix("RssAnon:") {
            // "RssAnon:    12345 kB"
            return (line.split(separator: " ").dropFirst().first.flatMap { Int($0.filter(\.isNumber)) } ?? 0) << 10
        }
        throw EngineFailure("the engine's memory is unknown")
    }
}
