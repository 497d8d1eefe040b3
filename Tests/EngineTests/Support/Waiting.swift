import PluginAPI

/// Waits until a condition holds; what is thrown in it is thrown at once.
func eventually(
    _ what: String, within limit: Duration = .seconds(180), _ explanation: () async -> String = { "" }, _ condition: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + limit
    while true {
        if try await condition() { return }
        guard ContinuousClock.now < end else { throw EngineFailure("after \(limit) still not: \(what) \(await explanation())") }
        try await ConcurrentTask.sleep(for: .milliseconds(25))
    }
}

extension String {
    var trimmed: String {
        var text = self[...]
        while let last = text.last, last.isWhitespace { text = text.dropLast() }
        return String(text.drop { $0.isWhitespace })
    }

    var lines: [String] { split(whereSeparator: \.isNewline).map(String.init) }
}

/// A value of a URL's query.
func percentEncoded(_ text: String) -> String {
    var result = ""
    for byte in text.utf8 {
        let scalar = Unicode.Scalar(byte)
        if byte < 0x80, Character(scalar).isLetter || Character(scalar).isNumber {
            result.unicodeScalars.append(scalar)
        } else {
            let digits = String(byte, radix: 16, uppercase: true)
            result += "%" + (digits.count == 1 ? "0" : "") + digits
        }
    }
    return result
}
