import Glibc
import HTTPClient
import PluginAPI
import Synchronization
import Testing

@Suite("HTTPClient")
struct HTTPClientTests {
    private let client = HTTPClient()

    @Test("an answer has its status, fields and body; a status of 500 is an answer")
    func answers() async throws {
        let server = ScriptedServer { request, connection in
            if request.path == "/error" { return connection.answer(500, [:], Array("broken".utf8)) }
            connection.answer(200, ["X-Method": request.method, "Set-Cookie": "a"], Array("hello \(request.headers["x-test"] ?? "")".utf8))
        }
        defer { server.stop() }
        let answer = try await client.send(HTTPRequest("GET", server.url + "/", headers: ["X-Test": "you"]))
        #expect(answer.status == 200)
        #expect(answer.text == "hello you")
        #expect(answer.headers["x-method"] == "GET")
        let error = try await client.send(HTTPRequest("DELETE", server.url + "/error"))
        #expect(error.status == 500)
        #expect(error.text == "broken")
    }

    @Test("a body is sent whole, from memory and from a descriptor", arguments: ["POST", "PUT", "PATCH"])
    func bodies(method: String) async throws {
        let server = ScriptedServer { request, connection in
            connection.answer(200, ["X-Length": request.headers["content-length"] ?? "none"], request.body)
        }
        defer { server.stop() }
        let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let echoed = try await client.send(HTTPRequest(method, server.url, body: .bytes(bytes)))
        #expect(echoed.body == bytes)
        #expect(echoed.headers["X-Length"] == "300000")
        let empty = try await client.send(HTTPRequest(method, server.url))
        #expect(empty.body.isEmpty)
        #expect(empty.headers["X-Length"] == "0")

        var ends: [Int32] = [-1, -1]
        #expect(pipe(&ends) == 0)
        let text = Array("from a pipe".utf8)
        #expect(write(ends[1], text, text.count) == text.count)
        close(ends[1])
        let piped = try await client.send(HTTPRequest(method, server.url, body: .descriptor(ends[0])))
        close(ends[0])
        #expect(piped.body == text)
    }

