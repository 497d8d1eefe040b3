import NFTables
import Namespaces
import PluginAPI
import Synchronization

extension NetworkOverlay {
    public func setSurroundings(_ surroundings: NetworkSurroundings) async throws(ApusError) {
        try await thread.run { [self] () throws(ApusError) in
            _ = try rules.run(surroundings.address == nil ? OverlayGuard.removeAll : OverlayGuard.install(surroundings))
        }
        self.surroundings.withLock { $0 = surroundings }
    }
}

/// The table `inet apus-overlay`, in the language of nft(8): frames of networks are taken from the swarm's nodes alone.
///
/// Who could send VXLAN packets to this node could put frames into any network: whoever knows its number would be in it.
enum OverlayGuard {
    static let table = "apus-overlay"

    /// One transaction that puts the members in the place of whatever is there.
    static func install(_ surroundings: NetworkSurroundings) -> String {
        var text = """
            add table inet \(table)
            delete table inet \(table)
            add table inet \(table)
            add set inet \(table) members { type ipv4_addr; }
            add set inet \(table) members6 { type ipv6_addr; }
            add chain inet \(table) input { type filter hook input priority -10; policy accept; }
            add rule inet \(table) input udp dport != \(surroundings.dataPathPort) accept
            add rule inet \(table) input meta l4proto != udp accept
            add rule inet \(table) input ip saddr @members accept
            add rule inet \(table) input ip6 saddr @members6 accept
            add rule inet \(table) input counter drop

            """
        let members = Dictionary(grouping: surroundings.members, by: \.isIPv4)
        for (isIPv4, addresses) in members.sorted(by: { $0.key && !$1.key }) {
            let elements = addresses.map(\.description).joined(separator: ", ")
            text += "add element inet \(table) \(isIPv4 ? "members" : "members6") { \(elements) }\n"
        }
        return text
    }

    static let removeAll = "add table inet \(table)\ndelete table inet \(table)\n"
}
