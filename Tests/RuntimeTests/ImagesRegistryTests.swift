import CLinux
import Files
import Glibc
import PluginAPI
import Processes
import Testing

@testable import RuntimeOCI

/// Debian's docker-registry on a free port of loopback, with the images of contrib/images.
final class TestRegistry: Sendable {
    let port: UInt16
    private let process: Int32

    static let root = Files.parent(Files.parent(Files.parent(#filePath)))

    /// The folder of the built archives; builds them if need be.
    static func archives() async throws -> String {
        let result = try await Processes.run(ProcessRequest("\(root)/contrib/images/build-images.sh"), timeout: .seconds(300))
        guard result.exitCode == 0 else { throw ApusError(.failed, "build-images.sh: \(result.errorText)") }
        return getenv("APUS_IMAGE_CACHE").map { String(cString: $0) } ?? "/var/cache/apus-images"
    }

    /// Serves the data below `folder`, with TLS when there is a certificate.
    init(folder: String, certificate: (file: String, key: String)? = nil) async throws {
        port = Self.freePort()
        var text = """
            version: 0.1
            log: {level: error, accesslog: {disabled: true}}
            storage: {filesystem: {rootdirectory: "\(folder)/data"}}
            http:
              addr: 127.0.0.1:\(port)

            """
        if let certificate { text += "  tls: {certificate: \"\(certificate.file)\", key: \"\(certificate.key)\"}\n" }
        try Files.writeAtomically(Array(text.utf8), to: "\(folder)/registry-\(port).yml")
        process = try Processes.spawn(
            ProcessRequest("docker-registry", ["serve", "\(folder)/registry-\(port).yml"], environment: ["PATH=/usr/bin:/bin"]))
        for _ in 0..<500 {
            if Self.isListening(port) { return }
            try await ConcurrentTask.sleep(for: .milliseconds(20))
        }
        await stop()
        throw ApusError(.timedOut, "docker-registry did not start")
    }

    func stop() async {
        kill(process, SIGTERM)
        _ = try? await Processes.wait(process)
    }

    func push(_ archive: String, as name: String) async throws {
        let result = try await Processes.run(
            ProcessRequest("python3", ["\(Self.root)/contrib/images/push.py", archive, "http://127.0.0.1:\(port)", name]))
        guard result.exitCode == 0 else { throw ApusError(.failed, "push.py: \(result.errorText)") }
    }

    private static func withAddress<Value>(_ port: UInt16, _ body: (Int32, UnsafeMutablePointer<sockaddr>) -> Value) -> Value {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        address.sin_port = port.bigEndian
        return withUnsafeMutablePointer(to: &address) { pointer in pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body(descriptor, $0) }
        }
    }

    private static func freePort() -> UInt16 {
        withAddress(0) { descriptor, address in
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            bind(descriptor, address, length)
            getsockname(descriptor, address, &length)
            return address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin_port) }
        }
    }

