import Coding
import Fuzzing
import Glibc
import PluginAPI
import Testing

@testable import CommandLine

/// What people type and what an engine sends, broken at random.
@Suite("Command line: fuzz") struct FuzzTests {
    // MARK: Templates

    private static let value: JSONValue = [
        "ID": "x1", "State": ["Pid": 12, "Running": true, "Ratio": 0.5], "Args": ["a", "b", 7], "Nets": ["n1": ["IP": "1.1.1.1"]], "Empty": "",
        "Nothing": nil,
    ]

    @Test func fieldsComeOutAsTheyAre() throws {
        var random = Fuzzing.generator()
        for _ in 0..<Fuzzing.runs(2000) {
            let text = Fuzzing.text(of: ["{", "}", "a", "\"", "\\", "%", "."] + Fuzzing.traps, 0...8, using: &random)
            let other = Fuzzing.mutate(Self.value, using: &random)
            let value: JSONValue = ["Name": .string(text), "Other": other]
            let rendered = try Template("{{.Name}}").render(value)
            #expect(Array(rendered.utf8) == Array(text.utf8))
            #expect(try JSONValue.parse(Template("{{json .Other}}").render(value)) == other, "\(other.text())")
            #expect(try Template("{{.Other}}").render(value) == Template.text(of: other), "\(other.text())")
            guard !text.unicodeScalars.contains("{") else { continue }
            let plain = try Template(text).render(value)
            #expect(Array(plain.utf8) == Array(text.utf8))
        }
    }

    @Test func nonsenseIsRefused() {
        var random = Fuzzing.generator()
        let examples = [
            "{{.ID}} {{.State.Pid}}", "{{json .State}}", "{{ .ID | upper }}-{{join .Args \",\"}}-{{len .Args}}", "{{range .Nets}}{{.IP}};{{else}}-{{end}}",
            "{{if .Empty}}yes{{else}}no{{end}}", "{{index .Args 1}}", "a {{- .ID -}} b", "{{println (not .Empty)}}", "{{title .ID | lower | json}}",
        ]
        let pieces = ["{{", "}}", "{{end}}", "{{else}}", "{{if .ID}}", "{{range .Args}}", "|", "\"", ".", ".State", "json", "(", ")", "index", "-", "\\"]
        var (read, refused) = (0, 0)
        for round in 0..<Fuzzing.runs(20_000) {
            let text = Fuzzing.mutate(examples[round % examples.count], with: pieces, using: &random)
            do throws(ApusError) {
                _ = try Template(text).render(Self.value)
                read += 1
            } catch {
                refused += 1
                #expect(error.code == .invalidArgument && error.message.hasPrefix("--format: "), "\(text)")
            }
        }
        #expect(read > 100 && refused > 100)
    }

