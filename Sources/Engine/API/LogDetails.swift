import PluginAPI

/// What `docker logs --details` puts before each line: the attributes that the log options `labels` and `env` name.
enum LogDetails {
    /// `env=x,label=y` and a space, sorted and percent-encoded as Docker does; the space alone without attributes.
    ///
    /// - Parameter more: pairs that come from elsewhere, encoded.
    static func prefix(_ configuration: ContainerConfiguration, more: String = "") -> String {
        var attributes: [String: String] = [:]
        for key in names(configuration.log.options["labels"]) { attributes[key] = configuration.labels[key] }
        let wanted = Set(names(configuration.log.options["env"]))
        for variable in configuration.environment {
            guard let equals = variable.firstIndex(of: "="), wanted.contains(String(variable[..<equals])) else { continue }
            attributes[String(variable[..<equals])] = String(variable[variable.index(after: equals)...])
        }
        let pairs = attributes.map { "\(escaped($0.key))=\(escaped($0.value))" } + (more.isEmpty ? [] : more.split(separator: ",").map(String.init))
        return pairs.sorted().joined(separator: ",") + " "
    }

    private static func names(_ list: String?) -> [String] { (list ?? "").split(separator: ",").map(String.init) }

    /// As in the query of a URL.
    private static func escaped(_ text: String) -> String {
        var answer = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
                UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "~"):
                answer.unicodeScalars.append(Unicode.Scalar(byte))
            case UInt8(ascii: " "): answer += "+"
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                answer += "%" + (digits.utf8.count == 1 ? "0" : "") + digits
            }
        }
        return answer
    }
}
