import Netlink
import PluginAPI

/// Lets answers to the node's own 127.0.0.1 come in from the interfaces of some subnets.
///
/// Whoever uses it drops everything else that comes to such addresses from outside. Must be used in the host's namespace.
public struct LoopbackRouting: Sendable {
    /// The interfaces to the subnets.
    private var interfaces: [IPPrefix: String] = [:]

    public init() {}

    /// Sets the interfaces of the IPv4 subnets so, and looks again whether those set before still are.
    public mutating func route(_ subnets: [IPPrefix]) throws(ApusError) {
        let subnets = subnets.filter(\.address.isIPv4)
        interfaces = interfaces.filter { subnets.contains($0.key) && SystemSetting.read(Self.setting($0.value)) == "1" }
        guard subnets.contains(where: { interfaces[$0] == nil }) else { return }
        let netlink = try NetlinkSocket()
        let addresses = try netlink.addresses()
        for subnet in subnets where interfaces[subnet] == nil {
            guard let address = addresses.first(where: { $0.prefix.overlaps(subnet) }), let link = try netlink.link(at: address.linkIndex)
            else { continue }
            try SystemSetting.ensure(Self.setting(link.name), "1")
            interfaces[subnet] = link.name
        }
    }

    /// Sets all interfaces back. Returns why that did not work.
    public mutating func end() -> [ApusError] {
        var failures: [ApusError] = []
        for name in Set(interfaces.values) {
            do throws(ApusError) { try SystemSetting.ensure(Self.setting(name), "0") } catch { failures.append(error) }
        }
        interfaces = [:]
        return failures
    }

    private static func setting(_ interface: String) -> String { "net/ipv4/conf/\(interface)/route_localnet" }
}
