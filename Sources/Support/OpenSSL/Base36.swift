/// Numbers in base 36, digits `0` to `9` and `a` to `z`, as join tokens and ids have them.
public enum Base36 {
    private static let alphabet = Array("0123456789abcdefghijklmnopqrstuvwxyz".utf8)

    /// A number, most significant byte first, with zeros in front up to `digits`.
    public static func text(_ bytes: [UInt8], digits: Int) -> String {
        var number = bytes
        var text: [UInt8] = []
        while number.contains(where: { $0 != 0 }) {
            var remainder = 0
            for index in number.indices {
                let value = remainder << 8 | Int(number[index])
                number[index] = UInt8(value / 36)
                remainder = value % 36
            }
            text.append(alphabet[remainder])
        }
        while text.count < digits { text.append(alphabet[0]) }
        return String(decoding: text.reversed(), as: UTF8.self)
    }
}
