import PluginAPI
import Testing

@testable import RuntimeOCI

@Suite("Images: references")
struct ImagesReferenceTests {
    private static let digest = "sha256:" + String(repeating: "ab", count: 32)

    @Test(
        "references are completed as users expect",
        arguments: [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("nginx:1.25-alpine", "docker.io/library/nginx:1.25-alpine", "nginx:1.25-alpine"),
            ("team/app", "docker.io/team/app:latest", "team/app:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("index.docker.io/library/nginx:x", "docker.io/library/nginx:x", "nginx:x"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
            ("127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            (
                "registry.example.com/a_b__c-d.e/f---g:T_.-9", "registry.example.com/a_b__c-d.e/f---g:T_.-9",
                "registry.example.com/a_b__c-d.e/f---g:T_.-9"
            ),
            ("nginx@\(digest)", "docker.io/library/nginx@\(digest)", "nginx@\(digest)"),
            ("nginx:1@\(digest)", "docker.io/library/nginx:1@\(digest)", "nginx:1@\(digest)"),
        ])
    func good(text: String, canonical: String, familiar: String) throws {
        let reference = try ImageReference(text)
        #expect(reference.canonical == canonical)
        #expect(reference.description == familiar)
        #expect(try ImageReference(canonical) == reference)
        #expect(try ImageReference(familiar) == reference)
    }

    @Test(
        "others are refused, with the reason",
        arguments: [
            ("", "empty"), ("Nginx", "lower case"), ("/nginx", "slashes"), ("nginx/", "slashes"), ("a//b", "slashes"), ("nginx:", "tag"),
            ("nginx:a b", "spaces"),
            ("ngi\nnx", "control"), ("nginx\u{0}", "control"), ("größe", "ASCII"), ("nginx:.x", "tag"),
            ("nginx:" + String(repeating: "x", count: 129), "tag"),
            ("nginx@sha256:12", "digest"), ("nginx@md5:" + String(repeating: "a", count: 64), "digest"), ("a..b", "separated"), ("-a", "separated"),
            ("a-", "separated"),
            ("a___b", "separated"), ("a/../b", "separated"), (String(repeating: "a", count: 300), "longer"), ("localhost:99999/x", "host name"),
            ("ex_ample.com/x", "host name"),
            (String(repeating: "a", count: 64), "image id"), ("http://host/x", ""), (":latest", "missing"), ("host.com/", "missing"),
            (String(repeating: "x/", count: 600), "long"),
        ])
    func bad(text: String, words: String) {
        #expect { try ImageReference(text) } throws: { error in
            guard let error = error as? ApusError else { return false }
            return error.code == .invalidArgument && error.message.contains(words) && !error.message.contains("\n")
                && !error.message.contains("\u{0}")
        }
    }

    @Test("platforms: what runs where")
    func platforms() throws {
        let arm = try ImagePlatform("linux/arm/v7")
        #expect(arm.distance(to: ImagePlatform(os: "linux", architecture: "arm", variant: "v7")) == 0)
        #expect(arm.distance(to: ImagePlatform(os: "linux", architecture: "arm", variant: "v6")) == 2)
        #expect(arm.distance(to: ImagePlatform(os: "linux", architecture: "arm", variant: "v8")) == nil)
        #expect(arm.distance(to: ImagePlatform(os: "windows", architecture: "arm", variant: "v7")) == nil)
        let amd = try ImagePlatform("linux/amd64")
        #expect(amd.distance(to: ImagePlatform(os: "linux", architecture: "amd64", variant: "v3")) == nil)
        #expect(throws: ApusError.self) { try ImagePlatform("linux") }
        #expect(throws: ApusError.self) { try ImagePlatform("linux//") }
    }

    @Test("what is loopback, what is insecure")
    func registries() throws {
        #expect(
            ImageStoreConfiguration.isLoopback("localhost:5000") && ImageStoreConfiguration.isLoopback("127.3.2.1")
                && ImageStoreConfiguration.isLoopback("[::1]:5000"))
        #expect(!ImageStoreConfiguration.isLoopback("127.0.0.1.example.com") && !ImageStoreConfiguration.isLoopback("localhost.example.com"))
        var configuration = ImageStoreConfiguration(directory: "/nowhere", unpackPath: "")
        configuration.insecureRegistries = ["10.1.0.0/16", "reg.example.com:5000"]
        configuration.certificateDirectory = "/nowhere"
        func bases(_ text: String) throws -> [String] { try configuration.targets(for: ImageReference(text)).flatMap { $0.addresses.map(\.base) } }
        #expect(try bases("10.1.2.3:80/x") == ["https://10.1.2.3:80", "http://10.1.2.3:80"])
        #expect(try bases("10.2.2.3/x") == ["https://10.2.2.3"])
        #expect(try bases("reg.example.com:5000/x").count == 2)
        #expect(try bases("reg.example.com/x") == ["https://reg.example.com"])
        #expect(try bases("localhost:1/x") == ["http://localhost:1", "https://localhost:1"])
        configuration.mirrors = ["http://mirror:5000/"]
        #expect(try bases("nginx") == ["http://mirror:5000", "https://registry-1.docker.io"])
        #expect(RegistryAddress(url: "ftp://x") == nil && RegistryAddress(url: "http://") == nil && RegistryAddress(url: "http://user@host") == nil)
    }
}
