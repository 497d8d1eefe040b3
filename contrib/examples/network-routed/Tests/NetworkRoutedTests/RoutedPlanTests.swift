import PluginAPI
import Testing

@testable import NetworkRouted

@Suite struct RoutedPlanTests {
    private func network(_ change: (inout LocalNetwork) -> Void = { _ in }) throws -> LocalNetwork {
        var network = LocalNetwork(id: "abcdefghijklmnopqrstuvwxy", name: "plain", gateway: try #require(IPPrefix("10.9.0.1/24")))
        change(&network)
        return network
    }

    @Test func whatItCannotDoIsRefused() throws {
        let changes: [(String, (inout LocalNetwork) -> Void)] = [
            ("encrypted", { $0.isEncrypted = true }), ("internal", { $0.isInternal = true }), ("ipv6", { $0.gatewayV6 = IPPrefix("fd00::1/64") }),
            ("parent", { $0.options["parent"] = "eth0" }), ("68 to 65535", { $0.options[RoutedPlan.mtuOption] = "67" }),
            ("68 to 65535", { $0.options[RoutedPlan.mtuOption] = "many" }), ("no room", { $0.gateway.length = 31 }),
            ("no id", { $0.id = "a b; rm" }),
        ]
        for (word, change) in changes {
            let bad = try network(change)
            do throws(ApusError) {
                _ = try RoutedPlan(bad)
                Issue.record("\(word) was accepted")
            } catch {
                #expect(error.code == .invalidArgument && error.message.contains(word), "\(error.message)")
            }
        }
        let good = try network { network in
            network.options = [RoutedPlan.mtuOption: "1400", RoutedPlan.ignoredOption: "4097"]
        }
        #expect(try RoutedPlan(good).mtu == 1400)
    }

    @Test func onlyWhatDiffersIsChanged() throws {
        let plan = try RoutedPlan(try network())
        func peer(_ address: String, _ node: String) throws -> NetworkPeer {
            let own = try #require(IPAddress(address))
            return NetworkPeer(address: own, macAddress: MACAddress(containerWith: own), node: try #require(IPAddress(node)))
        }
        let present = Listing.routes("10.9.0.2 via 192.0.2.2 dev eth0 \n10.9.0.3 via 192.0.2.2 dev eth0 \n10.9.0.4 via 192.0.2.3 dev eth0 \n")
        #expect(present.count == 3)
        let wanted = [try peer("10.9.0.2", "192.0.2.2"), try peer("10.9.0.4", "192.0.2.2"), try peer("10.9.0.5", "192.0.2.3")]
        #expect(
            plan.changes(from: present, to: wanted) == [
                "route delete 10.9.0.3/32 proto 142", "route replace 10.9.0.4/32 via 192.0.2.2 proto 142",
                "route replace 10.9.0.5/32 via 192.0.2.3 proto 142",
            ])
        #expect(plan.changes(from: Listing.routes(""), to: []).isEmpty)
    }

    @Test func namesFit() throws {
        let plan = try RoutedPlan(try network())
        let name = plan.hostInterface(of: ID.randomContainer())
        #expect(name.utf8.count == 15 && plan.owns(name) && !plan.owns("rtabcde") && !plan.owns("eth0"))
    }

    @Test func listings() {
        let links = "1: lo: <LOOPBACK,UP> mtu 65536\n3: rtabcde-0123456@if2: <BROADCAST> mtu 1500 qdisc noqueue\\    link/ether b2:0e:c0:2e:5e:24\n"
        #expect(Listing.interfaces(links) == ["lo", "rtabcde-0123456"])
        let addresses = Listing.addresses("3: eth0    inet 10.9.0.1/24 brd 10.9.0.255 scope global eth0\\       valid_lft forever\n")
        #expect(addresses.map(\.interface) == ["eth0"] && addresses.first?.prefix.description == "10.9.0.1/24")
        #expect(Listing.routes("unreachable 10.9.0.0/24 metric 4096\n10.9.0.9 dev rtx scope link\nnonsense via here\n").isEmpty)
    }

    /// Whatever ip(8) may print one day, it is read or passed over.
    @Test func anyOutputIsReadOrPassedOver() {
        var generator = SystemRandomNumberGenerator()
        let pieces = ["10.9.0.7", "via", "inet", "1:", "eth0@if2:", " ", "\n", "\\", "10.9.0.1/24", "300.1.1.1", "é", "@", ":"]
        for _ in 0..<5000 {
            let text = (0..<Int.random(in: 0..<12, using: &generator)).map { _ in pieces.randomElement(using: &generator) ?? "" }.joined(separator: " ")
            _ = (Listing.routes(text), Listing.addresses(text), Listing.interfaces(text))
        }
    }
}
