import PluginAPI
import PortProxy

/// The table `inet apus-ipvs` of the host's namespace, in the language of nft(8): marks what IPVS is to balance, in a fixed number of steps.
///
/// IPVS takes packets in after the input chains and on their way out after the output chains. The marks are set just before,
/// when routes are chosen already, so that nobody's routing by marks sees them, and are taken away again on the way out.
enum HostRules {
    static let table = "apus-ipvs"

    /// One transaction that puts the plan in the place of whatever is there.
    static func replaceAll(by plan: HostPlan, marks: [FirewallMark.Subject: FirewallMark]) -> String {
        frame + masquerading(plan.subnets) + elements(plan, marks) + loopback(plan)
    }

    /// Removes the table, also when it is not there.
    static let removeAll = "add table inet \(table)\ndelete table inet \(table)\n"

    /// A transaction that uses everything the balancer needs, and leaves nothing.
    static var probe: String {
        var plan = HostPlan()
        let backends = [1, 2].map { Backend(address: IPAddress(v4: 192, 0, 2, $0), port: 80) }
        plan.ports[PortKey(transport: .tcp, port: 1)] = backends
        plan.subnets = IPPrefix("192.0.2.0/24").map { [$0] } ?? []
        let text = replaceAll(by: plan, marks: FirewallMark.assign(plan.subjects, known: [:])) + "delete table inet \(table)\n"
        let lines = text.split(separator: "\n").map { line in
            line.split(separator: " ").map { $0 == table ? "apus-probe" : $0 }.joined(separator: " ")
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// A packet that has one of the marks.
    private static let isMarked = "meta mark & 0x\(String(FirewallMark.prefixMask, radix: 16)) == 0x\(String(FirewallMark.prefix, radix: 16))"

    /// IPVS sends nothing from a loopback address to another machine: over TCP the proxy takes such connections, and rules those that they can.
    /// The chains of address translation without rules of their own keep alive what another balancer has translated.
    private static let frame = """
        add table inet apus-ipvs
        delete table inet apus-ipvs
        add table inet apus-ipvs
        add map inet apus-ipvs published { type inet_proto . inet_service : mark; }
        add map inet apus-ipvs published6 { type inet_proto . inet_service : mark; }
        add map inet apus-ipvs bound { type ipv4_addr . inet_proto . inet_service : mark; }
        add map inet apus-ipvs bound6 { type ipv6_addr . inet_proto . inet_service : mark; }
        add map inet apus-ipvs loopback { type inet_proto . inet_service : verdict; }
        add map inet apus-ipvs loopback-bound { type ipv4_addr . inet_proto . inet_service : verdict; }
        add set inet apus-ipvs refused { type inet_proto . inet_service; }
        add set inet apus-ipvs refused-bound { type ipv4_addr . inet_proto . inet_service; }
        add set inet apus-ipvs refused-bound6 { type ipv6_addr . inet_proto . inet_service; }
        add chain inet apus-ipvs services
        add rule inet apus-ipvs services ct direction reply return
        add rule inet apus-ipvs services ip daddr 127.0.0.0/8 return
        add rule inet apus-ipvs services ip saddr 127.0.0.0/8 return
        add rule inet apus-ipvs services ip6 daddr ::1 return
        add rule inet apus-ipvs services ip6 saddr ::1 return
        add rule inet apus-ipvs services meta nfproto ipv4 meta mark set meta l4proto . th dport map @published
        add rule inet apus-ipvs services meta nfproto ipv6 meta mark set meta l4proto . th dport map @published6
        add rule inet apus-ipvs services meta mark set ip daddr . meta l4proto . th dport map @bound
        add rule inet apus-ipvs services meta mark set ip6 daddr . meta l4proto . th dport map @bound6
        add chain inet apus-ipvs refuse
        add rule inet apus-ipvs refuse meta l4proto 6 reject with tcp reset
        add rule inet apus-ipvs refuse reject with icmpx type port-unreachable
        add chain inet apus-ipvs guard { type filter hook prerouting priority -300; policy accept; }
        add rule inet apus-ipvs guard iifname != "lo" ip daddr 127.0.0.0/8 drop
        add rule inet apus-ipvs guard iifname != "lo" ip saddr 127.0.0.0/8 drop
        add chain inet apus-ipvs prerouting { type nat hook prerouting priority -100; policy accept; }
        add chain inet apus-ipvs input { type filter hook input priority 90; policy accept; }
        add rule inet apus-ipvs input fib daddr type local jump services
        add rule inet apus-ipvs input \(isMarked) accept
        add rule inet apus-ipvs input ct state != new accept
        add rule inet apus-ipvs input ip daddr . meta l4proto . th dport @refused-bound goto refuse
        add rule inet apus-ipvs input ip6 daddr . meta l4proto . th dport @refused-bound6 goto refuse
        add rule inet apus-ipvs input meta l4proto . th dport @refused goto refuse
        add chain inet apus-ipvs output { type filter hook output priority -105; policy accept; }
        add rule inet apus-ipvs output fib daddr type local jump services
        add chain inet apus-ipvs translate { type nat hook output priority -100; policy accept; }
        add rule inet apus-ipvs translate ip daddr != 127.0.0.0/8 return
        add rule inet apus-ipvs translate ip daddr . meta l4proto . th dport vmap @loopback-bound
        add rule inet apus-ipvs translate ip version 4 meta l4proto . th dport vmap @loopback
        add chain inet apus-ipvs postrouting { type nat hook postrouting priority 100; policy accept; }
        add chain inet apus-ipvs unmark { type filter hook postrouting priority 150; policy accept; }
        add rule inet apus-ipvs unmark \(isMarked) meta mark set 0

        """

    /// A client on the node's loopback has an address that no answer finds. A client that shares a network with the backend would be answered
    /// directly, from an address that it never asked.
    private static func masquerading(_ subnets: [IPPrefix]) -> String {
        var text = "add rule inet \(table) postrouting ip saddr 127.0.0.0/8 oifname != \"lo\" ct status dnat masquerade\n"
        for subnet in subnets {
            text += "add rule inet \(table) postrouting \(isMarked) \(subnet.address.isIPv4 ? "ip" : "ip6") saddr \(subnet) masquerade\n"
        }
        return text
    }

    private static func elements(_ plan: HostPlan, _ marks: [FirewallMark.Subject: FirewallMark]) -> String {
        var elements: [String: [String]] = [:]
        for (subject, mark) in marks {
            guard case .port(let key, let isIPv4) = subject else { continue }
            elements["\(key.address == nil ? "published" : "bound")\(isIPv4 ? "" : "6")", default: []].append("\(element(key)) : \(mark)")
        }
        for (key, backends) in plan.ports where isRefused(key, backends) {
            elements[key.address.map { $0.isIPv4 ? "refused-bound" : "refused-bound6" } ?? "refused", default: []].append(element(key))
        }
        return text(elements)
    }

    /// IPVS sends no connection from a loopback address to another machine, so those are translated by rules: one chain for each port.
    private static func loopback(_ plan: HostPlan) -> String {
        var text = ""
        var elements: [String: [String]] = [:]
        for (key, backends) in plan.ports.sorted(by: { $0.key.chain < $1.key.chain }) {
            if let address = key.address, address.bytes.first != 127 || !address.isIPv4 { continue }
            let targets = backends.filter(\.address.isIPv4).map { "\($0.address) . \($0.port)" }
            guard !targets.isEmpty else { continue }
            text += "add chain inet \(table) \(key.chain)\n"
            text += "add rule inet \(table) \(key.chain) meta l4proto \(key.protocolNumber ?? 0) dnat ip to \(Self.round(targets))\n"
            elements[key.address == nil ? "loopback" : "loopback-bound", default: []].append("\(element(key)) : goto \(key.chain)")
        }
        return text + Self.text(elements)
    }

    /// One after the other, by map: `numgen inc mod 2 map { 0 : …, 1 : … }`.
    /// - Parameter targets: at least one; addresses, or addresses and ports as maps have them.
    static func round(_ targets: [String]) -> String {
        var known: Set<String> = []
        let targets = targets.filter { known.insert($0).inserted }
        return "numgen inc mod \(targets.count) map { \(targets.enumerated().map { "\($0.offset) : \($0.element)" }.joined(separator: ", ")) }"
    }

    private static func text(_ elements: [String: [String]]) -> String {
        elements.sorted { $0.key < $1.key }.map { "add element inet \(table) \($0.key) { \($0.value.sorted().joined(separator: ", ")) }\n" }.joined()
    }

    /// What reaches the socket that holds the port was not balanced. Over TCP the proxy takes it, so it is refused only when nobody could
    /// answer; nothing else can be passed on.
    private static func isRefused(_ key: PortKey, _ backends: [Backend]) -> Bool { key.transport != .tcp || backends.isEmpty }

    private static func element(_ key: PortKey) -> String { (key.address.map { "\($0) . " } ?? "") + "\(key.protocolNumber ?? 0) . \(key.port)" }
}
