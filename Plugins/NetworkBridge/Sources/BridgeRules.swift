import PluginAPI

/// The table `inet apus-bridge`, in the language of nft(8). Each text is one transaction and may be run again.
///
/// A packet that is forwarded is looked up by its incoming bridge, then by its outgoing one, and goes to that network's chain, so the number
/// of networks costs nothing. What the balancer translated may enter and may go from one bridge to another: it was meant for a published port.
enum BridgeRules {
    static let table = "apus-bridge"

    private static let frame = """
        add table inet apus-bridge
        add set inet apus-bridge bridges { type ifname; }
        add map inet apus-bridge leaving { type ifname : verdict; }
        add map inet apus-bridge entering { type ifname : verdict; }
        add map inet apus-bridge masquerading { type ifname : verdict; }
        add chain inet apus-bridge forward { type filter hook forward priority 0; policy accept; }
        flush chain inet apus-bridge forward
        add rule inet apus-bridge forward ct state established,related accept
        add rule inet apus-bridge forward iifname vmap @leaving
        add rule inet apus-bridge forward oifname vmap @entering
        add chain inet apus-bridge postrouting { type nat hook postrouting priority 100; policy accept; }
        flush chain inet apus-bridge postrouting
        add rule inet apus-bridge postrouting iifname vmap @masquerading
        add set inet apus-bridge managers { type ipv4_addr . inet_service; }
        add set inet apus-bridge managers6 { type ipv6_addr . inet_service; }
        add set inet apus-bridge datapath { type inet_service; }
        add chain inet apus-bridge private
        flush chain inet apus-bridge private
        add rule inet apus-bridge private udp dport @datapath drop
        add rule inet apus-bridge private ip daddr . tcp dport @managers reject with tcp reset
        add rule inet apus-bridge private ip6 daddr . tcp dport @managers6 reject with tcp reset
        add chain inet apus-bridge guard { type filter hook forward priority -5; policy accept; }
        flush chain inet apus-bridge guard
        add rule inet apus-bridge guard iifname @bridges jump private
        add chain inet apus-bridge input { type filter hook input priority -5; policy accept; }
        flush chain inet apus-bridge input
        add rule inet apus-bridge input iifname @bridges jump private

        """

    /// What containers have no business with, whichever way it is reached: the managers' ports, and VXLAN, by which they could put frames into any
    /// network of the swarm.
    static func surroundings(_ surroundings: NetworkSurroundings) -> String {
        var text = frame
        for set in ["managers", "managers6", "datapath"] { text += "flush set inet \(table) \(set)\n" }
        text += "add element inet \(table) datapath { \(surroundings.dataPathPort) }\n"
        for manager in surroundings.managers {
            text += "add element inet \(table) managers\(manager.address.isIPv4 ? "" : "6") { \(manager.address) . \(manager.port) }\n"
        }
        return text
    }

    /// Makes the table where it is missing, and the network's part of it anew.
    static func install(_ plan: BridgePlan) -> String {
        let bridge = "\"\(plan.bridgeName)\""
        var text = frame
        for chain in ["leave", "enter", "nat"] {
            text += "add chain inet \(table) \(chain)-\(plan.id)\nflush chain inet \(table) \(chain)-\(plan.id)\n"
        }
        func rule(_ chain: String, _ rule: String) { text += "add rule inet \(table) \(chain)-\(plan.id) \(rule)\n" }
        if plan.allowsPeers { rule("leave", "oifname \(bridge) accept") }
        if !plan.isInternal {
            rule("leave", "ct status dnat accept")
            rule("leave", "oifname @bridges drop")
            rule("leave", "accept")
            rule("enter", "ct status dnat accept")
            rule("nat", "oifname != @bridges masquerade")
        } else {
            rule("leave", "drop")
        }
        rule("enter", "drop")
        for element in elements(plan) { text += "add element inet \(table) \(element.set) { \(element.key)\(element.value) }\n" }
        return text
    }

    /// Takes the network's part away, whatever of it is there.
    static func uninstall(_ plan: BridgePlan) -> String {
        var text = frame
        // Only what is there can be deleted: so everything is added first, which does nothing to what is there already.
        for chain in ["leave", "enter", "nat"] { text += "add chain inet \(table) \(chain)-\(plan.id)\n" }
        for element in elements(plan) {
            text += "add element inet \(table) \(element.set) { \(element.key)\(element.value) }\n"
            text += "delete element inet \(table) \(element.set) { \(element.key) }\n"
        }
        for chain in ["leave", "enter", "nat"] {
            text += "flush chain inet \(table) \(chain)-\(plan.id)\ndelete chain inet \(table) \(chain)-\(plan.id)\n"
        }
        return text
    }

    static let removeTable = "delete table inet \(table)\n"
    static let listBridges = "list set inet \(table) bridges\n"

    private static func elements(_ plan: BridgePlan) -> [(set: String, key: String, value: String)] {
        let bridge = "\"\(plan.bridgeName)\""
        var elements = [
            ("bridges", bridge, ""), ("leaving", bridge, " : goto leave-\(plan.id)"), ("entering", bridge, " : goto enter-\(plan.id)"),
        ]
        if !plan.isInternal, plan.masquerades { elements.append(("masquerading", bridge, " : goto nat-\(plan.id)")) }
        return elements
    }
}
