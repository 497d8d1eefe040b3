public import PluginAPI

/// The published ports of services: who has which, and which are free.
///
/// A plain value made from the services of the moment, so that nothing drifts.
public struct PortAllocator: Sendable {
    /// Ports that are chosen when a service asks for none in particular.
    public static var automaticPorts: ClosedRange<UInt64> { 30000...32767 }

    struct Key: Hashable, Sendable {
        var port: UInt64
        var transport: TransportProtocol
    }

    private var ingress: [Key: ID] = [:]
    private var hostPorts: [Key: ID] = [:]
    private var names: [ID: String] = [:]

    public init(_ services: some Sequence<Service>) {
        for service in services { add(service) }
    }

    /// Counts what a service has been given, and what its spec names.
    public mutating func add(_ service: Service) {
        names[service.id] = service.spec.name
        for port in service.endpoint.ports { add(port, service.id) }
    }

    private mutating func add(_ port: PortConfig, _ service: ID) {
        guard port.publishedPort != 0 else { return }
        let key = Key(port: port.publishedPort, transport: port.transport)
        if port.publishMode == .host {
            if hostPorts[key] == nil { hostPorts[key] = service }
        } else if ingress[key] == nil {
            ingress[key] = service
        }
    }

    /// Throws `conflict` when a port of the spec belongs to another service.
    public func check(_ ports: [PortConfig], for service: ID) throws(ApusError) {
        for port in ports where port.publishedPort != 0 {
            let key = Key(port: port.publishedPort, transport: port.transport)
            let text = "port \(port.publishedPort)/\(port.transport.rawValue)"
            if let owner = ingress[key], owner != service {
                throw ApusError(.conflict, "\(text) is already in use by service \"\(names[owner] ?? "")\" (\(owner)) as an ingress port")
            }
            if port.publishMode == .ingress, let owner = hostPorts[key], owner != service {
                throw ApusError(.conflict, "\(text) is already in use by service \"\(names[owner] ?? "")\" (\(owner)) as a host-published port")
            }
        }
    }

    /// The ports of a service with all numbers filled in: what was chosen before is kept, the rest is chosen now and counted.
    ///
    /// Host-mode ports without a number stay so: the node chooses. Throws `conflict` as `check` does, and `unavailable` when no port is left.
    public mutating func allocate(_ service: Service) throws(ApusError) -> [PortConfig] {
        let wanted = service.spec.endpoint?.ports ?? []
        try check(wanted, for: service.id)
        var previous = service.endpoint.ports
        var ports: [PortConfig] = []
        for port in wanted where port.publishedPort != 0 {
            previous.removeAll { $0.publishedPort == port.publishedPort && $0.transport == port.transport }
        }
        for port in wanted {
            var port = port
            if port.publishedPort == 0, port.publishMode == .ingress {
                if let index = previous.firstIndex(where: {
                    $0.targetPort == port.targetPort && $0.transport == port.transport && $0.publishMode == .ingress && $0.publishedPort != 0
                }) {
                    port.publishedPort = previous.remove(at: index).publishedPort
                } else {
                    port.publishedPort = try free(port.transport, besides: wanted)
                }
            }
            add(port, service.id)
            ports.append(port)
        }
        return ports
    }

    private func free(_ transport: TransportProtocol, besides wanted: [PortConfig]) throws(ApusError) -> UInt64 {
        for port in Self.automaticPorts {
            let key = Key(port: port, transport: transport)
            if ingress[key] == nil, hostPorts[key] == nil, !wanted.contains(where: { $0.publishedPort == port && $0.transport == transport }) {
                return port
            }
        }
        throw ApusError(
            .unavailable, "all ports from \(Self.automaticPorts.lowerBound) to \(Self.automaticPorts.upperBound) are in use; name a published port")
    }
}
