public import PluginAPI

/// An address and a port.
public struct NodeAddress: Sendable, Hashable, CustomStringConvertible {
    public static let defaultPort = 2377

    public var host: String
    public var port: Int

    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// Reads `host`, `host:port`, `[address]:port` or an IPv6 address.
    /// - Throws: `invalidArgument`.
    public init(_ text: String, defaultPort: Int = NodeAddress.defaultPort) throws(ApusError) {
        func wrong() -> ApusError { ApusError(.invalidArgument, "\"\(text)\" is not an address such as 192.168.1.10:2377") }
        var host = Substring(text)
        var port = defaultPort
        if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
            host = text[text.index(after: text.startIndex)..<end]
            let rest = text[text.index(after: end)...]
            if !rest.isEmpty {
                guard rest.hasPrefix(":"), let number = UInt16(rest.dropFirst()), number > 0 else { throw wrong() }
                port = Int(number)
            }
        } else if text.filter({ $0 == ":" }).count == 1, let colon = text.firstIndex(of: ":") {
            host = text[..<colon]
            guard let number = UInt16(text[text.index(after: colon)...]), number > 0 else { throw wrong() }
            port = Int(number)
        }
        guard !host.isEmpty, host.utf8.count <= 253, host.utf8.allSatisfy({ $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "/") }) else { throw wrong() }
        self.init(host: String(host), port: port)
    }

    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
