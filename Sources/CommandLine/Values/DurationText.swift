import PluginAPI

/// Lengths of time as flags and tables write them: `1h30m`, `500ms`, `1.5s`.
enum DurationText {
    private static let units: [(name: String, nanoseconds: Int64)] = [
        ("ns", 1), ("us", 1000), ("µs", 1000), ("μs", 1000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ]

    /// Reads one or more decimal numbers, each with a unit of ns, us, ms, s, m or h; a lone `0` needs none.
    static func parse(_ text: String) throws(ApusError) -> Duration {
        func problem(_ what: String) -> ApusError {
            ApusError(.invalidArgument, "\(what); write it like 30s, 1m30s or 500ms (units: ns, us, ms, s, m, h)")
        }
        if text == "0" { return .zero }
        guard !text.isEmpty else { throw problem("the duration is empty") }
        guard text.first != "-" else { throw problem("a duration cannot be negative") }
        var total: Int64 = 0
        var rest = text[...]
        while !rest.isEmpty {
            let digits = rest.prefix { ("0"..."9").contains($0) || $0 == "." }
            guard let number = Decimal(digits) else { throw problem("\"\(text)\" is not a duration") }
            rest = rest.dropFirst(digits.count)
            let name = rest.prefix { !("0"..."9").contains($0) && $0 != "." }
            rest = rest.dropFirst(name.count)
            guard let unit = units.first(where: { $0.name == name }) else {
                throw problem(name.isEmpty ? "\"\(text)\" has a number without a unit" : "\"\(name)\" is not a unit of time")
            }
            guard let part = number.scaled(by: unit.nanoseconds) else { throw problem("\"\(text)\" is longer than 292 years") }
            let (sum, overflow) = total.addingReportingOverflow(part)
            guard !overflow else { throw problem("\"\(text)\" is longer than 292 years") }
            total = sum
        }
        return .nanoseconds(total)
    }

    /// The shortest exact text: `1m30s`, `1.5s`, `250ms`, `0s`.
    static func text(_ duration: Duration) -> String {
        let nanoseconds = duration.nanoseconds
        guard nanoseconds >= 0 else { return "-" + text(.nanoseconds(nanoseconds == .min ? .max : -nanoseconds)) }
        if nanoseconds == 0 { return "0s" }
        if nanoseconds < 1000 { return "\(nanoseconds)ns" }
        if nanoseconds < 1_000_000 { return fraction(nanoseconds, 1000) + "µs" }
        if nanoseconds < 1_000_000_000 { return fraction(nanoseconds, 1_000_000) + "ms" }
        let hours = nanoseconds / 3_600_000_000_000
        let minutes = nanoseconds / 60_000_000_000 % 60
        let seconds = fraction(nanoseconds % 60_000_000_000, 1_000_000_000) + "s"
        if hours > 0 { return "\(hours)h\(minutes)m\(seconds)" }
        return minutes > 0 ? "\(minutes)m\(seconds)" : seconds
    }

    private static func fraction(_ value: Int64, _ unit: Int64) -> String {
        var digits = String(value % unit)
        digits = String(repeating: "0", count: String(unit).count - 1 - digits.count) + digits
        while digits.last == "0" { digits.removeLast() }
        return digits.isEmpty ? "\(value / unit)" : "\(value / unit).\(digits)"
    }
}

/// An unsigned decimal number such as `1.25`, kept exact.
struct Decimal: Hashable {
    /// All digits, without the point.
    private var digits: [UInt8]
    /// How many of the digits stand after the point.
    private var places: Int

    /// `nil` unless it is digits with at most one point among them.
    init?(_ text: some StringProtocol) {
        digits = []
        places = 0
        var afterPoint = false
        for byte in text.utf8 {
            if byte == UInt8(ascii: "."), !afterPoint {
                afterPoint = true
            } else if byte >= 48, byte <= 57 {
                digits.append(byte - 48)
                if afterPoint { places += 1 }
            } else {
                return nil
            }
        }
        guard !digits.isEmpty else { return nil }
        while places > 0, digits.last == 0 {
            digits.removeLast()
            places -= 1
        }
    }

    /// The product, cut to a whole number; `nil` when it does not fit 64 bits.
    func scaled(by unit: Int64) -> Int64? {
        var whole: Int64 = 0
        for digit in digits.dropLast(places) {
            let (product, overflow) = whole.multipliedReportingOverflow(by: 10)
            let (sum, sumOverflow) = product.addingReportingOverflow(Int64(digit))
            guard !overflow, !sumOverflow else { return nil }
            whole = sum
        }
        let (product, overflow) = whole.multipliedReportingOverflow(by: unit)
        guard !overflow else { return nil }
        var part: Int64 = 0
        var weight = unit
        var lost: Int64 = 0
        // Each place is worth a tenth of the one before; what a division drops is carried in tenths.
        for digit in digits.suffix(places) {
            let tenths = weight % 10
            weight /= 10
            part += weight * Int64(digit)
            lost += tenths * Int64(digit)
            if weight == 0 { break }
        }
        let (sum, sumOverflow) = product.addingReportingOverflow(part + lost / 10)
        return sumOverflow ? nil : sum
    }

    /// Whether there are more digits after the point than that.
    func hasMorePlaces(than limit: Int) -> Bool { places > limit }
}