    private static func isListening(_ port: UInt16) -> Bool {
        withAddress(port) { connect($0, $1, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0 }
    }
}

@Suite("Images: docker-registry")
struct ImagesRegistryTests {
    @Test("nginx from a real registry as mirror of docker.io, over HTTP; its files are as the image has them")
    func mirror() async throws {
        let folder = try ImagesFolder()
        let archives = try await TestRegistry.archives()
        let registry = try await TestRegistry(folder: folder.path)
        do {
            try await registry.push("\(archives)/nginx.tar", as: "library/nginx:latest")
            try await registry.push("\(archives)/busybox.tar", as: "library/busybox:latest")
            let mirror = "http://127.0.0.1:\(registry.port)"
            let store = try folder.store { $0.mirrors = [mirror] }
            let image = try await store.pull(PullRequest(reference: "nginx"))
            #expect(image.references == ["nginx:latest"])
            let busybox = try await store.pull(PullRequest(reference: "busybox"))
            #expect(busybox.layers[0] == image.layers[0], "both stand on the same base")
            let layers = try store.rootLayers(of: image.id)
            #expect(layers.count == 3)
            var status = stat()
            #expect(stat("\(layers[0])/usr/sbin/nginx", &status) == 0 && status.st_mode & 0o7777 == 0o755 && status.st_mtim.tv_sec == 1_767_225_600)
            #expect(stat("\(layers[2])/tmp", &status) == 0 && status.st_mode & 0o7777 == 0o1777)
            #expect(stat(layers[0], &status) == 0 && status.st_mode & 0o7777 == 0o755)
            #expect(lstat("\(layers[2])/bin/sh", &status) == 0 && status.st_mode & S_IFMT == S_IFLNK)
            let missing = await failure { try await store.pull(PullRequest(reference: "127.0.0.1:\(registry.port)/library/none")) }
            #expect(missing?.code == .notFound)
            #expect(missing?.message.contains("library/none") == true)
        } catch {
            await registry.stop()
            throw error
        }
        await registry.stop()
    }

    @Test("HTTPS: a certificate of a given authority is accepted, another one is not")
    func https() async throws {
        let folder = try ImagesFolder()
        let archives = try await TestRegistry.archives()
        let plain = try await TestRegistry(folder: folder.path)
        do {
            try await plain.push("\(archives)/busybox.tar", as: "tools/busybox:1")
        } catch {
            await plain.stop()
            throw error
        }
        await plain.stop()
        let keys = try await makeCertificates(in: folder.path)
        let registry = try await TestRegistry(folder: folder.path, certificate: (keys.certificate, keys.key))
        let reference = "127.0.0.1:\(registry.port)/tools/busybox:1"
        let trusted = "\(folder.path)/certificates/127.0.0.1:\(registry.port)"
        do {
            try Files.makeDirectory(trusted)
            try Files.writeAtomically(Files.read(keys.otherAuthority), to: "\(trusted)/ca.crt")
            // As an engine has it: what is reported as there is on disk.
            let store = try folder.store { $0.isDurable = true }
            let refused = await failure { try await store.pull(PullRequest(reference: reference)) }
            #expect(refused?.message.contains("no secure connection") == true, "\(String(describing: refused))")
            #expect(refused?.message.contains("\(trusted)/ca.crt") == true, "it says what the certificate was checked with")
            #expect(store.images().isEmpty)

            try Files.writeAtomically(Files.read(keys.authority), to: "\(trusted)/ca.crt")
            #expect(try await store.pull(PullRequest(reference: reference)).references == [reference])
            _ = try await store.remove(RemoveImageRequest(reference: reference))

            // Without an authority, loopback is trusted as it is: HTTP does not work here, HTTPS without a check does.
            try Files.removeTree(trusted)
            #expect(try await store.pull(PullRequest(reference: reference)).references == [reference])
        } catch {
            await registry.stop()
            throw error
        }
        await registry.stop()
    }

    private func makeCertificates(in folder: String) async throws -> (authority: String, otherAuthority: String, certificate: String, key: String) {
        func openssl(_ arguments: String...) async throws {
            let result = try await Processes.run(ProcessRequest("openssl", arguments, workingDirectory: folder))
            guard result.exitCode == 0 else { throw ApusError(.failed, "openssl: \(result.errorText)") }
        }
        for name in ["ca", "other"] {
            try await openssl(
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=\(name)", "-keyout",
                "\(name).key", "-out",
                "\(name).crt")
        }
        try await openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=registry", "-addext",
            "subjectAltName=IP:127.0.0.1", "-keyout",
            "server.key", "-out", "server.csr")
        try await openssl(
            "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-copy_extensions", "copy",
            "-out", "server.crt")
        return ("\(folder)/ca.crt", "\(folder)/other.crt", "\(folder)/server.crt", "\(folder)/server.key")
    }
}
