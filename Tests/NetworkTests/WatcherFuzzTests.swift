import CNetlink
import Fuzzing
import Testing

@testable import IPVS
@testable import Netlink

/// What the kernel reports of nftables, whole, cut off and mixed up: a table's removal is heard, and nothing else is.
@Suite("Messages of nftables: fuzz") struct WatcherFuzzTests {
    private static let removal = UInt16(NFNL_SUBSYS_NFTABLES) << 8 | UInt16(NFT_MSG_DELTABLE.rawValue)

    private func message(_ type: UInt16, _ content: Int, _ random: inout SplitMix64) -> [UInt8] {
        var header = nlmsghdr()
        header.nlmsg_type = type
        header.nlmsg_len = UInt32(MemoryLayout<nlmsghdr>.size + content)
        header.nlmsg_seq = UInt32.random(in: 0...UInt32.max, using: &random)
        var bytes = withUnsafeBytes(of: header) { Array($0) } + (0..<content).map { _ in UInt8.random(in: 0...255, using: &random) }
        while bytes.count % 4 != 0 { bytes.append(0) }
        return bytes
    }

    @Test func removalsAreHeardAndNothingElse() {
        var random = Fuzzing.generator()
        let types = [Self.removal &- 1, Self.removal &+ 1, Self.removal << 8 | Self.removal >> 8, 2, 3, 0xffff]
        var heard = 0
        for round in 0..<Fuzzing.runs(20_000) {
            var bytes: [UInt8] = []
            var isRemoved = false
            for _ in 0..<Int.random(in: 0...5, using: &random) {
                let isRemoval = Int.random(in: 0..<8, using: &random) == 0
                isRemoved = isRemoved || isRemoval
                bytes += message(isRemoval ? Self.removal : types.randomElement(using: &random) ?? 0, Int.random(in: 0...40, using: &random), &random)
            }
            // Somewhere within a buffer, as what was received is.
            let around = [UInt8](repeating: 0x5a, count: Int.random(in: 0...7, using: &random))
            let slice = (around + bytes + around)[around.count..<around.count + bytes.count]
            #expect(RulesetWatcher.removesTable(slice) == isRemoved, "round \(round) of seed \(Fuzzing.seed)")
            if isRemoved { heard += 1 }
        }
        #expect(heard > 100)
    }

    /// Against a search that looks at every place where a message may begin: what is found is there, and lengths that lie lead nowhere.
    @Test func brokenMessagesEnd() {
        var random = Fuzzing.generator()
        var (heard, unheard) = (0, 0)
        let marker = withUnsafeBytes(of: Self.removal) { Array($0) }
        for round in 0..<Fuzzing.runs(20_000) {
            var bytes = message(2, 20, &random) + message(Self.removal, 8, &random) + message(3, 0, &random)
            bytes = Fuzzing.mutate(bytes, using: &random)
            let isThere = stride(from: 0, to: max(0, bytes.count - 15), by: 4).contains { Array(bytes[$0 + 4..<$0 + 6]) == marker }
            let isHeard = RulesetWatcher.removesTable(bytes[...])
            #expect(isThere || !isHeard, "round \(round) of seed \(Fuzzing.seed)")
            if isHeard { heard += 1 } else { unheard += 1 }
        }
        #expect(heard > 100 && unheard > 100)
    }

    /// The two readers of attributes find the same ones, whatever the lengths say; of two of a type the one has the first, the other the last.
    @Test func readersOfAttributesAgree() {
        var random = Fuzzing.generator()
        var found = 0
        for round in 0..<Fuzzing.runs(10_000) {
            var bytes: [UInt8] = []
            var written: [UInt16: [[UInt8]]] = [:]
            for _ in 0..<Int.random(in: 0...6, using: &random) {
                let type = UInt16.random(in: 1...6, using: &random)
                let value = (0..<Int.random(in: 0...20, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
                written[type, default: []].append(value)
                Attributes.put(type, value, into: &bytes)
            }
            let isWhole = round % 2 == 0
            if !isWhole { bytes = Fuzzing.mutate(bytes, using: &random) }
            let last = Attributes.parse(bytes)
            let first = NetlinkAttributes(bytes[...])
            for type in 0...7 as ClosedRange<UInt16> {
                let value = first[Int(type)].map { Array($0) }
                #expect((value == nil) == (last[type] == nil), "round \(round) of seed \(Fuzzing.seed)")
                if isWhole { #expect(value == written[type]?.first && last[type] == written[type]?.last, "round \(round) of seed \(Fuzzing.seed)") }
                if value != nil { found += 1 }
            }
        }
        #expect(found > 1000)
    }
}
