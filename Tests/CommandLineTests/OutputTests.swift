import Coding
import PluginAPI
import Testing

@testable import CommandLine

@Suite struct TableTests {
    @Test func columnsAreAligned() {
        #expect(Table.lines([["ID", "NAME"], ["abc", "x"], ["a", "longer"]]) == ["ID    NAME", "abc   x", "a     longer"])
    }

    @Test func aStrangersTextMovesNoCursor() {
        #expect(Table.lines([["A\u{1b}[2J", "b\nc"]]) == ["A [2J   b c"])
    }
}

@Suite struct TemplateTests {
    private func render(_ template: String, _ value: JSONValue) throws -> String { try Template(template).render(value) }

    @Test func fieldsAndFunctions() throws {
        let value: JSONValue = [
            "ID": "x1", "State": ["Pid": 12, "Running": true], "Args": ["a", "b"], "Nets": ["n1": ["IP": "1.1.1.1"]], "Empty": "",
        ]
        #expect(try render("{{.ID}} {{.State.Pid}}", value) == "x1 12")
        #expect(try render("{{json .State}}", value) == #"{"Pid":12,"Running":true}"#)
        #expect(try render("{{ .ID | upper }}-{{join .Args \",\"}}-{{len .Args}}", value) == "X1-a,b-2")
        #expect(try render("{{range .Nets}}{{.IP}};{{end}}", value) == "1.1.1.1;")
        #expect(try render("{{if .Empty}}yes{{else}}no{{end}}", value) == "no")
        #expect(try render("{{index .Args 1}}", value) == "b")
        #expect(try render("{{.State.Missing}}", value) == "<no value>")
        #expect(try render("a {{- .ID -}} b", value) == "ax1b")
    }

    @Test(arguments: ["{{.ID", "{{.Nothing}}", "{{bogus .ID}}", "{{if .ID}}x", "{{end}}", "{{}}", "{{.ID | }}"])
    func mistakesAreNamed(_ template: String) {
        #expect(throws: ApusError.self) { try render(template, ["ID": "x"]) }
    }
}

@Suite struct ListingTests {
    private let listing = Listing(
        columns: [.init("ID", "ID"), .init("Name", "NAME"), .init("Extra", "EXTRA", isShown: false)], rows: [["1", "web", "e"], ["22", "db", "f"]])

    @Test func formats() throws {
        #expect(try listing.lines(format: nil) == ["ID   NAME", "1    web", "22   db"])
        #expect(try listing.lines(format: "json") == [#"{"ID":"1","Name":"web","Extra":"e"}"#, #"{"ID":"22","Name":"db","Extra":"f"}"#])
        #expect(try listing.lines(format: "{{.Name}}={{.Extra}}") == ["web=e", "db=f"])
        #expect(try listing.lines(format: #"table {{.Extra}}\t{{.ID}}"#) == ["EXTRA   ID", "e       1", "f       22"])
        #expect(listing.values(of: "ID") == ["1", "22"])
    }
}

@Suite struct StreamTests {
    @Test func jsonValuesComeWholeWhereverTheChunksEnd() throws {
        let text = #"{"a":"}\"{"} {"b":[1,{"c":2}]}"# + "\r\n" + #"{"d":"é"}"#
        let bytes = Array(text.utf8)
        for size in 1...bytes.count {
            var reader = JSONStreamReader()
            var values: [JSONValue] = []
            for start in stride(from: 0, to: bytes.count, by: size) {
                values += try reader.take(Array(bytes[start..<min(bytes.count, start + size)]))
            }
            #expect(values == [["a": "}\"{"], ["b": [1, ["c": 2]]], ["d": "é"]] && !reader.isCutShort)
        }
        var reader = JSONStreamReader()
        #expect(try reader.take(Array("{\"a\":".utf8)).isEmpty && reader.isCutShort)
        var other = JSONStreamReader()
        #expect(throws: ApusError.self) { try other.take(Array("<html>".utf8)) }
    }

    @Test func logFramesComeWholeWhereverTheChunksEnd() throws {
        func frame(_ kind: UInt8, _ text: String) -> [UInt8] { [kind, 0, 0, 0, 0, 0, 0, UInt8(text.utf8.count)] + Array(text.utf8) }
        let bytes = frame(1, "out\n") + frame(2, "err\n") + frame(1, "more")
        for size in 1...bytes.count {
            var reader = LogStreamReader(isRaw: false)
            var lines = LogLines()
            var found: [String] = []
            for start in stride(from: 0, to: bytes.count, by: size) {
                for piece in try reader.take(Array(bytes[start..<min(bytes.count, start + size)])) {
                    found += lines.take(piece.bytes, from: piece.output).map { "\(piece.output):\($0)" }
                }
            }
            found += lines.finish().map { "\($0.output):\($0.line)" }
            #expect(found == ["standard:out", "error:err", "standard:more"])
        }
        var reader = LogStreamReader(isRaw: false)
        #expect(throws: ApusError.self) { try reader.take(Array("no frames at all".utf8)) }
    }

    @Test func layersOfAPull() {
        var progress = TransferProgress()
        #expect(progress.apply(["status": "Pulling from library/nginx", "id": "latest"]) == ["latest: Pulling from library/nginx"])
        #expect(progress.apply(["status": "Downloading", "id": "a1", "progressDetail": ["current": 500, "total": 1000]]) == ["a1: Downloading"])
        #expect(progress.apply(["status": "Downloading", "id": "a1", "progressDetail": ["current": 1000, "total": 1000]]).isEmpty)
        #expect(progress.lines(columns: 60).last?.contains("1kB/1kB") == true)
        #expect(progress.apply(["status": "Pull complete", "id": "a1"]) == ["a1: Pull complete"])
        #expect(progress.lines(columns: 60) == ["latest: Pulling from library/nginx", "a1: Pull complete"])
    }

    @Test func detailsOfAServicesLog() {
        let line = ServiceLogLine("2026-01-31T12:00:00Z com.docker.swarm.node.id=n1,com.docker.swarm.task.id=t%201 hello world", hasTimestamp: true)
        #expect(line.time == "2026-01-31T12:00:00Z" && line.details["com.docker.swarm.task.id"] == "t 1" && line.message == "hello world")
        #expect(ServiceLogLine("a=b plain", hasTimestamp: false).message == "a=b plain")
    }

    @Test func humanTimes() {
        #expect(HumanText.duration(.milliseconds(200)) == "Less than a second")
        #expect(HumanText.duration(.seconds(90)) == "About a minute")
        #expect(HumanText.duration(.seconds(200)) == "3 minutes")
        #expect(HumanText.duration(.seconds(86400 * 3)) == "3 days")
    }
}
