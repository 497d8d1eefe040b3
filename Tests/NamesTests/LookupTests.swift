import Glibc
import PluginAPI
import Testing

@testable import Names

@Suite struct LookupTests {
    private let front: ID = "front"
    private let back: ID = "back"
    private func networks() throws -> [ID: NetworkNames] {
        [
            front: NetworkNames(
                name: "FrontNet",
                names: [
                    "web": [try address("10.0.1.2"), try address("fd00::2")], "db": [try address("10.0.1.9")], "empty": [], "a.b": [try address("10.0.1.4")],
                ],
                pointers: [try address("10.0.1.2"): "web.1.FrontNet", try address("fd00::2"): "web.1.FrontNet"],
                subnets: [try #require(IPPrefix("10.0.1.0/24")), try #require(IPPrefix("fd00::/64"))]),
            back: NetworkNames(name: "back.net", names: ["db": [try address("10.0.2.9")]]),
        ]
    }

    private func resolve(_ name: String, _ type: UInt16 = 1, networkClass: UInt16 = 1, in sandbox: SandboxNames? = nil) throws -> NameLookup.Result {
        let question = Question(name: try #require(DomainName(name)), type: type, networkClass: networkClass)
        return NameLookup.resolve(question, in: sandbox ?? SandboxNames(networks: [front, back]), try networks())
    }

    @Test func namesHaveTheAddressesOfTheFirstNetworkThatKnowsThem() throws {
        #expect(try resolve("web") == .answer(.addresses([try address("10.0.1.2")])))
        #expect(try resolve("WEB.", 28) == .answer(.addresses([try address("fd00::2")])))
        #expect(try resolve("db") == .answer(.addresses([try address("10.0.1.9")])))
        #expect(try resolve("db", in: SandboxNames(networks: [back, front])) == .answer(.addresses([try address("10.0.2.9")])))
        #expect(try resolve("a.b") == .answer(.addresses([try address("10.0.1.4")])))
        #expect(try resolve("web", in: SandboxNames(networks: [back])) == .unknown)
        #expect(try resolve("web", in: SandboxNames(networks: ["gone", front])) == .answer(.addresses([try address("10.0.1.2")])))
        let own = SandboxNames(networks: [front], ownNames: ["db": [try address("192.0.2.1")]])
        #expect(try resolve("db", in: own) == .answer(.addresses([try address("192.0.2.1")])))
    }

    @Test func networksNamesMayFollow() throws {
        #expect(try resolve("db.frontnet") == .answer(.addresses([try address("10.0.1.9")])))
        #expect(try resolve("DB.Back.Net") == .answer(.addresses([try address("10.0.2.9")])))
        #expect(try resolve("a.b.frontnet") == .answer(.addresses([try address("10.0.1.4")])))
        #expect(try resolve("nobody.frontnet") == .unknown)
        #expect(try resolve("frontnet") == .unknown)
        #expect(try resolve("db.frontnet", in: SandboxNames(networks: [back])) == .unknown)
    }

    @Test func whatIsKnownIsNeverAskedForElsewhere() throws {
        for type: UInt16 in [2, 5, 12, 15, 16, 28, 33, 64, 65, 255, 65535] { #expect(try resolve("db", type) == .answer(.empty), "type \(type)") }
        #expect(try resolve("empty") == .answer(.empty) && resolve("empty", 28) == .answer(.empty))
        #expect(try resolve("example.com") == .unknown && resolve("nobody") == .unknown && resolve("") == .unknown)
        #expect(try resolve("db", networkClass: 3) == .unknown)
    }

    @Test func addressesHaveNames() throws {
        let name = try #require(DomainName("web.1.FrontNet"))
        #expect(try resolve("2.1.0.10.in-addr.arpa", 12) == .answer(.pointer(name)))
        #expect(try resolve("2.1.0.10.IN-ADDR.arpa", 1) == .answer(.empty))
        #expect(try resolve("2." + String(repeating: "0.", count: 27) + "0.0.d.f.ip6.arpa", 12) == .answer(.pointer(name)))
        #expect(try resolve("3.1.0.10.in-addr.arpa", 12) == .missing, "within the subnet")
        #expect(try resolve("2.1.0.10.in-addr.arpa", 12, in: SandboxNames(networks: [back])) == .unknown)
        for text in [
            "9.9.9.9.in-addr.arpa", "1.0.10.in-addr.arpa", "256.1.0.10.in-addr.arpa", "02.1.0.10.in-addr.arpa", "in-addr.arpa", "2.ip6.arpa",
            "x.2.1.0.10.in-addr.arpa",
        ] {
            #expect(try resolve(text, 12) == .unknown, "\(text)")
        }
    }
}

@Suite struct ForwardingTests {
    private func servers(_ count: Int) -> [UpstreamServer] { (0..<count).map { UpstreamServer(IPAddress(v4: 192, 0, 2, UInt8($0 + 1))) } }

    private func forwarding(_ count: Int, stream: Bool = false, _ now: ContinuousClock.Instant) throws -> Forwarding {
        Forwarding(
            sandbox: "s", asker: stream ? .stream(1) : .datagram(.init()), query: try query(Message.query("a")), message: [], servers: servers(count), now: now)
    }

    @Test(arguments: [1, 2, 3, 6]) func serversAreAskedInOrderAndInBoundedTime(count: Int) throws {
        let start = ContinuousClock.now
        var now = start
        var forwarding = try forwarding(count, now)
        var asked: [UpstreamServer] = []
        while let attempt = forwarding.next(now) {
            #expect(!attempt.isStream)
            asked.append(attempt.server)
            now = forwarding.dueNext
        }
        #expect(asked.count == max(3, count) && Array(asked.prefix(count)) == servers(count))
        #expect(now - start <= Forwarding.patience)
    }

    @Test func whoFailedIsNotAskedAgain() throws {
        var forwarding = try forwarding(2, .now)
        let next = forwarding.next(.now)
        let first = try #require(next)
        forwarding.failed(first, code: ResponseCode.refused)
        let second = forwarding.next(.now)
        let third = forwarding.next(.now)
        #expect(second?.server == servers(2)[1] && third == nil)
        #expect(forwarding.failureCode == ResponseCode.refused)
    }

    @Test func overTCPDatagramsComeLast() throws {
        var forwarding = try forwarding(2, stream: true, .now)
        var order: [Bool] = []
        while let attempt = forwarding.next(.now) { order.append(attempt.isStream) }
        #expect(order == [true, true, false, false])
    }
}

@Suite struct ResolverFileTests {
    @Test func serversSearchListsAndOptionsAreRead() throws {
        let file = ResolverFile(
            "; old\n# new\nnameserver\t10.0.0.1 # first\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver ::1\nnameserver 10.0.0.4\ndomain x\nsearch a.example b.example\noptions edns0 trust-ad\n"
        )
        #expect(file.servers.map(\.description) == ["10.0.0.1:53", "[fe80::1%eth0]:53", "[::1]:53"])
        #expect(file.search == ["a.example", "b.example"] && file.options == ["edns0", "trust-ad"])
        #expect(ResolverFile("").servers == [UpstreamServer(IPAddress(v4: 127, 0, 0, 1))])
        #expect(UpstreamServer("10.0.0.1%eth0") == nil && UpstreamServer("::1%") == nil && UpstreamServer("a") == nil)
    }

    @Test func sandboxesAskTheirOwnServer() throws {
        let host = "nameserver 127.0.0.53\nsearch lan\noptions edns0\n"
        #expect(ResolverFile.sandboxText(host: host, dns: nil) == "nameserver 127.0.0.11\nsearch lan\noptions edns0 ndots:0\n")
        #expect(ResolverFile.sandboxText(host: "", dns: nil) == "nameserver 127.0.0.11\noptions ndots:0\n")
        var dns = DNSConfiguration()
        dns.search = ["example"]
        dns.options = ["ndots:5"]
        dns.nameservers = ["9.9.9.9", "2001:db8::1"]
        #expect(ResolverFile.sandboxText(host: host, dns: dns) == "nameserver 127.0.0.11\nsearch example\noptions ndots:5\n")
        #expect(try ResolverFile.upstream(host: host, dns: dns).map(\.description) == ["9.9.9.9:53", "[2001:db8::1]:53"])
        #expect(try ResolverFile.upstream(host: host, dns: nil).map(\.description) == ["127.0.0.53:53"])
        dns.search = ["."]
        #expect(!ResolverFile.sandboxText(host: host, dns: dns).contains("search"))
        dns.nameservers = ["nine"]
        #expect { try ResolverFile.upstream(host: host, dns: dns) } throws: { ($0 as? ApusError)?.code == .invalidArgument }
    }
}
