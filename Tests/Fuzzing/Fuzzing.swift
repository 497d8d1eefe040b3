import Glibc

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): a failure comes again with its seed.
public struct SplitMix64: RandomNumberGenerator, Sendable {
    private var state: UInt64

    public init(seed: UInt64) { state = seed }

    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}

/// What tests of parsers share: inputs at random, always the same ones unless the environment says otherwise.
public enum Fuzzing {
    /// `APUS_FUZZ_SEED`, or 1.
    public static let seed: UInt64 = setting("APUS_FUZZ_SEED").flatMap { UInt64($0) } ?? 1

    /// How many inputs are tried: `APUS_FUZZ_RUNS`, or what the test has.
    public static func runs(_ standard: Int) -> Int { setting("APUS_FUZZ_RUNS").flatMap { Int($0) } ?? standard }

    public static func generator() -> SplitMix64 { SplitMix64(seed: seed) }

    private static func setting(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    /// What parsers of text stumble over: marks that join the character before, characters that become others in another case, digits of other
    /// scripts, signs, limits of integers, controls.
    public static let traps = [
        "\u{301}", "\u{130}", "\u{17f}", "\u{df}", "\u{fb01}", "\u{661}", "\u{ff11}", "\u{bd}", "\r\n", "\n", "\u{0}", "\u{7f}", "\u{85}", "\u{a0}",
        "\u{200d}", "\u{1f600}", " ", "\t", "+", "-", "-0", "9223372036854775807", "-9223372036854775808", "18446744073709551616", "4294967295", "",
    ]

    /// So many pieces, one after the other.
    public static func text(of pieces: [String], _ count: ClosedRange<Int>, using generator: inout SplitMix64) -> String {
        (0..<Int.random(in: count, using: &generator)).map { _ in pieces.randomElement(using: &generator) ?? "" }.joined()
    }

    /// One to four changes at scalars; what is put in is one of the pieces or of the traps.
    public static func mutate(_ text: String, with pieces: [String] = [], using generator: inout SplitMix64) -> String {
        var scalars = Array(text.unicodeScalars)
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
            let place = Int.random(in: 0...scalars.count, using: &generator)
            let end = min(scalars.count, place + Int.random(in: 1...6, using: &generator))
            switch Int.random(in: 0..<5, using: &generator) {
            case 0: scalars.removeSubrange(place..<end)
            case 1: scalars.insert(contentsOf: scalars[place..<end], at: Int.random(in: 0...scalars.count, using: &generator))
            case 2: if place < scalars.count { scalars.swapAt(place, Int.random(in: 0..<scalars.count, using: &generator)) }
            case 3: scalars.insert(contentsOf: (traps.randomElement(using: &generator) ?? "").unicodeScalars, at: place)
            default: scalars.insert(contentsOf: ((pieces.isEmpty ? traps : pieces).randomElement(using: &generator) ?? "").unicodeScalars, at: place)
            }
        }
        return String(String.UnicodeScalarView(scalars))
    }

    /// One to six changes of bytes.
    public static func mutate(_ bytes: [UInt8], using generator: inout SplitMix64) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...6, using: &generator) where !bytes.isEmpty {
            let place = Int.random(in: 0..<bytes.count, using: &generator)
            let end = min(bytes.count, place + Int.random(in: 1...600, using: &generator))
            switch Int.random(in: 0..<7, using: &generator) {
            case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 1: bytes[place] = UInt8.random(in: 0...255, using: &generator)
            case 2: bytes[place] = [0, 1, 0x7f, 0x80, 0xff].randomElement(using: &generator) ?? 0
            case 3: bytes.removeSubrange(place..<end)
            case 4: bytes.insert(contentsOf: bytes[place..<end], at: place)
            case 5: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: place)
            default: bytes.removeSubrange(place...)
            }
        }
        return bytes
    }

    /// The bytes in pieces of up to so many, some of them empty.
    public static func cut(_ bytes: [UInt8], upTo most: Int, using generator: inout SplitMix64) -> [[UInt8]] {
        var pieces: [[UInt8]] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = Int.random(in: 0...min(rest.count, most), using: &generator)
            pieces.append(Array(rest.prefix(count)))
            rest = rest.dropFirst(count)
        }
        return pieces
    }
}
