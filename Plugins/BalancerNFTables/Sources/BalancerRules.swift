import PluginAPI
import PortProxy

/// The table `inet apus-balancer`, in the language of nft(8).
///
/// A connection to one of the node's own addresses is looked up by address, protocol and port, in a fixed number of steps, and goes to the chain
/// of its port, which gives it to the next backend in turn. Connection tracking keeps it there, whatever becomes of the chain.
///
/// A packet follows the rules that were in force when it came to a chain, but what it looks up in their maps is as the ruleset is at that moment: one
/// that a change overtakes in between finds nothing in the old rule's map. Hence everything that translates is there twice, in two base chains: to the
/// second one comes only what the first has left alone, and there it meets the new rules.
enum BalancerRules {
    static let table = "apus-balancer"

    /// One transaction that puts the plan in the place of whatever is there.
    static func replaceAll(by plan: BalancerPlan, turn: Int) -> String {
        frame + masquerading(plan.subnets) + changes(plan.ports.keys.sorted { $0.chain < $1.chain }, from: BalancerPlan(), to: plan, turn: turn)
    }

    /// One transaction with what differs; empty when nothing does.
    static func update(from old: BalancerPlan, to new: BalancerPlan, turn: Int) -> String {
        (old.subnets == new.subnets ? "" : masquerading(new.subnets))
            + changes(BalancerPlan.changes(from: old, to: new), from: old, to: new, turn: turn)
    }

    /// Removes the table, also when it is not there.
    static let removeAll = "add table inet \(table)\ndelete table inet \(table)\n"

