import CNetlink
import Glibc
import PluginAPI

/// What leads to the others of a network: which machine has which hardware address, and which hardware address has which IP address.
public struct ForwardingState: Sendable, Hashable {
    /// Where the frames for a hardware address are sent to. More than one machine is never wanted, but may be found.
    public var tunnels: [MACAddress: [IPAddress]] = [:]
    /// The hardware addresses that the bridge looks for behind the VXLAN device.
    public var ports: Set<MACAddress> = []
    /// By address in the network.
    public var neighbours: [IPAddress: MACAddress] = [:]

    public init() {}

    /// Adds one of the network's others. The first one with an address or a hardware address has it.
    public mutating func add(_ macAddress: MACAddress, at node: IPAddress, addresses: [IPAddress]) {
        guard tunnels[macAddress] == nil else { return }
        tunnels[macAddress] = [node]
        ports.insert(macAddress)
        for address in addresses where neighbours[address] == nil { neighbours[address] = macAddress }
    }

    /// The steps to another state, in an order in which nothing leads to a wrong place at any time: what is wrong goes before what is right comes, and
    /// an IP address is known only while its hardware address leads to its machine.
    public func changes(to wanted: ForwardingState) -> [ForwardingChange] {
        var changes: [ForwardingChange] = []
        for (address, macAddress) in neighbours where wanted.neighbours[address] != macAddress { changes.append(.removeNeighbour(address)) }
        for (macAddress, nodes) in tunnels where wanted.tunnels[macAddress] == nil || nodes.count > 1 { changes.append(.removeTunnel(macAddress)) }
        for macAddress in ports where !wanted.ports.contains(macAddress) { changes.append(.removePort(macAddress)) }
        for (macAddress, nodes) in wanted.tunnels {
            // Replaced in one step where there is one.
            if let node = nodes.first, tunnels[macAddress] != [node] { changes.append(.setTunnel(macAddress, node)) }
        }
        for macAddress in wanted.ports where !ports.contains(macAddress) { changes.append(.setPort(macAddress)) }
        for (address, macAddress) in wanted.neighbours where neighbours[address] != macAddress { changes.append(.setNeighbour(address, macAddress)) }
        return changes
    }
}

/// One step from a state to another.
public enum ForwardingChange: Sendable, Hashable {
    case removeNeighbour(IPAddress)
    case removeTunnel(MACAddress)
    case removePort(MACAddress)
    case setTunnel(MACAddress, IPAddress)
    case setPort(MACAddress)
    case setNeighbour(IPAddress, MACAddress)
}

/// The forwarding and neighbour entries of a VXLAN device that is a port of a bridge.
///
/// It is used by one thread at a time.
public final class ForwardingTable {
    private let channel: NetlinkChannel
    private let deviceIndex: Int

    /// - Parameter path: of the device's pinned namespace; `nil` is the calling thread's.
    public init(ofDeviceAt index: Int, inNamespace path: String?) throws(ApusError) {
        channel = try NetlinkChannel(NETLINK_ROUTE, inNamespace: path)
        deviceIndex = index
    }

    /// What is in force.
    public func state() throws(ApusError) -> ForwardingState {
        var state = ForwardingState()
        var list = NetlinkMessage(RTM_GETNEIGH)
        // struct ifinfomsg, by which the kernel knows a request that does not filter from an old one that could not.
        list.append(UInt8(AF_BRIDGE))
        list.append([UInt8](repeating: 0, count: 15))
        for body in try channel.dump(list) {
            guard let entry = Entry(body), entry.index == deviceIndex, let macAddress = entry.macAddress else { continue }
            if entry.flags & UInt8(NTF_SELF) != 0 {
                if let node = entry.destination { state.tunnels[macAddress, default: []].append(node) }
            } else if entry.state & UInt16(NUD_PERMANENT) == 0 {
                // A permanent one is the port's own address.
                state.ports.insert(macAddress)
            }
        }
        for family in [AF_INET, AF_INET6] {
            for body in try channel.dump(neighbourMessage(RTM_GETNEIGH, family: family, state: 0, flags: 0)) {
                guard let entry = Entry(body), entry.index == deviceIndex, entry.state & UInt16(NUD_PERMANENT) != 0,
                    let address = entry.destination, let macAddress = entry.macAddress
                else { continue }
                state.neighbours[address] = macAddress
            }
        }
        return state
    }

