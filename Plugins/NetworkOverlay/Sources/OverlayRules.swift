import PluginAPI

/// The table `inet apus-overlay` of the host's namespace, in the language of nft(8). Each text is one transaction and may be run again.
///
/// VXLAN has no protection of its own: whoever gets a packet to the port gets a frame into a network. So packets are taken from the other nodes alone, and
/// only by the way that leads to them, for a container could send with a node's address.
enum OverlayRules {
    static let table = "apus-overlay"

    /// Makes the table anew, in force at once.
    /// - Parameter encrypted: the numbers of the networks whose packets may neither come nor go in the clear.
    static func install(_ surroundings: NetworkSurroundings, encrypted: [UInt32]) -> String {
        var text = """
            add table inet apus-overlay
            delete table inet apus-overlay
            add table inet apus-overlay
            add set inet apus-overlay members { type ipv4_addr; }
            add set inet apus-overlay members6 { type ipv6_addr; }
            add chain inet apus-overlay members-only
            add rule inet apus-overlay members-only fib saddr . iif oif missing drop
            add rule inet apus-overlay members-only ip saddr @members accept
            add rule inet apus-overlay members-only ip6 saddr @members6 accept
            add rule inet apus-overlay members-only drop
            add chain inet apus-overlay input { type filter hook input priority -10; policy accept; }
            add chain inet apus-overlay forward { type filter hook forward priority -10; policy accept; }
            add chain inet apus-overlay output { type filter hook output priority 300; policy accept; }

            """
        let port = surroundings.dataPathPort
        for (set, isIPv4) in [("members", true), ("members6", false)] {
            let elements = Set(surroundings.members).filter { $0.isIPv4 == isIPv4 }.sorted().map { "\($0)" }
            if !elements.isEmpty { text += "add element inet \(table) \(set) { \(elements.joined(separator: ", ")) }\n" }
        }
        func rule(_ chain: String, _ rule: String) { text += "add rule inet \(table) \(chain) udp dport \(port) \(rule)\n" }
        if !encrypted.isEmpty {
            // The number is behind the header of UDP and the first half of VXLAN's.
            let network = "@th,96,24 { \(encrypted.sorted().map { "\($0)" }.joined(separator: ", ")) }"
            rule("input", "meta ipsec missing \(network) drop")
            rule("output", "rt ipsec missing \(network) drop")
        }
        rule("input", "goto members-only")
        rule("forward", "ip daddr @members goto members-only")
        rule("forward", "ip6 daddr @members6 goto members-only")
        return text
    }

    static let uninstall = "add table inet apus-overlay\ndelete table inet apus-overlay\n"
}
