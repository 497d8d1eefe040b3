import PluginAPI

/// The texts of a container's `/etc/hosts` and `/etc/resolv.conf`.
enum ContainerFiles {
    /// Its own address carries its name; a container without a network has loopback alone.
    static func hosts(
        addresses: [IPAddress], hostname: String, domainname: String, id: ID, aliases: [String], extraHosts: [String], gateway: IPAddress?
    ) throws(ApusError) -> String {
        var lines = [
            "127.0.0.1\tlocalhost",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet",
            "ff00::0\tip6-mcastprefix",
            "ff02::1\tip6-allnodes",
            "ff02::2\tip6-allrouters",
        ]
        for line in extraHosts { lines.append(try extraHost(line, gateway: gateway)) }
        var names: [String] = []
        if !hostname.isEmpty {
            if !domainname.isEmpty { names.append("\(hostname).\(domainname)") }
            names.append(hostname)
        }
        for name in [id.short] + aliases where !names.contains(name) { names.append(name) }
        for address in addresses { lines.append("\(address)\t\(names.joined(separator: " "))") }
        return lines.joined(separator: "\n") + "\n"
    }

    /// `address name…`, or `name:address` as `--add-host` has it.
    static func extraHost(_ text: String, gateway: IPAddress?) throws(ApusError) -> String {
        let words = text.split { $0 == " " || $0 == "\t" }.map(String.init)
        if words.count >= 2 {
            guard IPAddress(words[0]) != nil else {
                throw ApusError(.invalidArgument, "invalid extra host \"\(text)\": \(words[0]) is not an IP address")
            }
            return "\(words[0])\t\(words.dropFirst().joined(separator: " "))"
        }
        guard let colon = text.firstIndex(where: { $0 == ":" || $0 == "=" }), colon != text.startIndex else {
            throw ApusError(.invalidArgument, "bad format for add-host: \"\(text)\"; write name:address")
        }
        let name = text[..<colon]
        var value = String(text[text.index(after: colon)...])
        if value.hasPrefix("["), value.hasSuffix("]") { value = String(value.dropFirst().dropLast()) }
        if value == "host-gateway" {
            guard let gateway else { throw ApusError(.invalidArgument, "host-gateway needs a bridge network, and the container has none") }
            return "\(gateway)\t\(name)"
        }
        guard let address = IPAddress(value) else { throw ApusError(.invalidArgument, "invalid IP address in add-host: \"\(value)\"") }
        return "\(address)\t\(name)"
    }

    /// The host's resolvers without those that only the host itself can reach; the container's own settings go before the host's.
    static func resolver(host: String, dns: DNSConfiguration?, keepsLoopback: Bool = false) -> String {
        var servers: [String] = []
        var search: [String] = []
        var options: [String] = []
        for line in host.split(whereSeparator: \.isNewline) {
            let words = line.split { $0 == " " || $0 == "\t" }.map(String.init)
            guard let keyword = words.first, !keyword.hasPrefix("#"), !keyword.hasPrefix(";") else { continue }
            switch keyword {
            case "nameserver" where words.count > 1: servers.append(words[1])
            case "search", "domain": search = Array(words.dropFirst())
            case "options": options += words.dropFirst()
            default: break
            }
        }
        if !keepsLoopback { servers.removeAll(where: isUnreachable) }
        if let dns {
            if !dns.nameservers.isEmpty { servers = dns.nameservers }
            if !dns.search.isEmpty { search = dns.search == ["."] ? [] : dns.search }
            if !dns.options.isEmpty { options = dns.options }
        }
        var text = servers.map { "nameserver \($0)\n" }.joined()
        if !search.isEmpty { text += "search \(search.joined(separator: " "))\n" }
        if !options.isEmpty { text += "options \(options.joined(separator: " "))\n" }
        // An empty text would mean the image's own file.
        return text.isEmpty ? "# The host has no resolver that a container could reach.\n" : text
    }

    /// Loopback, or bound to an interface of the host.
    private static func isUnreachable(_ server: String) -> Bool {
        guard let address = IPAddress(server) else { return true }
        if address.isIPv4 { return address.bytes[0] == 127 }
        return address == IPAddress("::1") || server.contains("%")
    }
}