    /// Takes the steps, all of them also when the kernel refuses one. To remove what is not there succeeds.
    /// - Throws: the first refusal, and how many there were.
    public func apply(_ changes: [ForwardingChange]) throws(ApusError) {
        guard !changes.isEmpty else { return }
        let refusals = try channel.send(changes.map(message)).filter { index, number in
            switch changes[index] {
            case .removeNeighbour, .removeTunnel, .removePort: number != ENOENT
            case .setNeighbour, .setTunnel, .setPort: true
            }
        }
        guard let first = refusals.min(by: { $0.key < $1.key }) else { return }
        throw .refusal("the kernel refuses \(refusals.count) of \(changes.count) forwarding entries, first \(changes[first.key])", first.value)
    }

    /// Has the bridge neither learn from the device's port, nor send frames there whose receiver it does not know. Broadcasts and multicasts, which the
    /// device answers itself, still go there.
    public func closePort() throws(ApusError) {
        var message = NetlinkMessage(RTM_SETLINK)
        // struct ifinfomsg: family, type, index, flags, changed flags.
        message.append([UInt8(AF_BRIDGE), 0, 0, 0])
        message.append(Int32(deviceIndex))
        message.append(UInt64(0))
        var settings = NetlinkMessage(0)
        settings.attribute(IFLA_BRPORT_LEARNING, UInt8(0))
        settings.attribute(IFLA_BRPORT_UNICAST_FLOOD, UInt8(0))
        message.attribute(IFLA_PROTINFO | Int(NLA_F_NESTED), settings.body)
        if let number = try channel.send([message])[0] { throw .refusal("cannot change the bridge port with index \(deviceIndex)", number) }
    }

    private func message(for change: ForwardingChange) -> NetlinkMessage {
        switch change {
        case .removeNeighbour(let address):
            var message = neighbourMessage(RTM_DELNEIGH, family: address.isIPv4 ? AF_INET : AF_INET6, state: 0, flags: 0)
            message.attribute(NDA_DST, address.bytes)
            return message
        case .removeTunnel(let macAddress):
            var message = neighbourMessage(RTM_DELNEIGH, family: AF_BRIDGE, state: NUD_PERMANENT, flags: NTF_SELF)
            message.attribute(NDA_LLADDR, macAddress.bytes)
            return message
        case .removePort(let macAddress):
            var message = neighbourMessage(RTM_DELNEIGH, family: AF_BRIDGE, state: NUD_NOARP, flags: NTF_MASTER)
            message.attribute(NDA_LLADDR, macAddress.bytes)
            return message
        case .setTunnel(let macAddress, let node):
            var message = neighbourMessage(RTM_NEWNEIGH, family: AF_BRIDGE, state: NUD_PERMANENT, flags: NTF_SELF)
            message.attribute(NDA_LLADDR, macAddress.bytes)
            message.attribute(NDA_DST, node.bytes)
            return message
        case .setPort(let macAddress):
            // Sticky: a container here that sends with another's address does not get its frames.
            var message = neighbourMessage(RTM_NEWNEIGH, family: AF_BRIDGE, state: NUD_NOARP, flags: NTF_MASTER | NTF_STICKY)
            message.attribute(NDA_LLADDR, macAddress.bytes)
            return message
        case .setNeighbour(let address, let macAddress):
            var message = neighbourMessage(RTM_NEWNEIGH, family: address.isIPv4 ? AF_INET : AF_INET6, state: NUD_PERMANENT, flags: 0)
            message.attribute(NDA_DST, address.bytes)
            message.attribute(NDA_LLADDR, macAddress.bytes)
            return message
        }
    }

    /// With struct ndmsg.
    private func neighbourMessage(_ type: Int, family: Int32, state: Int32, flags: Int32) -> NetlinkMessage {
        var message = NetlinkMessage(type, flags: type == RTM_NEWNEIGH ? NLM_F_CREATE | NLM_F_REPLACE : 0)
        message.append([UInt8(family), 0, 0, 0])
        message.append(Int32(deviceIndex))
        message.append(UInt16(state))
        message.append([UInt8(flags), 0])
        return message
    }

    /// An entry as the kernel tells it.
    private struct Entry {
        let index: Int
        let state: UInt16
        let flags: UInt8
        let destination: IPAddress?
        let macAddress: MACAddress?

        init?(_ body: ArraySlice<UInt8>) {
            guard let index = body.number(at: 4, as: Int32.self), let state = body.number(at: 8, as: UInt16.self),
                let flags = body.number(at: 10, as: UInt8.self)
            else { return nil }
            self.index = Int(index)
            self.state = state
            self.flags = flags
            let attributes = NetlinkAttributes(body.dropFirst(12))
            destination = attributes[NDA_DST].flatMap { IPAddress(bytes: Array($0)) }
            macAddress = attributes[NDA_LLADDR].flatMap { MACAddress(bytes: Array($0)) }
        }
    }
}
