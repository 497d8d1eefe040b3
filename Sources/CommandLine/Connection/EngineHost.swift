import PluginAPI

/// Where an engine is.
enum EngineHost: Hashable, Sendable {
    case unix(path: String)
    case tcp(authority: String)

    static let standard = EngineHost.unix(path: "/run/apus.sock")

    /// Reads `unix:///run/apus.sock` or `tcp://host:port`.
    init(_ text: String) throws(ApusError) {
        let help = "write unix:///path/to/socket or tcp://host:port"
        guard let separator = text.firstRange(of: "://") else {
            throw ApusError(.invalidArgument, "the host \"\(text)\" has no scheme; \(help)")
        }
        let rest = String(text[separator.upperBound...])
        switch text[..<separator.lowerBound] {
        case "unix":
            guard rest.hasPrefix("/") else { throw ApusError(.invalidArgument, "the host \"\(text)\" has no absolute path; \(help)") }
            guard rest.utf8.count < 108 else { throw ApusError(.invalidArgument, "the path of the socket in \"\(text)\" is longer than 107 bytes") }
            self = .unix(path: rest)
        case "tcp", "http", "https":
            let authority = rest.hasSuffix("/") ? String(rest.dropLast()) : rest
            guard !authority.isEmpty, !authority.contains("/"), !authority.contains(where: \.isWhitespace) else {
                throw ApusError(.invalidArgument, "the host \"\(text)\" is not an address with a port; \(help)")
            }
            // The colons within the brackets of an IPv6 address are none of a port.
            let hasPort = (authority.lastIndex(of: "]").map { authority[$0...] } ?? authority[...]).contains(":")
            self = .tcp(authority: hasPort ? authority : authority + ":2376")
        case let scheme: throw ApusError(.invalidArgument, "the host \"\(text)\" has the scheme \(scheme), which is not known; \(help)")
        }
    }

    /// As `--host` takes it.
    var text: String {
        switch self {
        case .unix(let path): "unix://\(path)"
        case .tcp(let authority): "tcp://\(authority)"
        }
    }
}
