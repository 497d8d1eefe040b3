import HTTPClient
import PluginAPI

/// One way to speak to a registry.
struct RegistryAddress: Hashable, Sendable {
    /// Without a slash at the end: `https://registry-1.docker.io`.
    var base: String
    var tls = HTTPTLSOptions()

    /// `host:port`.
    var authority: String { String(base.drop { $0 != ":" }.dropFirst(3).prefix { $0 != "/" }) }
    var isPlain: Bool { base.hasPrefix("http:") }

    init(base: String, tls: HTTPTLSOptions = HTTPTLSOptions()) {
        self.base = base
        self.tls = tls
    }

    /// `nil` when it is no http or https URL of a host, with a port and a path if there are any, but no user, query or fragment.
    init?(url: String) {
        guard url.utf8.allSatisfy({ (33...126).contains($0) }), url.hasPrefix("http://") || url.hasPrefix("https://") else { return nil }
        var base = url
        while base.hasSuffix("/") { base.removeLast() }
        self.init(base: base)
        guard Self.isAuthority(authority), !base.contains("?"), !base.contains("#") else { return nil }
    }

    /// More than a reference's host may be: names of containers on a network, which have `_`.
    private static func isAuthority(_ text: String) -> Bool {
        var host = Substring(text)
        if let colon = host.lastIndex(of: ":"), !host[colon...].contains("]") {
            guard ImageReference.isPort(host[host.index(after: colon)...]) else { return false }
            host = host[..<colon]
        }
        if host.hasPrefix("["), host.hasSuffix("]") { return IPAddress(String(host.dropFirst().dropLast()))?.isIPv4 == false }
        return !host.isEmpty && host.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-._".contains($0)) }
    }
}

/// A registry that may have an image, with the ways to speak to it, the first one first.
struct RegistryTarget: Sendable {
    var addresses: [RegistryAddress]
    /// `library/nginx`; empty when no repository is meant.
    var repository: String
    var isMirror = false

    var name: String { addresses.first.map { isMirror ? $0.base : $0.authority } ?? "" }
}

extension ImageStoreConfiguration {
    /// Where to look for an image, in this order.
    func targets(for reference: ImageReference) -> [RegistryTarget] {
        guard reference.isOnHub else { return [RegistryTarget(addresses: addresses(of: reference.domain), repository: reference.path)] }
        var targets: [RegistryTarget] = []
        for mirror in mirrors {
            guard var address = RegistryAddress(url: mirror) else { continue }
            address.tls = tlsOptions(of: address.authority)
            targets.append(RegistryTarget(addresses: [address], repository: reference.path, isMirror: true))
        }
        var address = RegistryAddress(base: hub)
        address.tls = tlsOptions(of: address.authority)
        targets.append(RegistryTarget(addresses: [address], repository: reference.path))
        return targets
    }

    /// A registry as users name it: a host with or without port, scheme and path; empty for Docker Hub. Mirrors have no part in it.
    /// - Throws: `invalidArgument` for what is no host.
    func registry(_ server: String) throws(ApusError) -> RegistryTarget {
        var name = server[...]
        for scheme in ["https://", "http://"] where name.hasPrefix(scheme) { name = name.dropFirst(scheme.count) }
        let domain = String(name.prefix { $0 != "/" })
        if server.isEmpty || ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(domain) {
            var address = RegistryAddress(base: hub)
            address.tls = tlsOptions(of: address.authority)
            return RegistryTarget(addresses: [address], repository: "")
        }
        guard domain.utf8.count <= 255, ImageReference.isDomain(domain) else {
            throw ApusError(
                .invalidArgument, "\"\(ImageReference.printable(server))\" is no registry: a host with or without a port is expected, such as localhost:5000")
        }
        return RegistryTarget(addresses: addresses(of: domain), repository: "")
    }

    private func addresses(of domain: String) -> [RegistryAddress] {
        let tls = tlsOptions(of: domain)
        let secure = RegistryAddress(base: "https://" + domain, tls: tls)
        // Someone who gave a certificate authority wants it used.
        guard tls.skipsVerification else { return [secure] }
        let plain = RegistryAddress(base: "http://" + domain)
        return Self.isLoopback(domain) ? [plain, secure] : [secure, plain]
    }

    private func tlsOptions(of domain: String) -> HTTPTLSOptions {
        var tls = HTTPTLSOptions()
        let folder = "\(certificateDirectory)/\(domain)"
        func file(_ name: String) -> String? {
            let path = "\(folder)/\(name)"
            return FilePresence.isReadable(path) ? path : nil
        }
        tls.authorityFile = file("ca.crt")
        tls.certificateFile = file("client.cert")
        tls.keyFile = file("client.key")
        tls.skipsVerification = tls.authorityFile == nil && isInsecure(domain)
        return tls
    }

    private func isInsecure(_ domain: String) -> Bool {
        if Self.isLoopback(domain) { return true }
        let host = Self.host(domain)
        return insecureRegistries.contains { entry in
            if entry == domain || entry == host { return true }
            guard let slash = entry.firstIndex(of: "/"), let length = Int(entry[entry.index(after: slash)...]), (0...32).contains(length),
                let network = Self.number(entry[..<slash]), let address = Self.number(Substring(host))
            else { return false }
            return length == 0 || (network ^ address) >> UInt32(32 - length) == 0
        }
    }

    static func isLoopback(_ domain: String) -> Bool {
        let host = host(domain)
        return host == "localhost" || host == "::1" || host.hasPrefix("127.") && number(Substring(host)) != nil
    }

    private static func host(_ domain: String) -> String {
        if domain.hasPrefix("[") { return String(domain.dropFirst().prefix { $0 != "]" }) }
        return String(domain.prefix { $0 != ":" })
    }

    /// An IPv4 address as a number.
    private static func number(_ text: Substring) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            guard let part else { return nil }
            value = value << 8 | UInt32(part)
        }
        return value
    }
}
