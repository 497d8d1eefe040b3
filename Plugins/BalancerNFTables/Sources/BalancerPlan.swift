import PluginAPI
import PortProxy

/// A `BalancerState` in the form in which two of them are compared.
struct BalancerPlan: Sendable, Hashable {
    /// The backends may have one twice.
    var ports: [PortKey: [Backend]] = [:]
    /// In order, without duplicates.
    var subnets: [IPPrefix] = []

    init() {}

    /// - Throws: `invalidArgument` for a port of 0.
    init(_ state: BalancerState) throws(ApusError) {
        for port in state.ports {
            let key = PortKey(transport: port.transport, port: port.port, address: port.hostAddress)
            guard key.port > 0, port.backends.allSatisfy({ $0.port > 0 }) else {
                throw ApusError(.invalidArgument, "the published port \(key) or one of its backends has port 0")
            }
            guard BalancerRules.number(key.transport) != nil else {
                throw ApusError(.unimplemented, "the published port \(key): this balancer knows tcp, udp and sctp")
            }
            // The caller's array is kept as it is where it can be: an unchanged one is then equal to the last at a glance.
            ports[key] = if let earlier = ports[key] { earlier + port.backends } else { port.backends }
        }
        var known: Set<IPPrefix> = []
        for subnet in state.subnets.map(\.network) where known.insert(subnet).inserted { subnets.append(subnet) }
    }

    /// The keys whose backends differ, in order.
    static func changes(from old: BalancerPlan, to new: BalancerPlan) -> [PortKey] {
        var keys = new.ports.filter { old.ports[$0.key] != $0.value }.map(\.key)
        keys += old.ports.keys.filter { new.ports[$0] == nil }
        return keys.sorted { $0.chain < $1.chain }
    }
}
