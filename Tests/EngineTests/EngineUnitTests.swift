import Agent
import Coding
import PluginAPI
import Testing

@testable import Engine

/// Pure functions of the engine.
struct EngineUnitTests {
    // MARK: Requests and routes

    @Test func versionsAreRead() {
        #expect(EngineAPIVersion("1.41") == EngineAPIVersion(1, 41))
        for text in ["", "1", "1.", ".1", "1.2.3", "-1.2", "1.-2", "one.two", "1.99999999999999999999"] { #expect(EngineAPIVersion(text) == nil, "\(text)") }
        #expect(EngineAPIVersion(1, 9) < EngineAPIVersion(1, 10) && EngineAPIVersion(1, 50) < EngineAPIVersion(2, 0))
    }

    @Test func targetsAreRead() throws {
        let request = try APIRequest.parse(method: "GET", target: "/v1.41/images/my.host%3A5000/a%20b/json?x=1&x=2&flag&text=a+b%26c", headers: [:])
        #expect(request.version == EngineAPIVersion(1, 41))
        #expect(request.path == ["images", "my.host:5000", "a b", "json"])
        #expect(request.query["x"] == ["1", "2"] && request.text("x") == "2")
        #expect(request.text("text") == "a b&c")
        #expect(request.flag("flag") == false && request.flag("absent", default: true) && request.flag("x"))
        #expect(try APIRequest.parse(method: "GET", target: "/info", headers: [:]).version == .newest)
        #expect(try APIRequest.parse(method: "GET", target: "//info///", headers: [:]).path == ["info"])
        for target in ["/%", "/%4", "/%zz", "/%ff", "/a%00", "/a%0Ab", "/a%7f", "/?%", "/?a=%80", "/v1.23/info", "/v1.51/info"] {
            #expect(throws: ApusError.self, "\(target)") { try APIRequest.parse(method: "GET", target: target, headers: [:]) }
        }
    }

    private func router(_ patterns: String...) -> Router {
        var router = Router()
        for pattern in patterns { router.add("GET", pattern) { _ throws(ApusError) in .empty(204) } }
        router.add("POST", "/things/{id}/start") { _ throws(ApusError) in .empty(204) }
        return router
    }

    private func find(_ router: Router, _ path: String, method: String = "GET") throws(ApusError) -> [String: String] {
        try router.find(method, path.split(separator: "/").map(String.init)).parameters
    }

    @Test func routesAreFound() throws {
        let router = router("/things/json", "/things/{id}", "/images/{name...}/json", "/images/{name...}/get")
        #expect(try find(router, "/things/json") == [:])
        #expect(try find(router, "/things/7") == ["id": "7"])
        #expect(try find(router, "/things/7", method: "HEAD") == ["id": "7"])
        #expect(try find(router, "/images/nginx/json") == ["name": "nginx"])
        #expect(try find(router, "/images/host/team/json/json") == ["name": "host/team/json"])
        #expect(try find(router, "/things/7/start", method: "POST") == ["id": "7"])
        for (path, method, code) in [
            ("/nothing", "GET", ApusError.Code.notFound), ("/", "GET", .notFound), ("/images/json", "GET", .notFound), ("/things/7/8", "GET", .notFound),
            ("/things/7/start", "GET", .invalidArgument), ("/things/7", "DELETE", .invalidArgument),
        ] {
            #expect { try find(router, path, method: method) } throws: { ($0 as? ApusError)?.code == code }
        }
    }

    // MARK: Filters

    @Test func filtersInBothForms() throws {
        let list = try Filters(#"{"name":["a","b"],"label":["x=1","y"]}"#, known: ["name", "label"])
        let map = try Filters(#"{"name":{"a":true,"b":true,"c":false},"label":{"x=1":true,"y":true}}"#, known: ["name", "label"])
        #expect(list == map)
        #expect(list["name"] == ["a", "b"] && list["other"] == [])
        #expect(list.exact("name", "b") && !list.exact("name", "c") && list.exact("absent", "anything"))
        #expect(list.labels("label", ["x": "1", "y": "", "z": "3"]) && !list.labels("label", ["x": "2", "y": ""]) && !list.labels("label", ["x": "1"]))
        #expect(try Filters(nil, known: []) == Filters("", known: []))
        for text in ["[]", "{", #"{"other":["a"]}"#, #"{"name":"a"}"#, #"{"name":[1]}"#] {
            #expect(throws: ApusError.self, "\(text)") { try Filters(text, known: ["name"]) }
        }
    }

    @Test(arguments: [
        ("eb", true), ("web", true), ("db", false), ("^web", true), ("^eb", false), ("/web", true), ("^/web$", false), ("^/web.1$", true), ("web.1$", true),
        ("^web$", false),
        ("", true),
    ])
    func namesMatch(pattern: String, fits: Bool) throws {
        let filters = try Filters(JSONValue.object(["name": [.string(pattern)]]).text(), known: ["name"])
        #expect(filters.name("name", "web.1") == fits)
    }

    @Test(arguments: [
        ("nginx", "nginx:latest", true), ("nginx:*", "nginx:latest", true), ("ngin?", "nginx:latest", true), ("ngin", "nginx:latest", false),
        ("*", "nginx:latest", true), ("*", "team/nginx:1", false), ("team/*", "team/nginx:1", true), ("*/*:1", "team/nginx:1", true),
        ("host:5000/a", "host:5000/a:1", true), ("host", "host:5000/a", false), ("", "nginx", false),
    ])
    func patternsOfReferences(pattern: String, reference: String, fits: Bool) {
        #expect(GlobPattern.matches(pattern, reference: reference) == fits)
    }

    // MARK: Values

    @Test func timesOfEvents() throws {
        #expect(try EventTime.parse(nil, name: "since") == nil && EventTime.parse("", name: "since") == nil)
        #expect(try EventTime.parse("1700000000", name: "since") == Timestamp(nanoseconds: 1_700_000_000_000_000_000))
        #expect(try EventTime.parse("1700000000.000000007", name: "since") == Timestamp(nanoseconds: 1_700_000_000_000_000_007))
        #expect(try EventTime.parse("1700000000.5", name: "since") == Timestamp(nanoseconds: 1_700_000_000_500_000_000))
        #expect(try EventTime.parse("2023-11-14T22:13:20Z", name: "since") == Timestamp(nanoseconds: 1_700_000_000_000_000_000))
        let past = try #require(try EventTime.parse("1h30m", name: "since"))
        let age = Timestamp.now - past
        #expect(age >= .seconds(5400) && age < .seconds(5460))
        for text in ["yesterday", "10", "h", "1x", "1h1", "1e400", "99999999999999999999", "1.x"] where Int64(text) == nil || text.count > 10 {
            #expect(throws: ApusError.self, "\(text)") { try EventTime.parse(text, name: "since") }
        }
    }

    @Test func mountsInShortForm() throws {
        let bind = try BindText.parse("/host:/in:ro,rslave")
        #expect(bind.kind == .bind && bind.source == "/host" && bind.target == "/in" && bind.readOnly && bind.bindOptions?.propagation == "rslave")
        #expect(bind.bindOptions?.createMountpoint == true)
        let volume = try BindText.parse("data:/in:nocopy")
        #expect(volume.kind == .volume && volume.source == "data" && !volume.readOnly && volume.volumeOptions?.noCopy == true)
        #expect(try BindText.parse("/in").source.isEmpty)
        for text in ["", ":", "a:", ":/in", "a:relative", "a:/", "/a:/b:zz", "a:/b:rslave", "/a:/b:nocopy", "a:b:c:d"] {
            #expect(throws: ApusError.self, "\(text)") { try BindText.parse(text) }
        }
    }

    @Test func temporaryFileSystems() throws {
        let mount = try BindText.tmpfs("/run", "size=64m,mode=1770,ro")
        #expect(mount.tmpfsOptions?.sizeBytes == 64 << 20 && mount.tmpfsOptions?.mode == 0o1770 && mount.readOnly)
        for (path, options) in [("run", ""), ("/run", "size=-1"), ("/run", "size=99999999999g"), ("/run", "mode=9"), ("/run", "colour=red")] {
            #expect(throws: ApusError.self, "\(options)") { try BindText.tmpfs(path, options) }
        }
    }

    @Test func spansInWords() {
        let words: [(Int, String)] = [
            (-5, "Less than a second"), (0, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (120, "2 minutes"),
            (3600, "About an hour"), (7200, "2 hours"), (172_800, "2 days"), (1_209_600, "2 weeks"), (5_184_000, "2 months"), (63_072_000, "2 years"),
        ]
        for (seconds, text) in words { #expect(HumanSpan.text(.seconds(seconds)) == text) }
    }

    @Test func bodiesAreReadFieldByField() throws {
        var reader = try JSONReader(JSONValue.parse(#"{"a":"x","b":true,"c":7,"d":["1"],"e":{"k":"v"},"f":null,"g":0,"h":"word"}"#), path: "Top")
        #expect(try reader.string("a") == "x" && reader.bool("b") && reader.integer("c") == 7)
        #expect(try reader.strings("d") == ["1"] && reader.map("e") == ["k": "v"] && reader.optionalStrings("f") == nil)
        try reader.unsupported("g")
        #expect(throws: ApusError.self) { try reader.finish() }
        #expect(try reader.commandLine("h") == ["word"])
        try reader.finish()
        #expect(throws: ApusError.self) { try reader.integer("a") }
        #expect { try reader.unsupported("h") } throws: { ($0 as? ApusError)?.code == .unimplemented && "\($0)".contains("Top.h") }
    }

    /// However a log is cut on its way, what is handed on are whole frames, and all of them.
    @Test func logsAreCutAtFrames() {
        let frames = (0..<50).map { LogFrames.frame(UInt8($0 % 2 + 1), [UInt8](repeating: UInt8($0), count: $0 * 7)) }
        #expect(frames[1].prefix(8) == [2, 0, 0, 0, 0, 0, 0, 7])
        let all = Array(frames.joined())
        for size in [1, 2, 7, 8, 9, 100, 4096, all.count] {
            var cutter = LogFrames()
            var out: [[UInt8]] = []
            for start in stride(from: 0, to: all.count, by: size) { out.append(cutter.whole(Array(all[start..<min(start + size, all.count)]))) }
            #expect(Array(out.joined()) == all, "size \(size)")
            var ends: Set<Int> = [0]
            for frame in frames { ends.insert((ends.max() ?? 0) + frame.count) }
            var length = 0
            for piece in out {
                length += piece.count
                #expect(ends.contains(length))
            }
        }
    }

    @Test func badContainerBodies() {
        for (bad, code) in [
            (#"{}"#, ApusError.Code.invalidArgument), (#"{"Image":"a","HostConfig":{"RestartPolicy":{"Name":"sometimes"}}}"#, .invalidArgument),
            (#"{"Image":"a","HostConfig":{"RestartPolicy":{"Name":"always"},"AutoRemove":true}}"#, .invalidArgument),
            (#"{"Image":"a","HostConfig":{"PortBindings":{"0/tcp":[]}}}"#, .invalidArgument), (#"{"Image":"a","Env":["=b"]}"#, .invalidArgument),
            (#"{"Image":"a","HostConfig":{"Links":["b"]}}"#, .unimplemented), (#"{"Image":"a","HostConfig":{"LogConfig":{"Type":"syslog"}}}"#, .unimplemented),
        ] {
            #expect { try ContainerCreateBody.request(from: JSONValue.parse(bad), name: nil).check() } throws: { ($0 as? ApusError)?.code == code }
        }
    }
}
