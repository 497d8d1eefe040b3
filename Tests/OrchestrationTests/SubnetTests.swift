import Allocation
import Fuzzing
import PluginAPI
import Testing

@testable import Orchestration

@Suite struct SubnetTests {
    private func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

    @Test func subnetsComeInOrderAndLeapOverWhatIsTaken() throws {
        let pools = [try prefix("10.0.0.0/8")]
        let wide = try prefix("10.0.0.0/16")
        #expect(SubnetChoice.subnet(from: pools, length: 24, avoiding: [wide]) == (try prefix("10.1.0.0/24")))
        #expect(SubnetChoice.subnet(from: pools, length: 24, avoiding: [wide], after: wide) == (try prefix("10.1.0.0/24")))
        let taken = [wide, try prefix("10.1.0.0/24"), try prefix("10.1.1.7/32"), try prefix("10.1.2.128/25")]
        #expect(SubnetChoice.subnet(from: pools, length: 24, avoiding: taken, after: taken[1]) == (try prefix("10.1.3.0/24")))
        let last = try prefix("10.255.255.0/24")
        #expect(SubnetChoice.subnet(from: pools, length: 24, avoiding: [last], after: last) == (try prefix("10.0.0.0/24")), "around the end")
    }

    @Test func poolsFollowEachOtherAndEnd() throws {
        let pools = [try prefix("10.9.0.0/23"), try prefix("192.168.0.0/24"), try prefix("172.16.0.0/26")]
        var taken: [IPPrefix] = []
        while let next = SubnetChoice.subnet(from: pools, length: 24, avoiding: taken, after: taken.last) { taken.append(next) }
        #expect(taken.map(\.description) == ["10.9.0.0/24", "10.9.1.0/24", "192.168.0.0/24"])
        #expect(SubnetChoice.subnet(from: [try prefix("255.255.255.0/24")], length: 24, avoiding: [try prefix("255.255.255.0/24")]) == nil)
        #expect(SubnetChoice.subnet(from: [], length: 24, avoiding: []) == nil)
    }

    /// The choice is never one that overlaps, and there is one as long as one is free.
    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func choosesWhatIsFree(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let pool = try prefix("10.9.0.0/20")
        var taken: [IPPrefix] = []
        for _ in 0..<60 {
            let length = Int.random(in: 21...28, using: &generator)
            let previous = Bool.random(using: &generator) ? taken.last : nil
            let found = SubnetChoice.subnet(from: [pool], length: length, avoiding: taken, after: previous)
            let all = (0..<(1 << (length - 20))).compactMap { pool.address.advanced(by: UInt64($0) << UInt64(32 - length)) }
                .compactMap { IPPrefix($0, length: length) }
            let free = all.filter { candidate in !taken.contains { $0.overlaps(candidate) } }
            if let found {
                #expect(free.contains(found), "seed \(seed): \(found)")
                taken.append(found)
            } else {
                #expect(free.isEmpty, "seed \(seed): one of /\(length) is free")
                taken.remove(at: Int.random(in: taken.indices, using: &generator))
            }
        }
    }

    @Test func numbersRest() {
        #expect(SubnetChoice.vni(avoiding: [], after: nil) == 4096)
        #expect(SubnetChoice.vni(avoiding: [4096, 4098], after: 4096) == 4097)
        #expect(SubnetChoice.vni(avoiding: [4096, 4097, 4098], after: 4096) == 4099)
        #expect(SubnetChoice.vni(avoiding: [4097], after: 0xff_ffff) == 4096)
        #expect(SubnetChoice.vni(avoiding: [], after: 9) == 4096)
    }

    @Test func uniqueLocalSubnetsFollowFromTheSwarm() throws {
        let first = try #require(SubnetChoice.uniqueLocal(of: "swarm", number: 0))
        #expect(first.length == 64 && first.address.bytes[0] == 0xfd)
        #expect(first == SubnetChoice.uniqueLocal(of: "swarm", number: 0))
        #expect(first != SubnetChoice.uniqueLocal(of: "other", number: 0))
        #expect(try !first.overlaps(#require(SubnetChoice.uniqueLocal(of: "swarm", number: 1))))
    }

