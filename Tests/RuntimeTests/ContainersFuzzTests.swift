import Coding
import Fuzzing
import PluginAPI
import Testing

@testable import RuntimeOCI

/// What callers, images and containers hand to the runtime, broken at random.
@Suite("Containers: fuzz") struct ContainersFuzzTests {
    // MARK: Seccomp

    private static let profile: JSONValue = [
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "archMap": [["architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]]],
        "syscalls": [
            ["names": ["read", "write", "made_up"], "action": "SCMP_ACT_ALLOW", "comment": "what all need", "includes": [:], "excludes": [:]],
            [
                "names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [["index": 0, "value": 2_114_060_288, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"]],
                "excludes": ["caps": ["CAP_SYS_ADMIN"], "arches": ["s390x"]],
            ],
            ["names": ["ptrace"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "includes": ["minKernel": "4.8", "caps": ["CAP_SYS_PTRACE"]]],
            ["name": "open", "action": "SCMP_ACT_LOG"],
        ],
    ]
    private let platform = SeccompPlatform(architecture: "SCMP_ARCH_X86_64", dockerArchitecture: "amd64")

    @Test func brokenProfilesAreReadOrRefused() throws {
        var random = Fuzzing.generator()
        var (read, refused) = (0, 0)
        for round in 0..<Fuzzing.runs(4000) {
            let json = Fuzzing.mutate(Self.profile, using: &random)
            let text =
                round % 4 == 0
                ? String(decoding: Fuzzing.mutate(Self.profile.bytes(), using: &random), as: UTF8.self) : json.text()
            do throws(ApusError) {
                let profile = try SeccompProfile(dockerFormat: text)
                read += 1
                let resolved = profile.resolve(capabilities: ["CAP_SYS_PTRACE"], platform: platform, kernel: KernelVersion(major: 6, minor: 1))
                for call in resolved["syscalls"]?.array ?? [] {
                    #expect(call["action"]?.string?.hasPrefix("SCMP_ACT_") == true && call["names"]?.array?.isEmpty == false, "\(text)")
                    for argument in call["args"]?.array ?? [] { #expect(argument["op"]?.string?.hasPrefix("SCMP_CMP_") == true, "\(text)") }
                }
            } catch {
                refused += 1
                #expect(error.code == .invalidArgument && error.message.contains("seccomp profile"), "\(text): \(error.message)")
            }
        }
        #expect(read > 100 && refused > 100)
    }

    /// A filter that misses a rule, or half of one, guards less than was asked for, or forbids more.
    @Test func noValueOfAnotherKindPassesInAProfile() throws {
        var random = Fuzzing.generator()
        _ = try SeccompProfile(dockerFormat: Self.profile.text())
        for place in Self.profile.places where place.last != .key("comment") {
            for _ in 0..<8 {
                let json = Self.profile.replacing(place, by: Fuzzing.otherKind(than: Self.profile.value(at: place), using: &random))
                #expect(throws: ApusError.self, "\(place): \(json.text())") { try SeccompProfile(dockerFormat: json.text()) }
            }
        }
        for (place, value) in [("value", JSONValue(UInt64.max)), ("valueTwo", JSONValue(UInt64(1) << 63))] as [(String, JSONValue)] {
            let json = Self.profile.replacing([JSONStep.key("syscalls"), .index(1), .key("args"), .index(0), .key(place)], by: value)
            let argument = try SeccompProfile(dockerFormat: json.text()).rules[1].arguments[0]
            #expect(JSONValue(place == "value" ? argument.value : argument.secondValue) == value)
        }
    }

    // MARK: Users

    /// What `id` would find in the two files, by searching bytes.
    private func fields(_ file: String) -> [[String]] {
        file.utf8.split(separator: UInt8(ascii: "\n")).map { line in
            line.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
        }
    }

    private func number(_ text: String) -> UInt32? {
        guard !text.isEmpty, text.utf8.allSatisfy({ (48...57).contains($0) }), let number = UInt32(text), number <= Int32.max else { return nil }
        return number
    }

    @Test func usersAreFoundInBrokenFiles() {
        var random = Fuzzing.generator()
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/srv/web:/bin/sh\nmail:x:8:8:mail:/var/mail:/usr/sbin/nologin\n"
        let group = "root:x:0:\nweb:x:1000:\nadm:x:4:web,mail\nmail:x:8:web\n"
        let wanted = ["", "web", "root", "1000", "8", "7:4", "web:adm", "web:4", ":mail", "none", "+8", "-0", "4294967295", "web:+4", "web:none", "web:"]
        var (found, refused) = (0, 0)
        for round in 0..<Fuzzing.runs(8000) {
            let users = round % 8 == 0 ? passwd : Fuzzing.mutate(passwd, with: [":", "\n", "web", "0", ",", "1000"], using: &random)
            let groups = round % 8 == 1 ? group : Fuzzing.mutate(group, with: [":", "\n", "web", "0", ",", "adm"], using: &random)
            let text = wanted.randomElement(using: &random) ?? ""
            do throws(ApusError) {
                let user = try ProcessUser.resolve(text, groups: Bool.random(using: &random) ? ["adm"] : [], passwd: users, group: groups)
                found += 1
                let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
                let name = parts.first.map { $0.isEmpty ? "0" : String($0) } ?? "0"
                // One who is in the file by name is that one; otherwise the number is meant.
                let entry = fields(users).first { $0.count >= 6 && $0[0] == name && number($0[2]) != nil && number($0[3]) != nil }
                #expect(user.user == entry.flatMap { number($0[2]) } ?? number(name), "\(text): \(users)")
                #expect(user.user <= Int32.max && user.group <= Int32.max && user.additionalGroups.allSatisfy { $0 <= Int32.max }, "\(text): \(groups)")
                #expect(user.additionalGroups.first == user.group && Set(user.additionalGroups).count == user.additionalGroups.count, "\(text): \(groups)")
                #expect(!user.home.isEmpty)
            } catch {
                refused += 1
                #expect(error.code == .invalidArgument && error.message.hasPrefix("unable to find"), "\(text)")
            }
        }
        #expect(found > 100 && refused > 100)
    }

    // MARK: Logs

    @Test func entriesReadBackTheSame() throws {
        var random = Fuzzing.generator()
        for _ in 0..<Fuzzing.runs(5000) {
            let time = Timestamp(nanoseconds: Int64.random(in: 1..<8_999_999_999_000_000_000, using: &random))
            let seconds = Timestamp(nanoseconds: time.nanoseconds / 1_000_000_000 * 1_000_000_000)
            let digits = String(String(time.nanoseconds % 1_000_000_000 + 1_000_000_000).dropFirst())
            let written = "\(seconds.description.dropLast()).\(digits)"
            let (isError, isPartial) = (Bool.random(using: &random), Bool.random(using: &random))
            let text = (0..<Int.random(in: 0...20, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            let zone = ["+00:00", "Z"].randomElement(using: &random) ?? ""
            let line = Array("\(written)\(zone) \(isError ? "stderr" : "stdout") \(isPartial ? "P" : "F") ".utf8) + text
            // Somewhere within more bytes, as a line of a file is.
            let around = Array(repeating: UInt8(ascii: " "), count: Int.random(in: 0...9, using: &random))
            let read = try #require(LogLine((around + line + around)[around.count..<around.count + line.count]))
            #expect(read.isError == isError && read.isPartial == isPartial && read.text.elementsEqual(text))
            #expect(read.timestamp == time && read.timeText == Array("\(written)Z".utf8), "\(written)\(zone)")
        }
    }

    @Test func brokenEntriesAreSkipped() {
        var random = Fuzzing.generator()
        let example = Array("2026-11-22T19:11:53.437923641+00:00 stderr P some text".utf8)
        var (read, refused) = (0, 0)
        for _ in 0..<Fuzzing.runs(20_000) {
            let bytes = Fuzzing.mutate(example, using: &random)
            guard let line = LogLine(bytes[...]) else {
                refused += 1
                continue
            }
            read += 1
            // The text is the end of the line, behind `stdout F ` or `stderr P ` and a time.
            let head = Array(bytes.dropLast(line.text.count))
            let label = Array(" \(line.isError ? "stderr" : "stdout") \(line.isPartial ? "P" : "F")".utf8)
            let wanted = Array(head.prefix { $0 != 32 }) + label
            #expect(head == wanted || head == wanted + [32])
            #expect(!line.timeText.isEmpty)
            var formatter = LogFormatter(request: LogRequest(id: "a", descriptor: -1), isTerminal: false)
            var output: [UInt8] = []
            formatter.append(line, to: &output)
            let length = output.dropFirst(4).prefix(4).reduce(0) { $0 << 8 | Int($1) }
            #expect(output.isEmpty || output.count == 8 + length)
        }
        #expect(read > 100 && refused > 100)
    }

    @Test func sizesOfLogsAreExactOrRefused() {
        var random = Fuzzing.generator()
        let factors: [String: Int64] = [
            "": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gb": 1 << 30,
            "gib": 1 << 30, "t": 1 << 40, "tb": 1 << 40, "tib": 1 << 40,
        ]
        var accepted = 0
        for _ in 0..<Fuzzing.runs(20_000) {
            let text = Fuzzing.text(of: ["1", "0", "7", "k", "m", "G", "T", "i", "b", "B", "."] + Fuzzing.traps, 0...5, using: &random)
            let digits = text.utf8.prefix { (48...57).contains($0) }
            let unit = String(decoding: text.utf8.dropFirst(digits.count), as: UTF8.self)
            let isASCII = unit.utf8.allSatisfy { $0 < 128 }
            let wanted: Int64? = Int64(String(decoding: digits, as: UTF8.self)).flatMap { number in
                guard isASCII, let factor = factors[unit.lowercased()] else { return nil }
                let (product, overflow) = number.multipliedReportingOverflow(by: factor)
                return overflow ? nil : product
            }
            #expect(LogOptions.bytes(text) == wanted, "\(text)")
            if wanted != nil { accepted += 1 }
            var driver = LogDriver()
            driver.options = ["max-size": text, "max-file": Fuzzing.text(of: ["1", "3", "-", "0"] + Fuzzing.traps, 0...2, using: &random)]
            do throws(ApusError) {
                let options = try LogOptions(driver)
                #expect(options.maximumFiles >= 1 && options.maximumSize.map { $0 > 0 } ?? (text == "-1"), "\(driver.options)")
            } catch {
                #expect(error.code == .invalidArgument, "\(driver.options)")
            }
        }
        #expect(accepted > 100)
    }
}
