import Coding
import Fuzzing
import PluginAPI
import Testing

@testable import Engine

/// What any client may send in a request's line and headers: read right, or refused with an error of the caller's.
@Suite("Requests: fuzz") struct RequestFuzzTests {
    private static let words = ["a", "web", "é", "\u{301}", "=", "&", "?", "/", "%", "+", " ", "..", "%41", "#", "\u{1f600}", "v1.41", ":"]

    /// In one of the ways that RFC 3986 allows.
    private func escaped(_ text: String, _ random: inout SplitMix64) -> String {
        var output = ""
        for scalar in text.unicodeScalars {
            let isPlain = !" %?/&=+#".unicodeScalars.contains(scalar)
            if isPlain, Bool.random(using: &random) {
                output.unicodeScalars.append(scalar)
                continue
            }
            for byte in String(scalar).utf8 {
                let digits = String(byte, radix: 16, uppercase: Bool.random(using: &random))
                output += (digits.count == 1 ? "%0" : "%") + digits
            }
        }
        return output
    }

    @Test func targetsAreReadAsTheyWereMeant() throws {
        var random = Fuzzing.generator()
        for round in 0..<Fuzzing.runs(4000) {
            let path = (0..<Int.random(in: 1...4, using: &random)).map { _ in Fuzzing.text(of: Self.words, 1...3, using: &random) }
            var query: [String: [String]] = [:]
            var items: [String] = []
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                let (key, value) = (Fuzzing.text(of: Self.words, 1...2, using: &random), Fuzzing.text(of: Self.words, 0...3, using: &random))
                query[key, default: []].append(value)
                items.append("\(escaped(key, &random))=\(escaped(value, &random))")
            }
            let target = "/v1.41/" + path.map { escaped($0, &random) }.joined(separator: "/") + "?" + items.joined(separator: "&")
            let request = try APIRequest.parse(method: "GET", target: target, headers: [:])
            #expect(request.version == EngineAPIVersion(1, 41), "round \(round) of seed \(Fuzzing.seed): \(target)")
            #expect(request.path.map { Array($0.utf8) } == path.map { Array($0.utf8) }, "round \(round) of seed \(Fuzzing.seed): \(target)")
            #expect(request.query == query, "round \(round) of seed \(Fuzzing.seed): \(target)")
        }
    }

    @Test func brokenTargetsAreRefused() {
        var random = Fuzzing.generator()
        let examples = ["/v1.41/images/a%3A5000/json?x=1&y=a+b%26c", "/containers/create?name=web", "/v1.50/_ping", "//info///", "*"]
        var (read, refused) = (0, 0)
        for round in 0..<Fuzzing.runs(20_000) {
            let target = Fuzzing.mutate(examples[round % examples.count], with: ["%", "%2f", "%c3", "%0a", "?", "&", "/", "v1.", "="], using: &random)
            do throws(ApusError) {
                let request = try APIRequest.parse(method: "GET", target: target, headers: [:])
                read += 1
                let isClean = request.path.allSatisfy { part in !part.isEmpty && part.unicodeScalars.allSatisfy { $0.value >= 32 && $0.value != 127 } }
                #expect(isClean && (EngineAPIVersion.oldest...EngineAPIVersion.newest).contains(request.version), "\(target)")
            } catch {
                refused += 1
                #expect(error.code == .invalidArgument && !error.message.isEmpty, "\(target)")
            }
        }
        #expect(read > 100 && refused > 100)
    }

    /// There is one way to write a version.
    @Test func versionsReadBackTheSame() {
        var random = Fuzzing.generator()
        var accepted = 0
        for _ in 0..<Fuzzing.runs(20_000) {
            let pieces = ["0", "1", "9", "24", "41", "50", ".", ".", "v"] + Fuzzing.traps
            let text = Fuzzing.text(of: pieces, 1...4, using: &random)
            guard let version = EngineAPIVersion(text) else { continue }
            accepted += 1
            #expect(version.description == text)
        }
        #expect(accepted > 10)
        for text in ["1.+30", "+1.30", "01.30", "1.050", "1.-0", "1.\u{661}"] { #expect(EngineAPIVersion(text) == nil, "\(text)") }
        #expect(EngineAPIVersion("0.0") == EngineAPIVersion(0, 0))
    }

    // MARK: Filters

    @Test func bothFormsOfFiltersSayTheSame() throws {
        var random = Fuzzing.generator()
        for _ in 0..<Fuzzing.runs(3000) {
            var wanted: [String: [String]] = [:]
            for key in ["name", "label", "id"] where Bool.random(using: &random) {
                let values = (0..<Int.random(in: 0...4, using: &random)).map { _ in Fuzzing.text(of: Self.words + Fuzzing.traps, 0...3, using: &random) }
                wanted[key] = Array(Set(values))
            }
            let list = JSONValue.object(JSONObject(wanted.mapValues { JSONValue($0) }))
            let map = JSONValue.object(
                JSONObject(
                    wanted.mapValues { values -> JSONValue in
                        .object(JSONObject(Dictionary(values.map { ($0, JSONValue.bool(true)) }, uniquingKeysWith: { first, _ in first })))
                    }))
            let known: Set<String> = ["name", "label", "id", "type"]
            let (first, second) = (try Filters(list.text(), known: known), try Filters(map.text(), known: known))
            for key in known {
                #expect(first[key] == wanted[key] ?? [], "\(list.text())")
                #expect(Set(second[key]) == Set(wanted[key] ?? []), "\(map.text())")
            }
        }
    }

    /// The grammar once more, as a check of a value instead of a reading.
    private func isFilter(_ json: JSONValue, known: Set<String>) -> Bool {
        guard let object = json.object else { return false }
        return object.allSatisfy { key, value in
            guard known.contains(key) else { return false }
            if let items = value.array { return items.allSatisfy { $0.string != nil } }
            return value.object.map { $0.allSatisfy { $0.value.bool != nil } } ?? false
        }
    }

    @Test func wrongFiltersAreRefused() throws {
        var random = Fuzzing.generator()
        let known: Set<String> = ["name", "label"]
        let examples: [JSONValue] = [["name": ["a", "b"], "label": ["x=1"]], ["name": ["a": true, "b": false], "label": ["x": true]]]
        var (read, refused) = (0, 0)
        for round in 0..<Fuzzing.runs(6000) {
            let json = Fuzzing.mutate(examples[round % 2], using: &random)
            let isRead = (try? Filters(json.text(), known: known)) != nil
            #expect(isRead == isFilter(json, known: known), "\(json.text())")
            if isRead { read += 1 } else { refused += 1 }
            let text = Fuzzing.mutate(json.text(), with: ["{", "}", "[", "]", "\"", ":", ",", "true"], using: &random)
            do throws(ApusError) { _ = try Filters(text, known: known) } catch { #expect(error.code == .invalidArgument, "\(text)") }
        }
        #expect(read > 100 && refused > 100)
    }

    /// Against a search that takes every place in turn.
    @Test func namesMatchAsASearchDoes() throws {
        var random = Fuzzing.generator()
        for _ in 0..<Fuzzing.runs(5000) {
            let (pattern, name) = (
                Fuzzing.text(of: ["^", "/", "$", "a", "b", "."], 0...5, using: &random), Fuzzing.text(of: ["a", "b", "."], 1...6, using: &random)
            )
            var wanted = Array(pattern.utf8)[...]
            let actual = Array(name.utf8)
            var (begin, end) = (false, false)
            if wanted.first == UInt8(ascii: "^") { (begin, wanted) = (true, wanted.dropFirst()) }
            if wanted.first == UInt8(ascii: "/") { (begin, wanted) = (true, wanted.dropFirst()) }
            if wanted.last == UInt8(ascii: "$") { (end, wanted) = (true, wanted.dropLast()) }
            let places = actual.count < wanted.count ? [] : (0...actual.count - wanted.count).filter { actual[$0..<$0 + wanted.count].elementsEqual(wanted) }
            let fits = places.contains { (!begin || $0 == 0) && (!end || $0 + wanted.count == actual.count) }
            let filters = try Filters(JSONValue.object(["name": [.string(pattern)]]).text(), known: ["name"])
            #expect(filters.name("name", name) == fits, "\(pattern) \(name)")
        }
    }

    // MARK: Times and credentials

    @Test func timesReadBackTheSame() throws {
        var random = Fuzzing.generator()
        for _ in 0..<Fuzzing.runs(5000) {
            let time = Timestamp(nanoseconds: Int64.random(in: 1..<8_999_999_999_000_000_000, using: &random))
            let (seconds, rest) = time.nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
            let digits = String(String(rest + 1_000_000_000).dropFirst())
            #expect(try EventTime.parse("\(seconds).\(digits)", name: "since") == time)
            #expect(try EventTime.parse(time.description, name: "since") == time)
        }
    }

    @Test func brokenTimesAreRefused() {
        var random = Fuzzing.generator()
        let examples = ["1700000000.123456789", "2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00+02:00", "1h30m", "0.5s", "0", "10"]
        var (read, refused) = (0, 0)
        for round in 0..<Fuzzing.runs(20_000) {
            let text = Fuzzing.mutate(examples[round % examples.count], with: [".", "h", "m", "ms", "9", "000000", "T", ":", "Z"], using: &random)
            do throws(ApusError) {
                guard let time = try EventTime.parse(text, name: "since") else { continue }
                read += 1
                let known = Array("0123456789.-+:TtZz hms".utf8)
                #expect(text.utf8.allSatisfy { known.contains($0) }, "\(text)")
                // Of what is read as seconds, nothing is left out of account.
                let halves = text.split(separator: ".", omittingEmptySubsequences: false)
                if halves.count <= 2, halves.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { (48...57).contains($0) } }), let seconds = Int64(halves[0]) {
                    #expect(time.nanoseconds / 1_000_000_000 == seconds, "\(text)")
                }
            } catch {
                refused += 1
                #expect(error.code == .invalidArgument && error.message.utf8.starts(with: "since=".utf8), "\(text)")
            }
        }
        #expect(read > 100 && refused > 100)
        for text in ["-9223372036854775808", "1.+5", "+5", "-1.5", "1.5x", "1.123456789x", "5 m"] {
            #expect(throws: ApusError.self, "\(text)") { try EventTime.parse(text, name: "since") }
        }
    }

    @Test func credentialsReadBackOrAreRefused() throws {
        var random = Fuzzing.generator()
        var (read, refused) = (0, 0)
        for _ in 0..<Fuzzing.runs(4000) {
            let name = Fuzzing.text(of: Self.words + Fuzzing.traps, 1...4, using: &random)
            let password = Fuzzing.text(of: Self.words + Fuzzing.traps, 0...4, using: &random)
            let json: JSONValue = ["username": .string(name), "password": .string(password), "email": "", "serveraddress": "host:5000"]
            let header = Base64.encode(json.bytes())
            if !name.isEmpty {
                let found = try #require(try RegistryCredentials(header: header))
                #expect(Array(found.username.utf8) == Array(name.utf8) && Array(found.password.utf8) == Array(password.utf8))
            }
            let mutated = Fuzzing.mutate(json, using: &random)
            let isObject = mutated.object != nil
            let isRight = isObject && ["username", "password"].allSatisfy { mutated[$0].map { $0.string != nil || $0.isNull } ?? true }
            do throws(ApusError) {
                _ = try RegistryCredentials(header: Base64.encode(mutated.bytes()))
                read += 1
                #expect(isRight, "\(mutated.text())")
            } catch {
                refused += 1
                #expect(!isRight && error.code == .invalidArgument, "\(mutated.text())")
            }
            let text = Fuzzing.mutate(header, with: ["=", "-", "_", "/"], using: &random)
            do throws(ApusError) { _ = try RegistryCredentials(header: text) } catch { #expect(error.code == .invalidArgument, "\(text)") }
        }
        #expect(read > 100 && refused > 100)
    }

    // MARK: Frames

    /// Whatever the bytes and however they are cut: what comes out is their beginning, the same in all cuts, and ends where a frame does.
    @Test func framesDoNotDependOnTheCuts() {
        var random = Fuzzing.generator()
        for round in 0..<Fuzzing.runs(3000) {
            var bytes: [UInt8] = []
            for _ in 0..<Int.random(in: 0...5, using: &random) {
                bytes += LogFrames.frame(1, (0..<Int.random(in: 0...300, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) })
            }
            let isWhole = round % 2 == 0
            if !isWhole { bytes = Fuzzing.mutate(bytes, using: &random) }
            var whole = LogFrames()
            let expected = whole.whole(bytes)
            #expect(bytes.starts(with: expected) && (!isWhole || expected == bytes), "round \(round) of seed \(Fuzzing.seed)")
            var cutter = LogFrames()
            let found = Fuzzing.cut(bytes, upTo: 60, using: &random).flatMap { cutter.whole($0) }
            #expect(found == expected, "round \(round) of seed \(Fuzzing.seed)")
        }
    }
}
