import PluginAPI

/// The elements of the mesh's maps and sets, and what differs between two meshes.
enum MeshElements {
    enum Map: String, CaseIterable {
        case zones, origins, remote, remote6, targets, targets6, members, members6, subnets, subnets6, nodes

        var kind: String {
            switch self {
            case .members, .members6, .subnets, .subnets6: "set"
            default: "map"
            }
        }
        var place: String { "\(self == .nodes ? "netdev" : "inet") \(Mesh.table) \(rawValue)" }
        var definition: String {
            switch self {
            case .zones: "typeof ether saddr : ct zone"
            case .origins: "type ether_addr : mark"
            case .remote: "type ipv4_addr : mark"
            case .remote6: "type ipv6_addr : mark"
            case .targets: "type ipv4_addr : ipv4_addr"
            case .targets6: "type ipv6_addr : ipv6_addr"
            case .members: "type ipv4_addr"
            case .members6: "type ipv6_addr"
            case .subnets: "type ipv4_addr; flags interval; auto-merge"
            case .subnets6: "type ipv6_addr; flags interval; auto-merge"
            case .nodes: "type mark : ether_addr"
            }
        }
    }

    /// Commands for what differs; empty when nothing does. What is equal at a glance is not looked at closer.
    static func changes(from old: MeshPlan?, to new: MeshPlan) -> String {
        var text = ""
        if old?.state.nodes != new.state.nodes {
            text += changes(from: nodes(old?.state.nodes ?? []), to: nodes(new.state.nodes))
        }
        if old?.state.remoteTasks != new.state.remoteTasks {
            text += changes(from: remote(old?.state.remoteTasks ?? []), to: remote(new.state.remoteTasks))
        }
        if old?.state.localTasks != new.state.localTasks {
            text += changes(from: local(old?.state.localTasks ?? []), to: local(new.state.localTasks))
        }
        if old?.subnets != new.subnets {
            for map in [Map.subnets, .subnets6] {
                let members = new.subnets.filter { $0.address.isIPv4 == (map == .subnets) }
                text += "flush set \(map.place)\n"
                if !members.isEmpty { text += "add element \(map.place) { \(members.map(\.description).joined(separator: ", ")) }\n" }
            }
        }
        return text
    }

    /// Addresses that belong to other tasks than before.
    struct Moves {
        /// Of tasks that run on another node than the one before.
        var remote: Set<IPAddress> = []
        /// Of tasks that came to this node, with their targets.
        var local: [IPAddress: IPAddress] = [:]

        var isEmpty: Bool { remote.isEmpty && local.isEmpty }

        /// Whether a connection to `destination` that `server` answers is one to the task before.
        func concern(_ destination: IPAddress, answeredBy server: IPAddress) -> Bool {
            remote.contains(server) || local[destination].map { $0 != server } ?? false
        }
    }

    static func moves(from old: MeshState?, to new: MeshState) -> Moves {
        var moves = Moves()
        if let old, old.remoteTasks != new.remoteTasks {
            let before = remote(old.remoteTasks).map(\.elements)
            for (before, after) in zip(before, remote(new.remoteTasks).map(\.elements)) {
                for (key, value) in after where before[key] != nil && before[key] != value { moves.remote.formUnion(IPAddress(key).map { [$0] } ?? []) }
            }
        }
        if old?.localTasks != new.localTasks {
            let before = local(old?.localTasks ?? []).map(\.elements)
            for (before, after) in zip(before, local(new.localTasks).map(\.elements)) {
                for (key, value) in after where before[key] != value {
                    if let address = IPAddress(key), let target = IPAddress(value) { moves.local[address] = target }
                }
            }
        }
        return moves
    }

    /// Keys with their values; a set's have none.
    private typealias Elements = [(map: Map, elements: [String: String])]

    private static func nodes(_ nodes: [MeshState.MeshNode]) -> Elements {
        func pairs(_ pair: (MeshState.MeshNode) -> (String, String)) -> [String: String] {
            Dictionary(nodes.map(pair), uniquingKeysWith: { first, _ in first })
        }
        return [
            (.zones, pairs { ("\($0.macAddress)", "\($0.index)") }),
            (.origins, pairs { ("\($0.macAddress)", MeshMarks.text(MeshMarks.brought | UInt32($0.index))) }),
            (.members, pairs { ("\($0.underlay)", "") }.filter { !$0.key.contains(":") }),
            (.members6, pairs { ("\($0.underlay)", "") }.filter { $0.key.contains(":") }),
            (.nodes, pairs { ("\($0.index)", "\($0.macAddress)") }),
        ]
    }

    private static func remote(_ tasks: [MeshState.RemoteTask]) -> Elements {
        var (v4, v6): ([String: String], [String: String]) = ([:], [:])
        for task in tasks {
            let mark = MeshMarks.text(MeshMarks.taken | UInt32(task.nodeIndex))
            v4["\(task.address)"] = mark
            if let address = task.addressV6 { v6["\(address)"] = mark }
        }
        return [(.remote, v4), (.remote6, v6)]
    }

    private static func local(_ tasks: [MeshState.LocalTask]) -> Elements {
        var (v4, v6): ([String: String], [String: String]) = ([:], [:])
        for task in tasks {
            v4["\(task.address)"] = "\(task.target)"
            if let address = task.addressV6, let target = task.targetV6 { v6["\(address)"] = "\(target)" }
        }
        return [(.targets, v4), (.targets6, v6)]
    }

    private static func changes(from old: Elements, to new: Elements) -> String {
        var text = ""
        for (before, after) in zip(old, new) {
            let gone = before.elements.filter { after.elements[$0.key] != $0.value }
            let come = after.elements.filter { before.elements[$0.key] != $0.value }
            if !gone.isEmpty { text += "delete element \(after.map.place) { \(gone.keys.sorted().joined(separator: ", ")) }\n" }
            let added = come.sorted { $0.key < $1.key }.map { $0.value.isEmpty ? $0.key : "\($0.key) : \($0.value)" }
            if !added.isEmpty { text += "add element \(after.map.place) { \(added.joined(separator: ", ")) }\n" }
        }
        return text
    }
}
