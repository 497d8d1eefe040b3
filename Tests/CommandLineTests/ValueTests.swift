import PluginAPI
import Testing

@testable import CommandLine

@Suite struct DurationTextTests {
    @Test(arguments: [
        ("30s", 30_000_000_000), ("1m30s", 90_000_000_000), ("500ms", 500_000_000), ("1.5h", 5_400_000_000_000), ("0", 0), ("0s", 0), ("2us", 2000),
        ("3µs", 3000),
        ("7ns", 7), (".5s", 500_000_000), ("1.000000001s", 1_000_000_001),
    ])
    func readsAsGoWritesThem(_ text: String, _ nanoseconds: Int64) throws {
        #expect(try DurationText.parse(text).nanoseconds == nanoseconds)
    }

    @Test(arguments: ["", "5", "s", "-5s", "5 s", "1h2", "5x", "..s", "1..5s", "9999999999h", "९s"])
    func refuses(_ text: String) {
        #expect(throws: ApusError.self) { try DurationText.parse(text) }
    }

    @Test(arguments: [(0, "0s"), (90, "1m30s"), (3600, "1h0m0s"), (7_776_000, "2160h0m0s"), (5, "5s")])
    func writesShortly(_ seconds: Int, _ text: String) { #expect(DurationText.text(.seconds(seconds)) == text) }

    @Test func whatIsWrittenReadsBackExactly() throws {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            let bits = Int.random(in: 1...62, using: &generator)
            let nanoseconds = Int64.random(in: 0..<(Int64(1) << Int64(bits)), using: &generator)
            let text = DurationText.text(.nanoseconds(nanoseconds))
            #expect(try DurationText.parse(text).nanoseconds == nanoseconds, "\(text)")
        }
    }
}

