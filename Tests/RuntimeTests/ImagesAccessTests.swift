import Coding
import Files
import PluginAPI
import Testing

@testable import RuntimeOCI

/// What is asked of a registry besides images.
@Suite("Images: tags and logins")
struct ImagesAccessTests {
    private func credentials(_ password: String) -> RegistryCredentials { RegistryCredentials(username: "ann", password: password) }

    @Test("tags come page by page, from this registry alone")
    func tags() async throws {
        let registry = FakeRegistry { request, connection in
            let base = "/v2/team/app/tags/list"
            switch request.path {
            case base:
                connection.answer(200, ["Link": "<\(base)?n=2&last=b>; rel=\"next\""], Array(#"{"name":"team/app","tags":["a","b"]}"#.utf8))
            case base + "?n=2&last=b":
                // Only the path counts.
                connection.answer(200, ["Link": "<http://192.0.2.1\(base)?last=c> ; rel=next"], Array(#"{"name":"team/app","tags":["c"]}"#.utf8))
            case base + "?last=c": connection.answer(200, ["Link": "<\(base)>; rel=\"prev\""], Array(#"{"name":"team/app","tags":null}"#.utf8))
            case "/v2/none/tags/list": connection.answer(200, [:], Array(#"{"name":"none","tags":null}"#.utf8))
            case "/v2/bad/tags/list": connection.answer(200, [:], Array(#"{"name":"bad","tags":["-x"]}"#.utf8))
            case "/v2/odd/tags/list": connection.answer(200, [:], Array("[]".utf8))
            case "/v2/loop/tags/list":
                connection.answer(200, ["Link": "</v2/loop/tags/list>; rel=\"next\""], Array(#"{"name":"loop","tags":["a"]}"#.utf8))
            default: return false
            }
            return true
        }
        defer { registry.stop() }
        let folder = try ImagesFolder()
        let store = try folder.store()
        func tags(_ name: String) async throws -> [String] { try await store.tags(PullRequest(reference: "\(registry.host)/\(name)")) }
        #expect(try await tags("team/app") == ["a", "b", "c"])
        #expect(try await tags("team/app:b") == ["a", "b", "c"])
        for (name, code) in [
            ("none", ApusError.Code.notFound), ("missing", .notFound), ("bad", .corrupt), ("odd", .corrupt), ("loop", .corrupt), ("UPPER", .invalidArgument),
        ] {
            let error = await failure { try await tags(name) }
            #expect(error?.code == code, "\(name): \(String(describing: error))")
        }
    }

    @Test(
        "the next page",
        arguments: [
            (["</v2/a/tags/list?last=x>; rel=\"next\""], "/v2/a/tags/list?last=x"), (["</v2/a>; title=x; rel=next"], "/v2/a"), (["</v2/a>"], nil),
            (["</v2/a>; rel=\"last\", </v2/b>; rel=\"next\""], "/v2/b"), (["</v2/a>; rel=\"last\"", "</v2/b>; rel=\"next\""], "/v2/b"),
            (["<https://other.example/v2/a>; rel=\"next\""], "/v2/a"), (["<https://other.example>; rel=\"next\""], nil), (["</v1/a>; rel=\"next\""], nil),
            ([""], nil), (["<"], nil), (["<>; rel=\"next\""], nil), (["</v2/a\u{1}>; rel=\"next\""], nil), ([], nil),
        ] as [([String], String?)])
    func nextPage(fields: [String], path: String?) {
        #expect(RegistrySession.nextPage(fields) == path)
    }

    @Test("a login by name and password")
    func basic() async throws {
        let registry = FakeRegistry { request, connection in
            guard request.path == "/v2/" else { return false }
            let isRight = request.headers["authorization"] == "Basic " + Base64.encode(Array("ann:right".utf8))
            connection.answer(isRight ? 200 : 401, isRight ? [:] : ["WWW-Authenticate": "Basic realm=\"here\""], Array("{}".utf8))
            return true
        }
        defer { registry.stop() }
        let folder = try ImagesFolder()
        let store = try folder.store()
        for server in [registry.host, "http://\(registry.host)", "https://\(registry.host)/v1/"] {
            try await store.authenticate(RegistryLoginRequest(server: server, credentials: credentials("right")))
        }
        let wrong = await failure { try await store.authenticate(RegistryLoginRequest(server: registry.host, credentials: credentials("wrong"))) }
        #expect(wrong?.code == .unauthenticated && wrong?.message.contains(registry.host) == true, "\(String(describing: wrong))")
        for (server, credentials) in [("two words", credentials("right")), ("-x", credentials("right")), (registry.host, RegistryCredentials())] {
            let error = await failure { try await store.authenticate(RegistryLoginRequest(server: server, credentials: credentials)) }
            #expect(error?.code == .invalidArgument, "\(server): \(String(describing: error))")
        }
    }

    @Test("a login by token, for no repository; what was right once is asked for anew")
    func token() async throws {
        let registry = FakeRegistry { request, connection in
            switch request.path {
            case "/v2/" where request.headers["authorization"] == "Bearer good": connection.answer(200)
            case "/v2/":
                let realm = "http://\(request.headers["host"] ?? "")/token"
                connection.answer(401, ["WWW-Authenticate": "Bearer realm=\"\(realm)\",service=\"here\""])
            case "/token?service=here" where request.headers["authorization"] == "Basic " + Base64.encode(Array("ann:right".utf8)):
                connection.answer(200, [:], Array(#"{"token":"good"}"#.utf8))
            default: connection.answer(401)
            }
            return true
        }
        defer { registry.stop() }
        let folder = try ImagesFolder()
        let store = try folder.store()
        for _ in 0..<2 { try await store.authenticate(RegistryLoginRequest(server: registry.host, credentials: credentials("right"))) }
        #expect(registry.requests.filter { $0.path.hasPrefix("/token") }.count == 2)
        let wrong = await failure { try await store.authenticate(RegistryLoginRequest(server: registry.host, credentials: credentials("wrong"))) }
        #expect(wrong?.code == .unauthenticated, "\(String(describing: wrong))")
    }

    @Test("a server that is no registry")
    func noRegistry() async throws {
        let registry = FakeRegistry()
        defer { registry.stop() }
        let folder = try ImagesFolder()
        let store = try folder.store()
        let error = await failure { try await store.authenticate(RegistryLoginRequest(server: registry.host, credentials: credentials("right"))) }
        #expect(error?.message.contains("no registry") == true, "\(String(describing: error))")
    }

    @Test("Docker Hub by all its names, and mirrors are not asked")
    func hub() throws {
        let folder = try ImagesFolder()
        var configuration = ImageStoreConfiguration(directory: folder.path)
        configuration.mirrors = ["http://127.0.0.1:5000"]
        for name in ["", "docker.io", "index.docker.io", "https://index.docker.io/v1/"] {
            #expect(try configuration.registry(name).addresses.map(\.base) == ["https://registry-1.docker.io"], "\(name)")
        }
        #expect(try configuration.registry("registry.example.com/team").addresses.map(\.base) == ["https://registry.example.com"])
    }

    @Test("what images share is counted for each of them, and what an image has twice is shared")
    func shared() async throws {
        func layer(_ text: String) -> [UInt8] {
            var tar = TestTar()
            tar.file(text, text)
            return tar.finished()
        }
        let registry = FakeRegistry()
        defer { registry.stop() }
        registry.put(TestImage(layers: [layer("base"), layer("one")]), "one")
        registry.put(TestImage(layers: [layer("base"), layer("another")]), "two")
        registry.put(TestImage(layers: [layer("alone"), layer("alone")]), "three")
        let folder = try ImagesFolder()
        let store = try folder.store()
        var images: [String: Image] = [:]
        for name in ["one", "two", "three"] { images[name] = try await store.pull(PullRequest(reference: "\(registry.host)/\(name)")) }
        #expect(images.mapValues(\.size) == ["one": 7, "two": 11, "three": 10])
        let shared = store.sharedUsage()
        #expect(images.mapValues { shared[$0.id] } == ["one": 4, "two": 4, "three": 5])
        #expect(store.diskUsage() == 19)
    }
}
