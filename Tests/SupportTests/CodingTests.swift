import Coding
import Fuzzing
import PluginAPI
import Testing

private struct Numbered: FieldCoded {
    var number: UInt64 = 0

    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) { try coder.field(1, "Number", &number) }
}

@Suite struct JSONTests {
    @Test(arguments: [
        "null", "true", "[]", "{}", "[1,-2,3.5,1e+300]", #"{"a":{"b":[null,""]}}"#, #""\u00e9\ud83d\udd4a\n""#, " [ 1 , 2 ] ", "9223372036854775807",
        "-9223372036854775808",
    ])
    func readsAndWrites(_ text: String) throws {
        let value = try JSONValue.parse(text)
        #expect(try JSONValue.parse(value.bytes()) == value)
        #expect(try JSONValue.parse(value.text(pretty: true)) == value)
    }

    @Test(arguments: [
        "", " ", "nul", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "{a:1}", "01", "1.", "1e", "+1", "\"\\x\"", "\"\\ud800\"", "\"a", "[1", "{\"a\":1", "1 2",
        "\"\u{1}\"",
        "{\"a\":1,\"a\":2}", "1e999", "\u{feff}1", "'a'",
    ])
    func refuses(_ text: String) {
        #expect(throws: ApusError.self) { try JSONValue.parse(text) }
    }

    @Test func refusesBytesThatAreNotUTF8() {
        #expect(throws: ApusError.self) { try JSONValue.parse([0x22, 0xff, 0x22]) }
    }

    @Test func saysWhereItWentWrong() {
        let error = #expect(throws: ApusError.self) { try JSONValue.parse("{\n  \"a\": tru\n}") }
        #expect(error?.message.contains("line 2, column 8") == true)
        #expect(error?.code == .invalidArgument)
    }

    @Test func boundsDepth() throws {
        func nested(_ depth: Int) -> String { String(repeating: "[", count: depth) + String(repeating: "]", count: depth) }
        _ = try JSONValue.parse(nested(JSONValue.maximumDepth))
        #expect(throws: ApusError.self) { try JSONValue.parse(nested(JSONValue.maximumDepth + 1)) }
        #expect(throws: ApusError.self) { try JSONValue.parse(String(repeating: "{\"a\":[", count: 1_000_000)) }
    }

    @Test(arguments: [UInt64(1), 1 << 53 + 1, UInt64(Int64.max), UInt64(Int64.max) + 1, 15_549_713_568_147_804_161, .max])
    func keepsAllDigits(_ number: UInt64) throws {
        #expect(try JSONValue.parse("\(number)").text() == "\(number)")
        #expect(try JSONFields.decode(Numbered.self, from: try JSONValue.parse(JSONFields.encode(Numbered(number: number)).bytes())).number == number)
        // As it was once written: what is left of it can be read.
        #expect(
            try JSONFields.decode(Numbered.self, from: try JSONValue.parse("{\"Number\":1.5549713568147804e+19}")).number >> 11 == 15_549_713_568_147_804_160
                >> 11)
    }

    @Test func keepsOrderAndIntegers() throws {
        let value = try JSONValue.parse(#"{"z":1,"a":9007199254740993}"#)
        #expect(value.text() == #"{"z":1,"a":9007199254740993}"#)
        #expect(value["a"]?.integer == 9_007_199_254_740_993)
    }

    /// Whatever bytes come, it answers with a value that reads back the same, or with an error.
    @Test func survivesMutations() throws {
        var generator = SplitMix64(seed: 7)
        let seeds = [#"{"Name":"web","Mode":{"Replicated":{"Replicas":3}},"x":[1,2.5e3,"\u00e9",null,true]}"#, #"["\ud83d\udd4a",[[[]]],{"":-0.0}]"#]
        for _ in 0..<20_000 {
            var bytes = Array((seeds.randomElement(using: &generator) ?? "").utf8)
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let position = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[position] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes.remove(at: position)
                default: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: position)
                }
                if bytes.isEmpty { bytes = [0] }
            }
            guard let value = try? JSONValue.parse(bytes) else { continue }
            #expect(try JSONValue.parse(value.bytes()) == value)
        }
    }
}

