import Glibc
import NFTables
import Namespaces
import Netlink
import PluginAPI
import Testing

@Suite struct NetlinkTests {
    @Test func namespacesArePinnedEnteredAndRemoved() async throws {
        try await Laboratory.run { laboratory in
            let path = try laboratory.makeNamespace("one")
            #expect(NetworkNamespaces.isPinned(path: path))
            #expect(throws: ApusError.self) { try NetworkNamespaces.create(path: path) }
            @Sendable func identity() throws(ApusError) -> UInt64 {
                var information = stat()
                guard stat("/proc/thread-self/ns/net", &information) == 0 else { throw ApusError(.failed, "stat") }
                return UInt64(information.st_ino)
            }
            let outer = try identity()
            let inner = try await NetworkNamespaces.run(in: path) { () throws(ApusError) in try identity() }
            #expect(outer != inner)
            #expect(try NetworkNamespaces.runBlocking(in: path) { () throws(ApusError) in try identity() } == inner)
            #expect(try await NetworkNamespaces.run(in: nil) { () throws(ApusError) in try identity() } == outer)
            #expect(try identity() == outer)
            let thread = try NamespaceThread(in: path)
            #expect(try await thread.run { () throws(ApusError) in try identity() } == inner)
            thread.stop()
            await #expect { try await thread.run {} } throws: { ($0 as? ApusError)?.code == .unavailable }
            try NetworkNamespaces.remove(path: path)
            try NetworkNamespaces.remove(path: path)
            #expect(!NetworkNamespaces.isPinned(path: path))
            await #expect { try await NetworkNamespaces.run(in: path) { () throws(ApusError) in } } throws: { ($0 as? ApusError)?.code == .notFound }
            #expect { try NamespaceThread(in: path) } throws: { ($0 as? ApusError)?.code == .notFound }
            #expect { try NetworkNamespaces.runBlocking(in: "/etc/passwd") { () throws(ApusError) in } } throws: {
                ($0 as? ApusError)?.code == .failed
            }
        }
    }

    @Test func linksAreMadeChangedMovedAndRemoved() async throws {
        try await Laboratory.run { laboratory in
            let other = try laboratory.makeNamespace("other")
            try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                try netlink.createBridge(named: "br0", macAddress: MACAddress("02:00:00:00:00:07"), mtu: 1400)
                #expect { try netlink.createBridge(named: "br0", macAddress: nil) } throws: { ($0 as? ApusError)?.code == .conflict }
                #expect { try netlink.createBridge(named: "a/b", macAddress: nil) } throws: { ($0 as? ApusError)?.code == .invalidArgument }
                guard let bridge = try netlink.link(named: "br0") else { throw ApusError(.notFound, "br0") }
                #expect(bridge.kind == "bridge" && bridge.mtu == 1400 && !bridge.isUp && bridge.macAddress == MACAddress("02:00:00:00:00:07"))
                try netlink.createVethPair(VethPair(name: "v0", peerName: "v1"))
                guard let near = try netlink.link(named: "v0"), let far = try netlink.link(named: "v1") else { throw ApusError(.notFound, "v0") }
                #expect(near.peerIndex == far.index)
                let mac = MACAddress("02:00:00:00:00:08")
                try netlink.change(linkAt: near.index, LinkChange(isUp: true, mtu: 1300, macAddress: mac, masterIndex: bridge.index))
                let changed = try netlink.link(at: near.index)
                #expect(changed?.mtu == 1300 && changed?.masterIndex == bridge.index && changed?.macAddress == mac)
                try netlink.change(linkAt: near.index, LinkChange(masterIndex: 0))
                #expect(try netlink.link(at: near.index)?.masterIndex == nil)
                try netlink.change(linkAt: far.index, LinkChange(name: "moved"))
                let descriptor = open(other, O_RDONLY | O_CLOEXEC)
                defer { close(descriptor) }
                try netlink.move(linkAt: far.index, toNamespace: descriptor)
                #expect(try netlink.link(named: "moved") == nil)
                #expect(try NetlinkSocket(inNamespace: other).link(named: "moved") != nil)
                try netlink.removeLink(named: "v0")
                try netlink.removeLink(named: "v0")
                #expect(try NetlinkSocket(inNamespace: other).links().map(\.name) == ["lo"])
                #expect { try netlink.change(linkAt: 9999, LinkChange(isUp: true)) } throws: { ($0 as? ApusError)?.code == .notFound }
            }
        }
    }

    @Test func addressesRoutesAndNeighboursComeAndGo() async throws {
        try await Laboratory.run { laboratory in
            try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                guard let link = try netlink.link(named: "wan0"), let address = IPPrefix("10.1.2.3/24"), let six = IPPrefix("fd00:9::1/64"),
                    let target = IPPrefix("10.9.0.0/16"), let targetSix = IPPrefix("fd00:a::/48"), let gatewaySix = IPAddress("fd00:9::9")
                else { throw ApusError(.notFound, "wan0") }
                for prefix in [address, six] {
                    try netlink.addAddress(prefix, toLinkAt: link.index)
                    try netlink.addAddress(prefix, toLinkAt: link.index)
                    #expect(try netlink.addresses(ofLinkAt: link.index).contains(LinkAddress(linkIndex: link.index, prefix: prefix)))
                }
                for route in [
                    Route(destination: target, gateway: IPAddress(v4: 10, 1, 2, 9), linkIndex: link.index),
                    Route(destination: targetSix, gateway: gatewaySix, linkIndex: link.index),
                ] {
                    try netlink.setRoute(route)
                    try netlink.setRoute(route)
                    #expect(try netlink.routes().contains(route))
                    try netlink.removeRoute(route)
                    try netlink.removeRoute(route)
                    #expect(try !netlink.routes().contains(route))
                }
                guard let mac = MACAddress("02:00:00:00:00:01") else { throw ApusError(.failed, "mac") }
                let neighbour = Neighbour(linkIndex: link.index, address: IPAddress(v4: 10, 1, 2, 77), macAddress: mac)
                try netlink.setNeighbour(neighbour)
                #expect(try netlink.neighbours().contains(neighbour))
                try netlink.removeNeighbour(neighbour)
                #expect(try !netlink.neighbours().contains(neighbour))
                for prefix in [address, six] {
                    try netlink.removeAddress(prefix, fromLinkAt: link.index)
                    try netlink.removeAddress(prefix, fromLinkAt: link.index)
                }
                #expect(try !netlink.addresses().map(\.prefix).contains(address))
                let nowhere = Route(destination: target, gateway: IPAddress(v4: 192, 0, 2, 1), linkIndex: link.index)
                #expect { try netlink.setRoute(nowhere) } throws: { "\($0)".contains("10.9.0.0/16 by 192.0.2.1") }
            }
        }
    }

    @Test func nftablesTransactionsAreAllOrNothing() async throws {
        try await Laboratory.run { laboratory in
            try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in
                let rules = try NFTables()
                let netfilter = try NetfilterSocket()
                #expect(try !netfilter.hasTable("mine"))
                #expect { try rules.run("add table inet mine; delete chain inet mine nothing") } throws: { ($0 as? ApusError)?.code == .notFound }
                #expect(try !netfilter.hasTable("mine"))
                #expect { try rules.run("nonsense") } throws: { "\($0)".contains("syntax error") }
                try rules.run("add table inet mine")
                #expect(try netfilter.hasTable("mine"))
                #expect(try rules.run("list tables") == "table inet mine\n")
                #expect { try rules.run("create table inet mine") } throws: { ($0 as? ApusError)?.code == .conflict }
                #expect(try rules.run("list tables", json: true).contains("\"mine\""))
            }
        }
    }

    /// libnftables ends the process when its socket has a number above 1023.
    @Test func nftablesWorkWhenAllLowDescriptorsAreInUse() async throws {
        try await Laboratory.run { laboratory in
            try await NetworkNamespaces.run(in: laboratory.host) { () throws(ApusError) in
                let first = try NFTables()
                var taken: [Int32] = []
                defer { for number in taken { close(number) } }
                while taken.last ?? 0 < 1100 {
                    let number = dup(STDERR_FILENO)
                    guard number >= 0 else { throw ApusError(.failed, "the limit of open files is too low for this test") }
                    taken.append(number)
                }
                try first.run("add table inet here")
                // More than can be kept.
                var contexts: [NFTables] = []
                for number in 0..<1000 {
                    let rules = try NFTables()
                    #expect(try rules.run("list tables") == "table inet here\n", "context \(number)")
                    contexts.append(rules)
                }
                for rules in contexts.suffix(50) { #expect(try rules.run("list tables") == "table inet here\n") }
                contexts = []
                try NFTables().run("delete table inet here")
                #expect(try first.run("list tables") == "")
            }
        }
    }
}