    @Test("a unix socket takes the place of the address")
    func unixSocket() async throws {
        let path = "/tmp/apus-http-\(getpid())-\(UInt32.random(in: 0...UInt32.max)).sock"
        let server = ScriptedServer(unixSocket: path) { request, connection in connection.answer(200, [:], Array(request.path.utf8)) }
        defer {
            server.stop()
            unlink(path)
        }
        #expect(try await client.send(HTTPRequest("GET", "http://apus/v1.50/info?a=b", unixSocket: path)).text == "/v1.50/info?a=b")
        await #expect { try await client.send(HTTPRequest("GET", "http://apus/", unixSocket: path + ".missing")) } throws: { error in
            (error as? ApusError)?.code == .unavailable && (error as? ApusError)?.message.contains(path) == true
        }
    }

    @Test("a stream hands over its head before its body ends, and its chunks in order")
    func streams() async throws {
        let gate = Gate()
        let server = ScriptedServer { _, connection in
            connection.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            // Goes on only when the client has had the head.
            gate.wait()
            for piece in ["one ", "two ", "three"] { connection.write("\(String(piece.utf8.count, radix: 16))\r\n\(piece)\r\n") }
            connection.write("0\r\n\r\n")
        }
        defer { server.stop() }
        let text = Mutex("")
        try await client.stream(HTTPRequest("GET", server.url)) { head in
            #expect(head.status == 200)
            gate.open()
        } onChunk: { chunk in
            text.withLock { $0 += String(decoding: chunk, as: UTF8.self) }
        }
        #expect(text.withLock { $0 } == "one two three")
    }

    @Test("cancellation ends a silent transfer at once")
    func cancellation() async throws {
        let began = Gate()
        let server = ScriptedServer { _, connection in
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
            connection.waitForEnd()
        }
        defer { server.stop() }
        let task = ConcurrentTask { [client] in
            do throws(ApusError) {
                try await client.stream(HTTPRequest("GET", server.url), onHead: { _ in began.open() }, onChunk: { _ in })
                return nil as ApusError?
            } catch {
                return error
            }
        }
        await began.opened()
        let start = ContinuousClock.now
        task.cancel()
        #expect(await task.value?.code == .cancelled)
        #expect(ContinuousClock.now - start < .seconds(20), "without being woken it would look up after a minute")
    }

    @Test("a transfer that waits for a thread is cancelled at once, too")
    func cancellationInQueue() async throws {
        let single = HTTPClient(maximumTransfers: 1)
        let began = Gate()
        let server = ScriptedServer { _, connection in
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
            connection.waitForEnd()
        }
        defer { server.stop() }
        let url = server.url
        let first = ConcurrentTask { try? await single.stream(HTTPRequest("GET", url), onHead: { _ in began.open() }, onChunk: { _ in }) }
        await began.opened()
        let second = ConcurrentTask { try? await single.send(HTTPRequest("GET", url)) }
        second.cancel()
        #expect(await second.value == nil)
        #expect(server.requests.count == 1)
        first.cancel()
        _ = await first.value
    }

    @Test("what a callback throws is what the caller gets")
    func refusals() async throws {
        let server = ScriptedServer { _, connection in connection.answer(200, [:], [UInt8](repeating: 1, count: 100_000)) }
        defer { server.stop() }
        await #expect(throws: ApusError(.conflict, "no")) {
            try await client.stream(
                HTTPRequest("GET", server.url), onHead: { _ in }, onChunk: { (_) throws(ApusError) in throw ApusError(.conflict, "no") })
        }
        await #expect(throws: ApusError(.notFound, "head")) {
            try await client.stream(
                HTTPRequest("GET", server.url), onHead: { (_) throws(ApusError) in throw ApusError(.notFound, "head") }, onChunk: { _ in })
        }
        await #expect { try await client.send(HTTPRequest("GET", server.url), limit: 5000) } throws: { ($0 as? ApusError)?.code == .tooLarge }
    }

    @Test("redirects are followed as far as allowed")
    func redirects() async throws {
        let server = ScriptedServer { request, connection in
            if request.path == "/end" { return connection.answer(200, [:], Array("there".utf8)) }
            if request.path == "/loop" { return connection.answer(302, ["Location": "/loop"]) }
            connection.answer(307, ["Location": "/end"], Array("moved".utf8))
        }
        defer { server.stop() }
        var request = HTTPRequest("GET", server.url + "/start")
        #expect(try await client.send(request).status == 307)
        request.redirectLimit = 3
        let answer = try await client.send(request)
        #expect(answer.text == "there")
        #expect(answer.head.url.hasSuffix("/end"))
        request.url = server.url + "/loop"
        let endless = request
        await #expect { try await client.collect(endless) } throws: { ($0 as? HTTPFailure)?.kind == .tooManyRedirects }
    }

    @Test("failures say of which kind they are")
    func failures() async throws {
        let server = ScriptedServer { request, connection in
            switch request.path {
            case "/cut":
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                connection.close()
            case "/garbage":
                connection.write("\u{1}\u{2} what is this\r\n\r\n")
                connection.close()
            default: connection.waitForEnd()
            }
        }
        defer { server.stop() }
        func kind(_ request: HTTPRequest) async -> HTTPFailure.Kind? {
            do throws(HTTPFailure) {
                _ = try await client.collect(request)
                return nil
            } catch {
                return error.kind
            }
        }
        #expect(await kind(HTTPRequest("GET", server.url + "/cut")) == .interrupted)
        #expect(await kind(HTTPRequest("GET", server.url + "/garbage")) == .malformedAnswer)
        var slow = HTTPRequest("GET", server.url + "/slow")
        slow.timeout = .milliseconds(200)
        #expect(await kind(slow) == .timedOut)
        #expect(await kind(HTTPRequest("GET", "ftp://127.0.0.1/")) == .invalidRequest)
        #expect(await kind(HTTPRequest("GET", server.url, headers: ["X": "a\r\nInjected: b"])) == .invalidRequest)
        var secure = HTTPRequest("GET", "https://127.0.0.1:\(server.port)/tls")
        secure.connectTimeout = .milliseconds(300)
        #expect(await kind(secure) == .timedOut)
        let port = server.port
        server.stop()
        #expect(await kind(HTTPRequest("GET", "http://127.0.0.1:\(port)/")) == .unreachable)
    }

    @Test("many transfers share few threads")
    func pool() async throws {
        let few = HTTPClient(maximumTransfers: 3)
        let server = ScriptedServer { request, connection in connection.answer(200, [:], Array(request.path.utf8)) }
        defer { server.stop() }
        let url = server.url
        let answers = await withTaskGroup(of: String?.self) { group in
            for number in 0..<40 { group.addTask { try? await few.send(HTTPRequest("GET", "\(url)/\(number)")).text } }
            return await group.reduce(into: Set<String>()) { if let text = $1 { $0.insert(text) } }
        }
        #expect(answers == Set((0..<40).map { "/\($0)" }))
    }
}

/// Opens once; threads and tasks may wait for it.
final class Gate: Sendable {
    private let isOpen = Mutex(false)

    func open() { isOpen.withLock { $0 = true } }

    func wait() {
        while !isOpen.withLock({ $0 }) { usleep(1000) }
    }

    func opened() async {
        while !isOpen.withLock({ $0 }) { await ConcurrentTask.yield() }
    }
}
