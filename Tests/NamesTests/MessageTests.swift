import PluginAPI
import Testing

@testable import Names

@Suite struct MessageTests {
    @Test func namesAreReadAndKeepTheirCase() throws {
        let name = try #require(DomainName("FrontEnd.MyNet."))
        #expect(name.key == "frontend.mynet")
        #expect(name.wire == [8] + "FrontEnd".utf8 + [5] + "MyNet".utf8 + [0])
        #expect(DomainName("")?.wire == [0] && DomainName(".")?.wire == [0])
        #expect(DomainName("a..b") == nil && DomainName(String(repeating: "x", count: 64)) == nil)
        let label = String(repeating: "x", count: 63)
        #expect(DomainName([label, label, label, String(repeating: "y", count: 61)].joined(separator: "."))?.wire.count == 255)
        #expect(DomainName([label, label, label, String(repeating: "y", count: 62)].joined(separator: ".")) == nil)
        #expect(DomainName(wire: [3, 0x61, 0x2e, 0x62, 0]).key == nil, "a dot inside of a label")
        #expect(DomainName(wire: [2, 0xff, 0xfe, 0]).key == nil)
    }

    @Test func compressionIsUndoneAndLeadsNowhereTwice() throws {
        // "b" at 0, "a" with a pointer to it at 3, a pointer to that at 7.
        var reader = MessageReader([1, 0x62, 0, 1, 0x61, 0xc0, 0, 0xc0, 3])
        #expect(try reader.name().key == "b")
        #expect(try reader.name().key == "a.b")
        #expect(try reader.name().key == "a.b")
        #expect(reader.isAtEnd)
        for bad: [UInt8] in [[0xc0, 0], [1, 0x61, 0xc0, 0], [0xc0, 2, 0], [0x40, 0], [0x80, 0], [5, 0x61], [0xc0], []] {
            var reader = MessageReader(bad)
            #expect(throws: MalformedMessage.self, "\(bad)") { try reader.name() }
        }
        // Two pointers that lead to each other, reached from behind.
        var loop = MessageReader([0xc0, 2, 0xc0, 0, 0xc0, 2])
        _ = try loop.take(4)
        #expect(throws: MalformedMessage.self) { try loop.name() }
        // A name that grows past its limit by pointers.
        var bytes = [UInt8](repeating: 1, count: 0)
        for index in 0..<200 {
            bytes += [3, 0x61, 0x61, 0x61]
            bytes += index == 0 ? [0, 0] : [0xc0 | UInt8((index - 1) * 6 >> 8), UInt8((index - 1) * 6 & 0xff)]
        }
        var long = MessageReader(bytes)
        _ = try long.take(199 * 6)
        #expect(throws: MalformedMessage.self) { try long.name() }
    }

    @Test func queriesAreToldFromEverythingElse() throws {
        let plain = try query(Message.query("redis", id: 0xbeef))
        #expect(plain.header.id == 0xbeef && plain.question.name.key == "redis" && plain.extensions == nil && plain.datagramLimit == 512)
        let extended = try query(Message.query("redis", datagramSize: 1232))
        #expect(extended.extensions?.version == 0 && extended.datagramLimit == 1232)
        #expect(try query(Message.query("redis", datagramSize: 100)).datagramLimit == 512)
        #expect(try query(Message.query("redis", datagramSize: 65535)).datagramLimit == 4096)
        #expect(Query.receive([]) == .ignored)
        #expect(Query.receive(Array(Message.query("redis").prefix(11))) == .ignored)
        #expect(Query.receive(Message.answer(to: Message.query("redis"))) == .ignored)
        func code(_ bytes: [UInt8]) -> UInt16? { if case .refused(_, let code) = Query.receive(bytes) { code } else { nil } }
        #expect(code(Message.query("redis", extraFlags: 0x2800)) == ResponseCode.notImplemented)
        #expect(code(Message.query("redis") + [0]) == ResponseCode.formatError)
        #expect(code(Array(Message.query("redis").dropLast())) == ResponseCode.formatError)
        #expect(code(Message.words([1, 0, 0, 0, 0, 0])) == ResponseCode.formatError)
        #expect(code(Message.words([1, 0, 2, 0, 0, 0]) + [0, 0, 1, 0, 1, 0, 0, 1, 0, 1]) == ResponseCode.formatError)
    }