    /// A transaction that uses everything the balancer needs, and leaves nothing.
    static var probe: String {
        var plan = BalancerPlan()
        let backends = [1, 2].map { Backend(address: IPAddress(v4: 192, 0, 2, $0), port: 80) }
        plan.ports[PortKey(transport: .tcp, port: 1, address: nil)] = backends
        plan.subnets = IPPrefix("192.0.2.0/24").map { [$0] } ?? []
        let text = replaceAll(by: plan, turn: 0) + "delete table inet \(table)\n"
        let lines = text.split(separator: "\n").map { line in
            line.split(separator: " ").map { $0 == table ? "apus-probe" : $0 }.joined(separator: " ")
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private static let frame = """
        add table inet apus-balancer
        delete table inet apus-balancer
        add table inet apus-balancer
        add map inet apus-balancer published { type inet_proto . inet_service : verdict; }
        add map inet apus-balancer bound { type ipv4_addr . inet_proto . inet_service : verdict; }
        add map inet apus-balancer bound6 { type ipv6_addr . inet_proto . inet_service : verdict; }
        add set inet apus-balancer refused { type inet_proto . inet_service; }
        add set inet apus-balancer refused-bound { type ipv4_addr . inet_proto . inet_service; }
        add set inet apus-balancer refused-bound6 { type ipv6_addr . inet_proto . inet_service; }
        add chain inet apus-balancer services
        add rule inet apus-balancer services ip daddr . meta l4proto . th dport vmap @bound
        add rule inet apus-balancer services ip6 daddr . meta l4proto . th dport vmap @bound6
        add rule inet apus-balancer services meta l4proto . th dport vmap @published
        add chain inet apus-balancer refuse
        add rule inet apus-balancer refuse meta l4proto 6 reject with tcp reset
        add rule inet apus-balancer refuse reject with icmpx type port-unreachable
        add chain inet apus-balancer guard { type filter hook prerouting priority -300; policy accept; }
        add rule inet apus-balancer guard iifname != "lo" ip daddr 127.0.0.0/8 drop
        add rule inet apus-balancer guard iifname != "lo" ip saddr 127.0.0.0/8 drop
        add chain inet apus-balancer prerouting { type nat hook prerouting priority -100; policy accept; }
        add rule inet apus-balancer prerouting fib daddr type local jump services
        add chain inet apus-balancer prerouting-again { type nat hook prerouting priority -99; policy accept; }
        add rule inet apus-balancer prerouting-again fib daddr type local jump services
        add chain inet apus-balancer output { type nat hook output priority -100; policy accept; }
        add rule inet apus-balancer output ip6 daddr ::1 return
        add rule inet apus-balancer output fib daddr type local jump services
        add chain inet apus-balancer output-again { type nat hook output priority -99; policy accept; }
        add rule inet apus-balancer output-again ip6 daddr ::1 return
        add rule inet apus-balancer output-again fib daddr type local jump services
        add chain inet apus-balancer input { type filter hook input priority 0; policy accept; }
        add rule inet apus-balancer input ip daddr . meta l4proto . th dport @refused-bound goto refuse
        add rule inet apus-balancer input ip6 daddr . meta l4proto . th dport @refused-bound6 goto refuse
        add rule inet apus-balancer input meta l4proto . th dport @refused goto refuse
        add chain inet apus-balancer postrouting { type nat hook postrouting priority 100; policy accept; }

        """

    /// A client on the node's loopback has an address that no answer finds. A client that shares a network with the backend would be answered
    /// directly, from an address that it never asked.
    private static func masquerading(_ subnets: [IPPrefix]) -> String {
        var text = "flush chain inet \(table) postrouting\n"
        text += "add rule inet \(table) postrouting ip saddr 127.0.0.0/8 oifname != \"lo\" ct status dnat masquerade\n"
        for subnet in subnets {
            text += "add rule inet \(table) postrouting ct status dnat \(subnet.address.isIPv4 ? "ip" : "ip6") saddr \(subnet) masquerade\n"
        }
        return text
    }

    private static func changes(_ keys: [PortKey], from old: BalancerPlan, to new: BalancerPlan, turn: Int) -> String {
        var text = ""
        for key in keys {
            let before = old.ports[key]
            let after = new.ports[key]
            let wasBalanced = before.map { !$0.isEmpty } ?? false
            let isBalanced = after.map { !$0.isEmpty } ?? false
            let map = key.address.map { $0.isIPv4 ? "bound" : "bound6" } ?? "published"
            if isBalanced, let after {
                if !wasBalanced { text += "add chain inet \(table) \(key.chain)\n" }
                if wasBalanced { text += "flush chain inet \(table) \(key.chain)\n" }
                text += rules(key, after, turn: turn)
                if !wasBalanced { text += "add element inet \(table) \(map) { \(element(key)) : goto \(key.chain) }\n" }
            } else if wasBalanced {
                text += "delete element inet \(table) \(map) { \(element(key)) }\n"
                text += "flush chain inet \(table) \(key.chain)\ndelete chain inet \(table) \(key.chain)\n"
            }
            let wasRefused = isRefused(key, before)
            let isRefused = isRefused(key, after)
            let set = key.address.map { $0.isIPv4 ? "refused-bound" : "refused-bound6" } ?? "refused"
            if wasRefused != isRefused {
                text += "\(isRefused ? "add" : "delete") element inet \(table) \(set) { \(element(key)) }\n"
            }
        }
        return text
    }

    /// What reaches the socket that holds the port was not balanced. Over TCP the proxy takes it, so it is refused only when nobody could
    /// answer; nothing else can be passed on.
    private static func isRefused(_ key: PortKey, _ backends: [Backend]?) -> Bool {
        guard let backends else { return false }
        return key.transport != .tcp || backends.isEmpty
    }

    private static func element(_ key: PortKey) -> String {
        (key.address.map { "\($0) . " } ?? "") + "\(number(key.transport) ?? 0) . \(key.port)"
    }

    /// One rule for the backends of each family. `turn` is where the round starts, so that frequent changes do not favour the first backend.
    private static func rules(_ key: PortKey, _ backends: [Backend], turn: Int) -> String {
        var text = ""
        var known: Set<Backend> = []
        let backends = backends.filter { known.insert($0).inserted }
        for family in ["ip", "ip6"] {
            let members = backends.filter { $0.address.isIPv4 == (family == "ip") }
            guard let first = members.first else { continue }
            text += "add rule inet \(table) \(key.chain) meta l4proto \(number(key.transport) ?? 0) dnat \(family) to "
            if members.count == 1 {
                text += (first.address.isIPv4 ? "\(first.address)" : "[\(first.address)]") + ":\(first.port)\n"
            } else {
                let elements = members.indices.map { index in
                    let backend = members[(index + turn) % members.count]
                    return "\(index) : \(backend.address) . \(backend.port)"
                }
                text += "numgen inc mod \(members.count) map { \(elements.joined(separator: ", ")) }\n"
            }
        }
        return text
    }

    /// Of the IP header. Numbers, because names would be looked up in /etc/protocols.
    /// `nil` for what a later version of the API may add.
    static func number(_ transport: TransportProtocol) -> UInt8? {
        switch transport {
        case .tcp: 6
        case .udp: 17
        case .sctp: 132
        @unknown default: nil
        }
    }
}
