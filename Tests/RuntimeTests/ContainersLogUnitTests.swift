import Files
import Glibc
import PluginAPI
import Testing

@testable import RuntimeOCI

@Suite struct ContainersLogUnitTests {
    @Test func entriesAreRead() throws {
        let line = try #require(LogLine(Array("2026-11-22T19:11:53.437923641+00:00 stderr P some text".utf8)[...]))
        #expect(line.isError && line.isPartial)
        #expect(line.text.elementsEqual("some text".utf8))
        #expect(line.timeText == Array("2026-11-22T19:11:53.437923641Z".utf8))
        let other = try #require(LogLine(Array("2026-11-22T19:11:53.430000000+02:00 stdout F ".utf8)[...]))
        #expect(!other.isError && !other.isPartial && other.text.isEmpty)
        #expect(other.timeText == Array("2026-11-22T17:11:53.430000000Z".utf8))
        for wrong in ["", "x", "2026 stdout", "2026 stdin F x", "2026 stdout X x"] { #expect(LogLine(Array(wrong.utf8)[...]) == nil, "\(wrong)") }
    }

    @Test(arguments: [1, 2, 3, 10, 1000, 5000, 5001, 6000])
    func theTailIsFoundFromTheEnd(_ wanted: Int) throws {
        let folder = try Files.makeTemporaryDirectory(prefix: "apus-tail")
        let text = (1...5000).map { "2026-11-22T19:11:53.437923641+00:00 stdout F line \($0)\n" }.joined()
        try Files.writeAtomically(Array(text.utf8), to: "\(folder)/log", sync: false)
        let descriptor = open("\(folder)/log", O_RDONLY)
        defer { close(descriptor) }
        let (offset, lines) = LogTail.start(of: descriptor, lines: wanted)
        #expect(lines == min(wanted, 5000))
        let rest = String(decoding: Array(text.utf8)[Int(offset)...], as: UTF8.self)
        #expect(rest.split(separator: "\n").count == min(wanted, 5000))
        #expect(rest.hasPrefix("2026"))
        try Files.removeTree(folder)
    }

    @Test func aLineThatGoesOnInTheNextFileIsCountedOnce() throws {
        let folder = try Files.makeTemporaryDirectory(prefix: "apus-tail")
        let stamp = "2026-11-22T19:11:53.437923641+00:00 stdout"
        let head = "\(stamp) F one\n"
        try Files.writeAtomically(Array("\(head)\(stamp) P beg\n".utf8), to: "\(folder)/old", sync: false)
        let descriptor = open("\(folder)/old", O_RDONLY)
        defer { close(descriptor) }
        #expect(LogTail.start(of: descriptor, lines: 0, isNewest: false) == (Int64(head.utf8.count), 0))
        #expect(LogTail.start(of: descriptor, lines: 1, isNewest: false) == (0, 1))
        #expect(LogTail.start(of: descriptor, lines: 1) == (Int64(head.utf8.count), 1))
        try Files.removeTree(folder)
    }

    @Test func sizesAndCountsAreChecked() throws {
        func options(_ values: [String: String]) throws -> LogOptions {
            var driver = LogDriver()
            driver.options = values
            return try LogOptions(driver)
        }
        #expect(try options([:]).maximumSize == nil)
        #expect(try options(["max-size": "10m", "max-file": "3"]).maximumSize == 10 << 20)
        #expect(try options(["max-size": "1kb"]).maximumSize == 1024)
        #expect(try options(["max-size": "10m", "max-file": "3"]).maximumFiles == 3)
        for wrong in [["max-size": "x"], ["max-size": "0"], ["max-file": "0"], ["max-file": "2"], ["colour": "red"]] {
            #expect(throws: ApusError.self) { try options(wrong) }
        }
    }
}