    /// A template of any depth is read or refused; the stack has an end.
    @Test(arguments: [1, 10, 100, 100_000]) func depthHasAnEnd(_ depth: Int) {
        for (begin, end) in [("{{if .ID}}", "{{end}}"), ("{{if .Empty}}{{else}}", "{{end}}"), ("{{range .Args}}", "{{end}}")] {
            let text = String(repeating: begin, count: depth) + "x" + String(repeating: end, count: depth)
            do throws(ApusError) { _ = try Template(text) } catch { #expect(error.code == .invalidArgument && depth > 50) }
            do throws(ApusError) { _ = try Template(String(repeating: begin, count: depth)) } catch { #expect(error.code == .invalidArgument) }
        }
    }

    // MARK: Words

    private static let characters = ["a", "b", " ", "\t", "'", "\"", "\\", "é", "\u{301}", "\u{a0}", "\u{2003}", "-", "=", "%", "\u{1f600}", "\u{85}"]

    @Test func quotedWordsComeBack() throws {
        var random = Fuzzing.generator()
        for _ in 0..<Fuzzing.runs(5000) {
            let words = (0..<Int.random(in: 0...4, using: &random)).map { _ in
                Fuzzing.text(of: Self.characters + ["\n", "$", "*", "`", ";"], 0...5, using: &random)
            }
            let text = words.map { word -> String in
                var output = "'"
                for scalar in word.unicodeScalars { if scalar == "'" { output += "'\\''" } else { output.unicodeScalars.append(scalar) } }
                return output + "'"
            }
            let found = try ShellWords.split(text.joined(separator: " "))
            #expect(found.map { Array($0.utf8) } == words.map { Array($0.utf8) }, "\(text)")
        }
    }

    /// What is accepted is what the system's shell makes of it.
    @Test func wordsAreTheShells() throws {
        var random = Fuzzing.generator()
        var (script, expected): ([UInt8], [UInt8]) = ([], [])
        var refused = 0
        for _ in 0..<Fuzzing.runs(2000) {
            let text = Fuzzing.text(of: Self.characters, 0...9, using: &random)
            do throws(ApusError) {
                let words = try ShellWords.split(text)
                guard !words.isEmpty else { continue }
                script += Array("printf '<%s>' \(text)\nprintf '\\n'\n".utf8)
                expected += words.flatMap { Array("<\($0)>".utf8) } + [10]
            } catch {
                refused += 1
                #expect(error.code == .invalidArgument && !error.message.isEmpty, "\(text)")
            }
        }
        #expect(refused > 100 && expected.count > 1000)
        var path = Array("/tmp/apus-words-XXXXXX".utf8CString)
        let descriptor = mkstemp(&path)
        try #require(descriptor >= 0)
        let name = String(decoding: path.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            close(descriptor)
            unlink(name)
        }
        try #require(write(descriptor, script, script.count) == script.count)
        let shell = try #require(popen("LC_ALL=C /bin/sh \(name) 2>&1", "r"))
        var (output, buffer): ([UInt8], [UInt8]) = ([], [UInt8](repeating: 0, count: 65536))
        while case let count = fread(&buffer, 1, buffer.count, shell), count > 0 { output += buffer[..<count] }
        #expect(pclose(shell) == 0)
        let (found, wanted) = (output.split(separator: 10), expected.split(separator: 10))
        #expect(found.count == wanted.count)
        for (line, other) in zip(found, wanted) where line != other {
            Issue.record("the shell has \(String(decoding: line, as: UTF8.self)), not \(String(decoding: other, as: UTF8.self))")
            break
        }
    }

    // MARK: What an engine sends

    @Test func valuesDoNotDependOnTheCuts() {
        var random = Fuzzing.generator()
        var (read, refused) = (0, 0)
        for round in 0..<Fuzzing.runs(4000) {
            let values = (0..<Int.random(in: 0...4, using: &random)).map { _ -> JSONValue in ["v": Fuzzing.mutate(Self.value, using: &random)] }
            let ends: [[UInt8]] = [[], [10], [13, 10], [32]]
            var bytes = values.flatMap { $0.bytes(pretty: Bool.random(using: &random)) + ends[round % 4] }
            if round % 2 == 0 { bytes = Fuzzing.mutate(bytes, using: &random) }
            let whole = Self.values([bytes])
            #expect(Self.values(Fuzzing.cut(bytes, upTo: 40, using: &random)) == whole, "round \(round) of seed \(Fuzzing.seed)")
            if round % 2 == 1 { #expect(whole == values) }
            if whole != nil { read += 1 } else { refused += 1 }
        }
        #expect(read > 100 && refused > 100)
    }

    /// `nil` when the stream was refused.
    private static func values(_ pieces: [[UInt8]]) -> [JSONValue]? {
        var reader = JSONStreamReader()
        var values: [JSONValue] = []
        do throws(ApusError) { for piece in pieces { values += try reader.take(piece) } } catch { return nil }
        return values
    }

    private struct Output: Equatable {
        var standard: [UInt8] = []
        var error: [UInt8] = []
    }

    /// `nil` when the log was refused.
    private static func output(_ pieces: [[UInt8]]) -> Output? {
        var reader = LogStreamReader(isRaw: false)
        var output = Output()
        do throws(ApusError) {
            for piece in pieces {
                for (stream, bytes) in try reader.take(piece) { if stream == .standard { output.standard += bytes } else { output.error += bytes } }
            }
        } catch {
            return nil
        }
        return output
    }

    @Test func logsDoNotDependOnTheCuts() {
        var random = Fuzzing.generator()
        var (read, refused) = (0, 0)
        for round in 0..<Fuzzing.runs(4000) {
            var (bytes, wanted) = ([] as [UInt8], Output())
            for _ in 0..<Int.random(in: 0...5, using: &random) {
                let content = (0..<Int.random(in: 0...300, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
                let isError = Bool.random(using: &random)
                let length = content.count
                bytes += [isError ? 2 : 1, 0, 0, 0, 0, 0, UInt8(length >> 8), UInt8(length & 255)]
                bytes += content
                if isError { wanted.error += content } else { wanted.standard += content }
            }
            if round % 2 == 0 { bytes = Fuzzing.mutate(bytes, using: &random) }
            let whole = Self.output([bytes])
            #expect(Self.output(Fuzzing.cut(bytes, upTo: 60, using: &random)) == whole, "round \(round) of seed \(Fuzzing.seed)")
            if round % 2 == 1 { #expect(whole == wanted) }
            if whole != nil { read += 1 } else { refused += 1 }
        }
        #expect(read > 100 && refused > 100)
    }

    @Test func linesDoNotDependOnTheCuts() {
        var random = Fuzzing.generator()
        for _ in 0..<Fuzzing.runs(2000) {
            let text = Fuzzing.text(of: ["a", "é", "\n", "\r\n", "\u{0}"], 0...30, using: &random)
            let bytes = Array(text.utf8)
            var lines = LogLines()
            let found = Fuzzing.cut(bytes, upTo: 5, using: &random).flatMap { lines.take($0, from: .standard) } + lines.finish().map { $0.line }
            var wanted = bytes.split(separator: 10, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
            if wanted.last == "" { wanted.removeLast() }
            #expect(found == wanted)
        }
    }

    @Test func versionsReadBackTheSame() {
        var random = Fuzzing.generator()
        var accepted = 0
        for _ in 0..<Fuzzing.runs(20_000) {
            let text = Fuzzing.text(of: ["0", "1", "9", "24", "50", ".", "."] + Fuzzing.traps, 1...4, using: &random)
            guard let version = EngineAPIVersion(text) else { continue }
            accepted += 1
            #expect(version.text == text)
        }
        #expect(accepted > 10)
    }
}
