import Coding
import Fuzzing
import Glibc
import PluginAPI
import Testing

/// Addresses and times from anywhere: read as the C library reads them, or refused.
@Suite("Values: fuzz") struct ValueFuzzTests {
    private func library(_ text: String) -> [UInt8]? {
        guard !text.utf8.contains(0) else { return nil }
        for (family, count) in [(AF_INET, 4), (AF_INET6, 16)] {
            var bytes = [UInt8](repeating: 0, count: count)
            if inet_pton(family, text, &bytes) == 1 { return bytes }
        }
        return nil
    }

    @Test func addressesAreTheLibrarys() {
        var random = Fuzzing.generator()
        let pieces = ["0", "1", "7", "ffff", "ABCD", "10000", "255", "256", "01", ":", ":", "::", ".", ".", "1.2.3.4", "-0", "%1", "/8"] + Fuzzing.traps
        let examples = ["10.0.0.255", "2001:db8::1:2", "::ffff:1.2.3.4", "1:2:3:4:5:6:7:8", "fe80::", "1:2:3:4:5:6:7::"]
        var accepted = 0
        for round in 0..<Fuzzing.runs(60_000) {
            let text =
                round % 2 == 0
                ? Fuzzing.mutate(examples[round / 2 % examples.count], with: pieces, using: &random) : Fuzzing.text(of: pieces, 1...9, using: &random)
            let address = IPAddress(text)
            #expect(address?.bytes == library(text), "\(text)")
            guard let address else { continue }
            accepted += 1
            #expect(IPAddress(address.description) == address, "\(text)")
            let length = Int.random(in: 0...address.bytes.count * 8, using: &random)
            guard let prefix = IPPrefix("\(text)/\(length)") else {
                Issue.record("\(text)/\(length)")
                continue
            }
            #expect(prefix.length == length && prefix.contains(address) && prefix.overlaps(prefix.network), "\(text)/\(length)")
        }
        #expect(accepted > 1000)
        for text in ["1.2.3.4::", "::-0", "1.2.3.4::1"] { #expect(IPAddress(text) == nil, "\(text)") }
        for text in ["10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0/", "10.0.0.0/8/8"] { #expect(IPPrefix(text) == nil, "\(text)") }
        for text in ["-0:00:00:00:00:00", "+0:00:00:00:00:00", "0:0:0:0:0:0"] { #expect(MACAddress(text) == nil, "\(text)") }
    }

    /// What is written without an offset and without a leap second comes back the same: no day that a month does not have becomes another.
    @Test func timesAreThoseOfTheCalendar() {
        var random = Fuzzing.generator()
        var accepted = 0
        for _ in 0..<Fuzzing.runs(30_000) {
            func number(_ range: ClosedRange<Int>, _ width: Int) -> String {
                let digits = String(Int.random(in: range, using: &random))
                return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
            }
            let date = "\(number(1600...2300, 4))-\(number(0...13, 2))-\(number(0...32, 2))"
            let text = "\(date)T\(number(0...24, 2)):\(number(0...60, 2)):\(number(0...59, 2))"
            guard let time = Timestamp(text + "Z") else { continue }
            accepted += 1
            #expect(time.description == text + "Z" || time.isNever, "\(text)")
            let mutated = Fuzzing.mutate(text + ".5Z", with: ["+", "-", ":", "0", "9", "T", "Z"], using: &random)
            if let time = Timestamp(mutated) { #expect(Timestamp(time.description) == time, "\(mutated)") }
        }
        #expect(accepted > 1000)
        for text in ["2026-02-30T00:00:00Z", "2025-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "1900-02-29T00:00:00Z"] {
            #expect(Timestamp(text) == nil, "\(text)")
        }
        for text in ["2024-02-29T00:00:00Z", "2000-02-29T00:00:00Z"] { #expect(Timestamp(text)?.description == text) }
    }

    @Test func bytesInBase64ReadBackTheSame() {
        var random = Fuzzing.generator()
        for _ in 0..<Fuzzing.runs(5000) {
            let bytes = (0..<Int.random(in: 0...40, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            let text = Base64.encode(bytes)
            #expect(Base64.decode(text) == bytes)
            let mutated = Fuzzing.mutate(text, with: ["=", "-", "_", "\n"], using: &random)
            // However it was written: what is read is what its own text says.
            if let read = Base64.decode(mutated) { #expect(Base64.decode(Base64.encode(read)) == read, "\(mutated)") }
        }
    }
}
