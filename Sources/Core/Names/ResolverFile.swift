public import PluginAPI

/// What resolv.conf(5) says: whom to ask, and how.
public struct ResolverFile: Sendable, Hashable {
    /// The address at which every sandbox finds its name server.
    public static let sandboxAddress = IPAddress(v4: 127, 0, 0, 11)
    /// More servers than the C library takes from the file are not asked here either.
    public static let serverLimit = 3

    public var servers: [UpstreamServer]
    public var search: [String]
    public var options: [String]

    /// Reads the text of a file. Lines that make no sense are left out, as the C library does. Without a server it is the local one, as resolv.conf(5) has it.
    public init(_ text: String) {
        servers = []
        search = []
        options = []
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split { $0 == " " || $0 == "\t" }.map(String.init)
            guard let keyword = words.first, !keyword.hasPrefix("#"), !keyword.hasPrefix(";") else { continue }
            switch keyword {
            case "nameserver":
                guard words.count > 1, servers.count < Self.serverLimit, let server = UpstreamServer(words[1]) else { continue }
                servers.append(server)
            // The last line of either counts.
            case "search": search = Array(words.dropFirst())
            case "domain": search = Array(words.dropFirst().prefix(1))
            case "options": options += words.dropFirst()
            default: break
            }
        }
        if servers.isEmpty { servers = [UpstreamServer(IPAddress(v4: 127, 0, 0, 1))] }
    }

    /// Whom a sandbox's name server asks: the container's own servers, else the host's.
    /// - Throws: `invalidArgument` for a server of the container's that is no address.
    public static func upstream(host: String, dns: DNSConfiguration?) throws(ApusError) -> [UpstreamServer] {
        guard let dns, !dns.nameservers.isEmpty else { return ResolverFile(host).servers }
        var servers: [UpstreamServer] = []
        for text in dns.nameservers {
            guard let server = UpstreamServer(text) else { throw ApusError(.invalidArgument, "the DNS server \"\(text)\" is not an IP address") }
            servers.append(server)
        }
        return servers
    }

    /// The text of a sandbox's own file: it asks the sandbox's name server alone. The container's search list and options go before the host's.
    ///
    /// Unless they say otherwise, a name without a dot is asked for as it is first, or a search list would hide the names of services.
    public static func sandboxText(host: String, dns: DNSConfiguration?) -> String {
        let file = ResolverFile(host)
        var (search, options) = (file.search, file.options)
        if let dns {
            if !dns.search.isEmpty { search = dns.search == ["."] ? [] : dns.search }
            if !dns.options.isEmpty { options = dns.options }
        }
        if !options.contains(where: { $0.hasPrefix("ndots:") }) { options.append("ndots:0") }
        var text = "nameserver \(sandboxAddress)\n"
        if !search.isEmpty { text += "search \(search.joined(separator: " "))\n" }
        return text + "options \(options.joined(separator: " "))\n"
    }
}
