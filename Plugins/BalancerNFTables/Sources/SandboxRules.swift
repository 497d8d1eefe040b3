import PluginAPI

/// The table `inet apus-services` in a container's namespace, in the language of nft(8).
///
/// A connection that the container opens to a virtual address is looked up in one step and goes to the chain of its service, which gives it to the next
/// backend in turn. The source stays, so the backend sees its client; connection tracking keeps it there, whatever becomes of the chain.
/// What translates is there twice, for the reason that ``BalancerRules`` has.
enum SandboxRules {
    static let table = "apus-services"

    /// One transaction that puts the services in the place of whatever is there.
    static func replaceAll(by services: [IPAddress: [IPAddress]], turn: Int) -> String {
        frame + update(from: [:], to: services, turn: turn)
    }

    static let removeAll = "add table inet \(table)\ndelete table inet \(table)\n"

    /// One transaction with what differs; empty when nothing does.
    static func update(from old: [IPAddress: [IPAddress]], to new: [IPAddress: [IPAddress]], turn: Int) -> String {
        var (chains, elements, gone) = ("", [String: [String]](), "")
        for address in changes(from: old, to: new) {
            let (before, after) = (old[address], new[address])
            let wasBalanced = before.map { !$0.isEmpty } ?? false
            let name = chain(address)
            if let after, !after.isEmpty {
                chains += "\(wasBalanced ? "flush" : "add") chain inet \(table) \(name)\n" + rule(address, after, turn: turn)
                if !wasBalanced { elements["add element inet \(table) services\(suffix(address))", default: []].append("\(address) : goto \(name)") }
            } else if wasBalanced {
                elements["delete element inet \(table) services\(suffix(address))", default: []].append("\(address)")
                gone += "flush chain inet \(table) \(name)\ndelete chain inet \(table) \(name)\n"
            }
            let (wasRefused, isRefused) = (before?.isEmpty ?? false, after?.isEmpty ?? false)
            if wasRefused != isRefused {
                elements["\(isRefused ? "add" : "delete") element inet \(table) refused\(suffix(address))", default: []].append("\(address)")
            }
        }
        // A chain can be referred to when it is there, and removed when nothing refers to it any more.
        for (command, members) in elements.sorted(by: { $0.key < $1.key }) { chains += "\(command) { \(members.joined(separator: ", ")) }\n" }
        return chains + gone
    }

    /// The addresses whose backends differ, in order.
    static func changes(from old: [IPAddress: [IPAddress]], to new: [IPAddress: [IPAddress]]) -> [IPAddress] {
        (new.filter { old[$0.key] != $0.value }.map(\.key) + old.keys.filter { new[$0] == nil }).sorted()
    }

    private static let frame = """
        add table inet apus-services
        delete table inet apus-services
        add table inet apus-services
        add map inet apus-services services { type ipv4_addr : verdict; }
        add map inet apus-services services6 { type ipv6_addr : verdict; }
        add set inet apus-services refused { type ipv4_addr; }
        add set inet apus-services refused6 { type ipv6_addr; }
        add chain inet apus-services refuse
        add rule inet apus-services refuse meta l4proto 6 reject with tcp reset
        add rule inet apus-services refuse reject with icmpx type port-unreachable
        add chain inet apus-services output { type nat hook output priority -100; policy accept; }
        add rule inet apus-services output ip daddr vmap @services
        add rule inet apus-services output ip6 daddr vmap @services6
        add chain inet apus-services output-again { type nat hook output priority -99; policy accept; }
        add rule inet apus-services output-again ip daddr vmap @services
        add rule inet apus-services output-again ip6 daddr vmap @services6
        add chain inet apus-services refusing { type filter hook output priority 0; policy accept; }
        add rule inet apus-services refusing ip daddr @refused goto refuse
        add rule inet apus-services refusing ip6 daddr @refused6 goto refuse

        """

    /// `turn` is where the round starts, so that frequent changes do not favour the first backend.
    private static func rule(_ address: IPAddress, _ backends: [IPAddress], turn: Int) -> String {
        let text = "add rule inet \(table) \(chain(address)) dnat \(address.isIPv4 ? "ip" : "ip6") to "
        if backends.count == 1 { return text + "\(backends[0])\n" }
        let elements = backends.indices.map { "\($0) : \(backends[($0 + turn) % backends.count])" }
        return text + "numgen inc mod \(backends.count) map { \(elements.joined(separator: ", ")) }\n"
    }

    private static func suffix(_ address: IPAddress) -> String { address.isIPv4 ? "" : "6" }

    private static func chain(_ address: IPAddress) -> String { "to-" + address.description.map { $0 == ":" ? "_" : String($0) }.joined() }
}