    @Test func poolsOfIPv6() throws {
        let pool = try AddressPool(subnet: prefix("fd00:1::/64"))
        #expect(pool.gateway == IPAddress("fd00:1::1"))
        #expect(pool.next(inUse: []) == IPAddress("fd00:1::2"))
        let last = try #require(IPAddress("fd00:1::ffff:ffff:ffff:ffff"))
        #expect(pool.contains(last))
        #expect(pool.next(inUse: [], after: last) == IPAddress("fd00:1::2"))
        for other in ["fd00:1::", "fd00:1::1", "fd00:2::5", "10.0.0.5"] { #expect(!pool.contains(try #require(IPAddress(other)))) }
        let small = try AddressPool(subnet: prefix("fd00:1::/126"))
        #expect(small.next(inUse: [], after: IPAddress("fd00:1::2")) == IPAddress("fd00:1::3"), "IPv6 has no broadcast address")
        let ranged = try AddressPool(subnet: prefix("fd00:1::/64"), gateway: IPAddress("fd00:1::ff"), range: prefix("fd00:1::100/120"))
        #expect(ranged.next(inUse: []) == IPAddress("fd00:1::100"))
        #expect(throws: ApusError.self) { _ = try AddressPool(subnet: prefix("fd00::/127")) }
        #expect(throws: ApusError.self) { _ = try AddressPool(subnet: prefix("fd00::/63")) }
        #expect(throws: ApusError.self) { _ = try AddressPool(subnet: prefix("fd00::/64"), gateway: IPAddress("10.0.0.1")) }
        let four = try prefix("10.0.0.0/16")
        #expect(pool.counterpart(of: try #require(IPAddress("10.0.3.7")), in: four) == IPAddress("fd00:1::307"))
        #expect(pool.counterpart(of: try #require(IPAddress("10.0.0.1")), in: four) == nil, "the gateway's")
        #expect(small.counterpart(of: try #require(IPAddress("10.0.3.7")), in: four) == nil)
    }
}

@Suite struct NetworkDraftTests {
    private var state: MemoryState {
        get throws {
            var state = MemoryState()
            var cluster = Cluster()
            cluster.id = "swarm"
            cluster.defaultAddressPool = ["10.0.0.0/8"]
            cluster.subnetSize = 24
            state.cluster = cluster
            let ingress = try NetworkDraft.create(NetworkDraft.ingressSpec, id: "ingress-id", in: state)
            state.networks[ingress.id] = ingress
            return state
        }
    }

    private func create(_ name: String, in state: MemoryState, _ change: (inout NetworkSpec) -> Void = { _ in }) throws(ApusError) -> Network {
        var spec = NetworkSpec()
        spec.name = name
        change(&spec)
        return try NetworkDraft.create(spec, in: state)
    }

    private func error(_ name: String = "lan", in state: MemoryState, _ change: (inout NetworkSpec) -> Void) -> ApusError? {
        do throws(ApusError) {
            _ = try create(name, in: state, change)
            return nil
        } catch {
            return error
        }
    }

    private func pool(_ subnet: String, gateway: String = "", range: String = "") -> IPAMConfig {
        var pool = IPAMPool()
        (pool.subnet, pool.gateway, pool.range) = (subnet, gateway, range)
        var ipam = IPAMConfig()
        ipam.configs = [pool]
        return ipam
    }