    @Test func answersFitAndSayWhatTheyAre() throws {
        let addresses = (1...200).map { IPAddress(v4: 10, 0, 0, UInt8($0)) }
        for (size, isDatagram) in [(nil, true), (1232, true), (4096, true), (nil, false)] as [(UInt16?, Bool)] {
            let asked = try query(Message.query("TASKS.web", datagramSize: size, extraFlags: MessageHeader.Flag.checkingDisabled))
            let limit = isDatagram ? asked.datagramLimit : Response.streamLimit
            let bytes = Response.make(asked, .addresses(addresses), isOwn: true, limit: limit, isDatagram: isDatagram)
            let answer = try Message(bytes)
            #expect(bytes.count <= limit)
            let isWhole = size == 4096 || !isDatagram
            #expect(answer.header.isTruncated == !isWhole && (answer.answers.count == 200) == isWhole && answer.answers.count >= 28)
            #expect(answer.questions == [asked.question], "in the same case")
            #expect(answer.answers.allSatisfy { $0.name == asked.question.name && $0.lifetime == 1 && $0.networkClass == 1 && $0.type == 1 })
            #expect(answer.header.isResponse && answer.hasFlag(MessageHeader.Flag.authoritative) && answer.hasFlag(MessageHeader.Flag.recursionAvailable))
            #expect(answer.hasFlag(MessageHeader.Flag.recursionDesired) && answer.hasFlag(MessageHeader.Flag.checkingDisabled) && answer.header.id == 7)
            #expect(answer.additionals.count == (size == nil ? 0 : 1))
        }
        // More than a message can have: as many as there is room for.
        let many = (0..<6000).map { IPAddress(v4: 10, 0, UInt8($0 / 256), UInt8($0 % 256)) }
        let bytes = Response.make(try query(Message.query("a")), .addresses(many), isOwn: true, limit: 65535, isDatagram: false)
        #expect(bytes.count <= 65535 && bytes.count > 65500)
        #expect(try !Message(bytes).header.isTruncated)
    }

    @Test func upstreamAnswersAreCompared() throws {
        let asked = Message.query("Redis.example", id: 99)
        let question = try query(asked).question
        func look(_ bytes: [UInt8]) -> UpstreamAnswer { UpstreamAnswer(bytes, id: 99, question: question) }
        #expect(look(Message.answer(to: asked)) == .answer(isTruncated: false))
        #expect(look(Message.answer(to: asked, extraFlags: 0x200)) == .answer(isTruncated: true))
        #expect(look(Message.answer(to: Message.query("rEDIS.EXAMPLE", id: 99))) == .answer(isTruncated: false))
        #expect(look(Message.answer(to: asked, code: 3)) == .answer(isTruncated: false))
        #expect(look(Message.answer(to: asked, code: 2)) == .failure(2) && look(Message.answer(to: asked, code: 5)) == .failure(5))
        #expect(look(Message.answer(to: asked, id: 98)) == .foreign)
        #expect(look(Message.answer(to: Message.query("redis.examplf", id: 99))) == .foreign)
        #expect(look(Message.answer(to: Message.query("redis.example", 28, id: 99))) == .foreign)
        #expect(look(asked) == .foreign && look([]) == .foreign)
        #expect(look(Message.words([99, 0x8181, 0, 0, 0, 0])) == .formatError)
        #expect(look(Message.words([99, 0x8180, 0, 0, 0, 0])) == .foreign && look(Message.words([99, 0x8183, 0, 0, 0, 0])) == .foreign)
        #expect(look(Message.words([99, 0x8182, 0, 0, 0, 0])) == .failure(2))
    }
}
