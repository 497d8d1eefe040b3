import IPVS
import PluginAPI
import PortProxy

/// What a `BalancerState` wants of the host's namespace, in the form in which two of them are compared.
struct HostPlan: Sendable, Hashable {
    /// The backends may have one twice.
    var ports: [PortKey: [Backend]] = [:]
    /// In order, without duplicates.
    var subnets: [IPPrefix] = []
    var mesh: MeshState?

    init() {}

    /// - Throws: `invalidArgument` for a port of 0, `unimplemented` for a transport that IPVS does not know.
    init(_ state: BalancerState) throws(ApusError) {
        for port in state.ports {
            let key = PortKey(transport: port.transport, port: port.port, address: port.hostAddress)
            guard key.port > 0, port.backends.allSatisfy({ $0.port > 0 }) else {
                throw ApusError(.invalidArgument, "the published port \(key) or one of its backends has port 0")
            }
            guard key.protocolNumber != nil else {
                throw ApusError(.unimplemented, "the published port \(key): this balancer knows tcp, udp and sctp")
            }
            ports[key, default: []] += port.backends
        }
        var known: Set<IPPrefix> = []
        for subnet in state.subnets.map(\.network) where known.insert(subnet).inserted { subnets.append(subnet) }
        mesh = state.mesh
    }

    /// The ports with backends, for each family of those.
    var subjects: Set<FirewallMark.Subject> {
        var subjects: Set<FirewallMark.Subject> = []
        for (key, backends) in ports {
            for isIPv4 in [true, false] where backends.contains(where: { $0.address.isIPv4 == isIPv4 }) {
                // A client of the other family comes to the socket that holds the port, and from there to the proxy.
                if let address = key.address, address.isIPv4 != isIPv4 { continue }
                subjects.insert(.port(key, isIPv4: isIPv4))
            }
        }
        return subjects
    }

    /// What IPVS is to have under these marks.
    func servers(_ marks: [FirewallMark.Subject: FirewallMark]) -> [VirtualServer: Set<RealServer>] {
        var servers: [VirtualServer: Set<RealServer>] = [:]
        for (subject, mark) in marks {
            guard case .port(let key, let isIPv4) = subject else { continue }
            let members = (ports[key] ?? []).filter { $0.address.isIPv4 == isIPv4 }
            servers[VirtualServer(mark: mark.value, isIPv4: isIPv4)] = Set(members.map { RealServer(address: $0.address, port: $0.port) })
        }
        return servers
    }
}

/// What a `SandboxState` wants of its namespace.
struct SandboxPlan: Sendable, Hashable {
    /// Of two with the same address the later counts.
    var services: [IPAddress: Set<IPAddress>] = [:]

    init() {}

    init(_ state: SandboxState) {
        for service in state.services { services[service.address] = Set(service.backends.filter { $0.isIPv4 == service.address.isIPv4 }) }
    }

    var subjects: Set<FirewallMark.Subject> { Set(services.keys.flatMap { [.streams($0), .datagrams($0)] }) }

    /// What IPVS is to have under these marks. A virtual server without destinations refuses at once.
    func servers(_ marks: [FirewallMark.Subject: FirewallMark]) -> [VirtualServer: Set<RealServer>] {
        var servers: [VirtualServer: Set<RealServer>] = [:]
        for (subject, mark) in marks {
            switch subject {
            case .streams(let address), .datagrams(let address):
                let members = (services[address] ?? []).map { RealServer(address: $0, port: 0) }
                servers[VirtualServer(mark: mark.value, isIPv4: address.isIPv4)] = Set(members)
            case .port: continue
            }
        }
        return servers
    }
}
