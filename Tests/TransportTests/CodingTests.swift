import GRPCCore
import Testing

@testable import Transport

@Suite struct CodingTests {
    @Test(arguments: ["", "plain", "100 %", "zwei\nZeilen", "ä", "%41", "~ !"])
    func messagesOfAStatusComeBack(_ text: String) {
        let encoded = MetadataCoding.encodeMessage(text)
        #expect(encoded.utf8.allSatisfy { $0 >= 0x20 && $0 <= 0x7e })
        #expect(MetadataCoding.decodeMessage(encoded) == text)
    }

    @Test func whatIsNoEscapeStays() {
        #expect(MetadataCoding.decodeMessage("50%") == "50%")
        #expect(MetadataCoding.decodeMessage("%zz%4") == "%zz%4")
        #expect(MetadataCoding.decodeMessage("%41%") == "A%")
    }

    @Test func binaryValuesMayBePaddedJoinedOrWrong() {
        var metadata = Metadata()
        #expect(MetadataCoding.add(name: "a-bin", value: "AQI=, AwQ", to: &metadata))
        #expect(Array(metadata[binaryValues: "a-bin"]) == [[1, 2], [3, 4]])
        #expect(!MetadataCoding.add(name: "a-bin", value: "***", to: &metadata))
    }

    @Test func metadataThatIsNoHeaderIsNamed() {
        var block = HeaderBlock()
        #expect(MetadataCoding.add(["good": "yes", "bad": "line\nbreak"], to: &block) == "bad")
        #expect(MetadataCoding.add(["ba d": "x"], to: &block) == "ba d")
        #expect(MetadataCoding.add(["content-type": "x\n", "Upper": "fine"], to: &block) == nil)
    }

    @Test func absurdTimeoutsAreNone() {
        #expect(MetadataCoding.isUsefulTimeout("100m"))
        #expect(MetadataCoding.isUsefulTimeout("99999999u"))
        #expect(!MetadataCoding.isUsefulTimeout("99999999H"))
        #expect(!MetadataCoding.isUsefulTimeout("999999999S"))
        #expect(!MetadataCoding.isUsefulTimeout("-1S"))
        #expect(!MetadataCoding.isUsefulTimeout("S"))
        #expect(!MetadataCoding.isUsefulTimeout("5x"))
    }

    @Test func aPathNamesAMethod() {
        func descriptor(_ path: String) -> String? {
            var headers = IncomingHeaders()
            headers.path = path
            return headers.descriptor?.fullyQualifiedMethod
        }
        #expect(descriptor("/a.b.C/D") == "a.b.C/D")
        for path in ["", "/", "//", "/a", "a/b", "/a/", "*"] { #expect(descriptor(path) == nil, "\(path)") }
    }

    @Test func aBucketGivesItsBurstAndThenItsRate() {
        var bucket = TokenBucket(burst: 3, perSecond: 2)
        #expect((0..<5).map { _ in bucket.take(now: 1_000_000_000) } == [true, true, true, false, false])
        #expect((0..<3).map { _ in bucket.take(now: 2_000_000_000) } == [true, true, false])
        bucket.give()
        let given = bucket.take(now: 2_000_000_000)
        #expect(given)
        // A clock that goes back gives nothing.
        let early = bucket.take(now: 1)
        #expect(!early)
        #expect((0..<4).map { _ in bucket.take(now: 3_600_000_000_000) } == [true, true, true, false])
    }
}
