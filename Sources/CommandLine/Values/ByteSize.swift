import PluginAPI

/// Amounts of memory and storage.
enum ByteSize {
    /// Reads `512m`, `1.5GB` or `64MiB`; a unit is a power of 1024 and a number without one is bytes.
    static func parse(_ text: String) throws(ApusError) -> Int64 {
        let problem = ApusError(
            .invalidArgument, "\"\(text)\" is not a size; write it like 512m, 1.5g or 64MiB (units: b, k, m, g, t; a number alone is bytes)")
        let digits = text.prefix { ("0"..."9").contains($0) || $0 == "." }
        guard let number = Decimal(digits) else { throw problem }
        var unit = text.dropFirst(digits.count).lowercased()
        if unit.first == " " { unit.removeFirst() }
        let scale: Int64
        switch unit {
        case "", "b": scale = 1
        case "k", "kb", "kib": scale = 1 << 10
        case "m", "mb", "mib": scale = 1 << 20
        case "g", "gb", "gib": scale = 1 << 30
        case "t", "tb", "tib": scale = 1 << 40
        case "p", "pb", "pib": scale = 1 << 50
        default: throw problem
        }
        guard let bytes = number.scaled(by: scale) else { throw ApusError(.invalidArgument, "\"\(text)\" is more than 8 EiB") }
        return bytes
    }

    /// Reads a number of CPUs such as `0.5` into billionths.
    static func parseCPUs(_ text: String) throws(ApusError) -> Int64 {
        guard let number = Decimal(text), !number.hasMorePlaces(than: 9), let nanoCPUs = number.scaled(by: 1_000_000_000) else {
            throw ApusError(.invalidArgument, "\"\(text)\" is not a number of CPUs; write it like 0.5 or 2, with at most nine digits after the point")
        }
        return nanoCPUs
    }

    /// Billionths of a CPU as a decimal number: `0.5`.
    static func cpuText(_ nanoCPUs: Int64) -> String {
        var text = fixed(nanoCPUs, per: 1_000_000_000, places: 9)
        while text.last == "0" { text.removeLast() }
        if text.last == "." { text.removeLast() }
        return text
    }

    /// Three digits in powers of 1000, for storage: `1.24GB`, `187MB`, `0B`.
    static func decimalText(_ bytes: Int64) -> String { text(bytes, base: 1000, units: ["B", "kB", "MB", "GB", "TB", "PB", "EB"]) }

    /// Three digits in powers of 1024, for memory: `7.61GiB`.
    static func binaryText(_ bytes: Int64) -> String { text(bytes, base: 1024, units: ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]) }

    private static func text(_ bytes: Int64, base: Int64, units: [String]) -> String {
        guard bytes >= 0 else { return bytes == .min ? "-8EiB" : "-" + text(-bytes, base: base, units: units) }
        var scale: Int64 = 1
        var index = 0
        while index < units.count - 1, bytes / scale >= base {
            scale *= base
            index += 1
        }
        if scale == 1 { return "\(bytes)\(units[0])" }
        let whole = bytes / scale
        var number = fixed(bytes, per: scale, places: whole >= 100 ? 0 : whole >= 10 ? 1 : 2)
        if number.contains(".") {
            while number.last == "0" { number.removeLast() }
            if number.last == "." { number.removeLast() }
        }
        // Rounding can reach the next unit: 999.9 MB are 1 GB.
        if base == 1000, number == "1000", index < units.count - 1 { return "1" + units[index + 1] }
        return number + units[index]
    }

    /// `value / unit`, rounded to so many places.
    static func fixed(_ value: Int64, per unit: Int64, places: Int) -> String {
        var power: Int64 = 1
        for _ in 0..<places { power *= 10 }
        var whole = value / unit
        let rest = value % unit
        // The rest times a power of ten can pass 64 bits.
        let product = rest.multipliedFullWidth(by: power)
        var part = unit.dividingFullWidth(product).quotient
        let remainder = unit.dividingFullWidth(product).remainder
        if remainder >= unit - remainder { part += 1 }
        if part >= power {
            whole += 1
            part -= power
        }
        if places == 0 { return "\(whole)" }
        let digits = String(part)
        return "\(whole)." + String(repeating: "0", count: places - digits.count) + digits
    }
}