@Suite struct ByteSizeTests {
    @Test(arguments: [
        ("0", 0), ("100", 100), ("100b", 100), ("1k", 1024), ("512m", 512 << 20), ("1.5g", 3 << 29), ("64MiB", 64 << 20), ("2GB", 2 << 30),
        ("1 g", 1 << 30),
        ("1t", 1 << 40), ("0.1k", 102),
    ])
    func readsSizes(_ text: String, _ bytes: Int64) throws { #expect(try ByteSize.parse(text) == bytes) }

    @Test(arguments: ["", "m", "5x", "-5m", "1.2.3m", "9999999t", "5mm", "5m "])
    func refusesSizes(_ text: String) { #expect(throws: ApusError.self) { try ByteSize.parse(text) } }

    @Test(arguments: [("0.5", 500_000_000), ("2", 2_000_000_000), ("0.000000001", 1), ("1.25", 1_250_000_000)])
    func readsCPUs(_ text: String, _ nanoCPUs: Int64) throws {
        #expect(try ByteSize.parseCPUs(text) == nanoCPUs)
        #expect(ByteSize.cpuText(nanoCPUs) == text)
    }

    @Test(arguments: ["", "-1", "x", "1.0000000001", "1e3"])
    func refusesCPUs(_ text: String) { #expect(throws: ApusError.self) { try ByteSize.parseCPUs(text) } }

    @Test(arguments: [
        (0, "0B"), (999, "999B"), (1000, "1kB"), (1_240_000_000, "1.24GB"), (187_400_000, "187MB"), (12_340_000, "12.3MB"), (999_950_000, "1GB"),
        (1_000_000_000, "1GB"), (-5, "-5B"),
    ])
    func writesThreeDigits(_ bytes: Int64, _ text: String) { #expect(ByteSize.decimalText(bytes) == text) }

    @Test func writesMemoryInPowersOf1024() {
        #expect(ByteSize.binaryText(8_174_000_000) == "7.61GiB")
        #expect(ByteSize.binaryText(512 << 20) == "512MiB")
        #expect(ByteSize.binaryText(.max).hasSuffix("EiB"))
        #expect(ByteSize.binaryText(.min) == "-8EiB")
    }
}

@Suite struct PortFlagTests {
    @Test func readsTheShortForm() throws {
        let port = try #require(try PortFlag.parseService("8080:80/udp").first)
        #expect(port.publishedPort == 8080 && port.targetPort == 80 && port.transport == .udp && port.publishMode == .ingress)
        let chosen = try #require(try PortFlag.parseService("80").first)
        #expect(chosen.publishedPort == 0 && chosen.targetPort == 80 && chosen.transport == .tcp)
        #expect(try PortFlag.parseService("8000-8002:90-92").map { "\($0.publishedPort):\($0.targetPort)" } == ["8000:90", "8001:91", "8002:92"])
        #expect(try PortFlag.parseService("65535:65535").count == 1)
    }

    @Test func readsTheLongForm() throws {
        let port = try #require(try PortFlag.parseService("published=53,target=5353,protocol=udp,mode=host").first)
        #expect(port.publishedPort == 53 && port.targetPort == 5353 && port.transport == .udp && port.publishMode == .host)
    }

    @Test(arguments: [
        "", ":", "0:80", "80:0", "65536:80", "a:80", "80:80:80", "80/xyz", "80/", "8000-8002:90-91", "9-8:9-8", "published=80", "target=80,mode=all",
        "target=80,colour=red", "target=", "127.0.0.1:80:80", "+80:80", "1.2.3:80:80", "[::1:80",
    ])
    func refuses(_ text: String) { #expect(throws: ApusError.self) { try PortFlag.parseService(text) } }

    @Test func containersMayNameAnAddress() throws {
        let port = try ShortPort("[::1]:8080:80")
        #expect(port.address == "::1" && port.pairs.map(\.published) == [8080] && port.pairs.map(\.target) == [80])
        let chosen = try ShortPort("127.0.0.1::80")
        #expect(chosen.address == "127.0.0.1" && chosen.pairs[0].published == nil)
    }

    @Test func neverTrapsOnNonsense() {
        var generator = SystemRandomNumberGenerator()
        let alphabet = Array("0123456789:/-[].,=tcpudmo é\u{0}\"")
        for _ in 0..<3000 {
            let text = String(
                (0..<Int.random(in: 0...16, using: &generator)).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &generator)] })
            for port in (try? PortFlag.parseService(text)) ?? [] {
                #expect((1...65535).contains(port.targetPort) && port.publishedPort <= 65535, "\(text)")
            }
        }
    }
}

@Suite struct MountFlagTests {
    @Test func readsAVolume() throws {
        let mount = try MountFlag.parse(
            "type=volume,src=data,dst=/data,readonly,volume-nocopy=true,volume-label=a=b,volume-driver=local,volume-opt=o=x")
        #expect(mount.kind == .volume && mount.source == "data" && mount.target == "/data" && mount.readOnly)
        #expect(mount.volumeOptions?.noCopy == true && mount.volumeOptions?.labels == ["a": "b"])
        #expect(mount.volumeOptions?.driver?.name == "local" && mount.volumeOptions?.driver?.options == ["o": "x"])
    }

    @Test func readsABindAndATmpfs() throws {
        let bind = try MountFlag.parse("type=bind,source=/srv,target=/srv,ro=false,bind-propagation=rshared")
        #expect(bind.kind == .bind && !bind.readOnly && bind.bindOptions?.propagation == "rshared")
        let tmpfs = try MountFlag.parse("type=tmpfs,target=/tmp,tmpfs-size=64m,tmpfs-mode=1777")
        #expect(tmpfs.tmpfsOptions?.sizeBytes == 64 << 20 && tmpfs.tmpfsOptions?.mode == 0o1777)
    }

    @Test func aQuotedFieldMayHaveACommaAndQuotes() throws {
        #expect(
            try MountFlag.parse(#"type=volume,target=/d,"volume-opt=o=size=5,mode=""7""""#).volumeOptions?.driver?.options == [
                "o": "size=5,mode=\"7\""
            ])
    }

    @Test(arguments: [
        "", "type=bind", "type=disk,target=/x", "type=bind,source=rel,target=/x", "type=volume,target=rel", "type=tmpfs,source=a,target=/x",
        "type=volume,target=/x,tmpfs-size=5m", "type=tmpfs,target=/x,tmpfs-mode=9", "target=/x,colour=red", "type=volume,target=/x,readonly=maybe",
        "\"type=volume",
        "type=bind,source=/a,target=/b,bind-recursive=readonly",
    ])
    func refuses(_ text: String) { #expect(throws: ApusError.self) { try MountFlag.parse(text) } }

    @Test func neverTrapsOnNonsense() {
        var generator = SystemRandomNumberGenerator()
        let words = ["type=", "bind", "volume", "tmpfs", ",", "=", "\"", "source=", "target=", "/", "a", "readonly", "tmpfs-size=", "9", "é", ":"]
        for _ in 0..<3000 {
            let text = (0..<Int.random(in: 0...10, using: &generator)).map { _ in words[Int.random(in: 0..<words.count, using: &generator)] }.joined()
            if let mount = try? MountFlag.parse(text) { #expect(mount.target.hasPrefix("/"), "\(text)") }
        }
    }
}

@Suite struct SmallFlagTests {
    @Test func environmentTakesWhatTheCallerHas() throws {
        #expect(try KeyValue.environment(["A=1", "B", "C", "D="], from: ["B": "2"]) == ["A=1", "B=2", "D="])
        #expect(throws: ApusError.self) { try KeyValue.environment(["=x"], from: [:]) }
        #expect(KeyValue.lines(ofFile: "# no\nA=1\n\n  B=2\r\n#C=3") == ["A=1", "B=2"])
    }

    @Test func filtersGatherByKey() throws {
        #expect(try Filters.parse(["name=a", "name=b", "label=x=y"]) == ["name": ["a", "b"], "label": ["x=y"]])
        #expect(throws: ApusError.self) { try Filters.parse(["name"]) }
        var query: Query = ["all": "1"]
        query.add(filters: ["name": ["a b"]])
        #expect(query.text == "?all=1&filters=%7B%22name%22%3A%7B%22a%20b%22%3Atrue%7D%7D")
    }

    @Test func limitsHaveSoftAndHard() throws {
        let limit = try UlimitFlag.parse("nofile=1024:2048")
        #expect(limit.name == "nofile" && limit.soft == 1024 && limit.hard == 2048)
        #expect(try UlimitFlag.parse("core=-1").hard == -1)
        for text in ["nofile", "nofile=x", "other=1", "nofile=2:1", "nofile=-1:5", "nofile=1:2:3"] {
            #expect(throws: ApusError.self, "\(text)") { try UlimitFlag.parse(text) }
        }
    }

    @Test func hostsAndNetworks() throws {
        #expect(try HostFlag.parseLine("db:10.0.0.7") == "10.0.0.7 db")
        #expect(try HostFlag.parseLine("db:[::1]") == "::1 db")
        #expect(throws: ApusError.self) { try HostFlag.parseLine("db:nowhere") }
        let network = try NetworkFlag.parse("name=front,alias=web,alias=www,driver-opt=a=b")
        #expect(network.target == "front" && network.aliases == ["web", "www"] && network.driverOptions == ["a": "b"])
        #expect(throws: ApusError.self) { try NetworkFlag.parse("alias=web") }
    }

    @Test func shellWordsAsAShell() throws {
        #expect(try ShellWords.split(#"nginx -g 'daemon off;' "a b"\ c "" \"x"#) == ["nginx", "-g", "daemon off;", "a b c", "", "\"x"])
        #expect(throws: ApusError.self) { try ShellWords.split("it's") }
    }

    @Test func timesForLogs() throws {
        let now = try #require(Timestamp("2026-01-31T12:00:00Z"))
        #expect(try TimeFlag.parse("10m", now: now, flag: "--since") == "1769860200.000000000")
        #expect(try TimeFlag.parse("2026-01-31T11:50:00Z", now: now, flag: "--since") == "1769860200.000000000")
        #expect(try TimeFlag.parse("2026-01-31", now: now, flag: "--since") == "1769817600.000000000")
        #expect(try TimeFlag.parse("1769860200", now: now, flag: "--since") == "1769860200")
        #expect(throws: ApusError.self) { try TimeFlag.parse("yesterday", now: now, flag: "--since") }
    }

    @Test func imageNames() {
        #expect(ImageReference.split("nginx").tag == "latest")
        #expect(ImageReference.split("localhost:5000/a/b").tag == "latest")
        #expect(ImageReference.split("localhost:5000/a/b:1").name == "localhost:5000/a/b")
        #expect(ImageReference.split("nginx@sha256:abc").tag == "sha256:abc")
        #expect(ImageReference.registry("nginx") == "docker.io" && ImageReference.registry("a/b") == "docker.io")
        #expect(ImageReference.registry("localhost/x") == "localhost" && ImageReference.registry("r.io:5000/x") == "r.io:5000")
        #expect(PullCommand.fullName("nginx") == "docker.io/library/nginx:latest")
    }

    @Test func booleansAsScriptsWriteThem() {
        #expect(
            BooleanArguments.rewritten(["service", "create", "--detach=true", "--init=false", "--quiet=false", "nginx"]) == [
                "service", "create", "--detach", "--no-init", "nginx",
            ])
        // What belongs to the container stays.
        #expect(
            BooleanArguments.rewritten(["run", "-d", "--name", "x", "nginx", "--force=true"]) == [
                "run", "-d", "--name", "x", "nginx", "--force=true",
            ])
        #expect(
            BooleanArguments.rewritten(["run", "-dit", "-p", "80:80", "--rm=true", "img", "--rm=true"]) == [
                "run", "-dit", "-p", "80:80", "--rm", "img", "--rm=true",
            ])
    }
}
