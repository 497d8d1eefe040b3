import Netlink
import PluginAPI

/// The tables `inet apus-mesh` and `netdev apus-mesh`, in the language of nft(8).
///
/// Everything that grows with the swarm is an element of a map: the number of rules that a packet meets is fixed.
enum MeshRules {
    private static let device = "\"\(Mesh.deviceName)\""
    private static let brought = MeshMarks.text(MeshMarks.brought)
    private static let taken = MeshMarks.text(MeshMarks.taken)
    private static let kind = MeshMarks.text(MeshMarks.kindMask)

    static let removeAll = """
        add table inet \(Mesh.table)
        delete table inet \(Mesh.table)
        add table netdev \(Mesh.table)
        delete table netdev \(Mesh.table)

        """

    /// One transaction that puts the plan in the place of whatever is there. The device must be there.
    static func replaceAll(by plan: MeshPlan, routesByAddress: Bool) -> String {
        removeAll + frame(plan, routesByAddress) + MeshElements.changes(from: nil, to: plan)
    }

    /// A transaction that uses everything the mesh needs, and leaves nothing.
    static func probe(_ plan: MeshPlan) -> String {
        let text = frame(plan, false).split(separator: "\n").map { line in
            line.replacing(Mesh.table, with: "apus-probe").replacing("device \(device)", with: "device \"lo\"")
        }
        return text.joined(separator: "\n") + "\ndelete table inet apus-probe\ndelete table netdev apus-probe\n"
    }

    private static func frame(_ plan: MeshPlan, _ routesByAddress: Bool) -> String {
        var text = "add table inet \(Mesh.table)\nadd table netdev \(Mesh.table)\n"
        for map in MeshElements.Map.allCases { text += "add \(map.kind) \(map.place) { \(map.definition); }\n" }
        for (chain, base) in chains { text += "add chain inet \(Mesh.table) \(chain)\(base)\n" }
        text += "add chain netdev \(Mesh.table) leave { type filter hook egress device \(device) priority 0; policy accept; }\n"
        for (chain, rules) in rules(plan, routesByAddress) {
            for rule in rules { text += "add rule inet \(Mesh.table) \(chain) \(rule)\n" }
        }
        for rule in leaving { text += "add rule netdev \(Mesh.table) leave \(rule)\n" }
        return text
    }

    /// The chains, with their hooks. Translations happen at -100: what a rule at -101 or 99 decides, no other balancer's rule decides again.
    private static let chains: [(String, String)] = [
        ("outer", ""), ("zone", ""), ("arrive", ""), ("choose", ""), ("hide", ""),
        ("input", " { type filter hook input priority -300; policy accept; }"),
        ("raw", " { type filter hook prerouting priority -300; policy accept; }"),
        ("answers", " { type filter hook prerouting priority -150; policy accept; }"),
        ("deliver", " { type nat hook prerouting priority -101; policy accept; }"),
        ("send", " { type filter hook prerouting priority -99; policy accept; }"),
        ("output", " { type route hook output priority -99; policy accept; }"),
        ("clamp", " { type filter hook postrouting priority -150; policy accept; }"),
        ("source", " { type nat hook postrouting priority 99; policy accept; }"),
    ]

    private static func rules(_ plan: MeshPlan, _ routesByAddress: Bool) -> [(String, [String])] {
        let state = plan.state
        let restoreTaken = "ct direction original ct mark and \(kind) == \(taken) meta mark set ct mark accept"
        let restoreBrought = "ct direction reply ct mark and \(kind) == \(brought) meta mark set ct mark"
        var hiding = ["ip saddr @subnets", "ip saddr @members", "meta nfproto ipv4 fib saddr type local"].map { "\($0) snat ip to \(state.address.address)" }
        if let address = state.addressV6?.address {
            hiding += ["ip6 saddr @subnets6", "ip6 saddr @members6", "meta nfproto ipv6 fib saddr type local"].map { "\($0) snat ip6 to \(address)" }
        }
        return [
            // The frames of this network from the underlay: of members alone, and by the way that leads to them, so that no container can pretend to be one.
            ("input", ["udp dport \(state.dataPathPort) @th,96,24 \(state.vni) jump outer"]),
            ("outer", ["fib saddr . iif oif 0 drop", "ip saddr @members return", "ip6 saddr @members6 return", "drop"]),
            // The same client port by way of two nodes is two connections.
            ("raw", ["iifname \(device) goto zone"]),
            ("zone", ["ip daddr 127.0.0.0/8 drop", "ct original zone set ether saddr map @zones accept", "drop"]),
            // Which node brought a connection, and back to it with the answers.
            ("answers", ["iifname \(device) goto arrive", restoreBrought]),
            ("arrive", ["meta mark set \(MeshMarks.text(MeshMarks.arrived))", "ct direction original ct mark set ether saddr map @origins"]),
            (
                "deliver",
                [
                    "iifname \(device) dnat ip to ip daddr map @targets", "iifname \(device) dnat ip6 to ip6 daddr map @targets6",
                ]
            ),
            // Out of the mesh come connections to tasks of this node and answers; into it go connections that a balancer gave to a task of another.
            (
                "send",
                [
                    "iifname \(device) ct direction reply accept", "iifname \(device) ct status dnat accept", "iifname \(device) drop",
                    restoreTaken, "ct direction original ct status dnat goto choose",
                ]
            ),
            (
                "output",
                [
                    restoreTaken, restoreBrought + " accept",
                    routesByAddress ? "ct direction original goto choose" : "ct status dnat goto choose",
                    "meta mark \(MeshMarks.text(MeshMarks.socket)) goto choose",
                ]
            ),
            (
                "choose",
                [
                    "ct mark set ip daddr map @remote", "ct mark set ip6 daddr map @remote6",
                    "ct mark and \(kind) == \(taken) meta mark set ct mark",
                ]
            ),
            (
                "clamp",
                [
                    "oifname \(device) meta nfproto ipv4 tcp flags syn tcp option maxseg size set \(plan.device.mtu - 40)",
                    "oifname \(device) meta nfproto ipv6 tcp flags syn tcp option maxseg size set \(plan.device.mtu - 60)",
                ]
            ),
            // Also where nothing is hidden, this chain gives a connection another port when two nodes bring the same.
            ("source", ["oifname \(device) jump hide"]), ("hide", hiding),
        ]
    }

    /// At the device, the mark becomes the node's hardware address. It must go: VXLAN would route its own packets by it, and into the device again.
    private static let leaving = [
        "meta mark and \(MeshMarks.text(MeshMarks.routedMask)) == \(brought) "
            + "ether daddr set meta mark and \(MeshMarks.text(MeshMarks.indexMask)) map @nodes meta mark set 0 accept",
        "drop",
    ]
}