    @Test func theIngressNetworkIsWide() throws {
        let ingress = try #require(state.ingressNetwork)
        #expect(ingress.spec.name == "ingress" && ingress.vni == 4096 && ingress.driver.name == "overlay")
        #expect(ingress.ipam?.configs.map(\.subnet).first == "10.0.0.0/16" && ingress.ipam?.configs.map(\.gateway).first == "10.0.0.1")
        let six = try #require(ingress.subnets.last)
        #expect(six == SubnetChoice.uniqueLocal(of: "swarm", number: 0))
        var narrow = MemoryState()
        narrow.cluster = Cluster()
        narrow.cluster?.defaultAddressPool = ["10.20.0.0/16"]
        narrow.cluster?.subnetSize = 26
        #expect(try NetworkDraft.create(NetworkDraft.ingressSpec, in: narrow).subnets.first?.description == "10.20.0.0/26")
    }

    @Test func networksGetWhatIsFree() throws {
        var state = try state
        let first = try create("first", in: state)
        #expect(first.vni == 4097 && first.subnets.map(\.description) == ["10.1.0.0/24"] && first.spec.scope == "swarm")
        state.networks[first.id] = first
        let second = try create("second", in: state) { $0.ipv6 = true }
        #expect(second.vni == 4098 && second.subnets.first?.description == "10.1.1.0/24" && second.subnets.count == 2)
        state.networks[second.id] = second
        state.networks[first.id] = nil
        let third = try create("third", in: state)
        #expect(third.vni == 4099 && third.subnets.map(\.description) == ["10.1.2.0/24"], "what was given back rests")
        let own = try create("own", in: state) {
            $0.ipam = pool("192.168.5.0/24", gateway: "192.168.5.254", range: "192.168.5.128/25")
            $0.driver = NetworkDriverState()
            $0.driver?.name = "custom"
            $0.driver?.options = ["com.docker.network.driver.overlay.vxlanid_list": "7"]
        }
        #expect(own.vni == 7 && own.driver.name == "custom" && own.ipam?.configs.first?.gateway == "192.168.5.254")
    }

    @Test func badInput() throws {
        let state = try state
        #expect(error("", in: state) { _ in }?.code == .invalidArgument)
        #expect(error("a b", in: state) { _ in }?.code == .invalidArgument)
        #expect(error("host", in: state) { _ in }?.code == .permissionDenied)
        #expect(error("ingress", in: state) { _ in }?.message == "network with name ingress already exists")
        #expect(error("ingress", in: state) { _ in }?.code == .conflict)
        #expect(error(in: state) { $0.ingress = true }?.code == .conflict)
        #expect(error(in: state) { $0.ipam = pool("10.0.7.0/24") }?.code == .permissionDenied, "overlaps the ingress network")
        #expect(error(in: state) { $0.ipam = pool("10.9.0.0/24", gateway: "10.9.1.1") }?.code == .invalidArgument)
        #expect(error(in: state) { $0.ipam = pool("10.9.0.0/31") }?.message.contains("no room") == true)
        #expect(error(in: state) { $0.ipam = pool("10.9.0.0/24", range: "10.8.0.0/25") }?.code == .invalidArgument)
        #expect(error(in: state) { $0.ipam = pool("10.9.0.0") }?.message.contains("10.9.0.0/24") == true)
        #expect(error(in: state) { $0.ipam = pool("10.9.0.0/24x") }?.code == .invalidArgument)
        #expect(error(in: state) { $0.ipam = pool("", gateway: "10.9.0.1") }?.message.contains("--subnet") == true)
        #expect(error(in: state) { $0.ipam = pool("fd00::/64") }?.message.contains("--ipv6") == true)
        let bare = error(in: state) {
            $0.ipv6 = true
            $0.ipam = pool("fd00::")
        }
        #expect(bare?.code == .invalidArgument && bare?.message.contains("fd00::/64") == true)
        let two = error(in: state) {
            $0.ipam = pool("10.9.0.0/24")
            $0.ipam?.configs += pool("10.10.0.0/24").configs
        }
        #expect(two?.code == .unimplemented)
        let same = error(in: state) {
            $0.ipam = pool("10.9.0.0/24")
            $0.ipam?.configs += pool("10.9.0.128/25").configs
        }
        #expect(same?.code == .invalidArgument)
        for list in ["4096", "0", "x", "16777216", "5,6"] {
            let wrong = error(in: state) {
                $0.driver = NetworkDriverState()
                $0.driver?.options = ["com.docker.network.driver.overlay.vxlanid_list": list]
            }
            #expect(wrong?.code == (list == "4096" ? .conflict : .invalidArgument), "\(list)")
        }
        #expect(
            error(in: state) {
                $0.ipam = IPAMConfig(); $0.ipam?.driver = "dhcp"
            }?.code == .unimplemented)
    }

