import PluginAPI

/// The table `inet apus-ipvs` of a container's namespace: marks what goes to virtual addresses, before IPVS sees it.
///
/// IPVS knows the protocols with ports. All others are translated by rules, echo requests above all.
enum SandboxRules {
    static let table = "apus-ipvs"

    /// One transaction that puts the plan in the place of whatever is there.
    static func replaceAll(by plan: SandboxPlan, marks: [FirewallMark.Subject: FirewallMark]) -> String {
        var elements: [String: [String]] = [:]
        for (subject, mark) in marks {
            switch subject {
            case .streams(let address):
                elements[address.isIPv4 ? "virtual" : "virtual6", default: []] += ["\(address) . 6 : \(mark)", "\(address) . 132 : \(mark)"]
            case .datagrams(let address): elements[address.isIPv4 ? "virtual" : "virtual6", default: []].append("\(address) . 17 : \(mark)")
            case .port: continue
            }
        }
        var text = frame
        for (address, backends) in plan.services.sorted(by: { $0.key < $1.key }) {
            let (suffix, family) = address.isIPv4 ? ("", "ip") : ("6", "ip6")
            guard !backends.isEmpty else {
                elements["refused\(suffix)", default: []].append("\(address)")
                continue
            }
            let chain = "to-" + address.description.map { $0 == ":" ? "_" : String($0) }.joined()
            text += "add chain inet \(table) \(chain)\n"
            text += "add rule inet \(table) \(chain) dnat \(family) to \(HostRules.round(backends.sorted().map(\.description)))\n"
            elements["portless\(suffix)", default: []].append("\(address) : goto \(chain)")
        }
        for (name, members) in elements.sorted(by: { $0.key < $1.key }) {
            text += "add element inet \(table) \(name) { \(members.sorted().joined(separator: ", ")) }\n"
        }
        return text
    }

    /// Removes the table, also when it is not there.
    static let removeAll = "add table inet \(table)\ndelete table inet \(table)\n"

    /// IPVS leaves a packet to the container itself on the route to the virtual address; where a chain of the type `route` changes
    /// the mark, the kernel looks for the route again.
    private static let frame = """
        add table inet apus-ipvs
        delete table inet apus-ipvs
        add table inet apus-ipvs
        add map inet apus-ipvs virtual { type ipv4_addr . inet_proto : mark; }
        add map inet apus-ipvs virtual6 { type ipv6_addr . inet_proto : mark; }
        add map inet apus-ipvs portless { type ipv4_addr : verdict; }
        add map inet apus-ipvs portless6 { type ipv6_addr : verdict; }
        add set inet apus-ipvs refused { type ipv4_addr; }
        add set inet apus-ipvs refused6 { type ipv6_addr; }
        add chain inet apus-ipvs output { type filter hook output priority -105; policy accept; }
        add rule inet apus-ipvs output meta mark set ip daddr . meta l4proto map @virtual
        add rule inet apus-ipvs output meta mark set ip6 daddr . meta l4proto map @virtual6
        add rule inet apus-ipvs output meta l4proto { 6, 17, 132 } accept
        add rule inet apus-ipvs output ip daddr @refused reject with icmpx type host-unreachable
        add rule inet apus-ipvs output ip6 daddr @refused6 reject with icmpx type host-unreachable
        add chain inet apus-ipvs translate { type nat hook output priority -100; policy accept; }
        add rule inet apus-ipvs translate meta l4proto { 6, 17, 132 } return
        add rule inet apus-ipvs translate ip daddr vmap @portless
        add rule inet apus-ipvs translate ip6 daddr vmap @portless6
        add chain inet apus-ipvs own { type route hook output priority -90; policy accept; }
        add rule inet apus-ipvs own \
        meta mark & 0x\(String(FirewallMark.prefixMask, radix: 16)) == 0x\(String(FirewallMark.prefix, radix: 16)) fib daddr type local meta mark set 0

        """
}
