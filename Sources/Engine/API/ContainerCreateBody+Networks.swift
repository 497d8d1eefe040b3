import Agent
import Coding
import PluginAPI

extension ContainerCreateBody {
    /// `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`.
    static func ports(_ json: JSONValue?) throws(ApusError) -> [ContainerPort] {
        guard let json else { return [] }
        guard let object = json.object else { throw ApusError(.invalidArgument, "HostConfig.PortBindings is \(json.kind), not an object") }
        var ports: [ContainerPort] = []
        for (key, value) in object {
            let path = "HostConfig.PortBindings.\(key)"
            let halves = key.split(separator: "/", omittingEmptySubsequences: false)
            guard let first = halves.first, let number = self.number(first), number > 0, halves.count <= 2,
                let transport = TransportProtocol(rawValue: halves.count == 2 ? String(halves[1]) : "tcp")
            else { throw ApusError(.invalidArgument, "HostConfig.PortBindings: \"\(key)\" is not a port such as 80/tcp") }
            guard value.isNull || value.array != nil else { throw ApusError(.invalidArgument, "\(path) is \(value.kind), not an array") }
            let bindings = value.array ?? []
            for binding in bindings.isEmpty ? [.object(JSONObject())] : bindings {
                var reader = try JSONReader(binding, path: path)
                var port = ContainerPort()
                port.transport = transport
                port.containerPort = UInt64(number)
                port.hostAddress = try reader.string("HostIp")
                port.hostPort = UInt64(try hostPort(reader.string("HostPort"), path))
                guard port.hostAddress.isEmpty || IPAddress(port.hostAddress) != nil else {
                    throw ApusError(.invalidArgument, "\(path): invalid address \"\(port.hostAddress)\"")
                }
                try reader.finish()
                ports.append(port)
            }
        }
        return ports
    }

    /// Digits alone: Swift reads a sign too.
    private static func number(_ text: Substring) -> UInt16? { text.utf8.allSatisfy { (48...57).contains($0) } ? UInt16(text) : nil }

    /// 0: one that is free.
    private static func hostPort(_ text: String, _ path: String) throws(ApusError) -> UInt16 {
        if text.isEmpty { return 0 }
        if let port = number(text[...]) { return port }
        let ends = text.split(separator: "-", omittingEmptySubsequences: false)
        if ends.count == 2, ends.allSatisfy({ number($0) != nil }) {
            throw ApusError(.unimplemented, "\(path): choosing a host port of a range (\(text)) is not in this version of Apus; name one port, or none")
        }
        throw ApusError(.invalidArgument, "\(path): invalid port \"\(text)\"")
    }

    static func readNetworks(_ json: JSONValue?, into request: inout ContainerRequest) throws(ApusError) {
        guard let json else { return }
        var reader = try JSONReader(json, path: "NetworkingConfig")
        let endpoints = try JSONReader(reader.value("EndpointsConfig"), path: "NetworkingConfig.EndpointsConfig").object
        try reader.finish()
        for (name, endpoint) in endpoints {
            let network = try network(name, endpoint)
            if let index = request.networks.firstIndex(where: { $0.target == name }) {
                request.networks[index] = network
            } else {
                request.networks.append(network)
            }
        }
    }

    private static func network(_ name: String, _ json: JSONValue) throws(ApusError) -> ContainerNetwork {
        let path = "NetworkingConfig.EndpointsConfig.\(name)"
        var settings = try JSONReader(json, path: path)
        var network = ContainerNetwork(target: name, aliases: try settings.strings("Aliases"))
        var addresses = try JSONReader(settings.value("IPAMConfig"), path: "\(path).IPAMConfig")
        network.address = try addresses.string("IPv4Address")
        try addresses.unsupported("IPv6Address")
        try addresses.unsupported("LinkLocalIPs")
        try addresses.finish()
        for key in ["Links", "MacAddress", "DriverOpts", "GwPriority"] { try settings.unsupported(key) }
        // What the engine itself answers, and clients hand back.
        for key in [
            "NetworkID", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "DNSNames",
        ] { settings.ignored(key) }
        try settings.finish()
        return network
    }
}