    @Test func fullPools() throws {
        var state = try state
        state.cluster?.defaultAddressPool = ["10.0.0.0/16"]
        #expect(error(in: state) { _ in }?.code == .unavailable)
        state.cluster?.defaultAddressPool = ["10.0.0.0/16", "10.77.0.0/24"]
        let last = try create("last", in: state)
        #expect(last.subnets.map(\.description) == ["10.77.0.0/24"])
    }

    @Test func usersKeepNetworks() throws {
        var state = try state
        let lan = try create("lan", in: state)
        state.networks[lan.id] = lan
        try NetworkDraft.checkRemoval(of: lan, in: state)
        let web = ServiceDraft.create(
            makeSpec("web") {
                $0.task.networks = [NetworkAttachmentSpec()]; $0.task.networks[0].target = lan.id.text
            })
        state.services[web.id] = web
        #expect(throws: ApusError(.invalidArgument, "network lan is in use by service web")) { try NetworkDraft.checkRemoval(of: lan, in: state) }
        state.services = [:]
        var task = makeTask("t1") {
            $0.serviceName = "web"
            $0.slot = 1
            $0.networks = [NetworkAttachment(in: lan)]
        }
        state.put(task)
        #expect(throws: ApusError(.invalidArgument, "network lan is in use by task web.1.t1")) { try NetworkDraft.checkRemoval(of: lan, in: state) }
        task.status.state = .shutdown
        state.put(task)
        try NetworkDraft.checkRemoval(of: lan, in: state)
        let ingress = try #require(state.ingressNetwork)
        try NetworkDraft.checkRemoval(of: ingress, in: state)
        let port = ServiceDraft.create(makeSpec("port") { $0.endpoint = makeEndpoint(makePort(80, 80)) })
        state.services[port.id] = port
        #expect(throws: ApusError.self) { try NetworkDraft.checkRemoval(of: ingress, in: state) }
    }

    /// Whatever is asked for: an error, or a network that keeps to its own.
    @Test func anything() throws {
        var generator = SplitMix64(seed: 7)
        let texts = ["", "10.9.0.0/24", "10.9.0.1", "10.9.0.0/33", "fd00::/64", "fd00::/129", "::", "/", "10.9.0.0/", "a/b", "255.255.255.255/8", "-1", "ä"]
        var state = try state
        for round in 0..<2000 {
            func text() -> String { texts.randomElement(using: &generator) ?? "" }
            var spec = NetworkSpec()
            spec.name = "n\(round)"
            spec.ipv6 = Bool.random(using: &generator)
            spec.ipam = IPAMConfig()
            for _ in 0..<Int.random(in: 0...2, using: &generator) { spec.ipam?.configs += pool(text(), gateway: text(), range: text()).configs }
            guard let network = try? NetworkDraft.create(spec, reserved: Bool.random(using: &generator) ? [:] : ["x": text()], in: state) else { continue }
            #expect(network.addressPools.count == network.ipam?.configs.count && !network.addressPools.isEmpty)
            for other in state.networks.values {
                #expect(other.vni != network.vni)
                #expect(!other.subnets.contains { subnet in network.subnets.contains { $0.overlaps(subnet) } })
            }
            if state.networks.count < 30 { state.networks[network.id] = network }
        }
    }
}