@Suite struct Base64Tests {
    @Test(arguments: [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy")])
    func followsTheStandard(_ plain: String, _ encoded: String) {
        #expect(Base64.encode(Array(plain.utf8)) == encoded)
        #expect(Base64.decode(encoded) == Array(plain.utf8))
        #expect(Base64.decode(encoded.filter { $0 != "=" }) == Array(plain.utf8))
    }

    @Test(arguments: ["Z", "Zg=", "Zg===", "Z*==", "Zg==Zg=="]) func refuses(_ text: String) { #expect(Base64.decode(text) == nil) }

    @Test func readsTheAlphabetOfURLs() { #expect(Base64.decode("-_-_") == Base64.decode("+/+/")) }
}

@Suite struct FieldCodingTests {
    private func check<Value: FieldCoded>(_ type: Value.Type) throws {
        for seed in UInt64(0)..<200 {
            let (value, repeated) = RandomFields.make(type, seed: seed)
            #expect(repeated.isEmpty, "\(type) uses a name or number twice: \(repeated)")
            #expect(try ProtobufFields.decode(type, from: ProtobufFields.encode(value)) == value, "seed \(seed)")
            let json = JSONFields.encode(value, includeInternal: true)
            #expect(try JSONFields.decode(type, from: JSONValue.parse(json.bytes()), includeInternal: true) == value, "seed \(seed)")
        }
        #expect(ProtobufFields.encode(try ProtobufFields.decode(type, from: [])) == ProtobufFields.encode(Value()), "\(type): init() is not all zero")
        #expect(try JSONFields.decode(type, from: [:]) == Value())
    }

    @Test func everyObjectComesBackTheSame() throws {
        try check(Service.self)
        try check(Task.self)
        try check(Node.self)
        try check(Cluster.self)
        try check(Network.self)
        try check(Secret.self)
        try check(Config.self)
        try check(Volume.self)
        try check(Image.self)
        try check(Container.self)
    }

    @Test func namesTheFieldThatIsWrong() {
        func message(_ text: String) -> String {
            let error = #expect(throws: ApusError.self) { try JSONFields.decode(ServiceSpec.self, from: JSONValue.parse(text)) }
            return error?.message ?? ""
        }
        #expect(message(#"{"Nme":"web"}"#) == "unknown field Nme")
        #expect(message(#"{"TaskTemplate":{"ContainerSpec":{"Imag":"x"}}}"#) == "unknown field TaskTemplate.ContainerSpec.Imag")
        #expect(message(#"{"Mode":{"Replicated":{"Replicas":-1}}}"#) == "Mode.Replicated.Replicas is -1; it cannot be negative")
        #expect(message(#"{"Mode":{"Replicated":{"Replicas":"3"}}}"#) == "Mode.Replicated.Replicas is a string, not a whole number of 64 bits")
        #expect(message(#"{"Labels":{"a":1}}"#) == "Labels.a is a number, not a string")
        #expect(message(#"{"EndpointSpec":{"Ports":[{"Protocol":"ipx"}]}}"#).contains("\"ipx\" is not one of tcp, udp, sctp"))
        #expect(message(#"[]"#) == "the body is an array, not an object")
    }

    @Test func keepsInternalFieldsOutOfTheAPI() throws {
        var cluster = Cluster()
        cluster.root.key = "a key"
        #expect(!JSONFields.encode(cluster).text().contains("a key"))
        #expect(throws: ApusError.self) { try JSONFields.decode(Cluster.self, from: JSONFields.encode(cluster, includeInternal: true)) }
    }

    @Test func skipsFieldsOfNewerVersions() throws {
        var service = ServiceSpec()
        service.name = "web"
        // Field 100, one of each wire type.
        let unknown: [UInt8] = [0xa0, 0x06, 0x01, 0xa2, 0x06, 0x01, 0x41, 0xa1, 0x06, 0, 0, 0, 0, 0, 0, 0, 0, 0xa5, 0x06, 0, 0, 0, 0]
        #expect(try ProtobufFields.decode(ServiceSpec.self, from: ProtobufFields.encode(service) + unknown) == service)
    }

    @Test func damagedMessagesAreErrors() {
        var generator = SplitMix64(seed: 11)
        let whole = ProtobufFields.encode(RandomFields.make(Service.self, seed: 3).value)
        for _ in 0..<20_000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...3, using: &generator) where !bytes.isEmpty {
                let position = Int.random(in: 0..<bytes.count, using: &generator)
                if Bool.random(using: &generator) { bytes[position] = UInt8.random(in: 0...255, using: &generator) } else { bytes.removeSubrange(position...) }
            }
            do {
                _ = try ProtobufFields.decode(Service.self, from: bytes)
            } catch {
                #expect([.corrupt, .invalidArgument].contains(error.code))
            }
        }
    }
}

@Suite struct ValueTests {
    @Test(arguments: ["0.0.0.0", "255.255.255.255", "10.0.0.7", "::", "::1", "2001:db8::1", "fe80::1:2:3:4", "1:2:3:4:5:6:7:8", "2001:db8:0:1:1:1:1:1"])
    func addressesComeBackTheSame(_ text: String) { #expect(IPAddress(text)?.description == text) }

    @Test(arguments: [
        "", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4 ", ":::", "1::2::3", "12345::", "g::", "1:2:3:4:5:6:7", "::1:2:3:4:5:6:7:8", "+1.2.3.4",
    ])
    func addressesThatAreNone(_ text: String) { #expect(IPAddress(text) == nil) }

    @Test func prefixes() {
        #expect(IPPrefix("10.1.2.3/8")?.network.description == "10.0.0.0/8")
        #expect(IPPrefix("10.1.2.3/33") == nil)
        #expect(IPPrefix("10.1.2.3/+8") == nil)
        let pool = IPPrefix("10.1.2.0/23")
        #expect(IPAddress("10.1.3.255").map { pool?.contains($0) == true } == true)
        #expect(IPAddress("10.1.4.0").map { pool?.contains($0) == false } == true)
        #expect(IPPrefix("10.0.0.0/8").map { pool?.overlaps($0) == true } == true)
        #expect(IPPrefix("10.1.4.0/24").map { pool?.overlaps($0) == false } == true)
        #expect(IPAddress("10.0.0.255")?.advanced(by: 1)?.description == "10.0.1.0")
        #expect(IPAddress("255.255.255.255")?.advanced(by: 1) == nil)
    }

    @Test(arguments: ["1970-01-01T00:00:01Z", "2026-11-22T18:40:04.123456789Z", "2000-02-29T23:59:59.5Z", "1969-12-31T23:59:59.25Z", "0001-01-01T00:00:00Z"])
    func timesComeBackTheSame(_ text: String) { #expect(Timestamp(text)?.description == text) }

    @Test func timesWithOffsets() {
        #expect(Timestamp("2026-01-01T01:30:00+01:30") == Timestamp("2026-01-01T00:00:00Z"))
        for text in ["", "2026-01-01", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00.Z", "2026-01-01T25:00:00Z"] {
            #expect(Timestamp(text) == nil)
        }
    }

    @Test func identities() {
        let ids = Set((0..<1000).map { _ in ID.random() })
        #expect(ids.count == 1000)
        #expect(ids.allSatisfy { $0.text.utf8.count == 25 && $0.text.allSatisfy { $0.isASCII && ($0.isLowercase || $0.isNumber) } })
        #expect(ID.randomContainer().text.count == 64)
    }
}
