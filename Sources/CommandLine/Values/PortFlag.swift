import PluginAPI

/// The value of `--publish`.
enum PortFlag {
    /// Of a service: `8080:80/tcp`, `80`, `8080-8085:80-85/udp`, or `published=8080,target=80,protocol=tcp,mode=host`.
    static func parseService(_ text: String) throws(ApusError) -> [PortConfig] {
        if text.contains("=") { return [try parseLong(text)] }
        let short = try ShortPort(text)
        guard short.address == nil else {
            throw ApusError(
                .invalidArgument, "\"\(text)\" names a host address; a service publishes its ports on all addresses of its nodes, so leave it out")
        }
        return short.pairs.map { pair in
            var port = PortConfig()
            port.transport = short.transport
            port.targetPort = UInt64(pair.target)
            port.publishedPort = UInt64(pair.published ?? 0)
            return port
        }
    }

    /// What `--publish-rm` takes: a target port with or without its protocol, `80` or `80/udp`.
    static func parseTarget(_ text: String) throws(ApusError) -> (port: UInt64, transport: TransportProtocol?) {
        let (number, transport) = text.cut(at: "/")
        return (UInt64(try portNumber(number, in: text)), try transport.map { word throws(ApusError) in try transportProtocol(word) })
    }

    private static func parseLong(_ text: String) throws(ApusError) -> PortConfig {
        var port = PortConfig()
        for (key, value) in try CommaFields.pairs(text) {
            guard let value, !value.isEmpty else { throw ApusError(.invalidArgument, "\(key) has no value; write \(key)=VALUE") }
            switch key {
            case "target": port.targetPort = UInt64(try portNumber(value, in: text))
            case "published": port.publishedPort = value == "0" ? 0 : UInt64(try portNumber(value, in: text))
            case "protocol": port.transport = try transportProtocol(value)
            case "mode":
                guard let mode = PublishMode(rawValue: value) else {
                    throw ApusError(.invalidArgument, "mode=\(value): the modes are ingress (every node answers) and host (the task's own node)")
                }
                port.publishMode = mode
            default: throw ApusError(.invalidArgument, "\(key) is not known here; the keys are target, published, protocol and mode")
            }
        }
        guard port.targetPort != 0 else { throw ApusError(.invalidArgument, "\"\(text)\" has no target, the container's port") }
        return port
    }

    fileprivate static func portNumber(_ text: some StringProtocol, in whole: String) throws(ApusError) -> UInt16 {
        guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }), let number = UInt16(text), number > 0 else {
            throw ApusError(.invalidArgument, "\"\(whole)\": \"\(text)\" is not a port from 1 to 65535")
        }
        return number
    }

    fileprivate static func transportProtocol(_ text: some StringProtocol) throws(ApusError) -> TransportProtocol {
        guard let transport = TransportProtocol(rawValue: text.lowercased()) else {
            throw ApusError(.invalidArgument, "\"\(text)\" is not a protocol with ports; they are tcp, udp and sctp")
        }
        return transport
    }
}

/// The short form `[[address:]published:]target[/protocol]`, with ranges.
struct ShortPort {
    /// The host's address, without brackets.
    var address: String?
    var transport = TransportProtocol.tcp
    /// One pair for each port of a range; without a published port one is chosen.
    var pairs: [(published: UInt16?, target: UInt16)] = []

    init(_ text: String) throws(ApusError) {
        let (ports, word) = text.cut(at: "/")
        if let word { transport = try PortFlag.transportProtocol(word) }
        var rest = ports[...]
        if rest.first == "[" {
            guard let end = rest.firstIndex(of: "]"), rest[rest.index(after: end)...].first == ":" else {
                throw ApusError(.invalidArgument, "\"\(text)\" begins with an IPv6 address that does not end with \"]:\"")
            }
            address = String(rest[rest.index(after: rest.startIndex)..<end])
            rest = rest[rest.index(end, offsetBy: 2)...]
        }
        var parts = rest.split(separator: ":", omittingEmptySubsequences: false)
        if parts.count == 3, address == nil { address = String(parts.removeFirst()) }
        guard parts.count == 1 || parts.count == 2 else {
            throw ApusError(.invalidArgument, "\"\(text)\" is not a port to publish; write it like 8080:80 or 8080:80/udp")
        }
        if let address, IPAddress(address) == nil { throw ApusError(.invalidArgument, "\"\(text)\": \"\(address)\" is not an address") }
        let targets = try Self.range(parts[parts.count - 1], in: text)
        guard parts.count == 2, !(parts[0].isEmpty && address != nil) else {
            pairs = targets.map { (nil, $0) }
            return
        }
        let published = try Self.range(parts[0], in: text)
        guard published.count == targets.count else {
            throw ApusError(.invalidArgument, "\"\(text)\": the two ranges have \(published.count) and \(targets.count) ports; they must be as many")
        }
        pairs = Array(zip(published.map { $0 }, targets))
    }

    private static func range(_ text: Substring, in whole: String) throws(ApusError) -> ClosedRange<UInt16> {
        let (first, last) = text.cut(at: "-")
        let low = try PortFlag.portNumber(first, in: whole)
        let high = try last.map { text throws(ApusError) in try PortFlag.portNumber(text, in: whole) } ?? low
        guard low <= high else { throw ApusError(.invalidArgument, "\"\(whole)\": the range \(text) runs backwards") }
        return low...high
    }
}
