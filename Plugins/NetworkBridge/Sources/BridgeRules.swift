import PluginAPI

/// The table `inet apus-bridge`, in the language of nft(8). Each text is one transaction and may be run again.
///
/// A packet that is forwarded is looked up by its incoming bridge, then by its outgoing one, and goes to that network's chain, so the number
/// of networks costs nothing. What the balancer translated may enter and may go from one bridge to another: it was meant for a published port.
///
/// What containers send to the swarm's own sockets is dropped before anything is translated or routed, so that it reaches neither this node nor
/// another: a VXLAN packet from a container would leave with the node's address, and the other nodes would take its frame for this node's.
enum BridgeRules {
    static let table = "apus-bridge"

    static let frame = """
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
        add set inet apus-bridge data-path { type inet_service; }
        add set inet apus-bridge managers { type ipv4_addr . inet_service; }
        add set inet apus-bridge managers6 { type ipv6_addr . inet_service; }
        add set inet apus-bridge own-managers { type inet_service; }
        add chain inet apus-bridge guard
        flush chain inet apus-bridge guard
        add rule inet apus-bridge guard udp dport @data-path drop
        add rule inet apus-bridge guard ip daddr . tcp dport @managers drop
        add rule inet apus-bridge guard ip6 daddr . tcp dport @managers6 drop
        add rule inet apus-bridge guard tcp dport @own-managers fib daddr type local drop
        add chain inet apus-bridge prerouting { type filter hook prerouting priority -150; policy accept; }
        flush chain inet apus-bridge prerouting
        add rule inet apus-bridge prerouting iifname @bridges jump guard
        add chain inet apus-bridge postrouting { type nat hook postrouting priority 100; policy accept; }
        flush chain inet apus-bridge postrouting
        add rule inet apus-bridge postrouting iifname vmap @masquerading

        """

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

    /// Makes the sets of what containers may not reach anew. The table must be there.
    static func surroundings(_ surroundings: NetworkSurroundings) -> String {
        let managers = Set(surroundings.managers).sorted()
        func elements(isIPv4: Bool) -> [String] { managers.filter { $0.address.isIPv4 == isIPv4 }.map { "\($0.address) . \($0.port)" } }
        // A manager of this node listens on all of its addresses, the bridges' too.
        let own = Set(managers.filter { $0.address == surroundings.address }.map(\.port)).sorted()
        let sets = [
            ("data-path", surroundings.address == nil ? [] : ["\(surroundings.dataPathPort)"]), ("managers", elements(isIPv4: true)),
            ("managers6", elements(isIPv4: false)), ("own-managers", own.map { "\($0)" }),
        ]
        var text = ""
        for (set, elements) in sets {
            text += "flush set inet \(table) \(set)\n"
            if !elements.isEmpty { text += "add element inet \(table) \(set) { \(elements.joined(separator: ", ")) }\n" }
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
